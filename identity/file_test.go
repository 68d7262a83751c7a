package identity

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// leftovers returns the names in dir of files that were never put in place.
func leftovers(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.unfinished-*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestLoadMakesThenReads(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "node.key")
	first, err := Load(path)
	first = mustIdentity(t, first, err)
	before := mustRead(t, path)
	second, err := Load(path)
	second = mustIdentity(t, second, err)
	third, err := Read(path)
	third = mustIdentity(t, third, err)
	if first.ID() != second.ID() || first.ID() != third.ID() {
		t.Errorf("three peers: %v, %v, %v", first, second, third)
	}
	if !bytes.Equal(before, mustRead(t, path)) {
		t.Error("loading changed the file")
	}
	if len(before) != 68 || !bytes.HasPrefix(before, []byte{8, 1, 18, 64}) {
		t.Errorf("made %d bytes, want the 68 of an Ed25519 key in the libp2p protobuf", len(before))
	}
	if left := leftovers(t, dir); left != nil {
		t.Errorf("left %q behind", left)
	}
}

func TestReadNeverMakes(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "node.key")
	_, err := Read(path)
	wantError(t, err, path, fs.ErrNotExist, "Load")
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("Read made %v (%v)", entries, err)
	}
}

func TestSave(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.key")
	for name, keyType := range keyTypes {
		t.Run(name, func(t *testing.T) {
			id, err := FromPrivKey(newKey(t, keyType))
			if err != nil {
				t.Fatal(err)
			}
			path := path + name
			if err := id.Save(path); err != nil {
				t.Fatal(err)
			}
			got, err := Load(path)
			if mustIdentity(t, got, err).ID() != id.ID() {
				t.Errorf("saved %v, loaded %v", id, got)
			}
		})
	}
}

func TestSaveNeverReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "node.key")
	id, err := Ephemeral()
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"", "precious", string(ed25519File(t))} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		wantError(t, id.Save(path), path, fs.ErrExist, "exists already")
		if got := mustRead(t, path); string(got) != content {
			t.Errorf("%q was replaced", content)
		}
	}
	wantError(t, id.Save(dir), dir, fs.ErrExist)
	if left := leftovers(t, dir); left != nil {
		t.Errorf("left %q behind", left)
	}
}

func TestPlacesWhereNoFileCanBe(t *testing.T) {
	dir := t.TempDir()
	file := keyFile(t, ed25519File(t))
	long := filepath.Join(dir, strings.Repeat("x", 250))
	tests := []struct {
		name, path string
		words      []string
	}{
		{"no path", "", []string{"path"}},
		{"no parent", filepath.Join(dir, "a", "b", "node.key"), []string{"mkdir -p " + filepath.Join(dir, "a", "b")}},
		{"parent is a file", filepath.Join(file, "node.key"), []string{"director"}},
		{"directory", dir, []string{"directory"}},
		{"name too long", long, []string{"name too long"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Load(test.path)
			var typed *Error
			if !errors.As(err, &typed) {
				t.Fatalf("got %v", err)
			}
			wantError(t, err, test.path, typed.Err, test.words...)
		})
	}
	id, err := Ephemeral()
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, id.Save(""), "", fs.ErrInvalid)
	path := filepath.Join(file, "node.key")
	wantError(t, id.Save(path), path, syscall.ENOTDIR, "not a directory")
}

func TestSymbolicLinks(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "real.key"), filepath.Join(dir, "node.key")
	if err := os.Symlink(target, link); err != nil {
		t.Skip(err)
	}
	_, err := Load(link)
	wantError(t, err, link, fs.ErrNotExist, "symbolic link")
	if _, err := os.Lstat(target); err == nil {
		t.Error("wrote through a link to nowhere")
	}
	want, err := Load(target)
	want = mustIdentity(t, want, err)
	got, err := Load(link)
	if mustIdentity(t, got, err).ID() != want.ID() {
		t.Error("a link to a key file is another peer")
	}
}

// TestRaceOfGoroutines also runs with the rename alone, for file systems without hard links.
func TestRaceOfGoroutines(t *testing.T) {
	places := map[string]func(temp, path string) error{"link": place, "rename": renameNew}
	for name, place := range places {
		t.Run(name, func(t *testing.T) {
			if probe := keyFile(t, nil); errors.Is(place(probe, probe+"2"), errors.ErrUnsupported) {
				t.Skip("this system has no rename that refuses to replace")
			}
			for range 50 {
				race(t, place)
			}
		})
	}
}

func race(t *testing.T, place func(temp, path string) error) {
	t.Helper()
	const racers = 16
	dir := t.TempDir()
	path := filepath.Join(dir, "node.key")
	var (
		all    sync.WaitGroup
		start  = make(chan struct{})
		mutex  sync.Mutex
		peers  = map[string]int{}
		makers int
	)
	for range racers {
		all.Go(func() {
			fresh, err := Ephemeral()
			if err != nil {
				t.Error(err)
				return
			}
			data, _ := fresh.encode()
			<-start
			flaw := create(path, data, place)
			if flaw != nil && !errors.Is(flaw, fs.ErrExist) {
				t.Error(flaw)
			}
			got, err := Load(path)
			if err != nil {
				t.Error(err)
				return
			}
			mutex.Lock()
			defer mutex.Unlock()
			peers[got.String()]++
			if flaw == nil {
				makers++
			}
		})
	}
	close(start)
	all.Wait()
	if len(peers) != 1 || makers != 1 {
		t.Errorf("%d racers made %d files and got %v", racers, makers, peers)
	}
	if left := leftovers(t, dir); left != nil {
		t.Errorf("left %q behind", left)
	}
}

// TestNoWayToPlace is for a file system with neither hard links nor a rename that refuses to replace.
func TestNoWayToPlace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "node.key")
	stuck := func(temp, path string) error {
		return &placeError{
			link:   &os.LinkError{Op: "link", Old: temp, New: path, Err: syscall.EPERM},
			rename: syscall.EINVAL,
		}
	}
	flaw := create(path, ed25519File(t), stuck)
	if flaw == nil {
		t.Fatal("no error")
	}
	wantError(t, flaw.at(path), path, syscall.EPERM, "hard links", syscall.EINVAL.Error())
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left %v behind (%v)", entries, err)
	}
}

// TestPlaceFallsBack has place meet a link that fails, which a vanished source does everywhere.
func TestPlaceFallsBack(t *testing.T) {
	dir := t.TempDir()
	err := place(filepath.Join(dir, "gone"), filepath.Join(dir, "node.key"))
	var stuck *placeError
	if !errors.As(err, &stuck) || stuck.rename == nil || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want both failures", err)
	}
}

// TestStaleTempFile has the remains of a crash in the directory.
func TestStaleTempFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "node.key")
	stale := path + ".unfinished-OLD"
	if err := os.WriteFile(stale, []byte{8, 1}, 0o600); err != nil {
		t.Fatal(err)
	}
	id, err := Load(path)
	mustIdentity(t, id, err)
	if got := mustRead(t, stale); len(got) != 2 {
		t.Error("touched a file that may be another's")
	}
}
