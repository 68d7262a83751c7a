package interop

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// loads is how often a page is loaded for one row of the result. A benchmark that
// took longer than -benchtime is not run again, so b.N plays no part.
const loads = 10

// BenchmarkTimeToDirect measures, in the page, the time from navigationStart to the
// first direct connection, while another page has been up and has announced
// itself. The rows of one run are comparable with each other, not with those of
// another day or machine:
//
//   - hand-made: the relay of ./stockrelay, go-libp2p alone, announcements every
//     10 s, js-libp2p's default.
//   - hand-made/every-second: the same relay with ten times the announcements.
//   - tango: our relay, announcements every 10 s.
//   - page: our relay and the demo page of examples/browser.
func BenchmarkTimeToDirect(b *testing.B) {
	for _, kind := range []Kind{Chromium, Firefox} {
		for _, set := range []struct {
			name  string
			relay func(testing.TB, ...string) *Relay
			args  []string
			page  visitor
		}{
			{"hand-made", StartStockRelay, nil, &peerVisitor{}},
			{"hand-made/every-second", StartStockRelay, nil, &peerVisitor{interval: 1000}},
			{"tango", StartRelay, nil, &peerVisitor{}},
			{"page", StartRelay, []string{"-web", demoDist, "-forward", "tango-demo-chat"}, &demoVisitor{}},
		} {
			b.Run(string(kind)+"/"+set.name, func(b *testing.B) {
				Need(b, kind)
				unavailable(b, set.page.missing())
				measureLoads(b, kind, set.relay(b, set.args...), set.page)
			})
		}
	}
}

// visitor loads a page that starts a peer.
type visitor interface {
	// missing says what this needs and is not there.
	missing() error
	// load opens the page and waits for a reservation.
	load(b *testing.B, agent *Agent, relay *Relay) visit
}

// visit is a loaded page.
type visit interface {
	// direct waits for the first direct connection and returns the steps to it.
	direct(b *testing.B) Marks
	close(b *testing.B)
}

func measureLoads(b *testing.B, kind Kind, relay *Relay, page visitor) {
	page.load(b, StartAgent(b, kind), relay)
	Await(b, discoveryLimit, "the first page announces itself", func(context.Context) (bool, error) {
		trace, err := relay.Trace()
		return err == nil && len(trace.Delivered[discoveryTopic]) > 0, err
	})
	second := StartAgent(b, kind)
	var all []Marks
	for range loads {
		v := page.load(b, second, relay)
		all = append(all, v.direct(b))
		v.close(b)
	}
	report(b, all)
}

// report prints each load and, as metrics, the spread.
func report(b *testing.B, all []Marks) {
	var out strings.Builder
	const row = "%6s %8s %8s %9s %11s %8s %8s\n"
	fmt.Fprintf(&out, "\n"+row, "load", "script", "relay", "reserved", "discovered", "dialled", "direct")
	line := func(name string, m Marks) {
		fmt.Fprintf(&out, row, name, ms(m.Script), ms(m.Relay), ms(m.Reserved), ms(m.Discovered), ms(m.Dialled), ms(m.Direct))
	}
	for i, m := range all {
		line(strconv.Itoa(i+1), m)
	}
	middle := Marks{
		Script:     median(all, func(m Marks) float64 { return m.Script }),
		Relay:      median(all, func(m Marks) float64 { return m.Relay }),
		Reserved:   median(all, func(m Marks) float64 { return m.Reserved }),
		Discovered: median(all, func(m Marks) float64 { return m.Discovered }),
		Dialled:    median(all, func(m Marks) float64 { return m.Dialled }),
		Direct:     median(all, func(m Marks) float64 { return m.Direct }),
	}
	line("median", middle)
	fmt.Println(out.String()) // not b.Log, of which a benchmark prints ten lines only
	byDirect := func(x, y Marks) int { return cmp.Compare(x.Direct, y.Direct) }
	b.ReportMetric(middle.Direct, "ms-median")
	b.ReportMetric(slices.MinFunc(all, byDirect).Direct, "ms-min")
	b.ReportMetric(slices.MaxFunc(all, byDirect).Direct, "ms-max")
	b.ReportMetric(0, "ns/op") // hides a number that means nothing here
}

func ms(v float64) string {
	if v == 0 {
		return "-" // the other side dialled, for instance
	}
	return fmt.Sprintf("%.0f", v)
}

// median leaves out steps that did not happen.
func median(all []Marks, of func(Marks) float64) float64 {
	var values []float64
	for _, m := range all {
		if v := of(m); v > 0 {
			values = append(values, v)
		}
	}
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

// peerVisitor loads the peer of js/peer.ts.
type peerVisitor struct {
	interval int
	first    *Peer // the page that was loaded first
}

func (v *peerVisitor) missing() error { return nil }

func (v *peerVisitor) load(b *testing.B, agent *Agent, relay *Relay) visit {
	b.Helper()
	p := agent.Open(b)
	ctx, cancel := context.WithTimeout(b.Context(), 30*time.Second)
	defer cancel()
	if err := p.Start(ctx, Config{Relays: relay.Addrs, Interval: v.interval}); err != nil {
		b.Fatal(err)
	}
	if v.first == nil {
		v.first = p
	}
	return &peerVisit{Peer: p, first: v.first}
}

type peerVisit struct {
	*Peer
	first *Peer
}

func (v *peerVisit) direct(b *testing.B) Marks {
	b.Helper()
	awaitIdentified(b, v.first, v.Peer)
	s, err := v.State(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return s.Marks
}

func (v *peerVisit) close(b *testing.B) {
	b.Helper()
	if err := v.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// demoVisitor loads the demo page.
type demoVisitor struct{}

func (*demoVisitor) missing() error { return demoMissing() }

func (*demoVisitor) load(b *testing.B, agent *Agent, relay *Relay) visit {
	b.Helper()
	p := &demoPage{Tab: agent.OpenTab(b), name: string(agent.Kind)}
	p.open(b, relay)
	return &demoVisit{p}
}

type demoVisit struct{ *demoPage }

func (v *demoVisit) direct(b *testing.B) Marks {
	b.Helper()
	return v.await(b, 60*time.Second, "has a direct connection", func(s demoState) bool { return s.Breakdown.Direct > 0 }).Breakdown
}

func (v *demoVisit) close(b *testing.B) {
	b.Helper()
	if err := v.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
}
