package webrtc

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
)

// inputs are what the tables below are written in: the application's calls, what
// the remote sends, and the end of things.
var inputs = map[string]func(*machine) effects{
	"CloseWrite": (*machine).closeWrite,
	"CloseRead":  func(m *machine) effects { return m.closeRead(false) },
	"Close":      func(m *machine) effects { return m.close(false) },
	"Leave":      func(m *machine) effects { return m.close(true) }, // payload unread
	"Reset":      func(m *machine) effects { return m.reset(5) },
	"Expel":      func(m *machine) effects { return m.expel(5) },
	"fin":        func(m *machine) effects { return m.onFlag(flagFIN, 0) },
	"ack":        func(m *machine) effects { return m.onFlag(flagFINAck, 0) },
	"stop":       func(m *machine) effects { return m.onFlag(flagStopSending, 7) },
	"reset":      func(m *machine) effects { return m.onFlag(flagReset, 7) },
	"eof":        (*machine).onEnd,
	"patience":   (*machine).onPatience,
	"gone":       func(m *machine) effects { return m.onGone(errGone) },
}

var (
	errGone   = errors.New("gone")
	errOurs   = &network.StreamError{ErrorCode: 5}
	errTheirs = &network.StreamError{ErrorCode: 7, Remote: true}
	errEOF    = &network.StreamError{Remote: true} // by the end of the channel
	errLocal  = &network.StreamError{}
)

func (e effects) String() string {
	var s []string
	for _, f := range e.list() {
		s = append(s, map[flag]string{flagFIN: "FIN", flagFINAck: "FIN_ACK", flagStopSending: "STOP_SENDING", flagReset: "RESET"}[f])
	}
	if e.close {
		s = append(s, "close")
	}
	return strings.Join(s, " ")
}

func TestMachine(t *testing.T) {
	for _, c := range []struct {
		inputs   string
		opener   string // what goes out, each input's behind a comma
		acceptor string // the same if empty
		read     error
		write    error
	}{
		// One after the other.
		{"CloseWrite ack fin CloseRead", "FIN,,FIN_ACK close,", "FIN,,FIN_ACK,", io.EOF, errWriteClosed},
		{"fin CloseWrite ack", "FIN_ACK,FIN,close", "FIN_ACK,FIN,", io.EOF, errWriteClosed},
		{"CloseWrite fin ack", "FIN,FIN_ACK,close", "FIN,FIN_ACK,", io.EOF, errWriteClosed},
		{"CloseWrite CloseWrite", "FIN,", "", nil, errWriteClosed},
		{"fin fin ack ack", "FIN_ACK,,,", "", io.EOF, nil},
		{"fin eof", "FIN_ACK,", "", io.EOF, errEOF},

		// Close says FIN, and STOP_SENDING unless the remote is done.
		{"Close ack fin eof", "FIN STOP_SENDING,,FIN_ACK close,", "FIN STOP_SENDING,,FIN_ACK,", errLocal, errWriteClosed},
		{"fin Close ack", "FIN_ACK,FIN,close", "FIN_ACK,FIN,", io.EOF, errWriteClosed},
		{"fin Leave ack", "FIN_ACK,FIN,close", "FIN_ACK,FIN,", errLocal, errWriteClosed},
		{"Close Close", "FIN STOP_SENDING,", "", errLocal, errWriteClosed},
		{"Close patience", "FIN STOP_SENDING,RESET close", "", errLocal, errLocal},
		{"Close ack patience eof", "FIN STOP_SENDING,,RESET close,", "", errLocal, errWriteClosed},
		{"fin Close ack patience", "FIN_ACK,FIN,close,", "FIN_ACK,FIN,,close", io.EOF, errWriteClosed},
		{"Close eof patience", "FIN STOP_SENDING,,", "", errLocal, errWriteClosed},

		// STOP_SENDING is answered with FIN, and counts as FIN_ACK.
		{"stop ack fin", "FIN,,FIN_ACK close", "FIN,,FIN_ACK", io.EOF, errTheirs},
		{"stop CloseWrite ack", "FIN,,", "", nil, errTheirs},
		{"CloseWrite stop fin", "FIN,,FIN_ACK close", "FIN,,FIN_ACK", io.EOF, errWriteClosed},
		{"CloseRead fin CloseWrite ack", "STOP_SENDING,FIN_ACK,FIN,close", "STOP_SENDING,FIN_ACK,FIN,", errLocal, errWriteClosed},
		{"CloseRead CloseRead", "STOP_SENDING,", "", errLocal, nil},

		// RESET ends all, but not what was complete.
		{"Reset eof", "RESET,", "", errOurs, errOurs},
		{"Reset Reset fin ack stop reset", "RESET,,,,,close", "", errOurs, errOurs},
		{"Expel reset", "RESET close,", "", errOurs, errOurs},
		{"Reset Expel", "RESET,close", "", errOurs, errOurs},
		{"Reset patience", "RESET,close", "", errOurs, errOurs},
		{"CloseWrite Reset", "FIN,RESET", "", errOurs, errOurs},
		{"reset eof", "close,", "", errTheirs, errTheirs},
		{"fin reset", "FIN_ACK,close", "", io.EOF, errTheirs},
		{"CloseWrite reset", "FIN,close", "", errTheirs, errTheirs},
		{"CloseWrite ack reset", "FIN,,close", "", errTheirs, errWriteClosed},
		{"CloseRead reset", "STOP_SENDING,close", "", errLocal, errTheirs},
		{"Close reset", "FIN STOP_SENDING,close", "", errLocal, errTheirs},
		{"Close Reset", "FIN STOP_SENDING,RESET", "", errLocal, errOurs},
		{"fin Reset", "FIN_ACK,RESET", "", errOurs, errOurs},

		// The channel ends.
		{"eof", "", "", errEOF, errEOF},
		{"eof Reset", ",", "", errOurs, errEOF},
		{"CloseWrite eof", "FIN,", "", errEOF, errWriteClosed},
		{"eof fin reset", ",,", "", errEOF, errEOF},
		{"gone", "", "", errGone, errGone},
		{"fin gone", "FIN_ACK,", "", io.EOF, errGone},
		{"CloseWrite gone", "FIN,", "", errGone, errGone},
		{"gone Close Reset", ",,", "", errGone, errGone},
	} {
		for _, opener := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, opener %v", c.inputs, opener), func(t *testing.T) {
				m := machine{opener: opener}
				var out []string
				for in := range strings.FieldsSeq(c.inputs) {
					out = append(out, inputs[in](&m).String())
				}
				want := c.opener
				if !opener && c.acceptor != "" {
					want = c.acceptor
				}
				if got := strings.Join(out, ","); got != want {
					t.Errorf("sent %q instead of %q", got, want)
				}
				same(t, "Read", m.readErr, c.read)
				same(t, "Write", m.writeErr, c.write)
			})
		}
	}
}

func same(t *testing.T, what string, got, want error) {
	t.Helper()
	if (got == nil) != (want == nil) || !errors.Is(got, want) {
		t.Errorf("%s returns %v instead of %v", what, got, want)
	}
}

// TestMachinePromises gives a machine all sorts of inputs, sensible or not.
func TestMachinePromises(t *testing.T) {
	names := make([]string, 0, len(inputs))
	for name := range inputs {
		names = append(names, name)
	}
	slices.Sort(names)
	for seed := range uint64(20000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		p := promises{machine: machine{opener: seed%2 == 0}}
		for range 1 + rng.IntN(12) {
			in := names[rng.IntN(len(names))]
			p.history = append(p.history, in)
			if err := p.step(in); err != nil {
				t.Fatalf("%v: %v", p.history, err)
			}
		}
	}
}

// promises checks what has to hold whatever comes.
type promises struct {
	machine
	history []string
	sent    [4]int // of each flag
	closed  bool
	ended   bool
}

func (p *promises) step(in string) error {
	before := p.machine
	e := inputs[in](&p.machine)
	p.ended = p.ended || in == "eof" || in == "gone"
	switch {
	case (p.closed || p.ended) && (e.n > 0 || e.close):
		return fmt.Errorf("%q behind the end", e)
	case e.close && (!p.send.over() || !p.recv.over()):
		return errors.New("closed in the middle")
	case before.send.over() && p.send != before.send, before.recv.over() && p.recv != before.recv:
		return errors.New("a half that was over is another now")
	case before.writeErr != nil && p.writeErr == nil, before.readErr != nil && p.readErr == nil:
		return errors.New("an error went away")
	case p.send != halfOpen && p.writeErr == nil, p.recv == halfDone && p.readErr == nil:
		return errors.New("no error of a half that is over")
	case p.lingers() && p.send.over() && p.recv.over() && p.opener && !p.resetSent:
		return errors.New("waits for nothing")
	}
	for _, f := range e.list() {
		if p.sent[f]++; p.sent[f] > 1 {
			return fmt.Errorf("%q twice", e)
		}
		if f == flagFINAck && in != "fin" {
			return errors.New("FIN_ACK without FIN")
		}
	}
	p.closed = p.closed || e.close
	return nil
}

// TestMachinePairs has two machines speak with each other, in all sorts of
// order. When both applications are done, both machines are, without patience.
func TestMachinePairs(t *testing.T) {
	for seed := range uint64(20000) {
		rng := rand.New(rand.NewPCG(seed, 2))
		var p machinePair
		p.sides[0].opener = true
		for range 40 {
			side := rng.IntN(2)
			if rng.IntN(2) == 0 {
				p.deliver(side)
				continue
			}
			call := []string{"write", "write", "CloseWrite", "CloseRead", "Close", "Reset"}[rng.IntN(6)]
			if call == "Reset" && rng.IntN(3) > 0 {
				continue
			}
			p.call(side, call)
		}
		p.call(0, "Close")
		p.call(1, "Close")
		for p.deliver(0) || p.deliver(1) {
		}
		if err := p.check(); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(p.history, "\n"))
		}
	}
}

type machinePair struct {
	sides   [2]machineSide
	history []string
}

type machineSide struct {
	machine
	inbox  []flag // noFlag is payload, endOfChannel the end
	closed bool
	wrote  int
	got    int
	reset  bool // by either application
}

const endOfChannel flag = 99

func (p *machinePair) call(side int, what string) {
	p.history = append(p.history, fmt.Sprintf("%d %s", side, what))
	s := &p.sides[side]
	if what == "write" {
		if s.writeErr == nil {
			s.wrote++
			p.sides[1-side].inbox = append(p.sides[1-side].inbox, noFlag)
		}
		return
	}
	if what == "Reset" || what == "Expel" {
		p.sides[0].reset, p.sides[1].reset = true, true
	}
	p.send(side, inputs[what](&s.machine))
}

func (p *machinePair) send(side int, e effects) {
	p.history = append(p.history, fmt.Sprintf("%d sends %v", side, e))
	to := &p.sides[1-side]
	to.inbox = append(to.inbox, e.list()...)
	if e.close {
		p.end(side)
	}
}

// end closes a side's end of the channel.
func (p *machinePair) end(side int) {
	if !p.sides[side].closed {
		p.sides[side].closed = true
		p.sides[1-side].inbox = append(p.sides[1-side].inbox, endOfChannel)
	}
}

func (p *machinePair) deliver(side int) bool {
	s := &p.sides[side]
	if len(s.inbox) == 0 {
		return false
	}
	f := s.inbox[0]
	s.inbox = s.inbox[1:]
	switch f {
	case noFlag:
		if s.accepts() {
			s.got++
		}
	case endOfChannel:
		p.end(side) // pion does, and so do browsers
		p.send(side, s.onEnd())
	default:
		p.send(side, s.onFlag(f, 0))
	}
	return true
}

func (p *machinePair) check() error {
	for i := range p.sides {
		s, o := &p.sides[i], &p.sides[1-i]
		switch {
		case s.channel != channelEnded:
			return fmt.Errorf("the channel of %d is not closed", i)
		case errors.Is(s.readErr, io.EOF) && s.got != o.wrote:
			return fmt.Errorf("%d has EOF after %d of %d", i, s.got, o.wrote)
		case !s.reset && (s.send == halfReset || s.recv == halfReset):
			return fmt.Errorf("%d is reset, but nobody did so", i)
		}
	}
	if !p.sides[0].reset && !p.sides[0].closed {
		return errors.New("the opener has not closed the channel")
	}
	return nil
}
