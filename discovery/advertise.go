package discovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/discovery"
	"github.com/libp2p/go-libp2p/core/peer"
)

var _ discovery.Discovery = (*Service)(nil)

// ErrUnknownNamespace says that a namespace is none of the Service's topics.
var ErrUnknownNamespace = errors.New("discovery: namespace is not one of the topics")

// errListenOnly answers Advertise on a node that shall not announce itself.
var errListenOnly = errors.New("discovery: WithListenOnly is set, nothing is announced")

// Advertise announces this node soon, beside its own schedule, and returns for
// how long others will keep it. The namespace is one of the topics, or the
// name that [AppTopic] made a topic of. Options are ignored.
func (s *Service) Advertise(_ context.Context, ns string, _ ...discovery.Option) (time.Duration, error) {
	if err := s.closed(); err != nil {
		return 0, err
	}
	if _, err := s.topicOf(ns); err != nil {
		return 0, err
	}
	if s.cfg.listenOnly {
		return 0, errListenOnly
	}
	s.hint()
	return expiry(s.cfg.interval), nil
}

// FindPeers returns the peers known now on the namespace's topic, up to
// discovery.Limit, and closes the channel; it does not wait for more. For that
// see [Service.Events].
func (s *Service) FindPeers(_ context.Context, ns string, opts ...discovery.Option) (<-chan peer.AddrInfo, error) {
	if err := s.closed(); err != nil {
		return nil, err
	}
	topic, err := s.topicOf(ns)
	if err != nil {
		return nil, err
	}
	var o discovery.Options
	if err := o.Apply(opts...); err != nil {
		return nil, fmt.Errorf("discovery: find peers: %w", err)
	}
	s.mu.Lock()
	found := s.table.peers(topic)
	s.mu.Unlock()
	if o.Limit > 0 {
		found = found[:min(o.Limit, len(found))]
	}
	out := make(chan peer.AddrInfo, len(found))
	for _, e := range found {
		out <- e.Peer
	}
	close(out)
	return out, nil
}

func (s *Service) topicOf(ns string) (string, error) {
	for _, topic := range []string{ns, AppTopic(ns)} {
		if slices.Contains(s.cfg.topics, topic) {
			return topic, nil
		}
	}
	return "", fmt.Errorf("%w: %q; the topics are %q, see WithTopics", ErrUnknownNamespace, ns, s.cfg.topics)
}
