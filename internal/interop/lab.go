package interop

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// NAT is what stands between a host of a [Lab] and the public network.
type NAT string

// The kinds of NAT.
const (
	// NoNAT routes: everybody may write to the host.
	NoNAT NAT = "open"
	// FullCone maps a port of the host to one port for all, and lets everybody in.
	FullCone NAT = "fullcone"
	// Cone maps a port of the host to one port for all, and lets in only those
	// addresses and ports that the host has written to: what most homes have.
	Cone NAT = "cone"
	// Symmetric maps a port of the host to another port for each destination, and
	// lets in as Cone does.
	Symmetric NAT = "symmetric"
	// BlockUDP is Cone without any UDP, as in some offices.
	BlockUDP NAT = "blockudp"
)

// The public network of a Lab. Its addresses are documentation's (RFC 5737),
// which nobody takes for private ones.
const (
	publicAddress = "203.0.113.10"
	relayAddress  = publicAddress + ":4001"
	stunAddress   = publicAddress + ":3478"
)

// Lab is a public network and two hosts, each behind a router of its own:
//
//	host 10.1.0.2 -- router 203.0.113.1 --+
//	                                      +-- public 203.0.113.10: relay, STUN
//	host 10.2.0.2 -- router 203.0.113.2 --+
//
// Each of the five is a network namespace; the test's end is theirs.
type Lab struct {
	Public  *Namespace
	Hosts   [2]*Namespace
	routers [2]*Namespace
}

// NewLab makes a Lab with what stands before each host.
func NewLab(t testing.TB, nats [2]NAT) *Lab {
	t.Helper()
	unavailable(t, errSandbox)
	unavailable(t, nftMissing())
	lab := &Lab{Public: newPlace(t, "public")}
	for i := range lab.Hosts {
		lab.routers[i] = newPlace(t, fmt.Sprintf("router %d", i+1))
		lab.Hosts[i] = newPlace(t, fmt.Sprintf("host %d", i+1))
	}
	if err := errors.Join(lab.wire(), lab.filter(nats)); err != nil {
		t.Fatal(err)
	}
	return lab
}

func newPlace(t testing.TB, name string) *Namespace {
	t.Helper()
	n, err := newNamespace(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// wire lays the cables and sets addresses and routes.
func (l *Lab) wire() error {
	errs := []error{
		l.Public.IP("link add br0 type bridge"),
		l.Public.IP("addr add " + publicAddress + "/24 dev br0"),
		l.Public.IP("link set br0 up"),
	}
	for i, router := range l.routers {
		n := i + 1
		wan, lan := fmt.Sprintf("203.0.113.%d", n), fmt.Sprintf("10.%d.0", n)
		errs = append(errs,
			l.Public.IP(fmt.Sprintf("link add w%d type veth peer name wan netns %s", n, router.Path())),
			l.Public.IP(fmt.Sprintf("link set w%d master br0 up", n)),
			router.IP("addr add "+wan+"/24 dev wan"), router.IP("link set wan up"),
			router.IP("link add lan type veth peer name eth0 netns "+l.Hosts[i].Path()),
			router.IP("addr add "+lan+".1/24 dev lan"), router.IP("link set lan up"),
			l.Hosts[i].IP("addr add "+lan+".2/24 dev eth0"), l.Hosts[i].IP("link set eth0 up"),
			l.Hosts[i].IP("route add default via "+lan+".1"),
			router.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o600) }),
		)
	}
	return errors.Join(errs...)
}

// filter makes the routers what they are.
func (l *Lab) filter(nats [2]NAT) error {
	var errs []error
	for i, nat := range nats {
		if nat != NoNAT {
			errs = append(errs, l.routers[i].NFT(ruleset(nat, fmt.Sprintf("10.%d.0.2", i+1))))
			continue
		}
		route := fmt.Sprintf("route add 10.%d.0.0/24 via 203.0.113.%[1]d", i+1)
		errs = append(errs, l.Public.IP(route), l.routers[1-i].IP(route))
	}
	return errors.Join(errs...)
}

// ruleset is for nftables. The kernel's masquerading keeps the source port if it
// is free, hence a cone; with fully-random each connection gets another.
func ruleset(nat NAT, host string) string {
	masquerade, inbound, udp := "masquerade", "", ""
	switch nat {
	case Symmetric:
		masquerade = "masquerade fully-random"
	case FullCone:
		inbound = `chain inbound { type nat hook prerouting priority dstnat; iifname "wan" udp dport 1024-65535 dnat to ` + host + `; }`
	case BlockUDP:
		udp = "meta l4proto udp drop;"
	default: // Cone is the rest alone
	}
	return strings.NewReplacer("MASQUERADE", masquerade, "INBOUND", inbound, "UDP", udp).Replace(`
		table ip nat {
			chain outbound { type nat hook postrouting priority srcnat; oifname "wan" MASQUERADE; }
			INBOUND
		}
		table ip filter {
			# without this, what the other host sends before this one does would make a
			# connection with the router itself, and take the mapping
			chain router { type filter hook input priority filter; iifname "wan" ct state new drop; }
			chain through {
				type filter hook forward priority filter; policy drop;
				UDP
				ct state established,related accept
				ct status dnat accept
				iifname "lan" accept
			}
		}`)
}

func nftMissing() error {
	if _, err := exec.LookPath("nft"); err != nil {
		return errors.New("nft is missing: `make test` installs it (apt-get install nftables)")
	}
	return nil
}
