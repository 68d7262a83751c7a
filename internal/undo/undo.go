// Package undo takes back what a constructor has acquired, the last first.
package undo

import (
	"errors"
	"slices"
)

// Stack holds what to take back. The zero value is empty and ready. It is not
// safe for concurrent use.
type Stack []func() error

// Add puts f on the stack.
func (s *Stack) Add(f func() error) { *s = append(*s, f) }

// AddFunc puts f, which cannot fail, on the stack.
func (s *Stack) AddFunc(f func()) {
	s.Add(func() error { f(); return nil })
}

// Run calls what was added, the last first, empties the stack and returns the
// errors joined. All are called, whatever fails.
func (s *Stack) Run() error {
	var errs []error
	for _, f := range slices.Backward(*s) {
		errs = append(errs, f())
	}
	*s = nil
	return errors.Join(errs...)
}
