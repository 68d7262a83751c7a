package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/tangop2p/tango/relay"
)

// ruleFlags say who may use the relay.
type ruleFlags struct {
	allow, deny      string // files, empty for none, as all below
	issuers, revoked string
	asns             string
	callout          string // a URL
	calloutOpen      bool
}

func addRuleFlags(fs *flag.FlagSet) *ruleFlags {
	f := new(ruleFlags)
	fs.StringVar(&f.allow, "allow", "", "`file` with those that may hold a reservation, a peer ID, IP address or\n"+
		"network a line; read again on SIGHUP (default everybody)")
	fs.StringVar(&f.deny, "deny", "", "`file` with those that are refused, as -allow")
	fs.StringVar(&f.issuers, "invite-issuers", "", "`file` with the peer IDs of those whose invites are taken, one a line; only\n"+
		"peers with an invite, or on the list of -allow, may hold a reservation;\n"+
		"\"relay invite\" makes invites; read again on SIGHUP (default everybody)")
	fs.StringVar(&f.revoked, "invite-revoked", "", "`file` with the IDs of invites that count no more, one a line; read again\non SIGHUP")
	fs.StringVar(&f.callout, "callout", "", "`URL` of a server that is asked about each reservation and both ends of\n"+
		"each circuit, by POST with JSON (see package relay, Callout)")
	fs.BoolVar(&f.calloutOpen, "callout-fail-open", false, "while that server does not answer, serve everybody instead of nobody")
	fs.StringVar(&f.asns, "asn-table", "", "`file` with the networks of autonomous systems, as of iptoasn.com, for\n"+
		"-max-reservations-per-asn; read again on SIGHUP (default go-libp2p's, of\nIPv6 only)")
	return f
}

// rules is who may use the relay, from files that are read again on SIGHUP.
type rules struct {
	flags       ruleFlags
	perASN      int
	allow, deny *relay.List    // nil without a file
	members     *relay.Members // nil without issuers
	callout     *relay.Callout // nil without a URL
	asns        *relay.ASNs    // nil without a file
}

func (f *ruleFlags) rules(limits relay.Limits) (*rules, error) {
	r := &rules{flags: *f, perASN: limits.ReservationsPerASN}
	var errs [5]error
	if f.allow != "" {
		r.allow, errs[0] = relay.LoadList(f.allow)
	}
	if f.deny != "" {
		r.deny, errs[1] = relay.LoadList(f.deny)
	}
	if f.asns != "" {
		r.asns, errs[2] = relay.LoadASNs(f.asns)
	}
	if f.callout != "" {
		failing := relay.FailClosed()
		if f.calloutOpen {
			failing = relay.FailOpen()
		}
		r.callout, errs[3] = relay.NewCallout(f.callout, failing)
	}
	switch {
	case f.issuers != "":
		errs[4] = r.loadMembers()
	case f.revoked != "":
		errs[4] = fmt.Errorf("-invite-revoked %s without -invite-issuers: nobody is invited", f.revoked)
	}
	return r, errors.Join(errs[:]...)
}

// loadMembers reads whose invites are taken, and which ones not.
func (r *rules) loadMembers() error {
	lines, err := readLines(r.flags.issuers)
	if err != nil {
		return fmt.Errorf("-invite-issuers: %w", err)
	}
	issuers := make([]peer.ID, len(lines))
	for i, line := range lines {
		if issuers[i], err = peer.Decode(line); err != nil {
			return fmt.Errorf("-invite-issuers %s: %q is no peer ID: %w", r.flags.issuers, line, err)
		}
	}
	var revoked []string
	if r.flags.revoked != "" {
		if revoked, err = readLines(r.flags.revoked); err != nil {
			return fmt.Errorf("-invite-revoked: %w", err)
		}
	}
	if r.members == nil {
		r.members, err = relay.NewMembers(issuers)
	} else {
		err = r.members.SetIssuers(issuers...)
	}
	if err != nil {
		return fmt.Errorf("-invite-issuers %s: %w", r.flags.issuers, err)
	}
	r.members.SetRevoked(revoked...)
	return nil
}

// readLines returns the lines of a file, without those that are empty and
// without what follows a #.
func readLines(path string) (lines []string, err error) {
	f, err := os.Open(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil, err
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	for in.Scan() {
		line, _, _ := strings.Cut(in.Text(), "#")
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines, in.Err()
}

// policy refuses those denied everything, and others than those allowed or
// invited a reservation, so that anybody can reach them. Who asks too much of
// others is asked last.
func (r *rules) policy() relay.Policy {
	var all, holders []relay.Policy
	if r.deny != nil {
		all = append(all, relay.DenyList(r.deny))
	}
	if r.allow != nil {
		holders = append(holders, relay.OnlyList(r.allow))
	}
	if r.members != nil {
		holders = append(holders, r.members)
	}
	if len(holders) > 0 {
		all = append(all, relay.On(relay.Any(holders...), relay.Reserve))
	}
	if r.asns != nil {
		all = append(all, relay.PerASN(r.perASN, r.asns.Lookup))
	}
	if r.callout != nil {
		all = append(all, r.callout)
	}
	return relay.All(all...)
}

// reload reads the files again. What comes from a file that is wrong stays as it
// was.
func (r *rules) reload() error {
	var errs []error
	for _, l := range []*relay.List{r.allow, r.deny} {
		if l != nil {
			errs = append(errs, l.Reload())
		}
	}
	if r.asns != nil {
		errs = append(errs, r.asns.Reload())
	}
	if r.members != nil {
		errs = append(errs, r.loadMembers())
	}
	return errors.Join(errs...)
}
