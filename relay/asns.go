package relay

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// maxASNs bounds the file of a table, in bytes. Tables of the whole Internet
// have some 30 MB.
const maxASNs = 256 << 20

// ASNs is a table of autonomous systems for [PerASN], of IPv4 and IPv6:
//
//	asns, err := relay.LoadASNs("ip2asn-combined.tsv")
//	...
//	policy := relay.PerASN(64, asns.Lookup)
//
// It is safe for concurrent use, and what refers to it sees its changes at once.
type ASNs struct {
	path   string
	ranges atomic.Pointer[asnRanges]
}

// asnRanges is the ranges of IPv4 and of IPv6, none of which overlap, in order.
type asnRanges [2][]asnRange

type asnRange struct {
	first, last netip.Addr
	asn         uint32
}

// LoadASNs reads a table from a file of at most 256 MiB. Each line is
//
//	192.0.2.0	192.0.2.255	64500	...
//	192.0.2.0/24	64500	...
//
// a range from its first to its last address, or a network, and the number of the
// autonomous system, "AS" before it or not. Spaces or tabs are between; what
// comes after the number is not read, nor what follows a #. A range with the
// number 0 belongs to nobody. Where one range is within another, it counts
// there; ranges that overlap otherwise are an error. The tables of iptoasn.com
// have this form.
func LoadASNs(path string) (*ASNs, error) {
	a := &ASNs{path: path}
	return a, a.Reload()
}

// Reload reads the table's file again. If that fails the table stays as it was.
func (a *ASNs) Reload() error {
	f, err := os.Open(a.path)
	if err != nil {
		return fmt.Errorf("relay: load ASNs: %w", err)
	}
	defer func() { _ = f.Close() }()
	ranges, err := parseASNs(f)
	if err != nil {
		return fmt.Errorf("relay: load ASNs: %s: %w", a.path, err)
	}
	a.ranges.Store(ranges)
	return nil
}

// Lookup returns the autonomous system that an address belongs to, 0 if the
// table does not say. It is an [ASNTable].
func (a *ASNs) Lookup(addr netip.Addr) uint32 {
	all := a.ranges.Load()
	if all == nil || !addr.IsValid() { // it failed to load, and somebody went on
		return 0
	}
	addr = addr.Unmap().WithZone("")
	ranges := all[family(addr)]
	i, found := slices.BinarySearchFunc(ranges, addr, func(r asnRange, at netip.Addr) int { return r.first.Compare(at) })
	if !found {
		i--
	}
	if i < 0 || ranges[i].last.Less(addr) {
		return 0
	}
	return ranges[i].asn
}

// Len returns how many ranges the table has.
func (a *ASNs) Len() int {
	all := a.ranges.Load()
	if all == nil {
		return 0
	}
	return len(all[0]) + len(all[1])
}

// numbered is a range with its line.
type numbered struct {
	asnRange

	line int
}

func parseASNs(r io.Reader) (*asnRanges, error) {
	limited := &io.LimitedReader{R: r, N: maxASNs + 1}
	lines := bufio.NewScanner(limited)
	var read [2][]numbered
	number := 0
	for lines.Scan() {
		number++
		entry, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(entry)
		if len(fields) == 0 {
			continue
		}
		r, err := parseASN(fields)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		at := &read[family(r.first)]
		*at = append(*at, numbered{r, number})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", number+1, err)
	}
	if limited.N == 0 {
		return nil, fmt.Errorf("more than %d bytes", maxASNs)
	}
	var ranges asnRanges
	for i := range read {
		var err error
		if ranges[i], err = flatten(read[i]); err != nil {
			return nil, err
		}
	}
	return &ranges, nil
}

var errASN = errors.New("use a line like 192.0.2.0/24 64500, or 192.0.2.0 192.0.2.255 64500")

func parseASN(fields []string) (r asnRange, err error) {
	rest := fields[1:]
	switch {
	case strings.Contains(fields[0], "/"):
		network, err := parseNetwork(fields[0])
		if err != nil {
			return r, err
		}
		r.first, r.last = network.Addr(), lastOf(network)
	case len(fields) > 1:
		if r.first, r.last, err = parseRange(fields[0], fields[1]); err != nil {
			return r, err
		}
		rest = fields[2:]
	}
	if len(rest) == 0 {
		return r, fmt.Errorf("no number after the network: %w", errASN)
	}
	number := strings.TrimPrefix(strings.TrimPrefix(rest[0], "AS"), "as")
	asn, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return r, fmt.Errorf("%.80q is no number of an autonomous system: %w", rest[0], errASN)
	}
	r.asn = uint32(asn)
	return r, nil
}

func parseRange(from, to string) (first, last netip.Addr, err error) {
	first, err1 := netip.ParseAddr(from)
	last, err2 := netip.ParseAddr(to)
	first, last = first.Unmap(), last.Unmap()
	if err1 != nil || err2 != nil || first.Zone()+last.Zone() != "" || first.Is4() != last.Is4() || last.Less(first) {
		return first, last, fmt.Errorf("%.80q to %.80q is no range: %w", from, to, errASN)
	}
	return first, last, nil
}

// lastOf returns the last address of a network.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}

// flatten puts ranges in order, and cuts those out that are within others.
func flatten(read []numbered) (flat []asnRange, err error) {
	slices.SortStableFunc(read, func(a, b numbered) int {
		return cmp.Or(a.first.Compare(b.first), b.last.Compare(a.last)) // the wider first
	})
	flat = make([]asnRange, 0, len(read))
	var open []numbered // each within the one before
	var next netip.Addr // the first address that is not in flat yet
	// put adds what of r is from next on and before end.
	put := func(r asnRange, end netip.Addr) {
		if r.asn != 0 && end.IsValid() && !end.Less(next) {
			flat = append(flat, asnRange{next, end, r.asn})
		}
	}
	closeBefore := func(first netip.Addr) {
		for len(open) > 0 && (!first.IsValid() || open[len(open)-1].last.Less(first)) {
			r := open[len(open)-1]
			open = open[:len(open)-1]
			if next.IsValid() {
				put(r.asnRange, r.last)
				next = r.last.Next() // invalid after the last address there is
			}
		}
	}
	for _, r := range read {
		closeBefore(r.first)
		if len(open) > 0 {
			outer := open[len(open)-1]
			if outer.last.Less(r.last) {
				return nil, fmt.Errorf("line %d overlaps with line %d, but neither is within the other: remove one", r.line, outer.line)
			}
			put(outer.asnRange, r.first.Prev())
		}
		open, next = append(open, r), r.first
	}
	closeBefore(netip.Addr{})
	return flat, nil
}
