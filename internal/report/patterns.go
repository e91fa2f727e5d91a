package report

import (
	"strings"
)

// pattern is the form of a credential: a beginning, which is shown, and a value, which is
// hidden. The beginning matches in upper and lower case.
type pattern struct {
	begin string // in lower case
	kind  int    // of its value, in valueKinds
}

// valueKind says which values are hidden.
type valueKind struct {
	holds   func(byte) bool // the bytes of which a value consists
	atLeast int             // shorter values are not hidden, in bytes
	before  byte            // the value ends before the last of these bytes, and must have one; 0: it ends anywhere
}

const (
	token     = iota // a value of any length
	longToken        // outside a header a short word after bearer is prose, or the realm of a challenge
	userInfo         // which may be a token without a password; it ends at the last @
)

var valueKinds = [...]valueKind{
	token:     {holds: isToken, atLeast: 1},
	longToken: {holds: isToken, atLeast: 8},
	userInfo:  {holds: isAuthority, atLeast: 1, before: '@'},
}

// longestValue is the greatest length of a URL's user info in bytes, and so of what a [Writer]
// holds back for it. Servers refuse longer URLs.
const longestValue = 16 << 10

var patterns = []pattern{
	// Signed URLs: Azure's shared access signatures, S3's and Google's, CloudFront's.
	{"sig=", token},
	{"signature=", token},
	{"x-amz-credential=", token},
	{"x-amz-security-token=", token},
	{"x-goog-credential=", token},
	// Headers.
	{"authorization: bearer ", token},
	{"authorization: basic ", token},
	{"authorization: token ", token},
	{"bearer ", longToken},
	{"://", userInfo},
}

// patternsBy are the patterns by the last byte of their beginning.
var patternsBy = func() (by [256][]pattern) {
	for _, p := range patterns {
		last := p.begin[len(p.begin)-1]
		by[last] = append(by[last], p)
	}
	return by
}()

// recent is how much of the text that was passed on is kept, in bytes: the longest beginning
// is shorter.
const recent = 32

// value is the value of a pattern that the text is in the middle of.
type value struct {
	on   bool
	from int // where it begins
	last int // the last of the bytes that it may end before; before from: there is none
}

// openFrom is where the part of the value begins that is hidden only if more follows.
func (v value) openFrom(k valueKind, end int) int {
	switch {
	case k.before != 0:
		return max(v.from, v.last)
	case end-v.from < k.atLeast:
		return v.from
	}
	return end
}

// beginValues begins the values of the patterns whose beginnings end with the byte at i.
func (s *stream) beginValues(i int) {
	for _, p := range patternsBy[s.held[i]] {
		v := &s.values[p.kind]
		if !v.on && s.endsWith(p.begin, i) { // within a value of its kind one adds nothing
			*v = value{on: true, from: i + 1, last: i}
			s.open++
		}
	}
}

// endsWith tells whether the text up to the byte at i ends with a beginning of a pattern.
func (s *stream) endsWith(begin string, i int) bool {
	for n := len(begin) - 1; n >= 0; n, i = n-1, i-1 {
		s.hops++
		c := s.byteAt(i)
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != begin[n] {
			return false
		}
	}
	return true
}

// extend extends the values by the byte at i, or ends them.
func (s *stream) extend(c byte, i int) {
	for n := range s.values {
		v, k := &s.values[n], &valueKinds[n]
		switch {
		case !v.on:
		case !k.holds(c), k.before != 0 && i-v.from >= longestValue:
			v.on = false
			s.open--
		case k.before == 0 && i+1-v.from >= k.atLeast:
			s.hide(v.from, i+1)
		case k.before == c && c != 0 && i-v.from >= k.atLeast:
			s.hide(v.from, i)
			v.last = i
		}
	}
}

// endValues ends all values: none goes over a line's end.
func (s *stream) endValues() {
	if s.open == 0 {
		return
	}
	s.values, s.open = [len(valueKinds)]value{}, 0
}

// isToken tells whether c can be part of a token, in base64 or percent-encoded.
func isToken(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~+/=%*", c) >= 0
}

// isAuthority tells whether c can be part of a URL's authority. It accepts more than
// RFC 3986, because people write passwords into URLs without escaping them.
func isAuthority(c byte) bool {
	return c > ' ' && c != 0x7f && strings.IndexByte("/?#\"'<>`", c) < 0
}
