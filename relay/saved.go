package relay

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// saveEvery is how often the table is saved at most. What a crash loses is
	// younger than this and the time that writing takes.
	saveEvery = 500 * time.Millisecond
	// maxSaved bounds a file's bytes: [Limits.Reservations] at its most.
	maxSaved = 256 << 20
	// maxSavedTime bounds how long what a file says is believed, see [Limits.Validate].
	maxSavedTime = 7 * 24 * time.Hour

	savedVersion = 1
)

// savedTable is the file of a reservation table, in JSON.
type savedTable struct {
	Version      int                `json:"version"`
	Reservations []savedReservation `json:"reservations"`
}

// savedReservation has no terms: the policy is asked anew.
type savedReservation struct {
	Peer    peer.ID    `json:"peer"`
	Addr    netip.Addr `json:"addr"`
	Since   time.Time  `json:"since"`
	Expires time.Time  `json:"expires"`
}

func (r savedReservation) check() error {
	switch {
	case r.Peer.Validate() != nil:
		return errors.New("without a peer")
	case r.Expires.IsZero():
		return fmt.Errorf("of %v: without the time when it expires", r.Peer)
	}
	return nil
}

// readSaved reads a table, of which each peer is named once.
func readSaved(r io.Reader) ([]savedReservation, error) {
	in := json.NewDecoder(io.LimitReader(r, maxSaved))
	var t savedTable
	if err := in.Decode(&t); err != nil {
		return nil, err
	}
	if t.Version != savedVersion {
		return nil, fmt.Errorf("version %d, want %d", t.Version, savedVersion)
	}
	seen := make(map[peer.ID]struct{}, len(t.Reservations))
	for i, r := range t.Reservations {
		if err := r.check(); err != nil {
			return nil, fmt.Errorf("reservation %d: %w", i+1, err)
		}
		if _, twice := seen[r.Peer]; twice {
			return nil, fmt.Errorf("reservation %d: of %v, who has one before", i+1, r.Peer)
		}
		seen[r.Peer] = struct{}{}
	}
	return t.Reservations, nil
}

// loadSaved reads a table's file, which need not be there.
func loadSaved(path string) ([]savedReservation, error) {
	if dir, err := os.Stat(filepath.Dir(path)); err != nil || !dir.IsDir() {
		return nil, fmt.Errorf("WithSavedTable(%q): its directory is not there; make it, or name another file", path)
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("WithSavedTable(%q): %w; let the relay read it, or name another file", path, err)
	}
	defer f.Close()
	saved, err := readSaved(bufio.NewReader(f))
	if err != nil {
		return nil, fmt.Errorf("WithSavedTable(%q): not a reservation table: %w; delete it to start with none", path, err)
	}
	return saved, nil
}

// writeSaved replaces a table's file, or leaves it as it is.
func writeSaved(path string, saved []savedReservation) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	out := bufio.NewWriter(f)
	err = json.NewEncoder(out).Encode(savedTable{savedVersion, saved})
	if err = errors.Join(err, out.Flush(), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// saved is the reservations of an earlier life of the relay whose peers have not
// come back yet. The zero value has none.
type saved struct {
	path  string        // empty: nothing is saved
	dirty chan struct{} // capacity 1: something has changed

	mu     sync.Mutex
	absent map[peer.ID]*absentee // guarded by mu
}

// absentee is a reservation that may come back.
type absentee struct {
	savedReservation
	settled chan struct{} // nil until somebody sees to it; then closed when that is done
}

func newSaved(path string, from []savedReservation, most int, now time.Time) *saved {
	s := &saved{path: path, dirty: make(chan struct{}, 1), absent: make(map[peer.ID]*absentee)}
	for _, r := range from {
		if latest := now.Add(maxSavedTime); r.Expires.After(latest) {
			r.Expires = latest
		}
		if r.Expires.After(now) && len(s.absent) < most {
			s.absent[r.Peer] = &absentee{savedReservation: r}
		}
	}
	return s
}

// changed has the table saved soon.
func (s *saved) changed() {
	select {
	case s.dirty <- struct{}{}:
	default:
	}
}

func (s *saved) peers() []peer.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	peers := make([]peer.ID, 0, len(s.absent))
	for p := range s.absent {
		peers = append(peers, p)
	}
	return peers
}

func (s *saved) has(p peer.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.absent[p] != nil
}

// claim returns a peer's saved reservation, nil if there is none. Who is not the
// first waits until it is settled.
func (s *saved) claim(p peer.ID) (a *absentee, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a = s.absent[p]; a == nil || a.settled != nil {
		return a, false
	}
	a.settled = make(chan struct{})
	return a, true
}

// settle ends a claim. What is kept can be claimed again.
func (s *saved) settle(a *absentee, keep bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(a.settled)
	if s.absent[a.Peer] != a { // forgotten meanwhile
		return
	}
	if keep {
		s.absent[a.Peer] = &absentee{savedReservation: a.savedReservation}
	} else {
		delete(s.absent, a.Peer)
	}
}

// forget drops a peer's saved reservation, and says whether there was one.
func (s *saved) forget(p peer.ID) bool {
	s.mu.Lock()
	_, had := s.absent[p]
	delete(s.absent, p)
	s.mu.Unlock()
	if had {
		s.changed()
	}
	return had
}

func (s *saved) expire(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, a := range s.absent {
		if a.Expires.Before(now) {
			delete(s.absent, p)
		}
	}
}

// list returns what is to be saved beside what is held.
func (s *saved) list(now time.Time) []savedReservation {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]savedReservation, 0, len(s.absent))
	for _, a := range s.absent {
		if !a.Expires.Before(now) {
			all = append(all, a.savedReservation)
		}
	}
	return all
}

// save writes the table, if there is a file for it.
func (h *hop) save() error {
	if h.saved.path == "" {
		return nil
	}
	now := time.Now()
	all := h.saved.list(now)
	for _, r := range h.table.list(now) {
		all = append(all, savedReservation{r.Peer, r.Addr, r.Since, r.Expires})
	}
	slices.SortFunc(all, func(a, b savedReservation) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Peer, b.Peer))
	})
	all = slices.CompactFunc(all, func(a, b savedReservation) bool { return a.Peer == b.Peer })
	if err := writeSaved(h.saved.path, all); err != nil {
		return fmt.Errorf("save the reservation table: %w; WithSavedTable(%q) has to name a file that can be written", err, h.saved.path)
	}
	return nil
}

// keepSaved saves the table when it has changed, until the service is closed.
func (h *hop) keepSaved() {
	rest := time.NewTicker(saveEvery)
	defer rest.Stop()
	for {
		select {
		case <-rest.C:
		case <-h.ctx.Done():
			return
		}
		select {
		case <-h.saved.dirty:
		case <-h.ctx.Done():
			return
		}
		if err := h.save(); err != nil {
			h.metrics.unsaved.Inc()
			log.Warnw("reservations would be lost with the relay", "error", err)
			h.saved.changed() // again
		}
	}
}

// restore gives a peer that is back the reservation that it had, and returns it;
// nil if it had none or gets none.
func (h *hop) restore(p peer.ID) *reservation {
	a, first := h.saved.claim(p)
	switch {
	case first:
		h.saved.settle(a, h.readmit(a.savedReservation))
	case a != nil:
		select {
		case <-a.settled:
		case <-h.ctx.Done():
		}
	}
	return h.table.get(p, time.Now())
}

// readmit asks the policy as for a renewal, and says whether the reservation is
// to be kept for later.
func (h *hop) readmit(s savedReservation) (keep bool) {
	conn := h.direct(s.Peer)
	if conn == nil || h.ctx.Err() != nil {
		return true
	}
	r := h.request(Reserve, conn, "")
	r.Renewal = true
	if !s.Expires.After(r.Time) {
		return false
	}
	d := h.decide(h.ctx, r)
	why, refused := d.Refused()
	if refused && h.ctx.Err() != nil {
		return true // the relay ends, it is not the policy's last word
	}
	if !refused {
		entry := h.entry(r, d)
		entry.Since, entry.Expires = s.Since, earlier(s.Expires, entry.Expires)
		why = h.hold(entry, ReservationRestored)
	}
	if why != "" {
		h.events.reservation(EvtReservation{Peer: r.Peer, Addr: r.Addr, Change: ReservationEnded, Reason: why})
	}
	return false
}

// returned restores a peer's reservation in the background.
func (h *hop) returned(p peer.ID) {
	if !h.saved.has(p) || !h.enter() {
		return
	}
	go func() {
		defer h.wg.Done()
		h.restore(p)
	}()
}
