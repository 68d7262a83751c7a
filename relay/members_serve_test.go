package relay_test

import (
	"errors"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/tangop2p/tango/relay"
)

// A peer that presents without end is told so, and one that opens streams
// without end has two at once, all of an address 64.
func TestPresentingBounds(t *testing.T) {
	members := newMembers(t, []peer.ID{newIssuer(t).ID()})
	_, rh := newRelay(t, relay.WithTopics(), relay.WithPolicy(members))
	h := newHost(t)
	connect(t, h, rh)
	for i := range 20 {
		want := relay.ReasonInviteMalformed
		if i >= 16 {
			want = relay.ReasonRate
		}
		if why := present(t, h, rh, "x"); why != want {
			t.Errorf("%d: %q, want %q", i, why, want)
		}
	}
	other, crowd := newHost(t), make([]host.Host, 31) // of the same address
	connect(t, other, rh)
	for i := range crowd { // before the first stream is opened, which ends after 10 s
		crowd[i] = newHost(t)
		connect(t, crowd[i], rh)
	}
	for i := range 2 {
		openInvite(t, other, rh)
		waitFor(t, func() bool { return relay.Presenting(members) == i+1 })
	}
	refused := func(h host.Host) {
		t.Helper()
		s := openInvite(t, h, rh)
		_ = s.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, network.ErrReset) {
			t.Errorf("a stream too many: %v", err)
		}
	}
	refused(other)
	for _, h := range crowd {
		openInvite(t, h, rh)
		openInvite(t, h, rh)
	}
	waitFor(t, func() bool { return relay.Presenting(members) == 64 })
	refused(h)
}

// lingering is a host on which streams take their time to close.
type lingering struct {
	host.Host

	until <-chan struct{}
}

type lingeringStream struct {
	network.Stream

	until <-chan struct{}
}

func (l lingering) SetStreamHandler(id protocol.ID, f network.StreamHandler) {
	l.Host.SetStreamHandler(id, func(s network.Stream) { f(lingeringStream{s, l.until}) })
}

func (s lingeringStream) Close() error {
	<-s.until
	return s.Stream.Close()
}

// Who has its answer may present the next, whatever is left to do about the last.
func TestPresentingOneAfterTheOther(t *testing.T) {
	i := newIssuer(t)
	members := newMembers(t, []peer.ID{i.ID()})
	rh, h := newHost(t), newHost(t)
	until := make(chan struct{})
	stop, err := members.Start(lingering{rh, until})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	defer close(until)
	connect(t, h, rh)
	for range 5 {
		if why := present(t, h, rh, i.invite(t, relay.Invite{Audience: rh.ID()})); why != "" {
			t.Errorf("presented: %q", why)
		}
	}
}

// openInvite begins to present an invite.
func openInvite(t *testing.T, h, rh host.Host) network.Stream {
	t.Helper()
	s, err := h.NewStream(t.Context(), rh.ID(), relay.InviteProtocol)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Reset() })
	if _, err := s.Write([]byte("a")); err != nil {
		t.Fatal(err)
	}
	return s
}

// stubborn is a host whose network tells of a departure while who is told is
// taken off its list, which waits for that.
type stubborn struct {
	host.Host

	network stubbornNetwork
}

type stubbornNetwork struct {
	network.Network

	gone network.Conn
}

func (s stubborn) Network() network.Network { return s.network }

func (s stubbornNetwork) StopNotify(n network.Notifiee) {
	told := make(chan struct{})
	go func() {
		defer close(told)
		n.Disconnected(s, s.gone)
	}()
	<-told
	s.Network.StopNotify(n)
}

func (s stubbornNetwork) Connectedness(peer.ID) network.Connectedness { return network.NotConnected }

// A peer may leave while the relay closes.
func TestCloseWhileAPeerLeaves(t *testing.T) {
	h, other := newHost(t), newHost(t)
	connect(t, h, other)
	members := newMembers(t, []peer.ID{newIssuer(t).ID()})
	stop, err := members.Start(stubborn{h, stubbornNetwork{h.Network(), h.Network().Conns()[0]}})
	if err != nil {
		t.Fatal(err)
	}
	stop() // for ever if both wait for each other
}
