package report

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"strings"
	"testing"
)

func TestRedactorHidesSecrets(t *testing.T) {
	t.Parallel()
	const pem = "-----BEGIN KEY-----\r\n  c2VjcmV0a2V5\n}\nc2Vjb25k\n-----END KEY-----\n"
	for _, tt := range []struct {
		name, secret, text, want string
	}{
		{"alone", "hunter2", "hunter2", "***"},
		{"within text", "hunter2", "a hunter2, b hunter22", "a ***, b ***2"},
		{"side by side", "hunter2", "hunter2hunter2", "******"},
		{"overlapping itself", "abab", "xababab", "x***"},
		{"case matters", "hunter2", "Hunter2", "Hunter2"},
		{"with white space around it", " hunter2\n", "[hunter2]", "[***]"},
		{"four bytes", "1234", "x1234y", "x***y"},
		{"too short", "123", "123123", "123123"},
		{"empty", "", "text", "text"},
		{"lines", pem, "a c2VjcmV0a2V5 b\n}\n\tc2Vjb25k", "a *** b\n}\n\t***"},
		{"lines escaped", pem, `{"key":"-----BEGIN KEY-----\r\n  c2VjcmV0a2V5\n}"}`, `{"key":"***\r\n  ***\n}"}`},
		{"only short lines", "ab\ncd\nef", "ab cd\nef", "ab cd\nef"},
		{"JSON", `pa"ss\word`, `{"password":"pa\"ss\\word"}`, `{"password":"***"}`},
		{"JSON with HTML escaped", "a<b>&c", `"a\u003cb\u003e\u0026c"`, `"***"`},
		{"Go quoted", "päss\x1b\x01", `"päss\x1b\x01"`, `"***"`},
		{"query", "p@ss word/1", "?p=p%40ss+word%2F1&x=1", "?p=***&x=1"},
		{"path", "p@ss word/1", "/p@ss%20word%2F1/x", "/***/x"},
		{"UTF-16", "hunter2", "a\x00h\x00u\x00n\x00t\x00e\x00r\x002\x00b\x00", "a\x00***\x00b\x00"},
		{"UTF-16 in another order", "pässwort", "\x00a\x00p\x00\xe4\x00s\x00s\x00w\x00o\x00r\x00t\x00b", "\x00a\x00***\x00b"},
		{"UTF-16 in base64", "hunter2", "-EncodedCommand aAB1AG4AdABlAHIAMgA=", "-EncodedCommand ***A="},
		{"UTF-16 in hexadecimal digits", "hunter2", "680075006e0074006500720032000a00", "***0a00"},
		{"invalid UTF-8", "\xff\xfesecret", "a\xff\xfesecret", "a***"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := NewRedactor([]string{tt.secret}).String(tt.text); got != tt.want {
				t.Errorf("%q: %q, want %q", tt.text, got, tt.want)
			}
		})
	}
}

func TestRedactorHidesOverlappingSecrets(t *testing.T) {
	t.Parallel()
	r := NewRedactor([]string{"abcdef", "defghi", "cdef"})
	for text, want := range map[string]string{
		"xabcdefghiy":  "x***y",
		"abcdefdefghi": "***" + "***",
		"cdefabc":      "***abc",
	} {
		if got := r.String(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// TestRedactorHidesBase64 looks for a password in the user:password of Docker and HTTP.
func TestRedactorHidesBase64(t *testing.T) {
	t.Parallel()
	const password = "pass?>word~"
	r := NewRedactor([]string{password})
	for _, user := range []string{"", "a", "me", "bob", "alice", "oauth2"} {
		for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding} {
			got := r.String("auth " + encoding.EncodeToString([]byte(user+":"+password)) + " end")
			head, tail, hidden := strings.Cut(strings.TrimPrefix(got, "auth "), mask)
			shown, err := base64.RawStdEncoding.DecodeString(head)
			tail = strings.TrimRight(strings.TrimSuffix(tail, " end"), "=")
			if !hidden || err != nil || strings.Contains(string(shown), "p") || len(tail) > 1 {
				t.Errorf("%s:: %s shows %q and %s", user, got, shown, tail)
			}
		}
	}
}

func TestRedactorHidesCredentialsItWasNotTold(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"GET https://a.blob.core.windows.net/c/b?sv=1&sig=aB%2F1+z=&se=2: 403":       "GET https://a.blob.core.windows.net/c/b?sv=1&sig=***&se=2: 403",
		`"?sv=1\u0026sig=abc\u0026se=2"`:                                             `"?sv=1\u0026sig=***\u0026se=2"`,
		"?X-Amz-Signature=0a1b&X-Amz-Credential=AKIA/20260101/r/s3/aws4_request&X=1": "?X-Amz-Signature=***&X-Amz-Credential=***&X=1",
		"x-amz-security-token=IQoJ%3D; x-goog-signature=ab, X-Goog-Credential=a@b":   "x-amz-security-token=***; x-goog-signature=***, X-Goog-Credential=***@b",
		"Authorization: Bearer abc\r\nHost: x":                                       "Authorization: Bearer ***\r\nHost: x",
		"authorization: basic dTpw":                                                  "authorization: basic ***",
		`-H "Authorization: token gho_1"`:                                            `-H "Authorization: token ***"`,
		`map[Authorization:[Bearer eyJhbGciOi.J9-_x]]`:                               `map[Authorization:[Bearer ***]]`,
		"the bearer of news":                                                         "the bearer of news",
		`Bearer realm="https://ghcr.io/token",service="ghcr.io"`:                     `Bearer realm="https://ghcr.io/token",service="ghcr.io"`,
		"clone https://user:p@ss:w@github.com/o/r":                                   "clone https://***@github.com/o/r",
		"clone https://ghp_token@github.com/o/r?a=b@c":                               "clone https://***@github.com/o/r?a=b@c",
		`dial "tcp://u:p@[::1]:80"`:                                                  `dial "tcp://***@[::1]:80"`,
		"see https://example.com/@me and ://@x":                                      "see https://example.com/@me and ://@x",
		"https://***@host sig=***":                                                   "https://***@host sig=***",
		"design=1 config=2":                                                          "design=1 config=2",
		"sig=":                                                                       "sig=",
	} {
		if got := new(Redactor).String(text); got != want {
			t.Errorf("%s\ngives %s\nwant  %s", text, got, want)
		}
	}
}

func TestRedactorAdd(t *testing.T) {
	t.Parallel()
	var r Redactor
	if got := r.String("gateway-password"); got != "gateway-password" {
		t.Errorf("before: %s", got)
	}
	r.Add("gateway-password")
	r.Add("gateway-password")
	if got := r.String("a gateway-password"); got != "a ***" {
		t.Errorf("after: %s", got)
	}
}

func TestRedactorLeavesPlainTextAlone(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("#5 [build 2/4] RUN make -C /src\n", 3)
	r := NewRedactor([]string{"1", "me", "hunter2", "\n \n"})
	if got := r.String(text); got != text {
		t.Errorf("changed to %q", got)
	}
}

// FuzzRedactor writes a secret within other text, split into pieces by the bytes of cuts. The
// output must contain neither the secret nor an encoded form of it, and must be the same for all
// cuts.
func FuzzRedactor(f *testing.F) {
	f.Add("hunter2", "a ", " b\n", []byte{1})
	f.Add("abab", "ab", "abab", []byte{3, 1, 2})
	f.Add("line one\nline two", "x", "\ny", []byte{2, 200})
	f.Add(`q"uo\te`, "https://u:", "@host/?sig=", []byte{5})
	f.Add("aaaaaaaa", "aaa", "aaaaa", []byte{1, 2})
	f.Add("Bearer x", "Authorization: ", "12345678", []byte{7, 1})
	f.Fuzz(func(t *testing.T, secret, before, after string, cuts []byte) {
		if strings.Contains(secret, "*") {
			t.Skip("the secret is part of the mask")
		}
		r := NewRedactor([]string{secret})
		known := forms(secret)
		quoted, err := json.Marshal(secret)
		if err != nil {
			t.Fatal(err)
		}
		text := before + secret + after + secret + "\n" + string(quoted) + url.QueryEscape(secret) + fmt.Sprintf("%q", secret) +
			base64.StdEncoding.EncodeToString([]byte(before+":"+secret)) + after + secret
		var got strings.Builder
		w := r.Writer(&got)
		for i, rest := 0, text; rest != ""; i++ {
			n := len(rest)
			if len(cuts) > 0 {
				n = min(n, int(cuts[i%len(cuts)])+1)
			}
			if _, err := w.Write([]byte(rest[:n])); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		for _, form := range known {
			if !strings.Contains(form.text, "*") && strings.Contains(got.String(), form.text) {
				t.Errorf("%q comes through in %q, of %q", form.text, got.String(), text)
			}
		}
		if whole := r.String(text); whole != got.String() {
			t.Errorf("in pieces %q, in one %q", got.String(), whole)
		}
		for i := range r.automaton.begins { // now no byte is passed over without the automaton
			r.automaton.begins[i] = math.MaxUint64
		}
		if followed := r.String(text); followed != got.String() {
			t.Errorf("%q is passed over, %q is not", got.String(), followed)
		}
	})
}
