package relay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"

	ma "github.com/multiformats/go-multiaddr"
	"github.com/pion/stun/v4"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/time/rate"
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
	limit   *stunLimit
	metrics *metrics
	wg      sync.WaitGroup
}

// stunLimit bounds the answers. Sources cost nothing to make up, so those of one
// hash share a bucket: it has as many as it ever will.
type stunLimit struct {
	all     *rate.Limiter
	seed    maphash.Seed
	sources [4096]*rate.Limiter
}

func newSTUNLimit() *stunLimit {
	l := &stunLimit{all: rate.NewLimiter(stunInAll, stunInAll), seed: maphash.MakeSeed()}
	for i := range l.sources {
		l.sources[i] = rate.NewLimiter(stunPerIP, stunBurst)
	}
	return l
}

func (l *stunLimit) allow(ip netip.Addr) bool {
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	source, _ := ip.Prefix(bits) // fails for more bits than there are
	return l.sources[maphash.Comparable(l.seed, source)%uint64(len(l.sources))].Allow() && l.all.Allow()
}

func newSTUNServer(addr string, m *metrics) (*stunServer, error) {
	s := &stunServer{metrics: m, limit: newSTUNLimit()}
	var err error
	if s.conns, err = stunSockets(addr, listenSTUN); err != nil {
		return nil, fmt.Errorf("STUN at %s: %w; stop what runs there or take another port", addr, err)
	}
	for _, conn := range s.conns {
		s.wg.Go(func() { s.serve(conn) })
	}
	return s, nil
}

// stunPorts is how many ports are tried where any would do: one that is free in IPv4
// may be taken in IPv6.
const stunPorts = 16

// stunSockets opens a socket for each family of addresses, at the same port.
func stunSockets(addr string, listen func(network, addr string) (*net.UDPConn, error)) (conns []*net.UDPConn, err error) {
	ip, port, _ := net.SplitHostPort(addr) // WithSTUN has checked it
	for range stunPorts {
		if conns, err = stunSocketsAt(ip, port, listen); err == nil || port != "0" {
			break
		}
	}
	return conns, err
}

func stunSocketsAt(ip, port string, listen func(network, addr string) (*net.UDPConn, error)) (conns []*net.UDPConn, err error) {
	for _, network := range stunNetworks(ip) {
		conn, err := listen(network, net.JoinHostPort(ip, port))
		if err != nil {
			for _, c := range conns {
				err = errors.Join(err, c.Close())
			}
			return nil, err
		}
		conns = append(conns, conn)
		port = strconv.Itoa(int(addrPort(conn).Port())) // the same for both if any would do
	}
	return conns, nil
}

// stunNetworks returns the families of addresses to answer in: that of the IP
// address, or without one those that this machine has.
func stunNetworks(ip string) []string {
	if a, err := netip.ParseAddr(ip); err == nil {
		if a.Unmap().Is4() {
			return []string{"udp4"}
		}
		return []string{"udp6"}
	}
	probe, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil { // as in many containers
		return []string{"udp4"}
	}
	_ = probe.Close()
	return []string{"udp4", "udp6"}
}

// listenSTUN opens a socket that tells which of the machine's addresses a packet
// was sent to: an answer from another one does not pass the sender's NAT.
func listenSTUN(network, addr string) (*net.UDPConn, error) {
	to, err := net.ResolveUDPAddr(network, addr)
	if err != nil {
		return nil, err
	}
	conn, err := net.ListenUDP(network, to)
	if err != nil {
		return nil, err
	}
	if network == "udp4" {
		err = ipv4.NewPacketConn(conn).SetControlMessage(ipv4.FlagDst, true)
	} else {
		err = ipv6.NewPacketConn(conn).SetControlMessage(ipv6.FlagDst, true)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// replyFrom turns what came with a packet into what sends the answer from the
// address that the packet was sent to.
func replyFrom(to netip.Addr, control []byte) []byte {
	if to.Unmap().Is4() {
		var c ipv4.ControlMessage
		if c.Parse(control) != nil || c.Dst == nil {
			return nil
		}
		return (&ipv4.ControlMessage{Src: c.Dst}).Marshal()
	}
	var c ipv6.ControlMessage
	if c.Parse(control) != nil || c.Dst == nil {
		return nil
	}
	return (&ipv6.ControlMessage{Src: c.Dst}).Marshal()
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
	buf, control := make([]byte, maxSTUN+1), make([]byte, 128)
	var in, out stun.Message
	for {
		n, oobn, _, from, err := conn.ReadMsgUDPAddrPort(buf, control)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error that belongs to an earlier answer
		}
		outcome := s.answer(&in, &out, buf[:n], from)
		s.metrics.stun.WithLabelValues(outcome).Inc()
		if outcome == stunAnswered {
			_, _, _ = conn.WriteMsgUDPAddrPort(out.Raw, replyFrom(from.Addr(), control[:oobn]), from)
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
	if len(request) > maxSTUN || !isBinding(request) {
		return stunMalformed
	}
	in.Raw = append(in.Raw[:0], request...)
	if in.Decode() != nil || slices.ContainsFunc(in.Attributes, unknown) {
		return stunMalformed
	}
	signed := in.Contains(stun.AttrFingerprint)
	if signed && stun.Fingerprint.Check(in) != nil {
		return stunMalformed
	}
	ip := from.Addr().Unmap()
	if !s.limit.allow(ip) {
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

// isBinding looks at the header (RFC 8489 §5): a binding request, as long as the
// packet.
func isBinding(b []byte) bool {
	return len(b) >= 20 && binary.BigEndian.Uint16(b) == stun.BindingRequest.Value() &&
		int(binary.BigEndian.Uint16(b[2:])) == len(b)-20 && stun.IsMessage(b)
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
// that the relay hands out and at which it answers, at most 4.
func (r *Relay) ICEServers() []string {
	addrs := slices.DeleteFunc(slices.Clone(r.hop.host.Addrs()), func(a ma.Multiaddr) bool { return !r.hop.addrs(a) })
	return stunURLs(addrs, r.STUNAddrs())
}

// maxSTUNURLs is how many URLs are named: browsers warn from five servers on.
const maxSTUNURLs = 4

// stunURLs returns the URLs of a STUN server that has sockets at bound.
func stunURLs(addrs []ma.Multiaddr, bound []netip.AddrPort) []string {
	bound = slices.Clone(bound)
	for i, b := range bound {
		// one that is not among the addresses is what a NAT maps them to
		if !slices.ContainsFunc(addrs, func(a ma.Multiaddr) bool { return hostOf(a) == b.Addr().Unmap().String() }) {
			all := netip.IPv6Unspecified()
			if b.Addr().Unmap().Is4() {
				all = netip.IPv4Unspecified()
			}
			bound[i] = netip.AddrPortFrom(all, b.Port())
		}
	}
	var urls []string
	for _, a := range addrs {
		for _, b := range bound {
			if answersAt(a, b.Addr().Unmap()) {
				urls = appendURL(urls, hostOf(a), b.Port())
			}
		}
	}
	return urls
}

// answersAt says whether a socket at an IP address, perhaps the unspecified one, is
// reached by the host of an address. Names may lead to it.
func answersAt(a ma.Multiaddr, ip netip.Addr) bool {
	switch host := hostOf(a); {
	case host == "":
		return false
	case a[0].Code() == ma.P_IP4 || a[0].Code() == ma.P_IP6:
		named, err := netip.ParseAddr(host)
		return err == nil && (named == ip || ip.IsUnspecified() && named.Is4() == ip.Is4())
	case a[0].Code() == ma.P_DNS4:
		return ip.Is4()
	case a[0].Code() == ma.P_DNS6:
		return !ip.Is4()
	default:
		return true
	}
}

// hostOf returns the IP address or name that an address begins with, else "".
func hostOf(a ma.Multiaddr) string {
	if len(a) == 0 {
		return ""
	}
	switch a[0].Code() {
	case ma.P_IP4, ma.P_IP6, ma.P_DNS, ma.P_DNS4, ma.P_DNS6:
		return a[0].Value()
	default:
		return ""
	}
}

// appendURL adds a STUN URL (RFC 7064) unless it is there or there are enough.
func appendURL(urls []string, host string, port uint16) []string {
	u := "stun:" + net.JoinHostPort(host, strconv.Itoa(int(port)))
	if len(urls) >= maxSTUNURLs || slices.Contains(urls, u) {
		return urls
	}
	return append(urls, u)
}
