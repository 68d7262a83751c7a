package front

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

var (
	errTooManyHops = fmt.Errorf("more than %d proxies", MaxHops)
	errSyntax      = errors.New("malformed")
	errDisagree    = errors.New("X-Forwarded-For and Forwarded name different clients")
)

// client returns who sent a request that has come from a trusted proxy, as the
// headers of the proxies tell. It is invalid if they tell nothing. The port is 0
// if they do not tell it.
//
// A proxy that appends to one of the two headers may hand on the other as it came
// from the client. So where there are both, they have to agree.
func (ps proxies) client(h http.Header) (netip.AddrPort, error) {
	a, err := ps.rightmost(h.Values("X-Forwarded-For"), splitXFF)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("header X-Forwarded-For: %w", err)
	}
	b, err := ps.rightmost(h.Values("Forwarded"), splitForwarded)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("header Forwarded: %w", err)
	}
	switch {
	case !a.IsValid():
		return b, nil
	case b.IsValid() && a.Addr() != b.Addr():
		return netip.AddrPort{}, errDisagree
	}
	return a, nil
}

// rightmost reads a header from right to left, over the hops that are trusted, and
// returns the first that is not, or the last of all. What stands to the left of it
// is the client's own claim. It does not count, though it may make its whole line
// malformed.
func (ps proxies) rightmost(lines []string, split func(string) ([]string, error)) (client netip.AddrPort, err error) {
	hops := 0
	for _, line := range slices.Backward(lines) {
		nodes, err := split(line)
		if err != nil {
			return netip.AddrPort{}, err
		}
		for _, node := range slices.Backward(nodes) {
			if hops++; hops > MaxHops {
				return netip.AddrPort{}, errTooManyHops
			}
			if client, err = parseNode(node); err != nil {
				return netip.AddrPort{}, err
			}
			if !ps.trusts(client.Addr()) {
				return client, nil
			}
		}
	}
	return client, nil
}

// splitXFF splits a line of X-Forwarded-For, which has no specification: addresses
// with commas between them.
func splitXFF(line string) ([]string, error) {
	nodes := strings.Split(line, ",")
	for i, n := range nodes {
		nodes[i] = strings.Trim(n, " \t")
	}
	return nodes, nil
}

// splitForwarded returns the for parameters of a line of Forwarded (RFC 7239 §4),
// without their quotes. An element that has none is an empty one.
func splitForwarded(line string) ([]string, error) {
	var nodes []string
	for rest := line; ; {
		var node string
		var err error
		if node, rest, err = cutElement(rest); err != nil {
			return nil, err
		}
		nodes = append(nodes, node)
		if rest == "" {
			return nodes, nil
		}
		rest = rest[1:] // the comma
	}
}

// cutElement reads pairs up to a comma, at which rest begins, or the end.
func cutElement(s string) (node, rest string, err error) {
	for {
		name, value, after, err := cutPair(s)
		if err != nil {
			return "", "", err
		}
		if strings.EqualFold(name, "for") {
			if node != "" {
				return "", "", errSyntax // RFC 7239 §4: once an element
			}
			node = value
		}
		if after == "" || after[0] == ',' {
			return node, after, nil
		}
		s = after[1:] // the semicolon
	}
}

// cutPair reads a forwarded-pair, which may be empty, with the white space that
// senders put around it. after is empty or begins with what ends the pair.
func cutPair(s string) (name, value, after string, err error) {
	s = strings.TrimLeft(s, " \t")
	if s == "" || s[0] == ',' || s[0] == ';' {
		return "", "", s, nil
	}
	name, s = cutToken(s)
	if name == "" || !strings.HasPrefix(s, "=") {
		return "", "", "", errSyntax
	}
	s = s[1:]
	if strings.HasPrefix(s, `"`) {
		value, s, err = cutQuoted(s[1:])
		if err != nil {
			return "", "", "", err
		}
	} else if value, s = cutToken(s); value == "" {
		return "", "", "", errSyntax
	}
	s = strings.TrimLeft(s, " \t")
	if s != "" && s[0] != ',' && s[0] != ';' {
		return "", "", "", errSyntax
	}
	return name, value, s, nil
}

// cutToken cuts a token (RFC 9110 §5.6.2), to which we add the colon: many a proxy
// leaves the quotes out around an address with a port.
func cutToken(s string) (token, rest string) {
	n := 0
	for n < len(s) && (s[n] == ':' || isTokenByte(s[n])) {
		n++
	}
	return s[:n], s[n:]
}

func isTokenByte(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0
}

// cutQuoted cuts what stands before the closing quote (RFC 9110 §5.6.4). No
// address needs a backslash.
func cutQuoted(s string) (value, rest string, err error) {
	end := strings.IndexByte(s, '"')
	if end < 0 || strings.IndexByte(s[:end], '\\') >= 0 {
		return "", "", errSyntax
	}
	return s[:end], s[end+1:], nil
}

// parseNode reads an address, with or without a port: 192.0.2.1, 192.0.2.1:80,
// [2001:db8::1], [2001:db8::1]:80 and, which X-Forwarded-For has, 2001:db8::1.
func parseNode(s string) (netip.AddrPort, error) {
	p, err := netip.ParseAddrPort(s)
	if err != nil {
		a, err := netip.ParseAddr(unbracket(s))
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("%w: %.64q", errBadAddress, s)
		}
		p = netip.AddrPortFrom(a, 0)
	}
	p = netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	return p, checkClient(p.Addr())
}

func unbracket(s string) string {
	if len(s) > 2 && s[0] == '[' && s[len(s)-1] == ']' && strings.IndexByte(s, ':') > 0 {
		return s[1 : len(s)-1]
	}
	return s
}
