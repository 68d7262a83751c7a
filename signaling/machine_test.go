package signaling

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// rig drives a machine with words:
//
//	offer answer candidate bad empty refused   what the remote sends
//	end reset                                  what else the remote does
//	+answer +candidate +done +abort            what the application does
//	take                                       the application takes a candidate
//	write                                      what the machine wants written is written
//	stuck                                      what it wants written cannot be
//	1s, 4s, ...                                time passes
type rig struct {
	m     *machine
	now   time.Time
	wire  []string // what was written
	taken int
	errs  []error // what the calls of the application returned
}

func newRig(r role) *rig {
	g := &rig{now: time.Unix(1e9, 0)}
	limits := DefaultLimits()
	limits.Candidates = 4
	policy := DefaultCandidatePolicy()
	policy.Max = 3
	t := terms{limits, policy, classPublic}
	if r == offerer {
		g.m = newOfferer(t, g.now, "our offer")
	} else {
		g.m = newAnswerer(t, g.now)
	}
	return g
}

func (g *rig) do(word string) {
	name := map[messageType]string{typeOffer: "offer", typeAnswer: "answer", typeCandidate: "candidate"}
	switch word {
	case "offer":
		g.m.receive(message{typeOffer, "remote offer"})
	case "answer":
		g.m.receive(message{typeAnswer, "remote answer"})
	case "candidate":
		g.m.receive(message{typeCandidate, chromiumCandidate})
	case "bad":
		g.m.receive(message{typeCandidate, "{"})
	case "empty":
		g.m.receive(message{typeCandidate, `{"candidate":""}`})
	case "refused":
		g.m.receive(message{typeCandidate, strings.Replace(chromiumCandidate, "192.168.0.196", "127.0.0.1", 1)})
	case "end":
		g.m.receiveEnd()
	case "reset":
		g.m.fail(ErrRefused)
	case "+answer":
		g.errs = append(g.errs, g.m.answer("our answer"))
	case "+candidate":
		g.errs = append(g.errs, g.m.send(Candidate{udpCandidate, new("0"), nil, nil}))
	case "+empty":
		g.errs = append(g.errs, g.m.send(Candidate{}))
	case "+done":
		g.errs = append(g.errs, g.m.finish(g.now))
	case "+abort":
		g.m.fail(ErrAborted)
	case "take":
		if len(g.m.inbox) > 0 {
			g.m.inbox = g.m.inbox[1:]
			g.taken++
		}
	case "write":
		for {
			s := g.m.next(g.now)
			switch {
			case s.write != nil:
				msg, err := newReader(strings.NewReader(string(s.write)), 1<<16).next()
				if err != nil {
					panic(err)
				}
				g.wire = append(g.wire, name[msg.typ])
			case s.closing:
				g.wire = append(g.wire, "end")
			default:
				return
			}
			g.m.wrote(nil)
		}
	case "stuck":
		if s := g.m.next(g.now); s.write != nil || s.closing {
			g.m.wrote(errors.New("stuck"))
		}
	default:
		d, err := time.ParseDuration(word)
		if err != nil {
			panic(err)
		}
		g.now = g.now.Add(d)
		g.m.tick(g.now)
	}
}

func TestMachine(t *testing.T) {
	tests := []struct {
		name   string
		role   role
		script string
		wire   string // what we send
		inbox  int    // candidates for the application
		phase  phase
		err    error
		stage  Stage // of the error
	}{
		// it goes well
		{"offerer", offerer, "write +candidate write answer candidate write +done write end", "offer candidate end", 0, over, nil, ""},
		{"answerer", answerer, "offer +answer write +candidate write candidate end +done write", "answer candidate end", 0, over, nil, ""},
		{"the end of a remote that was first", offerer, "write answer candidate end", "offer", 1, exchanging, nil, ""},
		{"our end first", answerer, "offer +answer write +done write", "answer end", 0, closing, nil, ""},
		{"offerer's candidates do not wait", offerer, "+candidate +candidate write", "offer candidate candidate", 0, awaitAnswer, nil, ""},
		{
			"answerer's candidates wait", answerer, "offer +candidate write +answer +candidate write",
			"answer candidate candidate", 0, exchanging, nil, "",
		},
		{"they wait for the offer too", answerer, "+candidate offer write +answer write", "answer candidate", 0, exchanging, nil, ""},
		{"remote's before our answer", answerer, "offer candidate candidate", "", 2, awaitAnswer, nil, ""},
		{"end of candidates is not sent", offerer, "+empty write answer +empty write", "offer", 0, exchanging, nil, ""},
		{"done sends what waits", offerer, "write answer +candidate +done write", "offer candidate end", 0, closing, nil, ""},
		{"done cannot send what waits", offerer, "write answer +candidate +done 3s", "offer", 0, over, ErrTimeout, StageClose},
		{"candidates while closing", offerer, "write answer +done candidate bad end write", "offer end", 0, over, nil, ""},
		{"bad ones are skipped", answerer, "offer bad candidate empty refused", "", 1, awaitAnswer, nil, ""},
		{"nothing after the end", offerer, "write answer +done write end offer candidate end +done 99s", "offer end", 0, over, nil, ""},

		// wrong messages
		{"candidate before the offer", answerer, "candidate", "", 0, over, ErrProtocol, StageOffer},
		{"answer before the offer", answerer, "answer", "", 0, over, ErrProtocol, StageOffer},
		{"second offer", answerer, "offer offer", "", 0, over, ErrProtocol, StageAnswer},
		{"second offer, later", answerer, "offer +answer write offer", "answer", 0, over, ErrProtocol, StageCandidates},
		{"answer from the offerer", answerer, "offer answer", "", 0, over, ErrProtocol, StageAnswer},
		{"answer from the offerer, later", answerer, "offer +answer write answer", "answer", 0, over, ErrProtocol, StageCandidates},
		{"offer from the answerer", offerer, "write offer", "offer", 0, over, ErrProtocol, StageAnswer},
		{"offer from the answerer, later", offerer, "write answer offer", "offer", 0, over, ErrProtocol, StageCandidates},
		{"candidate before the answer", offerer, "write candidate", "offer", 0, over, ErrProtocol, StageAnswer},
		{"second answer", offerer, "write answer answer", "offer", 0, over, ErrProtocol, StageCandidates},
		{"second answer while closing", offerer, "write answer +done answer", "offer", 0, over, ErrProtocol, StageClose},
		{"more candidates than are allowed", answerer, "offer bad empty refused candidate candidate", "", 1, over, ErrLimit, StageAnswer},
		{"more than the policy hands on", answerer, "offer candidate candidate candidate candidate", "", 3, awaitAnswer, nil, ""},
		{"more of them while closing", offerer, "write answer +done bad bad bad bad bad", "offer", 0, over, ErrLimit, StageClose},

		// the remote goes away
		{"end instead of an offer", answerer, "end", "", 0, over, ErrRefused, StageOffer},
		{"end after the offer", answerer, "offer end", "", 0, over, io.ErrUnexpectedEOF, StageAnswer},
		{"end instead of an answer", offerer, "write end", "offer", 0, over, ErrRefused, StageAnswer},
		{"reset before the offer is written", offerer, "reset write", "", 0, over, ErrRefused, StageOffer},
		{"reset instead of an answer", offerer, "write reset", "offer", 0, over, ErrRefused, StageAnswer},
		{"reset amid candidates", offerer, "write answer candidate reset", "offer", 1, over, ErrRefused, StageCandidates},
		{"reset after its end", offerer, "write answer end reset", "offer", 0, over, ErrRefused, StageCandidates},
		{"reset while closing", offerer, "write answer +done write reset", "offer end", 0, over, ErrRefused, StageClose},
		{"reset after all", offerer, "write answer end +done write reset", "offer end", 0, over, nil, ""},

		// time
		{"no offer", answerer, "5s", "", 0, over, ErrTimeout, StageOffer},
		{"no answer from here", answerer, "4s offer 10s +candidate 1s", "", 0, over, ErrTimeout, StageAnswer},
		{"no answer from there", offerer, "write 14s +candidate 1s", "offer", 0, over, ErrTimeout, StageAnswer},
		{"never connected", offerer, "write answer candidate 15s", "offer", 1, over, ErrTimeout, StageCandidates},
		{"ended, but never connected here", offerer, "write answer end 15s", "offer", 0, over, ErrTimeout, StageCandidates},
		{"no end from the remote", offerer, "write answer +done write 3s", "offer end", 0, over, ErrTimeout, StageClose},
		{"done late", offerer, "write answer 14s +done write 2s end", "offer end", 0, over, nil, ""},
		{"offer cannot be written", offerer, "15s", "", 0, over, ErrTimeout, StageOffer},

		// this side gives up
		{"abort", offerer, "write +abort answer candidate", "offer", 0, over, ErrAborted, StageAnswer},
		{"abort drops what waits", answerer, "offer +answer +candidate +abort write", "", 0, over, ErrAborted, StageAnswer},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newRig(tt.role)
			for word := range strings.FieldsSeq(tt.script) {
				g.do(word)
			}
			if got := strings.Join(g.wire, " "); got != tt.wire {
				t.Errorf("sent %q, want %q", got, tt.wire)
			}
			if len(g.m.inbox) != tt.inbox || g.m.phase != tt.phase || g.m.failedAt != tt.stage {
				t.Errorf("%d candidates, phase %d, failed at %q, want %d, %d, %q",
					len(g.m.inbox), g.m.phase, g.m.failedAt, tt.inbox, tt.phase, tt.stage)
			}
			if !errors.Is(g.m.err, tt.err) || (tt.err == nil) != (g.m.err == nil) {
				t.Errorf("error %v, want %v", g.m.err, tt.err)
			}
		})
	}
}

func TestMachineRefusesMisuse(t *testing.T) {
	tests := []struct {
		name   string
		role   role
		script string
		err    error // of the last call; nil: any
	}{
		{"answer without an offer", answerer, "+answer", nil},
		{"answer twice", answerer, "offer +answer +answer", nil},
		{"answer after the end", answerer, "offer +abort +answer", ErrAborted},
		{"done before the answer", offerer, "write +done", nil},
		{"done before our answer", answerer, "offer +done", nil},
		{"done after a failure", offerer, "write answer reset +done", ErrRefused},
		{"candidate after done", offerer, "write answer +done +candidate", ErrClosed},
		{"candidate after a failure", offerer, "write reset +candidate", ErrRefused},
		{"too many candidates", offerer, "+candidate +candidate +candidate +candidate +candidate", ErrLimit},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newRig(tt.role)
			for word := range strings.FieldsSeq(tt.script) {
				g.do(word)
			}
			err := g.errs[len(g.errs)-1]
			if err == nil || tt.err != nil && !errors.Is(err, tt.err) {
				t.Errorf("%v, want %v", err, tt.err)
			}
			for _, err := range g.errs[:len(g.errs)-1] {
				if err != nil {
					t.Errorf("a call before: %v", err)
				}
			}
		})
	}
}

// TestMachineInAnyOrder does whatever, in whatever order, and looks at what holds always.
func TestMachineInAnyOrder(t *testing.T) {
	words := []string{
		"offer", "answer", "candidate", "candidate", "bad", "empty", "refused", "end", "reset",
		"+answer", "+candidate", "+candidate", "+empty", "+done", "+abort", "take", "write", "write", "stuck", "10ms", "1s",
	}
	var ends [over + 1]int
	for seed := range uint64(20_000) {
		random := rand.New(rand.NewPCG(seed, 0))
		g := newRig([]role{offerer, answerer}[seed%2])
		var script []string
		for range 1 + random.IntN(30) {
			word := words[random.IntN(len(words))]
			if random.IntN(2) == 0 { // half of them on the way that leads somewhere
				word = g.likely(random)
			}
			was := *g.m
			sent := len(g.wire)
			script = append(script, word)
			g.do(word)
			if err := g.check(&was, sent); err != nil {
				t.Fatalf("%s, seed %d, %v: %v", g.m.role, seed, script, err)
			}
		}
		ends[g.m.phase]++
	}
	for phase, n := range ends {
		if n < 50 {
			t.Errorf("phase %d was the last only %d times; the words do not reach it", phase, n)
		}
	}
}

func (g *rig) likely(random *rand.Rand) string {
	switch g.m.phase {
	case awaitOffer:
		return "offer"
	case awaitAnswer:
		if g.m.role == offerer {
			return "answer"
		}
		return "+answer"
	case exchanging:
		return []string{"candidate", "+candidate", "write", "+done"}[random.IntN(4)]
	default:
		return []string{"write", "end"}[random.IntN(2)]
	}
}

// check says which invariant does not hold.
func (g *rig) check(was *machine, sent int) error {
	m := g.m
	first, other := "offer", "answer"
	if m.role == answerer {
		first, other = other, first
	}
	switch {
	case len(g.wire) > 0 && g.wire[0] != first && g.wire[0] != "end":
		return fmt.Errorf("sent %v", g.wire)
	case slices.Contains(g.wire, other):
		return fmt.Errorf("sent what the other side sends: %v", g.wire)
	case len(g.wire) > 1 && slices.Contains(g.wire[1:], first):
		return fmt.Errorf("sent it twice: %v", g.wire)
	case slices.Contains(g.wire, "end") && g.wire[len(g.wire)-1] != "end":
		return fmt.Errorf("sent something after the end: %v", g.wire)
	case was.phase == over && (len(g.wire) > sent || m.phase != over || m.err != was.err): //nolint:errorlint // the same one
		return errors.New("something happened after the end")
	case m.phase < was.phase:
		return fmt.Errorf("phase %d became %d", was.phase, m.phase)
	case was.remote != "" && m.remote != was.remote:
		return errors.New("the remote's description changed")
	case m.phase == exchanging && m.remote == "":
		return errors.New("candidates flow without the remote's description")
	case m.accepted > m.policy.Max || len(m.inbox)+g.taken > m.accepted || m.received > m.limits.Candidates || m.sent > m.limits.Candidates:
		return fmt.Errorf("accepted %d, received %d, sent %d", m.accepted, m.received, m.sent)
	case len(m.outbox)+len(m.held) > m.limits.Candidates+1:
		return fmt.Errorf("%d messages wait", len(m.outbox)+len(m.held))
	case m.phase == over && m.err == nil && (!m.fin || !m.ended):
		return errors.New("ended well before both ends of the stream were closed")
	case (m.phase == over && m.err != nil) != (m.failedAt != ""):
		return fmt.Errorf("failed at %q: %w", m.failedAt, m.err)
	}
	return nil
}
