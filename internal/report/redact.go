package report

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// mask replaces a secret.
const mask = "***"

// shortest is the length in bytes of the shortest secret, or line of a secret, that is
// redacted. Shorter secrets are easily guessed, and redacting them would mask parts of
// digests, names and numbers throughout the log.
const shortest = 4

// Redactor hides secrets in text. It hides the secrets that it knows, in these forms:
//
//   - unchanged, without surrounding white space; of a secret with several lines, each line
//   - escaped as in JSON, in Go's quoted strings and in URLs
//   - in base64, also as a part of a longer text, such as the user:password of a Docker config
//
// It also hides text that has the form of a credential: the values of sig=, X-Amz-Signature=
// and similar parameters of signed URLs, bearer tokens, Authorization headers, and the user
// info of URLs.
//
// A match ends at the end of its line. Secrets of less than four bytes are not hidden. The
// zero value knows no secrets. A Redactor may be used by several goroutines.
type Redactor struct {
	mu      sync.RWMutex
	secrets [256][]string // every form, by its first byte
}

// NewRedactor returns a Redactor that knows these secrets.
func NewRedactor(secrets []string) *Redactor {
	r := &Redactor{}
	for _, s := range secrets {
		r.Add(s)
	}
	return r
}

// Add makes the Redactor hide one more secret, in everything that it is given from now on.
func (r *Redactor) Add(secret string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, form := range forms(secret) {
		if known := &r.secrets[form[0]]; !slices.Contains(*known, form) {
			*known = append(*known, form)
		}
	}
}

// String returns text with its secrets hidden.
func (r *Redactor) String(text string) string {
	in := []byte(text)
	spans, _ := r.scan(in)
	if len(spans) == 0 {
		return text
	}
	out, _ := masked(nil, in, spans, 0, len(in))
	return string(out)
}

// forms are the texts in which a secret may appear, some of them repeated. A secret that is
// too short has none.
func forms(secret string) []string {
	whole := strings.TrimSpace(secret)
	if len(whole) < shortest {
		return nil
	}
	all := append(escapes(whole), base64Forms(whole)...)
	for text := range strings.FieldsFuncSeq(whole, func(c rune) bool { return c == '\n' || c == '\r' }) {
		if text = strings.TrimSpace(text); len(text) >= shortest {
			all = append(all, text)
			all = append(all, escapes(text)...)
		}
	}
	return slices.DeleteFunc(all, func(s string) bool {
		return len(s) < shortest || strings.ContainsAny(s, "\r\n")
	})
}

// escapes are text as it is escaped in Go strings, URLs and JSON.
func escapes(text string) []string {
	quoted := strconv.Quote(text)
	all := []string{quoted[1 : len(quoted)-1], url.QueryEscape(text), url.PathEscape(text)}
	for _, escapeHTML := range []bool{true, false} {
		var b strings.Builder
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(escapeHTML)
		if e.Encode(text) == nil { // strings always encode
			all = append(all, strings.Trim(strings.TrimSpace(b.String()), `"`))
		}
	}
	return all
}

// base64Forms are the characters that text determines in the base64 encoding of a longer
// text, for each of the three offsets in a group at which it can begin.
func base64Forms(text string) []string {
	var all []string
	for offset := range 3 {
		longer := append(make([]byte, offset), text...)
		first, end := (8*offset+5)/6, 8*len(longer)/6
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			all = append(all, encoding.EncodeToString(longer)[first:end])
		}
	}
	return all
}

// span is a part of a text: the bytes from from up to, not including, to.
type span struct{ from, to int }

// scan finds the spans of text that must be hidden, in the order of their beginnings; spans
// may overlap. The bytes from open on could become a secret, or a longer one, with the text
// that follows. Secrets contain no line breaks, so open is always in the last line.
func (r *Redactor) scan(text []byte) (spans []span, open int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	open = len(text)
	for i, c := range text {
		for _, secret := range r.secrets[c] {
			switch n := min(len(secret), len(text)-i); {
			case string(text[i:i+n]) != secret[:n]:
			case n < len(secret):
				open = min(open, i)
			default:
				spans = append(spans, span{i, i + n})
			}
		}
		for _, p := range patternsBy[c] {
			hidden, more := p.match(text[i:])
			if hidden.from < hidden.to {
				spans = append(spans, span{i + hidden.from, i + hidden.to})
			}
			if more {
				open = min(open, i)
			}
		}
	}
	slices.SortStableFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	return spans, open
}

// masked appends text up to end to out, with a mask in place of each span; overlapping spans
// share one mask. It leaves out the first covered bytes, which belong to a mask that was
// already written. It returns how many of the bytes from end on are covered now.
func masked(out, text []byte, spans []span, covered, end int) ([]byte, int) {
	shown := covered
	for _, s := range spans {
		if s.from >= end {
			break
		}
		if s.from >= shown {
			out = append(out, text[shown:s.from]...)
			out = append(out, mask...)
		}
		shown = max(shown, s.to)
	}
	if shown < end {
		out = append(out, text[shown:end]...)
	}
	return out, max(shown, end) - end
}
