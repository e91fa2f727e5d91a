package report

import "sync"

// mask replaces a secret.
const mask = "***"

// Redactor hides secrets in text. It hides the secrets that it knows, in these forms:
//
//   - unchanged, without surrounding white space; of a secret with several lines, each line
//   - escaped as in JSON, Go's quoted strings, shells, HTML and URLs
//   - in hexadecimal digits and in base64, with either alphabet, also as a part of a longer text,
//     such as the user:password of a Docker config
//   - in UTF-16 of either byte order, also in hexadecimal digits and in base64
//
// Line breaks within hexadecimal digits and base64, and within any form of 24 bytes or more, make
// no difference: base64 breaks its lines at 76 columns, openssl at 64, and xxd at 60.
//
// It also hides text that has the form of a credential: the values of sig=, X-Amz-Signature=
// and similar parameters of signed URLs, bearer tokens, Authorization headers, and the user
// info of URLs.
//
// Secrets of less than four bytes are not hidden. The zero value knows no secrets. A Redactor may
// be used by several goroutines.
type Redactor struct {
	mu        sync.Mutex
	known     map[string]bool // the secrets
	automaton automaton       // of their forms
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
	if r.known[secret] {
		return
	}
	if r.known == nil {
		r.known = map[string]bool{}
	}
	r.known[secret] = true
	for _, f := range forms(secret) {
		r.automaton.insert(f)
	}
}

// scan appends text to a stream, with all secrets that are known now, and returns where the part of
// what the stream holds begins that may become a secret with what follows.
func (r *Redactor) scan(s *stream, text []byte) (open int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.use(&r.automaton)
	s.scan(text)
	return s.openFrom()
}

// String returns text with its secrets hidden.
func (r *Redactor) String(text string) string {
	var s stream
	r.scan(&s, []byte(text))
	if len(s.spans) == 0 {
		return text
	}
	return string(s.pass(nil, len(text)))
}

// SecretLines are the lines of secrets that are long enough to be hidden.
func SecretLines(secrets []string) []string {
	var lines []string
	for _, secret := range secrets {
		lines = append(lines, secretLines(secret)...)
	}
	return lines
}
