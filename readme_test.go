package tango_test

import (
	"os"
	"strings"
	"testing"
)

// The README's quick start is the body of Example, which compiles.
func TestReadmeQuickStart(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, code, found := strings.Cut(string(readme), "```go\n")
	code, _, closed := strings.Cut(code, "```\n")
	if !found || !closed {
		t.Fatal("README.md has no Go code")
	}
	_, body, _ := strings.Cut(string(examples), "func Example() {")
	_, body, _ = strings.Cut(body, "\n")
	body, _, _ = strings.Cut(body, "\n}\n")
	if got := strings.ReplaceAll("\n"+body+"\n", "\n\t", "\n"); got != "\n"+code {
		t.Errorf("README.md and Example differ:\n%s\n---%s", code, got)
	}
}
