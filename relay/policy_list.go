package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/peer"
)

// maxList bounds the text of a list, in bytes. It is room for some 80,000 peers.
const maxList = 4 << 20

// List is a set of peers and networks, for [AllowList], [OnlyList] and
// [DenyList]. It is safe for concurrent use, and what refers to it sees its
// changes at once.
type List struct {
	path    string // empty if it is from no file
	entries atomic.Pointer[entries]
}

type entries struct {
	peers    map[peer.ID]struct{}
	networks map[netip.Prefix]struct{}
	bits     [2][]int // the lengths among networks, of IPv4 and IPv6
}

// ParseList reads a list: a peer ID, an IP address or a CIDR network on each
// line, with # before comments.
func ParseList(text string) (*List, error) {
	l := new(List)
	return l, l.Replace(text)
}

// LoadList reads a list from a file, see [ParseList] and [List.Reload].
func LoadList(path string) (*List, error) {
	l := &List{path: path}
	return l, l.Reload()
}

// Reload reads the list's file again. If that fails the list stays as it was.
func (l *List) Reload() error {
	if l.path == "" {
		return errors.New("relay: reload list: it is from no file; use Replace")
	}
	f, err := os.Open(l.path)
	if err != nil {
		return fmt.Errorf("relay: load list: %w", err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxList+1))
	if err != nil {
		return fmt.Errorf("relay: load list: %w", err)
	}
	if err := l.Replace(string(text)); err != nil {
		return fmt.Errorf("%s: %w", l.path, err)
	}
	return nil
}

// Replace replaces the list by what [ParseList] would read. If that fails the
// list stays as it was.
func (l *List) Replace(text string) error {
	e, err := parseEntries(text)
	if err != nil {
		return fmt.Errorf("relay: list: %w", err)
	}
	l.entries.Store(e)
	return nil
}

// Has says whether a request's peer, or its address, is on the list.
func (l *List) Has(r *Request) bool {
	e := l.entries.Load()
	if e == nil { // it failed to load, and somebody went on
		return false
	}
	if _, ok := e.peers[r.Peer]; ok {
		return true
	}
	if !r.Addr.IsValid() {
		return false
	}
	return slices.ContainsFunc(e.bits[family(r.Addr)], func(bits int) bool {
		network, err := r.Addr.Prefix(bits)
		_, ok := e.networks[network]
		return err == nil && ok
	})
}

// Len returns how many entries the list has.
func (l *List) Len() int {
	e := l.entries.Load()
	if e == nil {
		return 0
	}
	return len(e.peers) + len(e.networks)
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

func parseEntries(text string) (*entries, error) {
	if len(text) > maxList {
		return nil, fmt.Errorf("more than %d bytes: join networks, or use several lists", maxList)
	}
	e := &entries{peers: make(map[peer.ID]struct{}), networks: make(map[netip.Prefix]struct{})}
	number := 0
	for line := range strings.Lines(text) {
		number++
		entry, _, _ := strings.Cut(line, "#")
		if err := e.add(strings.TrimSpace(entry)); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
	}
	return e, nil
}

func (e *entries) add(entry string) error {
	if entry == "" {
		return nil
	}
	if p, err := peer.Decode(entry); err == nil {
		e.peers[p] = struct{}{}
		return nil
	}
	network, err := parseNetwork(entry)
	if err != nil {
		return err
	}
	e.networks[network] = struct{}{}
	bits := &e.bits[family(network.Addr())]
	if !slices.Contains(*bits, network.Bits()) {
		*bits = append(*bits, network.Bits())
	}
	return nil
}

func parseNetwork(entry string) (netip.Prefix, error) {
	network, err := netip.ParsePrefix(entry)
	if err != nil {
		addr, addrErr := netip.ParseAddr(entry)
		if addrErr != nil || addr.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%.80q: use a peer ID, an IP address without a zone, or a network like 192.0.2.0/24", entry)
		}
		network = netip.PrefixFrom(addr, addr.BitLen())
	}
	if a := network.Addr(); a.Is4In6() && network.Bits() >= 96 {
		network = netip.PrefixFrom(a.Unmap(), network.Bits()-96)
	}
	if network != network.Masked() {
		return netip.Prefix{}, fmt.Errorf("%.80q: not the first address of its network: use %v", entry, network.Masked())
	}
	return network, nil
}

// AllowList allows those on the list and has no opinion on others.
func AllowList(l *List) Policy { return listed{list: l, on: Allow(Terms{})} }

// OnlyList allows those on the list and refuses others.
func OnlyList(l *List) Policy {
	return listed{list: l, on: Allow(Terms{}), off: Refuse(ReasonNotListed)}
}

// DenyList refuses those on the list and has no opinion on others.
func DenyList(l *List) Policy { return listed{list: l, on: Refuse(ReasonDenied)} }

type listed struct {
	list    *List
	on, off Decision
}

func (l listed) Decide(_ context.Context, r *Request) Decision {
	if l.list.Has(r) {
		return l.on
	}
	return l.off
}

func (l listed) check() error {
	if l.list == nil {
		return errors.New("a policy on a nil list: make one with ParseList or LoadList")
	}
	return nil
}
