//go:build !unix

package identity

import (
	"io/fs"
	"os"
)

func openFile(path string) (*os.File, error) { return os.Open(path) }

// isOpenToOthers cannot tell: the mode that Go shows here is made up.
func isOpenToOthers(fs.FileMode) bool { return false }

// syncDir does nothing: directories cannot be synced here.
func syncDir(string) error { return nil }
