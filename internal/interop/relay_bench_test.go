package interop

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// crowdEnv is how many peers BenchmarkRelay has.
const crowdEnv = "TANGO_INTEROP_CROWD"

const (
	// defaultCrowd is small enough for js-libp2p.
	defaultCrowd = 1000
	// memoryWait is how long a relay is left alone before its memory is read.
	memoryWait = 3 * time.Second
	// pipes and pipeSize are what is sent through a relay, and comes back.
	pipes, pipeSize = 8, 32 << 20
)

// subject is a relay that BenchmarkRelay measures.
type subject struct {
	addr string
	pid  int
}

// BenchmarkRelay measures what a relay costs and does, beside go-libp2p's and
// js-libp2p's with their limits raised: memory for each peer that is connected,
// subscribed and has a reservation, reservations made and circuits opened per
// second, and bytes relayed. The peers are one process, crowd, which takes half
// of the time on few cores.
func BenchmarkRelay(b *testing.B) {
	n := defaultCrowd
	if s := os.Getenv(crowdEnv); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			b.Fatalf("%s=%q: give a number of peers", crowdEnv, s)
		}
	}
	dir := b.TempDir()
	crowd, err := build(".", "crowd", dir)
	if err != nil {
		b.Fatal(err)
	}
	for _, kind := range []struct {
		name  string
		start func(b *testing.B) subject
	}{
		{"tango", func(b *testing.B) subject { return ours(b, n) }},
		{"go-libp2p", raisedStock},
		{"js-libp2p", raisedJS},
	} {
		b.Run(kind.name, func(b *testing.B) {
			relay := kind.start(b)
			c := startCrowd(b, crowd, relay.addr)
			ask := func(op string, n int, size int64) float64 {
				return c.ask(b, crowdRequest{Op: op, N: n, Size: size}).Seconds
			}
			before := resident(b, relay.pid)
			connected := ask("connect", n, 0)
			reserved := ask("reserve", 0, 0)
			<-time.After(memoryWait)
			held := resident(b, relay.pid) - before
			circuits := medianOf(func() float64 { return ask("circuits", 2*n, 0) })
			bytes := medianOf(func() float64 { return ask("bytes", pipes, pipeSize) })
			b.ReportMetric(float64(held)/float64(n), "B/peer")
			b.ReportMetric(float64(n)/connected, "connects/s")
			b.ReportMetric(float64(n)/reserved, "reservations/s")
			b.ReportMetric(float64(2*n)/circuits, "circuits/s")
			b.ReportMetric(2*pipes*pipeSize/1e6/bytes, "MB/s")
			b.ReportMetric(0, "ns/op") // hides a number that means nothing here
		})
	}
}

// medianOf is that of five; the first of them run through cold code.
func medianOf(measure func() float64) float64 {
	var all []float64
	for range 5 {
		all = append(all, measure())
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// ours is examples/relay with room for the crowd. How many requests an address may
// make goes by how many reservations it may hold.
func ours(b *testing.B, n int) subject {
	r := StartRelay(b, "-preset", "data", "-max-reservations", strconv.Itoa(n), "-max-reservations-per-ip", strconv.Itoa(10*n),
		"-max-circuits", "256", "-max-data", strconv.Itoa(1<<40), "-max-rate", strconv.Itoa(1<<40), "-trace", "")
	return subject{r.Addrs[0], r.proc.cmd.Process.Pid}
}

func raisedStock(b *testing.B) subject {
	r := StartStockRelay(b, "-raised", "-trace", "")
	return subject{r.Addrs[0], r.proc.cmd.Process.Pid}
}

func raisedJS(b *testing.B) subject {
	node, err := nodeBinary()
	unavailable(b, err)
	cmd := exec.Command(node, "js/relay.ts")
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil { // its end ends the relay
		b.Fatal(err)
	}
	p, err := startProcess(nil, "js relay", cmd, syscall.SIGKILL)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(p.kill)
	var said struct{ Addr string }
	if err := json.NewDecoder(out).Decode(&said); err != nil {
		b.Fatalf("%v\n%s", err, p.log)
	}
	return subject{said.Addr, cmd.Process.Pid}
}

// resident returns a process's memory in bytes, as proc_pid_status(5) has it.
func resident(b testing.TB, pid int) int64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kB int64
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kB); err == nil {
			return kB << 10
		}
	}
	b.Fatal("no VmRSS")
	return 0
}
