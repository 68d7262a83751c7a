package main

import (
	"errors"

	"github.com/tangop2p/tango/relay"
)

// rules is who may use the relay, from files that are read again on SIGHUP.
type rules struct {
	allow, deny *relay.List // nil without a file
}

func loadRules(allow, deny string) (*rules, error) {
	r := new(rules)
	var errs [2]error
	if allow != "" {
		r.allow, errs[0] = relay.LoadList(allow)
	}
	if deny != "" {
		r.deny, errs[1] = relay.LoadList(deny)
	}
	return r, errors.Join(errs[:]...)
}

// policy refuses those denied everything, and others than those allowed a
// reservation, so that anybody can reach them.
func (r *rules) policy() relay.Policy {
	var all []relay.Policy
	if r.deny != nil {
		all = append(all, relay.DenyList(r.deny))
	}
	if r.allow != nil {
		all = append(all, relay.On(relay.OnlyList(r.allow), relay.Reserve))
	}
	return relay.All(all...)
}

// reload reads the files again. A list whose file is wrong stays as it was.
func (r *rules) reload() error {
	var errs []error
	for _, l := range []*relay.List{r.allow, r.deny} {
		if l != nil {
			errs = append(errs, l.Reload())
		}
	}
	return errors.Join(errs...)
}
