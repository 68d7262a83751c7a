package signaling

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Candidate is an RTCIceCandidateInit (W3C WebRTC §4.8.2). It converts to and
// from the type of that name in pion: Candidate(c.ToJSON()), and
// webrtc.ICECandidateInit(candidate).
type Candidate struct {
	// Candidate is a candidate-attribute (RFC 8839 §5.1), "candidate:" and what follows.
	Candidate string `json:"candidate"`
	// SDPMid is the media stream identification tag. A browser wants this or SDPMLineIndex.
	SDPMid *string `json:"sdpMid"`
	// SDPMLineIndex is the index of the media description.
	SDPMLineIndex *uint16 `json:"sdpMLineIndex"`
	// UsernameFragment is the ICE username fragment, nil if the candidate does not say.
	UsernameFragment *string `json:"usernameFragment"`
}

// isEnd says whether c is the end-of-candidates indication, which Firefox
// sends and nobody needs.
func (c Candidate) isEnd() bool { return c.Candidate == "" }

// data encodes c as JSON.stringify does in a browser.
func (c Candidate) data(limit int) (string, error) {
	if c.SDPMid == nil && c.SDPMLineIndex == nil {
		return "", fmt.Errorf("%w: neither SDPMid nor SDPMLineIndex is set, which browsers refuse", ErrCandidate)
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(c); err != nil {
		return "", fmt.Errorf("%w: %w", ErrCandidate, err)
	}
	text := bytes.TrimSuffix(out.Bytes(), []byte("\n"))
	if len(text) > limit {
		return "", fmt.Errorf("%w: %d bytes, %d are allowed", ErrCandidate, len(text), limit)
	}
	return string(text), nil
}

var errCandidateJSON = errors.New("not an RTCIceCandidateInit")

// parseCandidate decodes the data of a candidate message. Empty data, null, ""
// and an empty candidate are all the end-of-candidates indication.
func parseCandidate(data string, limit int) (Candidate, error) {
	var c Candidate
	switch {
	case len(data) > limit:
		return c, fmt.Errorf("%d bytes, %d are allowed", len(data), limit)
	case data == "", data == `""`:
		return c, nil
	}
	if err := json.Unmarshal([]byte(data), &c); err != nil {
		// not err: it may quote what the remote sent
		return Candidate{}, errCandidateJSON
	}
	// libdatachannel, under js-libp2p in Node, writes the whole attribute line; pion takes only what follows
	c.Candidate = strings.TrimPrefix(c.Candidate, "a=")
	return c, nil
}
