package signaling

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/libp2p/go-libp2p/core/network"
)

// Rule says what becomes of candidates with addresses of one class.
type Rule uint8

// The rules.
const (
	// Refuse skips them.
	Refuse Rule = iota
	// IfNear hands them on if the connection that carries the signaling leads
	// to an address that is at least as near: the relay's, or the remote's own
	// if there is no relay. Loopback is nearer than link-local, that nearer
	// than private, and that nearer than public.
	IfNear
	// Accept hands them on.
	Accept
)

// CandidatePolicy says which candidates of the remote are handed on, be they
// sent one by one or inside its offer or answer. The others are skipped and counted.
//
// Each candidate that ICE gets makes this node send some STUN packets of about
// 100 bytes to an address of the remote's choosing, from inside its own
// network. The remote sees no answer to them, but chooses up to 255 bytes in
// them, and may be anybody. See the package comment for what follows.
//
// UDP candidates are handed on, TCP ones are not (browsers send them, with the
// discard port 9). Addresses that belong to no host or to many are always
// refused: unspecified, multicast, broadcast, reserved ones, and those that
// translate to an IPv4 address that is not public. So are names, save mDNS ones.
//
// The zero value of each [Rule] is the strictest. Start from a preset.
type CandidatePolicy struct {
	// Max is how many candidates of a session are handed on, 1 to 1024.
	Max int
	// MinPort is the lowest port that is handed on, 1 to 65535; but 443 always
	// is, where servers go to get through firewalls. NATs do not map ephemeral
	// ports below 1024 (RFC 4787 §4.2.1, REQ-3), where the services are that
	// a stray packet could hurt.
	MinPort uint16
	// Private is for RFC 1918 addresses, RFC 6598's, RFC 2544's and IPv6
	// unique local ones: hosts of the same LAN, VPN or data centre.
	Private Rule
	// LinkLocal is for 169.254.0.0/16 and fe80::/10.
	LinkLocal Rule
	// Loopback is for 127.0.0.0/8 and ::1: programs on this machine.
	Loopback Rule
	// MDNS is for names of a UUID and ".local", behind which browsers hide the
	// private addresses of their hosts. What such a name resolves to must be
	// asked again, see [CandidatePolicy.Allows]. Near is what is near enough
	// for a private address.
	MDNS Rule
}

// DefaultCandidatePolicy is the preset for nodes of people, at home or in an
// office: private addresses and mDNS names are accepted, since two peers of
// one LAN that meet at a public relay often have no other way (their NAT would
// have to hairpin). Loopback and link-local addresses need a relay, or a
// remote, that is as near.
func DefaultCandidatePolicy() CandidatePolicy {
	return CandidatePolicy{
		// RFC 8445 §6.1.2.5 gives an agent 100 pairs: three local candidates each.
		Max:       32,
		MinPort:   1024,
		Private:   Accept,
		LinkLocal: IfNear,
		Loopback:  IfNear,
		MDNS:      Accept,
	}
}

// GuardedCandidatePolicy is the preset for servers, whose private network is
// none of the remote's business: only public addresses are accepted, unless
// the relay or the remote is on a private address itself.
//
// Behind a reverse proxy everybody comes from the proxy's address, which is
// near: set the rules to [Refuse] there.
func GuardedCandidatePolicy() CandidatePolicy {
	p := DefaultCandidatePolicy()
	p.Private = IfNear
	p.MDNS = IfNear
	return p
}

// Validate says what is wrong with p, naming each field.
func (p CandidatePolicy) Validate() error {
	var errs []error
	if p.Max < 1 || p.Max > 1024 {
		errs = append(errs, fmt.Errorf("CandidatePolicy.Max %d: use 1 to 1024 candidates", p.Max))
	}
	if p.MinPort == 0 {
		errs = append(errs, errors.New("CandidatePolicy.MinPort 0: use 1 to 65535"))
	}
	for _, f := range []struct {
		name string
		rule Rule
	}{{"Private", p.Private}, {"LinkLocal", p.LinkLocal}, {"Loopback", p.Loopback}, {"MDNS", p.MDNS}} {
		if f.rule > Accept {
			errs = append(errs, fmt.Errorf("CandidatePolicy.%s %d: use Refuse, IfNear or Accept", f.name, f.rule))
		}
	}
	return errors.Join(errs...)
}

// Allows says whether ICE may send to addr for a session over conn. Ask it
// where mDNS names have been resolved: in pion, SettingEngine.SetRemoteIPFilter.
func (p CandidatePolicy) Allows(conn network.Conn, addr netip.Addr) bool {
	return p.allows(classOf(remoteAddr(conn)), addr)
}

func (p CandidatePolicy) allows(via class, addr netip.Addr) bool {
	switch c := classOf(addr); c {
	case classPublic:
		return true
	case classPrivate:
		return p.Private.admits(via >= c) && !mayBroadcast(addr)
	case classLinkLocal:
		return p.LinkLocal.admits(via >= c) && !mayBroadcast(addr)
	case classLoopback:
		return p.Loopback.admits(via >= c)
	default:
		return false
	}
}

func (r Rule) admits(near bool) bool { return r == Accept || r == IfNear && near }

// refusal is why a candidate is not handed on, a value of the metrics' label.
type refusal string

const (
	refusedNot       refusal = "" // it is handed on
	refusedMalformed refusal = "malformed"
	refusedTransport refusal = "transport"
	refusedPort      refusal = "port"
	refusedAddress   refusal = "address"
	refusedCount     refusal = "count"
)

// judge says what the policy has against a candidate-attribute. via is the
// class of the address that the signaling connection leads to.
func (p CandidatePolicy) judge(via class, candidate string) refusal {
	a, err := parseAttribute(candidate)
	switch {
	case err != nil:
		return refusedMalformed
	case a.transport != "udp":
		return refusedTransport
	case a.port < p.MinPort && a.port != 443:
		return refusedPort
	case !p.allowsHost(via, a):
		return refusedAddress
	}
	return refusedNot
}

func (p CandidatePolicy) allowsHost(via class, a attribute) bool {
	switch {
	case !a.addr.IsValid():
		return a.typ == "host" && isMDNSName(a.host) && p.MDNS.admits(via >= classPrivate)
	case a.addr.Zone() != "":
		return false // a zone is an interface of this machine, not of the remote's
	default:
		return p.allows(via, a.addr)
	}
}
