package identity

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Save writes the identity to a new key file at path, mode 0600. A file that exists is never replaced: the error then
// matches [fs.ErrExist].
func (i Identity) Save(path string) error {
	data, flaw := i.encode()
	if flaw != nil {
		return flaw.at(path)
	}
	if flaw := create(path, data, place); flaw != nil {
		return flaw.at(path)
	}
	return nil
}

// create writes data under a temporary name, moves it to path with place, and sees to it that it stays there.
func create(path string, data []byte, place func(temp, path string) error) *Error {
	if path == "" {
		return openError(path, fs.ErrInvalid)
	}
	// A person who finds it after a crash shall know what it is. Nobody can guess the name to block it.
	temp := path + ".unfinished-" + rand.Text()
	if flaw := writeTemp(temp, data); flaw != nil {
		_ = os.Remove(temp) // at worst it is harmless, see the package comment
		return flaw
	}
	err := place(temp, path)
	_ = os.Remove(temp) // likewise
	dir := filepath.Dir(path)
	if err != nil {
		return createError(dir, err)
	}
	if err := syncDir(dir); err != nil {
		return createError(dir, err)
	}
	return nil
}

// writeTemp makes the file, with the whole of its content on the disk.
func writeTemp(temp string, data []byte) *Error {
	dir := filepath.Dir(temp)
	file, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return createError(dir, err)
	}
	flaw := fill(file, data)
	if err := file.Close(); err != nil && flaw == nil {
		return createError(dir, err)
	}
	return flaw
}

func fill(file *os.File, data []byte) *Error {
	dir := filepath.Dir(file.Name())
	// The umask may have taken the owner's bits. A file system that has no modes may refuse; what it shows counts.
	chmodErr := file.Chmod(0o600)
	info, err := file.Stat()
	if err != nil {
		return createError(dir, err)
	}
	if isOpenToOthers(info.Mode()) {
		return &Error{
			Problem: fmt.Sprintf("cannot be kept private in %s (mode %04o)", quote(dir), info.Mode().Perm()),
			Cure:    "choose a path on a file system that keeps file modes",
			Err:     errors.Join(ErrInsecure, chmodErr),
		}
	}
	if _, err := file.Write(data); err != nil {
		return createError(dir, err)
	}
	if err := file.Sync(); err != nil {
		return createError(dir, err)
	}
	return nil
}

// place gives the file its own name unless something has that name already; then the error matches fs.ErrExist.
func place(temp, path string) error {
	linkErr := os.Link(temp, path)
	if linkErr == nil || errors.Is(linkErr, fs.ErrExist) {
		return linkErr
	}
	renameErr := renameNew(temp, path)
	if renameErr == nil || errors.Is(renameErr, fs.ErrExist) {
		return renameErr
	}
	return &placeError{link: linkErr, rename: renameErr}
}

// placeError means that a whole file could not get its name in one step.
type placeError struct{ link, rename error }

func (e *placeError) Error() string {
	return fmt.Sprintf("link: %v, rename: %v", reason(e.link), reason(e.rename))
}

func (e *placeError) Unwrap() []error { return []error{e.link, e.rename} }

// createError finds words for a file that could not be made in dir.
func createError(dir string, err error) *Error {
	var stuck *placeError
	switch {
	case errors.As(err, &stuck):
		return &Error{
			Problem: fmt.Sprintf("cannot be put into %s without the risk of replacing another (%v)", quote(dir), stuck),
			Cure:    "choose a path on a file system that has hard links",
			Err:     err,
		}
	case errors.Is(err, fs.ErrExist):
		return &Error{
			Problem: "exists already",
			Cure:    "choose another path, or move the old key away",
			Err:     err,
		}
	case errors.Is(err, fs.ErrNotExist) && !exists(dir):
		return &Error{
			Problem: fmt.Sprintf("cannot be made, because there is no directory %s", quote(dir)),
			Cure:    "make it with mkdir -p " + quote(dir),
			Err:     err,
		}
	case errors.Is(err, syscall.ENOTDIR):
		return &Error{
			Problem: fmt.Sprintf("cannot be made, because %s is not a directory", quote(dir)),
			Cure:    "choose a path in a directory",
			Err:     err,
		}
	default:
		return &Error{
			Problem: fmt.Sprintf("cannot be made in %s (%v)", quote(dir), reason(err)),
			Cure:    "let this user write there, or choose another path",
			Err:     err,
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
