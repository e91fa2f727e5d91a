package report

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/url"
	"strings"
	"testing"
)

// wrapped breaks a text into lines of a width, each after an indentation.
func wrapped(text string, width int, indent, end string) string {
	var b strings.Builder
	for text != "" {
		n := min(width, len(text))
		b.WriteString(indent + text[:n] + end)
		text = text[n:]
	}
	return b.String()
}

// TestRedactorHidesWrapped: base64 and hexadecimal digits are hidden however a program breaks its
// lines, and wherever in the encoded text the secret is, but for up to three characters at a line's
// end, which is a little more than two bytes.
func TestRedactorHidesWrapped(t *testing.T) {
	t.Parallel()
	secrets := map[string]string{
		"password": "correct horse battery", "token": "ghp_" + strings.Repeat("aB3x/+", 16), "short": "hunter2",
		"key": "-----BEGIN KEY-----\n" + strings.Repeat("MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n", 5) + "-----END KEY-----\n",
	}
	encodings := map[string]func([]byte) string{
		"base64": base64.StdEncoding.EncodeToString, "base64 without padding": base64.RawStdEncoding.EncodeToString,
		"base64url": base64.URLEncoding.EncodeToString, "base64url without padding": base64.RawURLEncoding.EncodeToString,
		"hex": hex.EncodeToString, "HEX": func(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) },
	}
	for name, secret := range secrets {
		r := NewRedactor([]string{secret})
		for encoding, encode := range encodings {
			for offset := range 120 { // every alignment, at every column
				before := strings.Repeat("u", offset)
				encoded := encode([]byte(before + secret + "after it"))
				core := encode([]byte(secret))[:8]
				if offset%3 > 0 && !strings.EqualFold(encoding, "hex") {
					core = encode([]byte(before[:offset%3] + secret))[2:10]
				}
				for _, lines := range []string{
					encoded, wrapped(encoded, 76, "", "\n"), wrapped(encoded, 64, "", "\n"), wrapped(encoded, 60, "", "\n"),
					wrapped(encoded, 76, "", "\r\n"), wrapped(encoded, 64, "    ", "\n"),
				} {
					got := r.String("x\n" + lines + "y\n")
					shown := strings.NewReplacer("\r", "", "\n", "", " ", "").Replace(got)
					if !strings.Contains(got, mask) || strings.Contains(shown, core) {
						t.Fatalf("%s of a %s after %d bytes:\n%s\nshows\n%s", encoding, name, offset, lines, got)
					}
					if strings.Count(got, "\n") != strings.Count(lines, "\n")+2 {
						t.Fatalf("lines are lost:\n%s\ngives\n%s", lines, got)
					}
				}
			}
		}
	}
}

// TestRedactorHidesEscapes: the forms in which other programs write a secret.
func TestRedactorHidesEscapes(t *testing.T) {
	t.Parallel()
	const secret = `pä"ss'w\o/rd+<&>!(*) 1%`
	inJSON, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	twice, err := json.Marshal(string(inJSON))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"JSON":            string(inJSON),
		"JSON in JSON":    string(twice),
		"Python's JSON":   `"p\u00e4\"ss'w\\o/rd+<&>!(*) 1%"`,
		"PHP's JSON":      `"pä\"ss'w\\o\/rd+<&>!(*) 1%"`,
		"Go":              fmt.Sprintf("%q", secret),
		"Go in ASCII":     fmt.Sprintf("%+q", secret),
		"shell":           `'pä"ss'\''w\o/rd+<&>!(*) 1%'`,
		"HTML":            html.EscapeString(secret),
		"HTML with quot":  "pä&quot;ss&#39;w\\o/rd+&lt;&amp;&gt;!(*) 1%",
		"query":           url.QueryEscape(secret),
		"path":            url.PathEscape(secret),
		"JavaScript":      "p%C3%A4%22ss'w%5Co%2Frd%2B%3C%26%3E!(*)%201%25",
		"Python":          "p%C3%A4%22ss%27w%5Co/rd%2B%3C%26%3E%21%28%2A%29%201%25",
		"with small %xx":  strings.ToLower(url.QueryEscape(secret)),
		"user info":       url.UserPassword("u", secret).String(),
		"PEM as one line": secret,
	} {
		got := NewRedactor([]string{secret}).String("[" + text + "]")
		for _, part := range []string{"ss", "rd"} {
			if strings.Contains(got, part) {
				t.Errorf("%s: %s shows %s", name, text, got)
				break
			}
		}
	}
}

// secrets100 are a hundred secrets that share beginnings with each other and with the texts below.
func secrets100() []string {
	all := []string{strings.Repeat("a", 1000), strings.Repeat("ab", 100), "sig=sig=sig=x", "bearer bearer!"}
	for i := range 96 {
		all = append(all, fmt.Sprintf("%s-%d", strings.Repeat("a", i+4), i))
	}
	return all
}

// TestWriterWorkIsLinear counts what the redaction of texts costs that come as close to secrets and
// to patterns as they can: twice the text takes twice the work, in pieces too.
func TestWriterWorkIsLinear(t *testing.T) {
	t.Parallel()
	r := NewRedactor(secrets100())
	for name, line := range map[string]string{
		"beginnings of secrets":   "aaaaaaaaaaaaaaaa-",
		"one secret":              "a",
		"secrets over lines":      strings.Repeat("a", shortestLine) + "\n",
		"short lines":             "aa\n",
		"signatures":              "sig=",
		"bearers":                 "bearer ",
		"URLs":                    "://a@",
		"user info without end":   "://" + strings.Repeat("a@", 500),
		"base64 of the beginning": "YWFh",
	} {
		for _, size := range []int{1, 4096} {
			work := func(n int) int {
				w := r.Writer(io.Discard)
				text := strings.Repeat(line, n/len(line))
				for from := 0; from < len(text); from += size {
					if _, err := io.WriteString(w, text[from:min(len(text), from+size)]); err != nil {
						t.Fatal(err)
					}
				}
				return w.text.hops + steps(&r.automaton, text)
			}
			const n = 1 << 15
			once, twice := work(n), work(2*n)
			if 10*twice > 22*once+10*n {
				t.Errorf("%s in pieces of %d: %d steps for %d bytes, %d for %d", name, size, once, n, twice, 2*n)
			}
			t.Logf("%s in pieces of %d: %.1f steps for each byte", name, size, float64(twice)/(2*n))
		}
	}
}

// steps counts the states and children that the automaton looks at for a text.
func steps(a *automaton, text string) int {
	n, state := 0, int32(0)
	for i := range len(text) {
		for at := state; a.nodes[at].row < 0; at = a.nodes[at].fail {
			n++
			if a.childOf(at, text[i]) != 0 {
				break
			}
		}
		n++
		state = a.step(state, text[i])
	}
	return n
}
