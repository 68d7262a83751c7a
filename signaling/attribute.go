package signaling

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// attribute is what the policy wants to know of a candidate-attribute (RFC 8839 §5.1):
//
//	candidate:FOUNDATION COMPONENT TRANSPORT PRIORITY ADDRESS PORT typ TYPE [raddr A] [rport P] *(NAME VALUE)
type attribute struct {
	transport string // in lower case
	host      string // the connection-address as it was written
	addr      netip.Addr
	port      uint16
	typ       string
}

var errAttribute = errors.New("not a candidate-attribute")

// maxAttributeFields is more than any browser writes (19).
const maxAttributeFields = 40

// parseAttribute is as strict as the grammar: what it takes for an address no
// other parser shall take for something else.
func parseAttribute(s string) (attribute, error) {
	rest, ok := strings.CutPrefix(s, "candidate:")
	if !ok || strings.Count(rest, " ") >= maxAttributeFields {
		return attribute{}, errAttribute
	}
	f := strings.Split(rest, " ")
	if len(f) < 8 || len(f)%2 != 0 || !allPrintable(f) {
		return attribute{}, errAttribute
	}
	a := attribute{transport: strings.ToLower(f[2]), host: f[4], typ: f[7]}
	port, portOK := number(f[5], 5, 1<<16-1)
	a.port = uint16(port)
	_, componentOK := number(f[1], 3, 256)
	_, priorityOK := number(f[3], 10, 1<<31-1)
	if !isFoundation(f[0]) || !componentOK || !priorityOK || !portOK || f[6] != "typ" || !isType(a.typ) {
		return attribute{}, errAttribute
	}
	a.addr, _ = netip.ParseAddr(a.host) // invalid: a name
	return a, nil
}

// isFoundation says whether s is 1*32ice-char.
func isFoundation(s string) bool {
	return s != "" && len(s) <= 32 && strings.Trim(s, iceChars) == ""
}

const iceChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

func isType(s string) bool {
	switch s {
	case "host", "srflx", "prflx", "relay":
		return true
	}
	return false
}

// number parses 1 to digits decimal digits.
func number(s string, digits int, high uint64) (uint64, bool) {
	if s == "" || len(s) > digits || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && n <= high
}

// allPrintable says whether each field has only visible ASCII, and some.
func allPrintable(fields []string) bool {
	for _, f := range fields {
		if f == "" {
			return false
		}
		for _, c := range []byte(f) {
			if c <= ' ' || c > '~' {
				return false
			}
		}
	}
	return true
}
