package discovery

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/encoding/protowire"
)

// Bounds on a record, checked before anything of it is decoded.
const (
	// MaxRecordSize is the most bytes that a record may have. Rust peers
	// drop a whole RPC above 64 KiB, so records stay far below it.
	MaxRecordSize = 8 << 10
	// MaxRecordAddrs is the most addresses that a record may list.
	MaxRecordAddrs = 32
	// MaxAddrSize is the most bytes that one address may have.
	MaxAddrSize = 512

	maxKeySize = 1100 // an RSA key of 8192 bits, the largest that go-libp2p reads
)

// Field numbers of the Peer message of @libp2p/pubsub-peer-discovery. Fields
// from 101 on are tango's: js, rust and .NET peers skip fields that they do
// not know.
const (
	fieldPublicKey = 1   // bytes, a libp2p PublicKey protobuf
	fieldAddrs     = 2   // repeated bytes, binary multiaddrs
	fieldTime      = 101 // uint64, Unix time in milliseconds when sent
	fieldInterval  = 102 // uint32, seconds until the next announcement
	fieldFlags     = 103 // uint32, bit 0: the sender is leaving
)

const flagLeaving = 1

// Reasons for which a record is refused. They are wrapped in a [*RecordError].
var (
	// ErrRecordTooLarge says that a record exceeds one of the bounds.
	ErrRecordTooLarge = errors.New("discovery: record exceeds its bounds")
	// ErrRecordMalformed says that a record cannot be decoded.
	ErrRecordMalformed = errors.New("discovery: record is malformed")
	// ErrRecordForeign says that a record speaks of another peer than the one that signed it.
	ErrRecordForeign = errors.New("discovery: record is not about its signer")
)

// RecordError says why a record was refused.
type RecordError struct {
	// Err is one of the ErrRecord sentinels.
	Err error
	// Detail says what was wrong, without repeating bytes of the record.
	Detail string
}

func (e *RecordError) Error() string { return e.Err.Error() + ": " + e.Detail }

// Unwrap returns the sentinel.
func (e *RecordError) Unwrap() error { return e.Err }

// Record is what a peer says of itself on a discovery topic.
type Record struct {
	// Key is the peer's public key; the peer's ID derives from it.
	Key crypto.PubKey
	// Addrs are the peer's addresses, without a trailing /p2p component.
	Addrs []ma.Multiaddr
	// Sent is when the peer says that it sent the record, in whole milliseconds and later than in its last record;
	// zero if it does not say (js peers).
	Sent time.Time
	// Interval is the time until the peer intends to announce itself again; zero if it does not say.
	Interval time.Duration
	// Leaving says that the peer is going away.
	Leaving bool
}

// Marshal encodes the record as a protobuf that js-libp2p's
// pubsub-peer-discovery reads. It appends /p2p/<peer> to each address, as js
// does.
func (r *Record) Marshal() ([]byte, error) {
	key, err := crypto.MarshalPublicKey(r.Key)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	id, err := peer.IDFromPublicKey(r.Key)
	if err != nil {
		return nil, fmt.Errorf("derive peer ID: %w", err)
	}
	suffix, err := ma.NewComponent("p2p", id.String())
	if err != nil {
		return nil, fmt.Errorf("encode peer ID: %w", err)
	}
	out := appendBytes(nil, fieldPublicKey, key)
	for _, a := range r.Addrs {
		out = appendBytes(out, fieldAddrs, a.AppendComponent(suffix).Bytes())
	}
	if !r.Sent.IsZero() {
		out = appendUint(out, fieldTime, uint64(r.Sent.UnixMilli()))
	}
	if r.Interval > 0 {
		out = appendUint(out, fieldInterval, uint64(math.Ceil(r.Interval.Seconds())))
	}
	if r.Leaving {
		out = appendUint(out, fieldFlags, flagLeaving)
	}
	if len(out) > MaxRecordSize || len(r.Addrs) > MaxRecordAddrs {
		return nil, &RecordError{ErrRecordTooLarge, fmt.Sprintf("%d bytes, %d addresses", len(out), len(r.Addrs))}
	}
	return out, nil
}

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}

func appendUint(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

// ParseRecord decodes a record that the peer signer signed. The record is
// refused if it exceeds its bounds, if it cannot be decoded, or if its key or
// one of its addresses names another peer: stock js-libp2p compares none of
// these, so whoever forwards records must. Addresses with protocols unknown
// here are left out. The error is a [*RecordError].
func ParseRecord(signer peer.ID, data []byte) (*Record, error) {
	if len(data) > MaxRecordSize {
		return nil, &RecordError{ErrRecordTooLarge, fmt.Sprintf("%d bytes, %d allowed", len(data), MaxRecordSize)}
	}
	raw, err := parseFields(data)
	if err != nil {
		return nil, err
	}
	if !derivesFrom(signer, raw.key) {
		return nil, &RecordError{ErrRecordForeign, "its key is not the signer's"}
	}
	r := &Record{Leaving: raw.flags&flagLeaving != 0}
	if r.Key, err = crypto.UnmarshalPublicKey(raw.key); err != nil {
		return nil, &RecordError{ErrRecordMalformed, "public key"}
	}
	if !signer.MatchesPublicKey(r.Key) {
		return nil, &RecordError{ErrRecordForeign, "its key is not in canonical form"}
	}
	if raw.time > 0 && raw.time <= math.MaxInt64 {
		r.Sent = time.UnixMilli(int64(raw.time))
	}
	if raw.interval <= math.MaxUint32 {
		r.Interval = time.Duration(raw.interval) * time.Second
	}
	r.Addrs, err = parseAddrs(signer, raw.addrs)
	return r, err
}

// derivesFrom says whether the encoded key hashes to the peer ID, without
// decoding it (libp2p specs, peer-ids/peer-ids.md §Peer Ids): keys of up to
// 42 bytes stand in the ID as they are, longer ones as their SHA-256.
func derivesFrom(id peer.ID, key []byte) bool {
	const identity, sha2, inlined = 0x00, 0x12, 42
	if len(key) <= inlined {
		return string(id) == string([]byte{identity, byte(len(key))})+string(key)
	}
	sum := sha256.Sum256(key)
	return string(id) == string([]byte{sha2, sha256.Size})+string(sum[:])
}

type rawRecord struct {
	key                   []byte
	addrs                 [][]byte
	time, interval, flags uint64
}

func parseFields(data []byte) (raw rawRecord, err error) {
	malformed := &RecordError{ErrRecordMalformed, "not a Peer protobuf"}
	for len(data) > 0 {
		num, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return raw, malformed
		}
		data = data[n:]
		switch {
		case typ == protowire.BytesType && (num == fieldPublicKey || num == fieldAddrs):
			var v []byte
			if v, n = protowire.ConsumeBytes(data); n >= 0 {
				err = raw.setBytes(num, v)
			}
		case typ == protowire.VarintType:
			var v uint64
			v, n = protowire.ConsumeVarint(data)
			raw.setUint(num, v)
		default:
			n = protowire.ConsumeFieldValue(num, typ, data)
		}
		if n < 0 {
			return raw, malformed
		}
		if err != nil {
			return raw, err
		}
		data = data[n:]
	}
	if raw.key == nil {
		return raw, &RecordError{ErrRecordMalformed, "no public key"}
	}
	return raw, nil
}

func (raw *rawRecord) setBytes(num protowire.Number, v []byte) error {
	switch {
	case num == fieldPublicKey && len(v) > maxKeySize:
		return &RecordError{ErrRecordTooLarge, fmt.Sprintf("key of %d bytes, %d allowed", len(v), maxKeySize)}
	case num == fieldPublicKey:
		raw.key = v
	case len(v) > MaxAddrSize:
		return &RecordError{ErrRecordTooLarge, fmt.Sprintf("address of %d bytes, %d allowed", len(v), MaxAddrSize)}
	case len(raw.addrs) == MaxRecordAddrs:
		return &RecordError{ErrRecordTooLarge, fmt.Sprintf("more than %d addresses", MaxRecordAddrs)}
	default:
		raw.addrs = append(raw.addrs, v)
	}
	return nil
}

func (raw *rawRecord) setUint(num protowire.Number, v uint64) {
	switch num {
	case fieldTime:
		raw.time = v
	case fieldInterval:
		raw.interval = v
	case fieldFlags:
		raw.flags = v
	}
}

func parseAddrs(signer peer.ID, raw [][]byte) ([]ma.Multiaddr, error) {
	addrs := make([]ma.Multiaddr, 0, len(raw))
	for _, b := range raw {
		a, err := ma.NewMultiaddrBytes(b)
		if err != nil {
			continue // a protocol that this version does not know
		}
		transport, id := peer.SplitAddr(a)
		if id != "" && id != signer {
			return nil, &RecordError{ErrRecordForeign, "an address ends in another peer's ID"}
		}
		if len(transport) > 0 {
			addrs = append(addrs, transport)
		}
	}
	return addrs, nil
}
