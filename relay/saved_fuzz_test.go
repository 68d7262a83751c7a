package relay

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

func FuzzSavedTable(f *testing.F) {
	id, err := peer.Decode("12D3KooWQnwEGNqcM2nAcPtRR9rAX8Hrg4k9kJLCHoTR5chJfz6d")
	if err != nil {
		f.Fatal(err)
	}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	path := filepath.Join(f.TempDir(), "table")
	saved := []savedReservation{{Peer: id, Addr: netip.MustParseAddr("2001:db8::1"), Since: at, Expires: at.Add(time.Hour)}}
	if err := writeSaved(path, saved); err != nil {
		f.Fatal(err)
	}
	ours, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ours)
	f.Add([]byte(`{"version":1,"reservations":[{"peer":"","addr":"x"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := readSaved(bytes.NewReader(data))
		if err != nil {
			return
		}
		path := filepath.Join(t.TempDir(), "table")
		if err := writeSaved(path, first); err != nil {
			t.Skip("a time that JSON does not have")
		}
		second, err := loadSaved(path)
		if err != nil || len(second) != len(first) {
			t.Fatalf("%v, then %v, %v", first, second, err)
		}
		for i := range first {
			a, b := first[i], second[i]
			if a.Peer != b.Peer || a.Addr != b.Addr || !a.Since.Equal(b.Since) || !a.Expires.Equal(b.Expires) {
				t.Errorf("%v, then %v", a, b)
			}
		}
	})
}
