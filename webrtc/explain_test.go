package webrtc

import (
	"errors"
	"strings"
	"testing"
)

func TestHint(t *testing.T) {
	gaveUp := errors.New("signaling: ended by the remote")
	host, both := map[string]int{"host": 1}, map[string]int{"host": 1, "srflx": 1}
	for name, c := range map[string]struct {
		stage         Stage
		err           error
		servers       int
		local, remote map[string]int
		want          string
	}{
		"no server":                    {StageICE, ErrNoCandidatePair, 0, host, host, "no ICE server is configured"},
		"no server, remote gave up":    {StageICE, gaveUp, 0, host, host, "no ICE server is configured"},
		"server silent":                {StageICE, ErrNoCandidatePair, 1, host, both, "did not answer this host"},
		"remote knows no address":      {StageICE, ErrNoCandidatePair, 1, both, host, "the peer knows no public address"},
		"symmetric":                    {StageICE, ErrNoCandidatePair, 1, both, both, "symmetric NATs"},
		"closed during ICE":            {StageICE, ErrClosed, 0, host, host, ""},
		"glare during ICE":             {StageICE, ErrGlare, 0, host, host, ""},
		"remote gave up before ICE":    {StageAnswer, gaveUp, 0, host, nil, ""},
		"no reservation":               {StageReservation, gaveUp, 0, nil, nil, "not at that relay"},
		"nobody knows where it may be": {StageDiscover, ErrNoAddress, 0, nil, nil, "multiaddr"},
	} {
		got := hint(Attempt{Steps: []Step{{Stage: c.stage}}, Err: c.err, Servers: c.servers, Local: c.local, Remote: c.remote})
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
