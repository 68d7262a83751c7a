package discovery

import (
	"context"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
)

// EventType says what happened to a peer.
type EventType int

const (
	// Found says that a peer was not known before.
	Found EventType = iota + 1
	// Updated says that a known peer has other addresses than before.
	Updated
	// Expired says that a peer was not heard of for too long, or gave way to another in a full table.
	Expired
	// Left says that a peer announced that it goes away.
	Left
)

func (t EventType) String() string {
	switch t {
	case Found:
		return "found"
	case Updated:
		return "updated"
	case Expired:
		return "expired"
	case Left:
		return "left"
	}
	return "unknown"
}

// Event is a change in the peers known. It is emitted on the host's event bus
// and by [Service.Events].
type Event struct {
	// Type says what happened.
	Type EventType
	// Topic is the discovery topic on which it happened.
	Topic string
	// Peer is the peer with the addresses it announced, verified to be its
	// own statement but not to be reachable. Connect to it to find out.
	Peer peer.AddrInfo
}

// watchers hands events to any number of readers, none of which can hold up
// the others. What a slow reader has not seen yet is kept as one event a peer,
// so that its queue is bounded by the peers it knows and the table's size.
type watchers struct {
	mu   sync.Mutex
	all  map[*watcher]struct{} // nil once closed
	done chan struct{}
}

type watcher struct {
	pending map[key]Event // guarded by watchers.mu
	order   []key         // guarded by watchers.mu
	wake    chan struct{}
}

func newWatchers() *watchers {
	return &watchers{all: make(map[*watcher]struct{}), done: make(chan struct{})}
}

func (ws *watchers) emit(events []Event) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for w := range ws.all {
		w.add(events)
	}
}

func (w *watcher) add(events []Event) {
	for _, e := range events {
		k := key{e.Topic, e.Peer.ID}
		old, behind := w.pending[k]
		if !behind {
			w.order = append(w.order, k)
			w.pending[k] = e
			continue
		}
		if e, keep := merge(old, e); keep {
			w.pending[k] = e
			continue
		}
		delete(w.pending, k)
		w.order = slices.DeleteFunc(w.order, func(o key) bool { return o == k })
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// merge makes one event of two that a reader has not seen; none if the peer
// came and went.
func merge(old, e Event) (merged Event, keep bool) {
	gone := e.Type == Expired || e.Type == Left
	switch {
	case old.Type == Found && gone:
		return Event{}, false
	case old.Type == Found:
		e.Type = Found
	case !gone:
		e.Type = Updated
	}
	return e, true
}

// watch adds a reader that starts with the events given.
func (ws *watchers) watch(first []Event) *watcher {
	w := &watcher{pending: make(map[key]Event), wake: make(chan struct{}, 1)}
	w.add(first)
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.all != nil {
		ws.all[w] = struct{}{}
	}
	return w
}

func (ws *watchers) take(w *watcher) []Event {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	events := make([]Event, 0, len(w.order))
	for _, k := range w.order {
		events = append(events, w.pending[k])
	}
	clear(w.pending)
	w.order = w.order[:0]
	return events
}

func (ws *watchers) forget(w *watcher) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.all, w)
}

func (ws *watchers) close() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.all != nil {
		ws.all = nil
		close(ws.done)
	}
}

// each yields w's events until ctx ends, the watchers close or the reader has enough.
func (ws *watchers) each(ctx context.Context, w *watcher, yield func(Event) bool) {
	defer ws.forget(w)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ws.done:
			return
		case <-w.wake:
		}
		for _, e := range ws.take(w) {
			if !yield(e) {
				return
			}
		}
	}
}
