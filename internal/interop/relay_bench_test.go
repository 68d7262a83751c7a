package interop

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// crowdEnv is how many peers BenchmarkRelay has.
	crowdEnv = "TANGO_INTEROP_CROWD"
	// profileEnv is where BenchmarkRelay puts processor profiles of our relay. It keeps
	// metrics then, which cost something.
	profileEnv = "TANGO_INTEROP_PROFILE"
)

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
	addr  string
	pid   int
	admin string // of ours, if it shall be profiled
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
	kinds := []struct {
		name  string
		start func(b *testing.B) subject
	}{
		{"tango", func(b *testing.B) subject { return ours(b, n) }},
		{"go-libp2p", raisedStock},
		{"js-libp2p", raisedJS},
	}
	figures := make(map[string]map[string]float64) // by relay, then unit
	for _, kind := range kinds {
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
			if dir := os.Getenv(profileEnv); relay.admin != "" {
				profile(b, relay, filepath.Join(dir, "circuits.pprof"), func() { ask("circuits", 2*n, 0) })
				profile(b, relay, filepath.Join(dir, "bytes.pprof"), func() { ask("bytes", pipes, pipeSize) })
			}
			figures[kind.name] = map[string]float64{
				"B/peer":         float64(held) / float64(n),
				"connects/s":     float64(n) / connected,
				"reservations/s": float64(n) / reserved,
				"circuits/s":     float64(2*n) / circuits,
				"MB/s":           2 * pipes * pipeSize / 1e6 / bytes,
			}
			for unit, value := range figures[kind.name] {
				b.ReportMetric(value, unit)
			}
			b.ReportMetric(0, "ns/op") // hides a number that means nothing here
		})
	}
	for _, other := range kinds[1:] {
		for _, unit := range slices.Sorted(maps.Keys(figures[other.name])) {
			fmt.Printf("tango to %s, %s: %.2f\n", other.name, unit, figures[kinds[0].name][unit]/figures[other.name][unit])
		}
	}
}

// profile writes what a relay does while f runs, again and again.
func profile(b *testing.B, relay subject, path string, f func()) {
	b.Helper()
	fetched := make(chan error, 1)
	go func() {
		fetched <- func() error {
			response, err := http.Get("http://" + relay.admin + "/debug/pprof/profile?seconds=5")
			if err != nil {
				return err
			}
			defer func() { _ = response.Body.Close() }()
			data, err := io.ReadAll(response.Body)
			return errors.Join(err, os.WriteFile(path, data, 0o600))
		}()
	}()
	for {
		select {
		case err := <-fetched:
			if err != nil {
				b.Error(err)
			}
			return
		default:
			f()
		}
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
	admin, args := "", []string{
		"-preset", "data", "-max-reservations", strconv.Itoa(n), "-max-reservations-per-ip", strconv.Itoa(10 * n),
		"-max-circuits", "256", "-max-data", strconv.Itoa(1 << 40), "-max-rate", strconv.Itoa(1 << 40), "-trace", "",
	}
	if os.Getenv(profileEnv) != "" {
		admin = freeAddress(b)
		args = append(args, "-admin", admin)
	}
	r := StartRelay(b, args...)
	return subject{r.Addrs[0], r.proc.cmd.Process.Pid, admin}
}

func raisedStock(b *testing.B) subject {
	r := StartStockRelay(b, "-raised", "-trace", "")
	return subject{r.Addrs[0], r.proc.cmd.Process.Pid, ""}
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
	return subject{said.Addr, cmd.Process.Pid, ""}
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
