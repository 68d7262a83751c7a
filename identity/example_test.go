package identity_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tangop2p/tango/identity"
)

// A node is the same peer each time it starts.
func ExampleLoad() {
	dir, err := os.MkdirTemp("", "tango-identity-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "node.key")

	first, err := identity.Load(path) // made
	if err != nil {
		fmt.Println(err)
		return
	}
	second, err := identity.Load(path) // read
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("same peer:", first.ID() == second.ID())
	// Output: same peer: true
}

// A program that must not become a new peer by accident tells an absent key from a bad one.
func ExampleRead() {
	_, err := identity.Read("no/such/node.key")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fmt.Println(err)
	case errors.Is(err, identity.ErrInsecure):
		fmt.Println("tell the operator:", err)
	case err != nil:
		fmt.Println("give up:", err)
	}
	// Output: key file no/such/node.key does not exist: check the path, or make a key with Load
}

// A secret store hands the key over as text. This one is public, so use it for nothing.
func ExampleFromBase64() {
	const text = "CAESQH4IMGF8Sn3oOSXfsmlFVrEpNsR3oOH+suFI7J2mD+59HtHo+uLEoUS4vo/UtHvz07NLhxw8rPYBDw5C1HT84n4="
	id, err := identity.FromBase64(text)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(id)
	// Output: 12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq
}

// A key that came as text, or from elsewhere, becomes a file for Load.
func ExampleIdentity_Save() {
	dir, err := os.MkdirTemp("", "tango-identity-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "node.key")

	id, err := identity.Ephemeral()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("first:", id.Save(path))
	fmt.Println("refused:", errors.Is(id.Save(path), fs.ErrExist)) // a key is never replaced
	// Output:
	// first: <nil>
	// refused: true
}

// However an identity is printed, the key does not show.
func ExampleIdentity_Format() {
	id, err := identity.FromBase64(
		"CAESQH4IMGF8Sn3oOSXfsmlFVrEpNsR3oOH+suFI7J2mD+59HtHo+uLEoUS4vo/UtHvz07NLhxw8rPYBDw5C1HT84n4=")
	if err != nil {
		fmt.Println(err)
		return
	}
	config := struct {
		Listen   string
		Identity *identity.Identity
	}{"/ip4/0.0.0.0/tcp/4001", id}
	fmt.Printf("%+v\n", config)
	// Output: {Listen:/ip4/0.0.0.0/tcp/4001 Identity:12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq}
}
