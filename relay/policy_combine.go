package relay

import (
	"context"
	"errors"
	"slices"

	"github.com/libp2p/go-libp2p/core/host"
)

// All asks the policies in order until one refuses. It allows if one of them
// does; of their terms the smaller count. A policy without an opinion holds
// nobody up, so All is no "if": for that see [When].
func All(policies ...Policy) Policy { return all(slices.Clone(policies)) }

type all []Policy

func (a all) Policies() []Policy { return a }

func (a all) Decide(ctx context.Context, r *Request) Decision {
	return inOrder(ctx, r, a, false)
}

// Chain asks the policies in order until one allows or refuses: the first rule
// that applies decides.
func Chain(policies ...Policy) Policy { return chain(slices.Clone(policies)) }

type chain []Policy

func (c chain) Policies() []Policy { return c }

func (c chain) Decide(ctx context.Context, r *Request) Decision {
	return inOrder(ctx, r, c, true)
}

// inOrder joins what the policies say until one refuses, or, if it is told to
// stop there, until one allows. What those without an opinion took is kept.
func inOrder(ctx context.Context, r *Request, policies []Policy, untilAllowed bool) Decision {
	var joined Decision
	for _, p := range policies {
		d := p.Decide(ctx, r)
		if d.verdict == refuse {
			joined.Release()
			return d
		}
		joined = joined.and(d)
		if untilAllowed && d.verdict == allow {
			break
		}
	}
	return joined
}

// Any asks the policies in order until one allows: it is enough to satisfy that
// one. If none does, the first refusal counts.
func Any(policies ...Policy) Policy { return anyOf(slices.Clone(policies)) }

type anyOf []Policy

func (a anyOf) Policies() []Policy { return a }

func (a anyOf) Decide(ctx context.Context, r *Request) Decision {
	var passed, refused Decision
	for _, p := range a {
		d := p.Decide(ctx, r)
		switch {
		case d.verdict == allow:
			passed.Release()
			refused.Release()
			return d
		case d.verdict == pass:
			passed = passed.and(d)
		case refused.verdict == pass:
			refused = d
		default:
			d.Release()
		}
	}
	if refused.verdict == refuse {
		passed.Release()
		return refused
	}
	return passed
}

// When asks the policy about requests that match only, and has no opinion on
// others. [List.Has] is such a match.
func When(match func(*Request) bool, p Policy) Policy { return when{match, p} }

type when struct {
	match  func(*Request) bool
	policy Policy
}

func (w when) Policies() []Policy { return []Policy{w.policy} }

func (w when) Decide(ctx context.Context, r *Request) Decision {
	if !w.match(r) {
		return Decision{}
	}
	return w.policy.Decide(ctx, r)
}

func (w when) check() error {
	if w.match == nil {
		return errors.New("When: a nil match: give it a function, or leave When out")
	}
	return nil
}

// On asks the policy about some operations only, and has no opinion on others.
func On(p Policy, ops ...Op) Policy { return on{p, opsOf(ops)} }

type on struct {
	policy Policy
	ops    opSet
}

func (o on) Policies() []Policy { return []Policy{o.policy} }

func (o on) Decide(ctx context.Context, r *Request) Decision {
	if !o.ops.has(r.Op) {
		return Decision{}
	}
	return o.policy.Decide(ctx, r)
}

// check finds caps that are not asked about what they count.
func (o on) check() error {
	child, ok := o.policy.(interface{ about() opSet })
	if ok && o.ops&child.about() == 0 {
		return errors.New("On with a cap or rate that counts other operations: name the operations there, as in PerIP(8, ConnectFrom)")
	}
	return nil
}

// opSet is a set of operations.
type opSet uint8

func opsOf(ops []Op) opSet {
	var s opSet
	for _, op := range ops {
		s |= 1 << op
	}
	return s
}

func (s opSet) has(op Op) bool { return s&(1<<op) != 0 }

// Grant allows everything on these terms, which count in place of the relay's
// [Limits] and may exceed them. See [When] for granting them to some.
func Grant(t Terms) Policy { return grant{t} }

type grant struct{ terms Terms }

func (g grant) Decide(context.Context, *Request) Decision {
	return Decision{verdict: allow, granted: g.terms}
}

func (g grant) check() error { return g.terms.validate() }

// HostPolicy is a policy that needs the relay's host, to speak a protocol for
// example. A relay starts it before it asks it, and stops it when it has no
// more use for it. When a relay changes its policies, the new ones are started
// before the old are stopped: a policy that is among both is started twice.
type HostPolicy interface {
	Policy
	Start(h host.Host) (stop func(), err error)
}

// Walk calls visit for a policy and, below it, for all that it asks. For
// policies of your own to be walked through, give them a method
// Policies() []Policy.
func Walk(p Policy, visit func(Policy)) {
	visit(p)
	if parent, ok := p.(interface{ Policies() []Policy }); ok {
		for _, child := range parent.Policies() {
			Walk(child, visit)
		}
	}
}

// StartPolicy checks a policy and all below it and starts those that are
// [HostPolicy]. Relays do so; it is for those who ask policies themselves.
func StartPolicy(h host.Host, p Policy) (stop func(), err error) {
	var errs []error
	var hosted []HostPolicy
	Walk(p, func(p Policy) {
		errs = append(errs, checkPolicy(p))
		if hp, ok := p.(HostPolicy); ok {
			hosted = append(hosted, hp)
		}
	})
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var stops []func()
	stop = func() {
		for _, f := range slices.Backward(stops) {
			f()
		}
	}
	for _, hp := range hosted {
		f, err := hp.Start(h)
		if err != nil {
			stop()
			return nil, err
		}
		stops = append(stops, f)
	}
	return stop, nil
}

// checkPolicy says what is wrong with the numbers that a policy was made with.
func checkPolicy(p Policy) error {
	if p == nil {
		return errors.New("a nil policy: leave it out")
	}
	if c, ok := p.(interface{ check() error }); ok {
		return c.check()
	}
	return nil
}
