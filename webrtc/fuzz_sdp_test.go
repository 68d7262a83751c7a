package webrtc

import (
	"testing"

	pion "github.com/pion/webrtc/v4"
)

// FuzzSDP: no offer of a remote makes pion or us panic.
func FuzzSDP(f *testing.F) {
	pc, err := pion.NewPeerConnection(pion.Configuration{})
	if err != nil {
		f.Fatal(err)
	}
	if _, err := pc.CreateDataChannel("init", nil); err != nil {
		f.Fatal(err)
	}
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		f.Fatal(err)
	}
	if err := pc.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(offer.SDP + offerMarker)
	f.Add("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n")
	api := pion.NewAPI()
	f.Fuzz(func(_ *testing.T, sdp string) {
		_ = marked(sdp, offerMarker)
		_ = kindOf(sdp)
		pc, err := api.NewPeerConnection(pion.Configuration{})
		if err != nil {
			return
		}
		defer func() { _ = pc.Close() }()
		if pc.SetRemoteDescription(pion.SessionDescription{Type: pion.SDPTypeOffer, SDP: sdp}) == nil {
			_, _ = pc.CreateAnswer(nil)
		}
	})
}
