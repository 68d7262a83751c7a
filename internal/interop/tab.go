package interop

import (
	"context"
	"strings"
	"testing"
	"time"
)

// Tab is a page in a browser context of its own.
type Tab struct {
	agent *Agent
	index int
}

// OpenTab opens an empty page.
func (a *Agent) OpenTab(t testing.TB) *Tab {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tab := &Tab{agent: a}
	if err := a.call(ctx, request{Op: "open"}, &tab.index); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			tab.dumpConsole(t)
		}
	})
	return tab
}

// Goto loads a page and returns after its load event.
func (b *Tab) Goto(ctx context.Context, url string) error {
	return b.call(ctx, request{Op: "goto", URL: url}, nil)
}

// Evaluate decodes the value of a JavaScript expression into result.
func (b *Tab) Evaluate(ctx context.Context, expression string, result any) error {
	return b.call(ctx, request{Op: "evaluate", Expression: expression}, result)
}

// Fill types text into a field.
func (b *Tab) Fill(ctx context.Context, selector, text string) error {
	return b.call(ctx, request{Op: "fill", Selector: selector, Text: text}, nil)
}

// Click clicks on an element.
func (b *Tab) Click(ctx context.Context, selector string) error {
	return b.call(ctx, request{Op: "click", Selector: selector}, nil)
}

// Screenshot writes a PNG file.
func (b *Tab) Screenshot(ctx context.Context, path string) error {
	return b.call(ctx, request{Op: "screenshot", Path: path}, nil)
}

// Close closes the page, as a user does: it has no time to say good-bye.
func (b *Tab) Close(ctx context.Context) error {
	return b.call(ctx, request{Op: "close"}, nil)
}

// Console returns what the page has written to its console.
func (b *Tab) Console(ctx context.Context) ([]string, error) {
	var lines []string
	err := b.call(ctx, request{Op: "console"}, &lines)
	return lines, err
}

func (b *Tab) dumpConsole(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	lines, err := b.Console(ctx)
	if err != nil {
		lines = append(lines, err.Error())
	}
	t.Logf("console of %s:\n%s", b.agent.Version, strings.Join(lines, "\n"))
}

func (b *Tab) call(ctx context.Context, r request, result any) error {
	r.Tab = b.index
	return b.agent.call(ctx, r, result)
}
