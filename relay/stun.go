package relay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/x/rate"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/pion/stun/v4"
)

const (
	// maxSTUN is the most bytes of a request: what fits into one packet of IPv4
	// anywhere (RFC 8489 §6.1).
	maxSTUN = 548
	// stunPerIP and stunBurst are how many answers a second an IPv4 address or
	// IPv6 /64 gets. A browser that gathers candidates asks once from each of its
	// interfaces, and again each half second until it is answered.
	stunPerIP, stunBurst = 20, 100
	// stunInAll bounds the answers a second to all, some 150 kB.
	stunInAll = 2000
)

// WithSTUN has the relay answer STUN binding requests (RFC 8489 §3) at a UDP
// address, such as ":3478" for all interfaces or "192.0.2.1:3478", so that peers
// learn their public address from nobody else: see [Relay.ICEServers]. It answers
// without authentication and what it must, a success to a well-formed binding
// request, 12 bytes longer than the request at least (24 in IPv6), at a bounded
// rate; to all else it is silent, which makes it useless to amplify floods. The
// default is none.
func WithSTUN(addr string) Option {
	return func(c *config) error {
		ip, port, err := net.SplitHostPort(addr)
		if err == nil && ip != "" {
			_, err = netip.ParseAddr(ip)
		}
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err != nil {
			return fmt.Errorf("WithSTUN(%q): use :PORT or IP:PORT, such as :3478", addr)
		}
		c.stun = addr
		return nil
	}
}

// stunServer answers on a socket for each family of addresses.
type stunServer struct {
	conns   []*net.UDPConn
	limit   *rate.Limiter
	metrics *metrics
	wg      sync.WaitGroup
}

func newSTUNServer(addr string, m *metrics) (*stunServer, error) {
	s := &stunServer{metrics: m, limit: stunLimiter()}
	ip, port, _ := net.SplitHostPort(addr) // WithSTUN has checked it
	networks := []string{"udp4", "udp6"}
	if a, err := netip.ParseAddr(ip); err == nil {
		networks = networks[:1]
		if !a.Unmap().Is4() {
			networks[0] = "udp6"
		}
	}
	for _, network := range networks {
		to, err := net.ResolveUDPAddr(network, net.JoinHostPort(ip, port))
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		conn, err := net.ListenUDP(network, to)
		if err != nil && len(s.conns) > 0 {
			log.Debugw("no STUN over IPv6", "error", err) // as in many containers
			break
		}
		if err != nil {
			return nil, fmt.Errorf("STUN at %s: %w; stop what runs there or take another port", addr, errors.Join(err, s.close()))
		}
		s.conns = append(s.conns, conn)
		port = strconv.Itoa(int(addrPort(conn).Port())) // the same for both if any would do
	}
	for _, conn := range s.conns {
		s.wg.Go(func() { s.serve(conn) })
	}
	return s, nil
}

func stunLimiter() *rate.Limiter {
	each := rate.Limit{RPS: stunPerIP, Burst: stunBurst}
	return &rate.Limiter{
		GlobalLimit: rate.Limit{RPS: stunInAll, Burst: stunInAll},
		SubnetRateLimiter: rate.SubnetLimiter{
			IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: each}},
			IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 64, Limit: each}},
			GracePeriod:      time.Minute,
		},
	}
}

func addrPort(conn *net.UDPConn) netip.AddrPort {
	a, _ := conn.LocalAddr().(*net.UDPAddr)
	return a.AddrPort()
}

func (s *stunServer) close() error {
	var errs []error
	for _, conn := range s.conns {
		errs = append(errs, conn.Close())
	}
	s.wg.Wait()
	return errors.Join(errs...)
}

// serve answers until the socket is closed.
func (s *stunServer) serve(conn *net.UDPConn) {
	buf := make([]byte, maxSTUN+1)
	var in, out stun.Message
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error that belongs to an earlier answer
		}
		outcome := s.answer(&in, &out, buf[:n], from)
		s.metrics.stun.WithLabelValues(outcome).Inc()
		if outcome == stunAnswered {
			_, _ = conn.WriteToUDPAddrPort(out.Raw, from)
		}
	}
}

// Values of the label "outcome".
const (
	stunAnswered  = "answered"
	stunMalformed = "malformed"
	stunLimited   = "rate_limited"
)

// answer makes the answer to a request.
func (s *stunServer) answer(in, out *stun.Message, request []byte, from netip.AddrPort) (outcome string) {
	if len(request) > maxSTUN || !stun.IsMessage(request) {
		return stunMalformed
	}
	in.Raw = append(in.Raw[:0], request...)
	if in.Decode() != nil || in.Type != stun.BindingRequest || slices.ContainsFunc(in.Attributes, unknown) {
		return stunMalformed
	}
	signed := in.Contains(stun.AttrFingerprint)
	if signed && stun.Fingerprint.Check(in) != nil {
		return stunMalformed
	}
	ip := from.Addr().Unmap()
	if !s.limit.Allow(ip) {
		return stunLimited
	}
	setters := []stun.Setter{
		stun.NewTransactionIDSetter(in.TransactionID), stun.BindingSuccess,
		stun.XORMappedAddress{IP: ip.AsSlice(), Port: int(from.Port())},
	}
	if signed {
		setters = append(setters, stun.Fingerprint)
	}
	if out.Build(setters...) != nil {
		return stunMalformed
	}
	return stunAnswered
}

// unknown says whether an attribute must be understood by who answers
// (RFC 8489 §14) and is not: it has a use only for who knows the sender.
func unknown(a stun.RawAttribute) bool { return a.Type.Required() }

// STUNAddrs returns where the relay answers STUN, one address for each family.
func (r *Relay) STUNAddrs() []netip.AddrPort {
	var addrs []netip.AddrPort
	if r.stun != nil {
		for _, conn := range r.stun.conns {
			addrs = append(addrs, addrPort(conn))
		}
	}
	return addrs
}

// ICEServers returns the relay's STUN server as URLs (RFC 7064) for the
// configuration of an RTCPeerConnection: one for each host among the addresses
// that the relay hands out, at most 4.
func (r *Relay) ICEServers() []string {
	var urls []string
	if r.stun == nil {
		return nil
	}
	port := strconv.Itoa(int(addrPort(r.stun.conns[0]).Port()))
	for _, a := range r.hop.host.Addrs() {
		if len(a) == 0 || !r.hop.addrs(a) {
			continue
		}
		switch a[0].Code() {
		case ma.P_IP4, ma.P_IP6, ma.P_DNS, ma.P_DNS4, ma.P_DNS6:
			if u := "stun:" + net.JoinHostPort(a[0].Value(), port); !slices.Contains(urls, u) && len(urls) < 4 {
				urls = append(urls, u)
			}
		}
	}
	return urls
}
