package webrtc_test

import (
	"cmp"
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"
	pion "github.com/pion/webrtc/v4"

	"github.com/tangop2p/tango/signaling"
	"github.com/tangop2p/tango/webrtc"
)

// attacker has the signaling protocol and a PeerConnection, and no manners.
type attacker struct {
	host.Host
	*signaling.Service
	t    *testing.T
	addr ma.Multiaddr
}

// Close is the Service's.
func (a *attacker) Close() error { return a.Service.Close() }

func newAttacker(t *testing.T, r host.Host) *attacker {
	t.Helper()
	h := newHost(t, libp2p.NoListenAddrs, libp2p.EnableRelay())
	limits := signaling.DefaultLimits()
	limits.DrainTimeout = 100 * time.Millisecond
	s, err := signaling.New(h, signaling.WithLimits(limits))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	info := peer.AddrInfo{ID: r.ID(), Addrs: r.Addrs()}
	if err := h.Connect(t.Context(), info); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Reserve(t.Context(), h, info); err != nil {
		t.Fatal(err)
	}
	return &attacker{h, s, t, r.Addrs()[0].Encapsulate(ma.StringCast("/p2p/" + r.ID().String() + "/p2p-circuit/webrtc"))}
}

func (a *attacker) pc() *pion.PeerConnection {
	a.t.Helper()
	var e pion.SettingEngine
	e.SetIncludeLoopbackCandidate(true)
	pc, err := pion.NewAPI(pion.WithSettingEngine(e)).NewPeerConnection(pion.Configuration{})
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { _ = pc.GracefulClose() })
	return pc
}

// offer returns a whole offer, candidates included.
func (a *attacker) offer(pc *pion.PeerConnection) string {
	a.t.Helper()
	if _, err := pc.CreateDataChannel("init", nil); err != nil {
		a.t.Fatal(err)
	}
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		a.t.Fatal(err)
	}
	gathered := pion.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(offer); err != nil {
		a.t.Fatal(err)
	}
	<-gathered
	return pc.LocalDescription().SDP
}

func otherFingerprint(sdp string) string {
	other := strings.TrimSuffix(strings.Repeat("AB:", 32), ":")
	return regexp.MustCompile(`(a=fingerprint:sha-256 )[0-9A-F:]+`).ReplaceAllString(sdp, "${1}"+other)
}

// Each wrong offer, or wrong continuation of a right one, ends with nothing held.
func TestHostileOfferer(t *testing.T) {
	answered := func(ctx context.Context, s *signaling.Outgoing, pc *pion.PeerConnection) {
		if sdp, err := s.Answer(ctx); err == nil {
			_ = pc.SetRemoteDescription(pion.SessionDescription{Type: pion.SDPTypeAnswer, SDP: sdp})
		}
		for c, err := range s.Candidates(ctx) {
			if err != nil {
				return
			}
			_ = pc.AddICECandidate(pion.ICECandidateInit(c))
		}
	}
	tests := map[string]func(ctx context.Context, a *attacker, victim peer.ID) (*signaling.Outgoing, error){
		"garbage": func(ctx context.Context, a *attacker, victim peer.ID) (*signaling.Outgoing, error) {
			return a.Offer(ctx, victim, "v=0\r\ngarbage")
		},
		"a description without data channels": func(ctx context.Context, a *attacker, victim peer.ID) (*signaling.Outgoing, error) {
			return a.Offer(ctx, victim, "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n")
		},
		"silence after the answer": func(ctx context.Context, a *attacker, victim peer.ID) (*signaling.Outgoing, error) {
			return a.Offer(ctx, victim, a.offer(a.pc()))
		},
		"a candidate flood": func(ctx context.Context, a *attacker, victim peer.ID) (*signaling.Outgoing, error) {
			s, err := a.Offer(ctx, victim, a.offer(a.pc()))
			for i := 0; err == nil && i < 1000; i++ {
				if s.SendCandidate(signaling.Candidate{Candidate: "candidate:1 1 udp 1 192.0.2.1 9999 typ host"}) != nil {
					break
				}
			}
			return s, err
		},
		"another certificate": func(ctx context.Context, a *attacker, victim peer.ID) (*signaling.Outgoing, error) {
			pc := a.pc()
			s, err := a.Offer(ctx, victim, otherFingerprint(a.offer(pc)))
			if err == nil {
				answered(ctx, s, pc)
			}
			return s, err
		},
		"a media description": func(ctx context.Context, a *attacker, victim peer.ID) (*signaling.Outgoing, error) {
			pc := a.pc()
			if _, err := pc.AddTransceiverFromKind(pion.RTPCodecTypeVideo); err != nil {
				t.Log(err)
			}
			return a.Offer(ctx, victim, a.offer(pc))
		},
		"no signaling any more once connected": func(ctx context.Context, a *attacker, victim peer.ID) (*signaling.Outgoing, error) {
			pc := a.pc()
			up := make(chan struct{})
			pc.OnConnectionStateChange(func(s pion.PeerConnectionState) {
				if s == pion.PeerConnectionStateConnected {
					close(up)
				}
			})
			s, err := a.Offer(ctx, victim, a.offer(pc))
			if err == nil {
				go answered(ctx, s, pc)
				select {
				case <-up:
				case <-ctx.Done():
					t.Error("not connected")
				}
				s.Abort(nil)
				_ = pc.Close()
			}
			return s, err
		},
	}
	for name, attack := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRelay(t)
			limit := time.Second
			if name == "another certificate" || strings.HasSuffix(name, "connected") { // they get far, and end by themselves
				limit = webrtc.DefaultLimits().Timeout
			}
			a, b := newAttacker(t, r), newPeer(t, r, within(limit))
			webrtc.Idle(b.Transport)
			before := scope(b)
			ctx := network.WithAllowLimitedConn(short(t), "test")
			circuit, _ := ma.SplitLast(b.addr)
			if err := a.Connect(ctx, peer.AddrInfo{ID: b.ID(), Addrs: []ma.Multiaddr{circuit}}); err != nil {
				t.Fatal(err)
			}
			s, err := attack(ctx, a, b.ID())
			t.Logf("the attacker's session: %v", err)
			await(t, "the victim has given up, or the connection has ended", func() bool {
				attempts := b.Explain(a.ID()).Attempts
				return len(attempts) > 0 && len(direct(b, a.ID())) == 0
			})
			explanation := b.Explain(a.ID())
			t.Log("the victim:", explanation)
			if reached := explanation.Attempts[0].Reached(); name == "another certificate" && reached != webrtc.StageDTLS {
				t.Errorf("the victim was at %s when it gave up", reached)
			}
			if err == nil {
				s.Abort(nil)
			}
			_ = b.Network().ClosePeer(a.ID())
			await(t, "nothing is held", func() bool {
				now := scope(b)
				return now.NumConnsInbound == before.NumConnsInbound && now.Memory <= before.Memory
			})
		})
	}
}

// The same for who answers.
func TestHostileAnswerer(t *testing.T) {
	answer := func(a *attacker, pc *pion.PeerConnection, offer string) string {
		if err := pc.SetRemoteDescription(pion.SessionDescription{Type: pion.SDPTypeOffer, SDP: offer}); err != nil {
			a.t.Error(err)
		}
		answer, err := pc.CreateAnswer(nil)
		if err != nil {
			a.t.Error(err)
			return "v=0"
		}
		gathered := pion.GatheringCompletePromise(pc)
		if err := pc.SetLocalDescription(answer); err != nil {
			a.t.Error(err)
		}
		<-gathered
		return pc.LocalDescription().SDP
	}
	tests := map[string]struct {
		answer func(ctx context.Context, a *attacker, in *signaling.Incoming)
		stages []webrtc.Stage
		limit  time.Duration // of an attempt that has to get far; 0 is a second
	}{
		"no answer": {
			func(context.Context, *attacker, *signaling.Incoming) {},
			[]webrtc.Stage{webrtc.StageAnswer},
			0,
		},
		"refusal": {
			func(_ context.Context, _ *attacker, in *signaling.Incoming) { in.Abort(nil) },
			[]webrtc.Stage{webrtc.StageAnswer},
			0,
		},
		"garbage": {
			func(ctx context.Context, _ *attacker, in *signaling.Incoming) { _ = in.Answer(ctx, "v=0\r\ngarbage") },
			[]webrtc.Stage{webrtc.StageAnswer},
			0,
		},
		"the offer itself": {
			func(ctx context.Context, _ *attacker, in *signaling.Incoming) { _ = in.Answer(ctx, in.Offer()) },
			[]webrtc.Stage{webrtc.StageAnswer, webrtc.StageCandidates, webrtc.StageICE},
			0,
		},
		"another certificate": {
			func(ctx context.Context, a *attacker, in *signaling.Incoming) {
				_ = in.Answer(ctx, otherFingerprint(answer(a, a.pc(), in.Offer())))
			},
			[]webrtc.Stage{webrtc.StageDTLS},
			webrtc.DefaultLimits().Timeout,
		},
		"the end right after the answer": {
			func(ctx context.Context, a *attacker, in *signaling.Incoming) {
				pc := a.pc()
				_ = in.Answer(ctx, answer(a, pc, in.Offer()))
				_ = pc.Close()
			},
			[]webrtc.Stage{webrtc.StageCandidates, webrtc.StageICE, webrtc.StageDTLS, webrtc.StageSCTP, webrtc.StageConfirm},
			4 * time.Second,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRelay(t)
			a, b := newAttacker(t, r), newPeer(t, r, within(cmp.Or(test.limit, time.Second)))
			before := scope(b)
			ctx := short(t)
			served := make(chan struct{})
			go func() {
				defer close(served)
				if in, err := a.Accept(ctx); err == nil {
					test.answer(ctx, a, in)
				}
			}()
			path, err := b.Transport.Connect(ctx, a.ID(), a.addr)
			if err == nil && name != "the end right after the answer" {
				t.Errorf("path %v", path)
			}
			attempts := b.Explain(a.ID()).Attempts
			reached := attempts[len(attempts)-1].Reached()
			ok := err == nil
			for _, s := range test.stages {
				ok = ok || s == reached
			}
			if !ok {
				t.Errorf("stage %s, want one of %v: %v", reached, test.stages, err)
			}
			<-served
			_ = b.Network().ClosePeer(a.ID())
			await(t, "nothing is held", func() bool {
				now := scope(b)
				return now.NumConnsOutbound == before.NumConnsOutbound && now.Memory <= before.Memory
			})
		})
	}
}
