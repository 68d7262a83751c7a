package webrtc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/pion/stun/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tangop2p/tango/signaling"
)

// ICEServer is a STUN or TURN server (W3C WebRTC §4.2.4, RTCIceServer).
type ICEServer struct {
	// URLs are those of one server: stun:host:port, turn:host:port?transport=udp
	// and so on (RFC 7064, RFC 7065).
	URLs []string
	// Username and Credential are for TURN.
	Username, Credential string
}

// String leaves the credential out.
func (s ICEServer) String() string { return strings.Join(s.URLs, " ") }

// GoString does too.
func (s ICEServer) GoString() string { return fmt.Sprintf("webrtc.ICEServer{%q}", s.URLs) }

func (s ICEServer) validate() error {
	if len(s.URLs) == 0 {
		return errors.New("an ICE server without URLs: write it as in stun:stun.example.org:3478")
	}
	var errs []error
	for _, u := range s.URLs {
		uri, err := stun.ParseURI(u)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("ICE server %q: %w; write it as in stun:stun.example.org:3478 or turn:turn.example.org", u, err))
		case (uri.Scheme == stun.SchemeTypeTURN || uri.Scheme == stun.SchemeTypeTURNS) && (s.Username == "" || s.Credential == ""):
			errs = append(errs, fmt.Errorf("ICE server %q: TURN needs a Username and a Credential", u))
		}
	}
	return errors.Join(errs...)
}

// Limits bounds what connections may take of this node, besides what the
// resource manager and [signaling.Limits] do. Start from [DefaultLimits].
type Limits struct {
	// Handshakes is how many attempts may run at once that others have begun,
	// 1 to 4096; each holds sockets and up to about 300 KiB.
	Handshakes int
	// Timeout is how long an attempt may take, 1 s to 5 min. js-libp2p gives up
	// after 6 s when it dials, and after 10 s when it is dialled.
	Timeout time.Duration
	// DisconnectAfter is how long nothing may be heard before the connection
	// counts as disturbed, and LostAfter how long after that until it counts as
	// lost; both 1 s to 10 min. See SettingEngine.SetICETimeouts of pion.
	DisconnectAfter, LostAfter time.Duration
	// ReceiveBuffer is how many bytes a remote may send on a connection that
	// nobody has taken up yet, over all streams, 64 KiB to 64 MiB. It bounds
	// what is in flight, and with that throughput: 1 MiB at 100 ms is 10 MB/s.
	// The resource manager is asked for all of it when a connection is made.
	ReceiveBuffer uint32
}

// DefaultLimits is for a node that has some hundred direct connections.
func DefaultLimits() Limits {
	return Limits{
		Handshakes:      64,
		Timeout:         15 * time.Second, // as long as the swarm gives a dial
		DisconnectAfter: 5 * time.Second,
		LostAfter:       15 * time.Second,
		ReceiveBuffer:   2 << 20, // 128 full frames
	}
}

// Validate says what is wrong with l, naming each field.
func (l Limits) Validate() error {
	within := func(name string, d, low, high time.Duration) error {
		if d < low || d > high {
			return fmt.Errorf("%s is %v: choose %v to %v", name, d, low, high)
		}
		return nil
	}
	errs := []error{
		within("Limits.Timeout", l.Timeout, time.Second, 5*time.Minute),
		within("Limits.DisconnectAfter", l.DisconnectAfter, time.Second, 10*time.Minute),
		within("Limits.LostAfter", l.LostAfter, time.Second, 10*time.Minute),
	}
	if l.Handshakes < 1 || l.Handshakes > 4096 {
		errs = append(errs, fmt.Errorf("Limits.Handshakes is %d: choose 1 to 4096", l.Handshakes))
	}
	if l.ReceiveBuffer < 64<<10 || l.ReceiveBuffer > 64<<20 {
		errs = append(errs, fmt.Errorf("Limits.ReceiveBuffer is %d: choose 65536 to 67108864", l.ReceiveBuffer))
	}
	return errors.Join(errs...)
}

// Option configures a [Transport].
type Option func(*config) error

type config struct {
	limits     Limits
	signaling  []signaling.Option
	policy     signaling.CandidatePolicy
	iceServers func(context.Context) ([]ICEServer, error)
	gater      connmgr.ConnectionGater
	registerer prometheus.Registerer
	ports      [2]uint16
}

// CheckOptions says what [New] would find wrong with the options.
func CheckOptions(opts ...Option) error {
	if _, err := newConfig(opts); err != nil {
		return fmt.Errorf("webrtc: %w", err)
	}
	return nil
}

func newConfig(opts []Option) (config, error) {
	c := config{
		limits:     DefaultLimits(),
		policy:     signaling.DefaultCandidatePolicy(),
		iceServers: func(context.Context) ([]ICEServer, error) { return nil, nil },
	}
	var errs []error
	for _, opt := range opts {
		errs = append(errs, opt(&c))
	}
	return c, errors.Join(errs...)
}

// WithICEServers sets the STUN and TURN servers. Peers behind different NATs
// need one STUN server that both can reach; for two symmetric NATs, or
// where UDP is blocked, it takes TURN. The default is none: a server learns who
// meets whom, so nobody's is asked unless you say so.
func WithICEServers(servers ...ICEServer) Option {
	return func(c *config) error {
		servers := slices.Clone(servers)
		c.iceServers = func(context.Context) ([]ICEServer, error) { return servers, nil }
		return validateServers(servers)
	}
}

// WithICEServersFunc is [WithICEServers] for credentials that expire: f is
// asked for each attempt and should be quick. If it fails the attempt goes on
// without servers. The default is none.
func WithICEServersFunc(f func(context.Context) ([]ICEServer, error)) Option {
	return func(c *config) error {
		if f == nil {
			return errors.New("WithICEServersFunc(nil): give a function")
		}
		c.iceServers = func(ctx context.Context) ([]ICEServer, error) {
			servers, err := f(ctx)
			if err == nil {
				err = validateServers(servers)
			}
			return servers, err
		}
		return nil
	}
}

func validateServers(servers []ICEServer) error {
	var errs []error
	for _, s := range servers {
		errs = append(errs, s.validate())
	}
	return errors.Join(errs...)
}

// WithLimits sets what connections may take of this node; the fields tell units
// and ranges. The default is [DefaultLimits].
func WithLimits(l Limits) Option {
	return func(c *config) error {
		c.limits = l
		return l.Validate()
	}
}

// WithCandidatePolicy sets which candidates of remotes are tried. The default is
// [signaling.DefaultCandidatePolicy]; servers with a private network behind
// them use [signaling.GuardedCandidatePolicy].
func WithCandidatePolicy(p signaling.CandidatePolicy) Option {
	return func(c *config) error {
		c.policy = p
		return p.Validate()
	}
}

// WithSignalingLimits sets the limits of the signaling. The default is
// [signaling.DefaultLimits].
func WithSignalingLimits(l signaling.Limits) Option {
	return func(c *config) error {
		c.signaling = append(c.signaling, signaling.WithLimits(l))
		return l.Validate()
	}
}

// WithConnectionGater asks g about each connection, with the address that ICE
// has found. A host does not tell which gater it has, so give the same one. The
// default is none, which leaves what the swarm asks: InterceptPeerDial,
// InterceptAddrDial (with the address /webrtc) and InterceptUpgraded.
func WithConnectionGater(g connmgr.ConnectionGater) Option {
	return func(c *config) error {
		c.gater = g
		return nil
	}
}

// WithUDPPorts sets the range of local UDP ports that are used, one for each
// network interface and connection. The default is what the system gives.
func WithUDPPorts(low, high uint16) Option {
	return func(c *config) error {
		if low == 0 || high < low {
			return fmt.Errorf("WithUDPPorts(%d, %d): the first must be at least 1 and not above the second", low, high)
		}
		c.ports = [2]uint16{low, high}
		return nil
	}
}

// WithRegisterer registers the Transport's metrics and those of its signaling.
// The default is none.
func WithRegisterer(r prometheus.Registerer) Option {
	return func(c *config) error {
		c.registerer = r
		return nil
	}
}
