package interop

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

const (
	// honestPeers have 10 to an address, flooders one address of their own.
	honestPeers, honestAddresses = 50, 5
	// signalings is how many each honest peer has for one measurement, half a second
	// apart, by day and by night.
	signalings, nightlySignalings = 8, 40
	// floodFactor is how much longer signaling may take during a flood. By day, when
	// the measurement is short, it may take some time slices of a busy processor more.
	floodFactor = 2
	timeSlices  = 50 // ms
)

// floods are those of crowd/flood.go.
var floods = []string{"connections", "reservations", "circuits", "slow", "oversized", "spam", "stun"}

// TestFlood: whatever one address floods the relay with, which has its default
// settings and STUN, 50 honest peers get their signaling done, 95 % of it within
// twice the time that it takes when all is quiet, before and after.
//
// Relay, flooder and honest peers share this machine's processors. The flooder is
// at the lowest priority (nice 19), so that what is measured is the time that it
// costs the relay, not what it takes from the others by running at all. By day
// measuring begins a second after the flood, whose beginning is 64 handshakes
// at once; by night, when it lasts longer, with it.
func TestFlood(t *testing.T) {
	f := newFlood(t)
	before := f.measure(t, "")
	f.row("quiet", before, 0)
	for _, kind := range floods {
		t.Run(kind, func(t *testing.T) {
			got, after := f.measure(t, kind), f.measure(t, "")
			quiet := percentile(slices.Concat(before.took, after.took), 95)
			f.row(kind, got, percentile(got.took, 95)/quiet)
			f.row("quiet", after, 0)
			before = after
			if len(got.failed) > 0 {
				t.Errorf("honest peers fail: %v", got.failed)
			}
			limit := floodFactor * quiet
			if !nightly() {
				limit += timeSlices
			}
			if p95 := percentile(got.took, 95); p95 > limit {
				t.Errorf("95 %% of signaling takes %.1f ms, %.1f ms when it is quiet", p95, quiet)
			}
			if got.flood["ok"] == 0 {
				t.Errorf("nothing was flooded: %v", got.flood)
			}
		})
	}
	_ = f.table.Flush()
	t.Logf("signaling of %d peers while one address floods, ms\n%s", honestPeers, f.text.String())
}

// flood is a relay with honest peers and a flooder.
type flood struct {
	relay  *Relay
	honest *crowd
	binary string
	addrs  map[string]string // of the relay, by kind of flood, each for a flooder that is new to it
	rounds int
	text   strings.Builder
	table  *tabwriter.Writer
}

func newFlood(t *testing.T) *flood {
	t.Helper()
	f := &flood{rounds: signalings}
	if nightly() {
		f.rounds = nightlySignalings
	}
	f.table = tabwriter.NewWriter(&f.text, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(f.table, "flood\tp50\tp95\tmax\tp95 to quiet\tfailed\trelay's CPU\trelay's MB\tflooder, per second")
	var err error
	if f.binary, err = build(".", "crowd", t.TempDir()); err != nil {
		t.Fatal(err)
	}
	relay, addrs := startRelayAt(t, 1+honestAddresses+len(floods), "-stun", "0.0.0.0:3478")
	f.relay, f.addrs = relay, map[string]string{}
	for i, kind := range floods {
		f.addrs[kind] = addrs[1+honestAddresses+i]
	}
	f.honest = startCrowd(t, f.binary, addrs[1:1+honestAddresses]...)
	f.honest.ask(t, crowdRequest{Op: "connect", N: honestPeers})
	f.honest.ask(t, crowdRequest{Op: "reserve"})
	return f
}

// measured is a row of the table.
type measured struct {
	took    []float64 // ms, of each signaling that succeeded
	failed  map[string]int
	flood   map[string]int // outcomes, counted
	seconds float64        // that the flood took
	cpu     float64        // of one processor
	memory  int64          // bytes
}

// measure has the honest peers signal, during a flood if there is a kind.
func (f *flood) measure(t *testing.T, kind string) measured {
	t.Helper()
	type result struct {
		a   crowdAnswer
		err error
	}
	flooded := make(chan result, 1)
	if kind != "" {
		flooder := startCrowdBy(t, nil, exec.Command("nice", "-n", "19", f.binary, f.addrs[kind]))
		go func() {
			a, err := flooder.do(t.Context(), crowdRequest{Op: "flood", Kind: kind, N: f.rounds/2 + 2})
			flooded <- result{a, err}
		}()
		if !nightly() {
			<-time.After(time.Second)
		}
	} else {
		flooded <- result{}
	}
	pid := f.relay.proc.cmd.Process.Pid
	start, before := time.Now(), processorTime(t, pid)
	a, err := f.honest.do(t.Context(), crowdRequest{Op: "signal", N: f.rounds})
	if err != nil {
		t.Fatal(err)
	}
	m := measured{
		took: a.Took, failed: a.Failed, memory: resident(t, pid),
		cpu: (processorTime(t, pid) - before).Seconds() / time.Since(start).Seconds(),
	}
	other := <-flooded
	if other.err != nil {
		t.Fatal(other.err)
	}
	m.flood, m.seconds = other.a.Done, other.a.Seconds
	return m
}

// percentile returns the value that so many per cent do not exceed, 0 of none.
func percentile(values []float64, p int) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)*p/100, len(sorted)-1)]
}

// row adds to the table; ratio is 0 when it is quiet.
func (f *flood) row(name string, m measured, ratio float64) {
	failed := 0
	for _, n := range m.failed {
		failed += n
	}
	var outcomes []string
	for _, what := range slices.Sorted(maps.Keys(m.flood)) {
		outcomes = append(outcomes, fmt.Sprintf("%s %.0f", what, float64(m.flood[what])/cmp.Or(m.seconds, 1)))
	}
	times := ""
	if ratio > 0 {
		times = fmt.Sprintf("%.2f", ratio)
	}
	_, _ = fmt.Fprintf(f.table, "%s\t%.1f\t%.1f\t%.1f\t%s\t%d\t%.0f %%\t%d\t%s\n", name,
		percentile(m.took, 50), percentile(m.took, 95), percentile(m.took, 100), times,
		failed, 100*m.cpu, m.memory>>20, strings.Join(outcomes, ", "))
}

// processorTime is what a process has used so far, as proc_pid_stat(5) has it.
func processorTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	// utime and stime are the 12th and 13th field after the name, which is in parentheses.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var ticks int
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	const tick = 10 * time.Millisecond // sysconf(_SC_CLK_TCK) is 100 wherever Go runs
	return time.Duration(ticks) * tick
}
