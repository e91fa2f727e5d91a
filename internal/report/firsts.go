package report

import "encoding/binary"

// firstBytes is how many bytes of a form [firsts] looks at. No form is shorter.
const firstBytes = 4

const _ = uint(shortest - firstBytes)

// firsts is a set of the first bytes of forms. It may take others for them, which a few thousand forms
// do with one text in a hundred: most text is passed over by a look into it, without the automaton. The
// zero value is empty.
type firsts [1 << (firstBits - 6)]uint64

// firstBits is how many bits of a hash tell texts apart: the set takes 32 KiB, the size of a processor's
// first cache.
const firstBits = 18

// firstPlace is the place of a text in the set, by multiplicative hashing (Knuth, The Art of Computer
// Programming, 6.4).
func firstPlace(word uint32) uint32 { return word * 2654435769 >> (32 - firstBits) }

func (f *firsts) add(text string) {
	n := firstPlace(binary.LittleEndian.Uint32([]byte(text[:firstBytes])))
	f[n>>6] |= 1 << (n & 63)
}

// has tells whether a form may begin with the first bytes of text, which has that many.
func (f *firsts) has(text []byte) bool {
	n := firstPlace(binary.LittleEndian.Uint32(text))
	return f[n>>6]&(1<<(n&63)) != 0
}
