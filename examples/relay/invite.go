package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/peterbourgon/ff/v3"

	"github.com/tangop2p/tango/identity"
	"github.com/tangop2p/tango/relay"
)

const inviteUsage = `relay invite prints an invite for a relay that runs with -invite-issuers.

Usage:

  relay invite -audience PEER [flags]

Give the invite to those who may use the relay. Each flag can be given as an
environment variable instead, for example -audience as %s_AUDIENCE.

Flags:

`

// makeInvite prints a token, and beside it, on about, what it says.
func makeInvite(args []string, out, about io.Writer) error {
	const env = envPrefix + "_INVITE"
	fs := flag.NewFlagSet("relay invite", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	audience := fs.String("audience", "", "`peer` ID of the relay, or a multiaddr that ends in it")
	subject := fs.String("subject", "", "`peer` ID of the only one that may use the invite (default whoever has it)")
	peers := fs.Int("peers", 1, "how `many` peers may use it at once")
	valid := fs.Duration("valid", 24*time.Hour, "how `long` it counts from now on")
	key := fs.String("issuer", "tango-issuer.key", "`file` with the issuer's private key, made on first use; not the relay's")
	fs.Usage = func() {
		fmt.Fprintf(about, inviteUsage, env)
		fs.SetOutput(about)
		fs.PrintDefaults()
	}
	if err := ff.Parse(fs, args, ff.WithEnvVarPrefix(env)); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("argument %q: flags start with a dash, see relay invite -help", fs.Arg(0))
	}
	i := relay.Invite{Peers: *peers, Expires: time.Now().Add(*valid)}
	var errs [2]error
	i.Audience, errs[0] = decodePeer("-audience", *audience)
	if *subject != "" {
		i.Subject, errs[1] = decodePeer("-subject", *subject)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	issuer, err := identity.Load(*key)
	if err != nil {
		return err
	}
	token, err := relay.NewInvite(issuer.PrivKey(), i)
	if err != nil {
		return err
	}
	if i, err = relay.ParseInvite(token); err != nil {
		return err
	}
	fmt.Fprintf(about, "invite %s for %d peers until %v\nissuer %s, for the file of -invite-issuers\n",
		i.ID, i.Peers, i.Expires.Format(time.RFC3339), i.Issuer)
	fmt.Fprintln(out, token)
	return nil
}

func decodePeer(name, value string) (peer.ID, error) {
	if p, err := peer.Decode(value); err == nil {
		return p, nil
	}
	info, err := peer.AddrInfoFromString(value)
	if err != nil {
		return "", fmt.Errorf("%s %q: use a peer ID, or a multiaddr that ends in /p2p/ and one", name, value)
	}
	return info.ID, nil
}
