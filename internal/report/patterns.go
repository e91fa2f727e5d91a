package report

import (
	"bytes"
	"strings"
)

// pattern is the form of a credential: a beginning, which is shown, and a value, which is
// hidden. The beginning matches in upper and lower case.
type pattern struct {
	begin   string          // in lower case
	inValue func(byte) bool // the bytes of which a value consists
	atLeast int             // shorter values are not hidden, in bytes
	before  byte            // the value ends before the last of these bytes, and must have one; 0: it ends anywhere
}

// longestValue is the greatest length of a pattern's value in bytes, and so of what a
// [Writer] holds back. Servers refuse headers and URLs with longer values.
const longestValue = 16 << 10

var patterns = []pattern{
	// Signed URLs: Azure's shared access signatures, S3's and Google's, CloudFront's.
	{begin: "sig=", inValue: isToken, atLeast: 1},
	{begin: "signature=", inValue: isToken, atLeast: 1},
	{begin: "x-amz-credential=", inValue: isToken, atLeast: 1},
	{begin: "x-amz-security-token=", inValue: isToken, atLeast: 1},
	{begin: "x-goog-credential=", inValue: isToken, atLeast: 1},
	// Headers. Outside a header a short word after bearer is prose, or the realm of a challenge.
	{begin: "authorization: bearer ", inValue: isToken, atLeast: 1},
	{begin: "authorization: basic ", inValue: isToken, atLeast: 1},
	{begin: "authorization: token ", inValue: isToken, atLeast: 1},
	{begin: "bearer ", inValue: isToken, atLeast: 8},
	// User info, which may be a token without a password. It ends at the last @.
	{begin: "://", inValue: isAuthority, before: '@', atLeast: 1},
}

// patternsBy holds the patterns by their first byte, in both cases.
var patternsBy = func() (by [256][]pattern) {
	for _, p := range patterns {
		for _, c := range []byte{p.begin[0], strings.ToUpper(p.begin)[0]} {
			if n := len(by[c]); n == 0 || by[c][n-1].begin != p.begin {
				by[c] = append(by[c], p)
			}
		}
	}
	return by
}()

// match looks for the pattern at the beginning of text. The hidden span is empty when text
// does not match. more reports that with more text it could match, or the value be longer.
func (p pattern) match(text []byte) (hidden span, more bool) {
	n := min(len(p.begin), len(text))
	if !bytes.EqualFold(text[:n], []byte(p.begin[:n])) {
		return span{}, false
	}
	if n < len(p.begin) {
		return span{}, true
	}
	end := n
	for end < len(text) && end-n < longestValue && p.inValue(text[end]) {
		end++
	}
	more = end == len(text) && end-n < longestValue
	if p.before != 0 {
		end = n + max(0, bytes.LastIndexByte(text[n:end], p.before))
	}
	if end-n < p.atLeast {
		return span{}, more
	}
	return span{n, end}, more
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
