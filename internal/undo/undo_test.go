package undo

import (
	"errors"
	"testing"
)

func TestRun(t *testing.T) {
	var s Stack
	var order string
	boom := errors.New("boom")
	s.AddFunc(func() { order += "1" })
	s.Add(func() error { order += "2"; return boom })
	s.AddFunc(func() { order += "3" })
	if err := s.Run(); !errors.Is(err, boom) || order != "321" {
		t.Errorf("called %s with error %v, want 321 and the error", order, err)
	}
	if err := s.Run(); err != nil || order != "321" {
		t.Errorf("the second time called %s, %v, want nothing", order, err)
	}
}
