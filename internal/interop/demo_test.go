package interop

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestDemo opens the demo page twice and uses it as a visitor does: the two pages
// connect directly, chat, and go on chatting when the relay is gone.
func TestDemo(t *testing.T) {
	for _, pair := range []struct{ first, second Kind }{
		{Chromium, Chromium},
		{Chromium, Firefox},
	} {
		t.Run(string(pair.first)+"-"+string(pair.second), func(t *testing.T) {
			testDemo(t, pair.first, pair.second)
		})
	}
}

func testDemo(t *testing.T, first, second Kind) {
	Need(t, first, second)
	unavailable(t, demoMissing())
	relay := StartRelay(t, "-web", demoDist, "-forward", "tango-demo-chat")
	a := openDemo(t, first, "first", relay)
	b := openDemo(t, second, "second", relay)
	b.awaitDirect(t, a)
	a.awaitDirect(t, b)
	a.chat(t, b, "hello from the first page", "")
	b.chat(t, a, "hello from the second page", "")
	a.screenshot(t, "connected")
	a.awaitMesh(t, b)
	b.awaitMesh(t, a)
	relay.Kill()
	for _, p := range []*demoPage{a, b} {
		p.await(t, 30*time.Second, "notices that the relay is gone", func(s demoState) bool {
			return s.Relay.State != "ready"
		})
	}
	a.chat(t, b, "the relay is gone", "direct")
	b.chat(t, a, "and we are still here", "direct")
	a.screenshot(t, "relay-gone-first")
	b.screenshot(t, "relay-gone-second")
}

// demoPage is the page of examples/browser in one browser.
type demoPage struct {
	*Tab
	name string
	id   string
}

// demoState is what window.tango.state() promises, as far as it is used here.
type demoState struct {
	ID    string `json:"id"`
	Relay struct {
		State string `json:"state"`
	} `json:"relay"`
	Peers     []demoPeer `json:"peers"`
	Breakdown Marks      `json:"breakdown"`
}

// demoPeer is another page as the page has it.
type demoPeer struct {
	ID   string `json:"id"`
	Path string `json:"path"`
	Mesh bool   `json:"mesh"`
}

// chatLine is a line of the chat as the page shows it.
type chatLine struct {
	From string `json:"from"`
	Path string `json:"path"`
	Text string `json:"text"`
}

func openDemo(t *testing.T, kind Kind, name string, relay *Relay) *demoPage {
	t.Helper()
	return openDemoIn(t, nil, kind, name, relay)
}

// openDemoIn is openDemo in a network namespace of a lab.
func openDemoIn(t *testing.T, place *Namespace, kind Kind, name string, relay *Relay) *demoPage {
	t.Helper()
	p := &demoPage{Tab: StartAgentIn(t, place, kind).OpenTab(t), name: name + " (" + string(kind) + ")"}
	t.Cleanup(func() {
		if t.Failed() {
			p.dump(t)
		}
	})
	p.open(t, relay)
	return p
}

func (p *demoPage) open(t testing.TB, relay *Relay) {
	t.Helper()
	if err := p.Goto(t.Context(), relay.URL+"/"); err != nil {
		t.Fatal(err)
	}
	s := p.await(t, 30*time.Second, "has a reservation", func(s demoState) bool { return s.Relay.State == "ready" })
	p.id = s.ID
}

func (p *demoPage) await(t testing.TB, limit time.Duration, what string, ok func(demoState) bool) demoState {
	t.Helper()
	var s demoState
	Await(t, limit, p.name+" "+what, func(ctx context.Context) (bool, error) {
		s = demoState{}
		err := p.Evaluate(ctx, "window.tango.state()", &s)
		return err == nil && ok(s), err
	})
	return s
}

func (s demoState) direct(id string) bool {
	for _, peer := range s.Peers {
		if peer.ID == id {
			return peer.Path == "direct"
		}
	}
	return false
}

// awaitDirect: the page says so, to programs and to people.
func (p *demoPage) awaitDirect(t *testing.T, other *demoPage) {
	t.Helper()
	p.await(t, 60*time.Second, "is connected directly to the "+other.name, func(s demoState) bool { return s.direct(other.id) })
	row := fmt.Sprintf(`document.querySelector('[data-testid="peer-row"][data-peer=%q]')?.textContent ?? ""`, other.id)
	Await(t, 5*time.Second, p.name+" shows a direct peer", func(ctx context.Context) (bool, error) {
		var text string
		err := p.Evaluate(ctx, row, &text)
		return strings.Contains(text, "direct"), err
	})
}

// awaitMesh: a direct connection carries the chat once it is identified and GossipSub's
// next heartbeat has come, and until then only the relay does.
func (p *demoPage) awaitMesh(t *testing.T, other *demoPage) {
	t.Helper()
	p.await(t, 30*time.Second, "has the "+other.name+" in its chat mesh", func(s demoState) bool {
		return slices.ContainsFunc(s.Peers, func(peer demoPeer) bool { return peer.ID == other.id && peer.Mesh })
	})
}

// chat types a line into one page and waits until the other shows it.
func (p *demoPage) chat(t *testing.T, other *demoPage, text, path string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if err := p.Fill(ctx, `[data-testid="chat-input"]`, text); err != nil {
		t.Fatal(err)
	}
	if err := p.Click(ctx, `[data-testid="chat-send"]`); err != nil {
		t.Fatal(err)
	}
	const shown = `[...document.querySelectorAll('[data-testid="chat-message"]')]
		.map(e => ({from: e.dataset.from, path: e.dataset.path, text: e.textContent}))`
	Await(t, 10*time.Second, fmt.Sprintf("%s shows %q", other.name, text), func(ctx context.Context) (bool, error) {
		var lines []chatLine
		if err := other.Evaluate(ctx, shown, &lines); err != nil {
			return false, err
		}
		return slices.ContainsFunc(lines, func(l chatLine) bool {
			return l.From == p.id && strings.Contains(l.Text, text) && (path == "" || l.Path == path)
		}), fmt.Errorf("it shows %+v", lines)
	})
}

// screenshot keeps a picture where TANGO_SCREENSHOTS says.
func (p *demoPage) screenshot(t *testing.T, what string) {
	t.Helper()
	dir := os.Getenv("TANGO_SCREENSHOTS")
	if dir == "" {
		return
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	name := strings.ReplaceAll(strings.TrimPrefix(t.Name(), "TestDemo/"), "/", "-") + "-" + what + ".png"
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if err := p.Screenshot(ctx, filepath.Join(dir, name)); err != nil {
		t.Error(err)
	}
}

func (p *demoPage) dump(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var state json.RawMessage
	err := p.Evaluate(ctx, "window.tango.state()", &state)
	t.Logf("%s, page %s: %s %v", p.name, p.id, state, err)
}
