package signaling

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"
)

// What an [*Error] may wrap; anything else is the stream's or the caller's own.
var (
	// ErrClosed says that the Service was closed, or the session before this call. It wraps [net.ErrClosed].
	ErrClosed = fmt.Errorf("signaling: %w", net.ErrClosed)
	// ErrUnsupported says that the remote does not speak [ProtocolID].
	ErrUnsupported = errors.New("signaling: the remote does not speak the protocol")
	// ErrBusy says that this node has as many sessions as its [Limits] allow. A session refused for it may be tried again.
	ErrBusy = errors.New("signaling: too many sessions")
	// ErrRefused says that the remote ended the exchange. [network.StreamError] below it tells the remote's code.
	ErrRefused = errors.New("signaling: ended by the remote")
	// ErrProtocol says that the remote violated the protocol.
	ErrProtocol = errors.New("signaling: protocol violated")
	// ErrLimit says that a message is larger, or candidates are more, than the [Limits] allow.
	ErrLimit = errors.New("signaling: limit exceeded")
	// ErrTimeout says that the session's time is over.
	ErrTimeout = errors.New("signaling: time is over")
	// ErrAborted says that this side gave up: [Session.Abort] was called, or a context ended in a call that then gives up.
	ErrAborted = errors.New("signaling: aborted")
	// ErrCandidate says that a local candidate cannot be sent: the remote would not understand it.
	ErrCandidate = errors.New("signaling: unusable candidate")
)

// Stage is how far a session has come.
type Stage string

// The stages, in their order.
const (
	StageStream     Stage = "stream"     // the stream is being opened
	StageOffer      Stage = "offer"      // the offer is on its way
	StageAnswer     Stage = "answer"     // the offer is there, the answer is not
	StageCandidates Stage = "candidates" // both descriptions are exchanged
	StageClose      Stage = "close"      // this side is done and waits for the remote's end of the stream
)

// Error is why a session, or a call on it, failed.
type Error struct {
	Stage Stage   // how far the session was
	Peer  peer.ID // the remote
	Err   error   // the reason; often wraps one of the Err sentinels
}

func (e *Error) Error() string { return fmt.Sprintf("%s, peer %v: %v", e.Stage, e.Peer, e.Err) }

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Err }

// streamError names what opening, reading or writing the stream returned.
func streamError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	}
	if _, ok := errors.AsType[multistream.ErrNotSupported[protocol.ID]](err); ok {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	if reset, ok := errors.AsType[*network.StreamError](err); ok && reset.Remote {
		// What go-libp2p's hosts say where the protocol goes out along with the offer.
		if reset.ErrorCode == network.StreamProtocolNegotiationFailed {
			return fmt.Errorf("%w: %w", ErrUnsupported, err)
		}
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return err
}

// resetCode is what the remote is told of the reason.
func resetCode(err error) network.StreamErrorCode {
	switch {
	case errors.Is(err, ErrBusy), errors.Is(err, ErrLimit), errors.Is(err, network.ErrResourceLimitExceeded):
		return network.StreamResourceLimitExceeded
	case errors.Is(err, ErrProtocol):
		return network.StreamProtocolViolation
	case errors.Is(err, ErrClosed):
		return network.StreamShutdown
	case errors.Is(err, ErrTimeout):
		return network.StreamGarbageCollected
	default:
		return network.StreamNoError
	}
}
