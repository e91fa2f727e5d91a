package report

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// shortest is the length in bytes of the shortest secret, or line of a secret, that is
// redacted. Shorter secrets are easily guessed, and redacting them would mask parts of
// digests, names and numbers throughout the log.
const shortest = 4

// Programs such as fold break texts of any kind into lines, but short secrets fit in one.
const (
	longLine = 24 // the length in bytes from which on a form is also found across lines
	heldLine = 8  // the length in bytes from which on its beginning is held back at a line's end
)

// forms are the texts in which a secret may appear, each once. A secret that is too short has none.
func forms(secret string) []form {
	whole := strings.TrimSpace(secret)
	if len(whole) < shortest {
		return nil
	}
	all := map[string]int{} // the held of each
	add := func(held int, texts ...string) {
		for _, text := range texts {
			if len(text) >= shortest && !strings.ContainsAny(text, "\r\n") {
				all[text] = max(all[text], held)
			}
		}
	}
	add(0, escapes(whole)...)
	add(0, wideForms(whole)...)
	add(shortest, binaryForms(whole)...)
	for _, line := range secretLines(whole) {
		add(0, line)
		add(0, escapes(line)...)
		add(0, wideForms(line)...)
		add(shortest, binaryForms(line)...)
	}
	var list []form
	for text, held := range all {
		if held == 0 && len(text) >= longLine {
			held = heldLine
		}
		list = append(list, form{text, held})
	}
	return list
}

// secretLines are the lines of a secret that are long enough to be hidden, trimmed.
func secretLines(secret string) []string {
	var lines []string
	for line := range strings.FieldsFuncSeq(secret, func(c rune) bool { return c == '\n' || c == '\r' }) {
		if line = strings.TrimSpace(line); len(line) >= shortest {
			lines = append(lines, line)
		}
	}
	return lines
}

// escapes are text as it is escaped in Go strings, shells, HTML, JSON and URLs.
func escapes(text string) []string {
	quoted := strconv.Quote(text)
	all := []string{
		quoted[1 : len(quoted)-1], strings.ReplaceAll(text, "'", `'\''`), html.EscapeString(text),
		strings.ReplaceAll(html.EscapeString(text), "&#34;", "&quot;"),
	}
	return append(append(all, jsonEscapes(text)...), urlEscapes(text)...)
}

// jsonEscapes are text in JSON strings as encoders write them: with HTML escaped or not, with
// slashes escaped, in ASCII, and in a document that is a string of another one.
func jsonEscapes(text string) []string {
	var all []string
	for _, escapeHTML := range []bool{true, false} {
		var b strings.Builder
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(escapeHTML)
		if e.Encode(text) == nil { // strings always encode
			once := strings.TrimSpace(b.String())
			all = append(all, once[1:len(once)-1])
		}
	}
	plain := all[1]
	all = append(all, strings.ReplaceAll(plain, "/", `\/`), ascii(plain))
	for _, once := range slices.Clone(all) {
		all = append(all, strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(once))
	}
	return all
}

// ascii replaces all characters of JSON that are not ASCII by their escapes.
func ascii(text string) string {
	var b strings.Builder
	for _, c := range text {
		if c < 0x80 {
			b.WriteRune(c)
			continue
		}
		for _, unit := range utf16.Encode([]rune{c}) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}

// urlEscapes are text in URLs: as Go and as JavaScript (encodeURIComponent) escape it, and with
// all reserved characters escaped (RFC 3986, 2.2), with hexadecimal digits of both cases.
func urlEscapes(text string) []string {
	query := url.QueryEscape(text)
	strict := strings.ReplaceAll(query, "+", "%20")
	javascript := strings.NewReplacer("%21", "!", "%27", "'", "%28", "(", "%29", ")", "%2A", "*").Replace(strict)
	all := []string{query, url.PathEscape(text), strict, javascript, strings.ReplaceAll(strict, "%2F", "/")}
	for _, upper := range slices.Clone(all) {
		all = append(all, lowerEscapes(upper))
	}
	return all
}

// lowerEscapes is an escaped text with the digits of its escapes in lower case.
func lowerEscapes(text string) string {
	b := []byte(text)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:], strings.ToLower(text[i+1:i+3]))
			i += 2
		}
	}
	return string(b)
}

// binaryForms are text in base64 and in hexadecimal digits, in UTF-8 and in UTF-16.
func binaryForms(text string) []string {
	var all []string
	little, big := inUTF16(text)
	for _, encoded := range []string{text, little, big} {
		digits := hex.EncodeToString([]byte(encoded))
		all = append(append(all, base64Forms(encoded)...), digits, strings.ToUpper(digits))
	}
	return all
}

// wideForms are text in UTF-16 without the zero byte at an end: the others of ASCII are in the same
// order in both, so that each is found in either.
func wideForms(text string) []string {
	little, big := inUTF16(text)
	return []string{strings.TrimSuffix(little, "\x00"), strings.TrimPrefix(big, "\x00")}
}

// inUTF16 is text in UTF-16 of both byte orders. PowerShell writes files in it, and takes commands in
// its base64.
func inUTF16(text string) (little, big string) {
	var l, b []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		l = binary.LittleEndian.AppendUint16(l, unit)
		b = binary.BigEndian.AppendUint16(b, unit)
	}
	return string(l), string(b)
}

// base64Forms are the characters that text determines in the base64 encoding of a longer
// text, for each of the three offsets in a group at which it can begin. Padding and the end of a
// line are never among them.
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
