package identity

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Load reads the identity from the key file at path. If there is no such file it makes one, mode 0600, with a new
// Ed25519 key. Its directory must exist. Of many callers at once, in one process or in many, one makes the file and all
// return its key.
func Load(path string) (*Identity, error) {
	id, err := Read(path)
	if path == "" || !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	fresh, err := Ephemeral()
	if err != nil {
		return nil, err
	}
	if err := fresh.Save(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	// What is in the file counts, whoever was first.
	return Read(path)
}

// Read reads the identity from the key file at path and never makes one: for an absent file the error matches
// [fs.ErrNotExist].
func Read(path string) (*Identity, error) {
	data, flaw := readFile(path)
	if flaw != nil {
		return nil, flaw.at(path)
	}
	id, flaw := parse(data)
	if flaw != nil {
		return nil, flaw.at(path)
	}
	return id, nil
}

// readFile returns what is in the file. All checks are made on the opened file, so that nobody can change the path
// between a check and the reading.
func readFile(path string) ([]byte, *Error) {
	file, err := openFile(path)
	if err != nil {
		return nil, openError(path, err)
	}
	defer file.Close() // nothing was written
	info, err := file.Stat()
	if err != nil {
		return nil, readError(err)
	}
	if !info.Mode().IsRegular() {
		return nil, notRegular(info.Mode())
	}
	if isOpenToOthers(info.Mode()) {
		return nil, &Error{
			Problem: fmt.Sprintf("is open to others (mode %04o)", info.Mode().Perm()),
			Cure:    "make it private with chmod 600 " + quote(path),
			Err:     ErrInsecure,
		}
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, readError(err)
	}
	return data, nil
}

func openError(path string, err error) *Error {
	switch {
	case path == "":
		return &Error{Problem: "has no path", Cure: "give the path of a key file", Err: err}
	case errors.Is(err, fs.ErrNotExist):
		return absent(path, err)
	case errors.Is(err, fs.ErrPermission):
		return &Error{
			Problem: "may not be read by this user",
			Cure:    "run as the user who owns it, or give it to this user with chown",
			Err:     err,
		}
	}
	// A socket cannot even be opened.
	if info, statErr := os.Stat(path); statErr == nil && !info.Mode().IsRegular() {
		return notRegular(info.Mode())
	}
	return readError(err)
}

func absent(path string, err error) *Error {
	if info, statErr := os.Lstat(path); statErr == nil && info.Mode()&fs.ModeSymlink != 0 {
		return &Error{
			Problem: "is a symbolic link to a file that does not exist",
			Cure:    "put the key where the link points, or remove the link",
			Err:     err,
		}
	}
	return &Error{Problem: "does not exist", Cure: "check the path, or make a key with Load", Err: err}
}

func notRegular(mode fs.FileMode) *Error {
	kind := "a device"
	switch {
	case mode.IsDir():
		kind = "a directory"
	case mode&fs.ModeNamedPipe != 0:
		kind = "a named pipe"
	case mode&fs.ModeSocket != 0:
		kind = "a socket"
	}
	return &Error{
		Problem: "is " + kind,
		Cure:    "give the path of a regular file",
		Err:     ErrNotRegular,
	}
}

func readError(err error) *Error {
	return &Error{
		Problem: fmt.Sprintf("cannot be read (%v)", reason(err)),
		Cure:    "check the path and the disk",
		Err:     err,
	}
}
