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

// mask stands where a secret was.
const mask = "***"

// shortest is the length in bytes of the shortest secret, or line of one, that is
// redacted. A shorter one hides nothing, being guessed at once, but would mask pieces
// of every digest, name and number in the log.
const shortest = 4

// Redactor hides secrets in text. It hides those it was told, in these forms:
//
//   - as they are, without white space around them; of a secret of several lines, each line;
//   - escaped as in JSON, in Go's quoted strings and in URLs;
//   - in base64, also within more text, such as the user:password of a Docker config.
//
// It also hides what credentials look like, told or not: signed URLs' sig=, X-Amz-Signature=
// and their like, bearer tokens, Authorization headers, and the user info of URLs.
//
// Nothing is matched across the end of a line, and no secret of less than four bytes.
// The zero value knows no secrets. A Redactor may be used from several goroutines.
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

// Add makes the Redactor hide one more secret, in all that is written from now on.
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

// forms are the texts that a secret is hidden in.
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

// escapes are the ways in which text is written within other text.
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

// base64Forms are the characters that text decides in the base64 of a longer text,
// for each of the three places in a group that it can begin at.
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

// scan finds the spans of text that must be hidden, in the order in which they begin;
// they may overlap. What comes after the text could make more of the bytes from open
// on a secret. A form of a secret has no line break, so open is never before the last.
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

// masked appends text up to end to out, with spans that overlap as one mask. The first
// covered bytes are left out: they lie under a mask that has been shown. It returns how
// many of the bytes from end on do now.
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
