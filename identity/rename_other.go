//go:build !linux && !darwin && !windows

package identity

import "errors"

// renameNew is not to be had here.
func renameNew(string, string) error { return errors.ErrUnsupported }
