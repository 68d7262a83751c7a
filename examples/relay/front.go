package main

import (
	"errors"
	"flag"
	"fmt"

	"github.com/tangop2p/tango/front"
)

// frontFlags are how TCP connections come in.
type frontFlags struct {
	cert, key, proxies *string
	proxyProtocol      *bool
}

func addFrontFlags(fs *flag.FlagSet) frontFlags {
	return frontFlags{
		cert: fs.String("cert", "", "PEM `file` with the certificate chain for WebSocket over TLS, which pages on\n"+
			"https need; the addresses told to others have its names (default none)"),
		key: fs.String("key", "", "PEM `file` with the key of -cert"),
		proxies: fs.String("trusted-proxies", "", "IP addresses and `networks` of reverse proxies, whose X-Forwarded-For or\n"+
			"Forwarded tells a client's address (default none)"),
		proxyProtocol: fs.Bool("proxy-protocol", false, "have the trusted proxies send the PROXY protocol, version 1 or 2"),
	}
}

// options returns the certificate too, nil without.
func (f frontFlags) options() ([]front.Option, *front.Certificate, error) {
	if (*f.cert == "") != (*f.key == "") {
		return nil, nil, errors.New("-cert and -key: give both or none")
	}
	var opts []front.Option
	if proxies := list(*f.proxies); len(proxies) > 0 {
		opts = append(opts, front.WithTrustedProxies(proxies...))
	}
	if *f.proxyProtocol {
		opts = append(opts, front.WithProxyProtocol())
	}
	if _, err := front.CheckOptions(opts...); err != nil {
		return nil, nil, fmt.Errorf("-trusted-proxies and -proxy-protocol: %w", err)
	}
	if *f.cert == "" {
		return opts, nil, nil
	}
	cert, err := front.LoadCertificate(*f.cert, *f.key)
	if err != nil {
		return nil, nil, fmt.Errorf("-cert and -key: %w", err)
	}
	return append(opts, front.WithCertificate(cert)), cert, nil
}
