package webrtc

import "sync"

// The sizes of what payload is kept in. Most SCTP messages are either a few
// hundred bytes or a full frame; larger ones are kept in what they take.
const (
	smallSegment = 2 << 10
	frameSegment = maxFrame
)

// pools recycle segments.
type pools struct{ small, frame sync.Pool }

// get returns n bytes, with a capacity of segmentSize(n).
func (p *pools) get(n int) []byte {
	switch size := segmentSize(n); size {
	case smallSegment:
		if b, ok := p.small.Get().(*[smallSegment]byte); ok {
			return b[:n]
		}
		return new([smallSegment]byte)[:n]
	case frameSegment:
		if b, ok := p.frame.Get().(*[frameSegment]byte); ok {
			return b[:n]
		}
		return new([frameSegment]byte)[:n]
	default:
		return make([]byte, size)
	}
}

func (p *pools) put(b []byte) {
	switch cap(b) {
	case smallSegment:
		p.small.Put((*[smallSegment]byte)(b[:smallSegment]))
	case frameSegment:
		p.frame.Put((*[frameSegment]byte)(b[:frameSegment]))
	}
}

// segmentSize returns what n bytes take.
func segmentSize(n int) int {
	switch {
	case n <= smallSegment:
		return smallSegment
	case n <= frameSegment:
		return frameSegment
	default:
		return n
	}
}

// buffer holds payload that waits for Read.
type buffer struct {
	pools    *pools
	segments []segment
	held     int // the capacity of the segments, which is what they cost
}

// segment is b[start:end] of payload in a buffer of its own.
type segment struct {
	b          []byte
	start, end int
}

func (s segment) empty() bool { return s.start == s.end }

func (b *buffer) empty() bool { return len(b.segments) == 0 }

// push takes over a segment. A small remainder in a large buffer is copied, so
// that frames of one byte do not hold a buffer each.
func (b *buffer) push(s segment) {
	if s.empty() || 4*(s.end-s.start) < cap(s.b) || b.room() >= s.end-s.start {
		b.write(s.b[s.start:s.end])
		b.pools.put(s.b)
		return
	}
	b.segments = append(b.segments, s)
	b.held += cap(s.b)
}

// write copies p.
func (b *buffer) write(p []byte) {
	for len(p) > 0 {
		if b.room() == 0 {
			seg := b.pools.get(len(p))
			b.segments = append(b.segments, segment{b: seg})
			b.held += cap(seg)
		}
		last := &b.segments[len(b.segments)-1]
		n := copy(last.b[last.end:cap(last.b)], p)
		last.end += n
		p = p[n:]
	}
}

// room returns how much the last segment can take.
func (b *buffer) room() int {
	if len(b.segments) == 0 {
		return 0
	}
	last := b.segments[len(b.segments)-1]
	return cap(last.b) - last.end
}

func (b *buffer) read(p []byte) int {
	n := 0
	for n < len(p) && len(b.segments) > 0 {
		first := &b.segments[0]
		k := copy(p[n:], first.b[first.start:first.end])
		first.start += k
		n += k
		if first.empty() {
			b.release(first.b)
			b.segments[0] = segment{}
			b.segments = b.segments[1:]
		}
	}
	if len(b.segments) == 0 {
		b.segments = nil
	}
	return n
}

func (b *buffer) release(p []byte) {
	b.held -= cap(p)
	b.pools.put(p)
}

// drop forgets all.
func (b *buffer) drop() {
	for _, s := range b.segments {
		b.release(s.b)
	}
	b.segments = nil
}
