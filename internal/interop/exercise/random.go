package exercise

import "encoding/binary"

// Random returns n bytes that follow from the seed, which must not be 0.
func Random(seed uint32, n int) []byte {
	b := make([]byte, 0, n+4)
	for x := seed; len(b) < n; {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b = binary.LittleEndian.AppendUint32(b, x)
	}
	return b[:n]
}
