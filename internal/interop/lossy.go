package interop

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// Impairment is what happens to packets on their way. Each packet's fate is drawn
// from a generator with a fixed seed; which packet draws what still depends on timing.
type Impairment struct {
	Loss    float64       // the share that is dropped
	Delay   time.Duration // one way
	Reorder float64       // the share that takes longer by up to Late, and is overtaken meanwhile
	Late    time.Duration
}

// LossyLab is two hosts and a relay's host around a router of ours, which impairs
// IP packets, UDP and TCP alike, between the two hosts, and delays none between
// them and the relay:
//
//	host 10.81.0.1 --+
//	                 +-- this process -- public 10.81.0.3: relay
//	host 10.81.0.2 --+
//
// The kernel of this project's machines has no netem, so the cables are TUN devices.
type LossyLab struct {
	Public *Namespace
	Hosts  [2]*Namespace

	router *router
}

const (
	lossyRelayAddress = "10.81.0.3:4001"
	lossySTUNAddress  = "10.81.0.3:3478"
	tunPath           = "/dev/net/tun"
)

// NewLossyLab makes a LossyLab.
func NewLossyLab(t testing.TB, between Impairment) *LossyLab {
	t.Helper()
	unavailable(t, errSandbox)
	unavailable(t, tunMissing())
	lab := &LossyLab{router: &router{ports: map[netip.Addr]*port{}, impairment: between, rng: rand.New(rand.NewPCG(1, 2))}}
	places := []**Namespace{&lab.Hosts[0], &lab.Hosts[1], &lab.Public}
	for i, name := range []string{"host 1", "host 2", "public"} {
		place := newPlace(t, name)
		*places[i] = place
		addr := netip.AddrFrom4([4]byte{10, 81, 0, byte(i + 1)})
		device, err := openTUN(place, addr)
		if err != nil {
			t.Fatal(err)
		}
		lab.router.ports[addr] = newPort(device, place != lab.Public)
	}
	lab.router.start()
	t.Cleanup(func() {
		lab.router.close()
		t.Logf("router: %s", lab.router)
	})
	return lab
}

func tunMissing() error {
	_, err := os.Stat(tunPath)
	return err
}

// openTUN makes a TUN device in a namespace, the only way out of it.
func openTUN(place *Namespace, addr netip.Addr) (*os.File, error) {
	var device *os.File
	err := place.Do(func() (err error) {
		device, err = attachTUN("tun0")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("TUN device: %w", err)
	}
	return device, errors.Join(
		place.IP("addr add "+addr.String()+"/24 dev tun0"),
		place.IP("link set tun0 up"),
		place.IP("route add default dev tun0"),
	)
}

// attachTUN makes a device in the namespace of the calling thread; see
// Documentation/networking/tuntap.rst of Linux.
func attachTUN(name string) (*os.File, error) {
	fd, err := syscall.Open(tunPath, syscall.O_RDWR|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("open", err)
	}
	const iffTUN, iffNoPI = 0x0001, 0x1000
	var request struct {
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte // struct ifreq has 40 bytes
	}
	copy(request.name[:], name)
	request.flags = iffTUN | iffNoPI
	//nolint:gosec // this is how an ioctl is called
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.TUNSETIFF, uintptr(unsafe.Pointer(&request))); errno != 0 {
		_ = syscall.Close(fd)
		return nil, os.NewSyscallError("ioctl TUNSETIFF", errno)
	}
	return os.NewFile(uintptr(fd), tunPath), nil // not blocking, so Close ends a Read
}

// router carries packets between ports by their IPv4 destination.
type router struct {
	ports      map[netip.Addr]*port
	impairment Impairment

	wg sync.WaitGroup

	mu  sync.Mutex
	rng *rand.Rand // guarded by mu

	passed, lost, late, full atomic.Int64
}

func (r *router) String() string {
	return fmt.Sprintf("%d packets passed, %d were lost, %d came late, %d found the queue full",
		r.passed.Load(), r.lost.Load(), r.late.Load(), r.full.Load())
}

func (r *router) start() {
	for addr, p := range r.ports {
		r.wg.Go(func() { r.receive(addr) })
		r.wg.Go(p.send)
	}
}

// close ends all goroutines, and the devices.
func (r *router) close() {
	for _, p := range r.ports {
		_ = p.device.Close()
		close(p.closed)
	}
	r.wg.Wait()
}

// maxPacket is more than the device's MTU of 1500.
const maxPacket = 2048

func (r *router) receive(from netip.Addr) {
	source := r.ports[from]
	for {
		packet := make([]byte, maxPacket)
		n, err := source.device.Read(packet)
		if err != nil {
			return // closed
		}
		if to := r.ports[destination(packet[:n])]; to != nil {
			r.pass(source, to, packet[:n])
		}
	}
}

// destination reads it from an IPv4 header (RFC 791 §3.1).
func destination(packet []byte) netip.Addr {
	if len(packet) < 20 || packet[0]>>4 != 4 {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte(packet[16:20]))
}

func (r *router) pass(from, to *port, packet []byte) {
	var delay time.Duration
	if from.impaired && to.impaired {
		var lost bool
		if delay, lost = r.fate(); lost {
			r.lost.Add(1)
			return
		}
	}
	if !to.put(packet, delay) {
		r.full.Add(1)
		return
	}
	r.passed.Add(1)
}

func (r *router) fate() (delay time.Duration, lost bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rng.Float64() < r.impairment.Loss {
		return 0, true
	}
	delay = r.impairment.Delay
	if r.rng.Float64() < r.impairment.Reorder {
		r.late.Add(1)
		delay += time.Duration(r.rng.Int64N(int64(r.impairment.Late) + 1))
	}
	return delay, false
}

// queueLimit is what a port holds: at 100 ms it is 60 MB/s in full packets. More is dropped.
const queueLimit = 4096

// port is one device and what is on its way to it.
type port struct {
	device   *os.File
	impaired bool
	wake     chan struct{}
	closed   chan struct{}

	mu    sync.Mutex
	queue flight // guarded by mu
	sent  uint64 // guarded by mu; how many were put
}

func newPort(device *os.File, impaired bool) *port {
	return &port{device: device, impaired: impaired, wake: make(chan struct{}, 1), closed: make(chan struct{})}
}

func (p *port) put(packet []byte, delay time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) >= queueLimit {
		return false
	}
	p.sent++
	heap.Push(&p.queue, flying{time.Now().Add(delay), p.sent, packet})
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return true
}

// send writes packets when their time has come.
func (p *port) send() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		packet, wait := p.next()
		if packet != nil {
			_, _ = p.device.Write(packet) // fails where nobody listens any more
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-p.wake:
		case <-p.closed:
			return
		}
	}
}

// next takes a packet that is due, or says how long none is.
func (p *port) next() (packet []byte, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		return nil, time.Hour
	}
	if wait = time.Until(p.queue[0].due); wait > 0 {
		return nil, wait
	}
	return heap.Pop(&p.queue).(flying).packet, 0
}

// flight is a heap by time, and of packets due at the same time by their order.
type flight []flying

type flying struct {
	due    time.Time
	number uint64
	packet []byte
}

func (f flight) Len() int      { return len(f) }
func (f flight) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f flight) Less(i, j int) bool {
	if f[i].due.Equal(f[j].due) {
		return f[i].number < f[j].number
	}
	return f[i].due.Before(f[j].due)
}

// Push is for package heap.
func (f *flight) Push(x any) { *f = append(*f, x.(flying)) }

// Pop is for package heap.
func (f *flight) Pop() any {
	last := (*f)[len(*f)-1]
	*f = (*f)[:len(*f)-1]
	return last
}
