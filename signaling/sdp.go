package signaling

import "strings"

// filterSDP leaves out the lines of a description that bring candidates which
// judge does not let through; a description may hold them without trickling
// any. All other bytes stay as they are.
//
// It looks for the word rather than for the attribute, so that no other
// reader's idea of where lines begin (RFC 8866 §5) finds a candidate that was
// not judged.
func filterSDP(sdp string, judge func(candidate string) bool) string {
	if !mentionsCandidate(sdp) {
		return sdp
	}
	var out strings.Builder
	for line := range strings.SplitAfterSeq(sdp, "\n") {
		if mentionsCandidate(line) && !judge(candidateOf(line)) {
			continue
		}
		out.WriteString(line)
	}
	return out.String()
}

func mentionsCandidate(s string) bool {
	return strings.Contains(strings.ToLower(s), "candidate:")
}

// candidateOf returns the candidate-attribute of an attribute line, or what is
// none if the line is anything else.
func candidateOf(line string) string {
	line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	candidate, ok := strings.CutPrefix(line, "a=")
	if !ok {
		return ""
	}
	return candidate
}
