package storage

import (
	"encoding/hex"
	"sync/atomic"

	digest "github.com/opencontainers/go-digest"
)

// Marks is a set of digests that takes the same memory, 16 MiB, however many there are: a Bloom filter. It may take a digest for one that it has, and
// never the other way around. Beside two hundred thousand digests that it has, it is wrong about one of 2e15 others; beside ten million, about two in a
// thousand.
type Marks struct{ bits []atomic.Uint64 }

const (
	marksBits   = 27 // log2 of the number of bits
	marksProbes = 8  // parts of a digest, each of which is the number of a bit
)

// NewMarks is an empty set.
func NewMarks() *Marks { return &Marks{make([]atomic.Uint64, 1<<(marksBits-6))} }

// Add adds a digest. It may be called concurrently.
func (m *Marks) Add(d digest.Digest) {
	for _, bit := range probes(d) {
		m.bits[bit>>6].Or(1 << (bit & 63))
	}
}

// Has reports whether the set has a digest.
func (m *Marks) Has(d digest.Digest) bool {
	for _, bit := range probes(d) {
		if m.bits[bit>>6].Load()&(1<<(bit&63)) == 0 {
			return false
		}
	}
	return true
}

// probes are the first eight numbers of 32 bits in a digest, each cut to the length of marksBits. A SHA-256 has just as many.
func probes(d digest.Digest) [marksProbes]uint32 {
	var sum [4 * marksProbes]byte
	_, _ = hex.Decode(sum[:], []byte(d.Encoded())[:min(len(d.Encoded()), 2*len(sum))]) // valid digests are hexadecimal
	var bits [marksProbes]uint32
	for i := range bits {
		part := sum[4*i:]
		bits[i] = (uint32(part[0])<<24 | uint32(part[1])<<16 | uint32(part[2])<<8 | uint32(part[3])) >> (32 - marksBits)
	}
	return bits
}
