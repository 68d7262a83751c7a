//go:build unix

package identity

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// openFile opens without waiting: a named pipe without a writer would block for ever before it could be refused.
func openFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
}

// isOpenToOthers also tells of access lists: their mask stands in the group bits (acl(5)).
func isOpenToOthers(mode fs.FileMode) bool { return mode.Perm()&0o077 != 0 }

// syncDir makes a new name in dir last through a crash.
func syncDir(dir string) error {
	file, err := os.Open(dir)
	if errors.Is(err, fs.ErrPermission) {
		return nil // a directory that may be written but not listed cannot be synced
	}
	if err != nil {
		return err
	}
	defer file.Close() // nothing was written
	err = file.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil // some file systems cannot sync a directory
	}
	return err
}
