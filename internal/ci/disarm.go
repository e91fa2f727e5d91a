package ci

import (
	"bytes"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Disarmed passes text on to a job's log, however it is cut into pieces, with everything broken in
// it that a runner would obey or a terminal would act on: an untrusted build may have written it.
// It breaks the commands of all CIs, because the job may run in a container that was not told
// which CI it is part of:
//
//   - ##[, ##vso[, ##teamcity[ and the like, anywhere in a line: Azure's agent, TeamCity, and
//     GitHub's runner the first (src/Runner.Common/ActionCommand.cs in actions/runner).
//   - :: where a line begins, after white space or not: GitHub, Gitea and Forgejo. A carriage
//     return begins a line too.
//   - section_start: and section_end: (docs.gitlab.com, "Custom collapsible sections"), and
//     travis_fold: and travis_time: (travis-build, lib/travis/build/bash).
//   - "--- ", "+++ ", "~~~ " and "^^^ " where a line begins: Buildkite's groups
//     (buildkite.com/docs/pipelines/configure/managing-log-output).
//   - The control sequences of terminals, except for colours: with them Buildkite shows links and
//     images (OSC 1339 and 1338), GitLab folds sections, and Jenkins hides notes. What only erases
//     a line is left out.
//
// One character of each becomes its escape, as JSON has it, so that JSON stays what it is:
//
//	##vso\u005btask.setvariable variable=A]b
//
// The work is linear in the text, and only the beginning of a control sequence is held back. It is
// for one goroutine.
type Disarmed struct {
	To io.Writer

	out    []byte
	before [longestWord]byte // the end of what was written
	held   []byte            // the beginning of a control sequence, or of a character
	inLine bool              // a line has begun, with more than white space
	run    byte              // the character that a line begins with several times
	runs   int               // how often
	hashes int               // 0: none, 1: #, 2: ##, 3: ## and letters
}

// special are the bytes that need a look in the middle of a line: what commands end with, number
// signs and control characters, those of ISO 6429's second set too, which begin with 0xc2.
var special = func() (s [256]bool) {
	for c := range byte(' ') {
		s[c] = c != '\t'
	}
	for _, c := range []byte{'#', ':', 0x7f, 0xc2} {
		s[c] = true
	}
	return s
}()

// opens are the bytes that need a look where a line begins: besides special ones white space, and what
// commands begin with.
var opens = func() [256]bool {
	o := special
	for _, c := range []byte("\t :-+~^") {
		o[c] = true
	}
	o['#'] = false
	return o
}()

// Write passes p on, except for an end that could be the beginning of a control sequence.
func (d *Disarmed) Write(p []byte) (int, error) {
	d.out = d.out[:0]
	for i := 0; i < len(p); {
		if n := d.plain(p[i:]); n > 0 {
			d.out = append(d.out, p[i:i+n]...)
			i += n
			continue
		}
		d.take(p[i])
		i++
	}
	return len(p), d.flush()
}

// plain is how many bytes at the beginning of p go out as they are, and follows them as take does. It
// may leave any of them to take.
func (d *Disarmed) plain(p []byte) int {
	c := p[0]
	switch {
	case len(d.held) > 0:
		return 0
	case c == escape:
		return colour(p)
	case !d.inLine:
		return d.begins(c)
	case d.hashes > 0 || c == '#':
		return d.number(p)
	case c == ':':
		return d.colons(p)
	}
	n := 0
	for n < len(p) && !special[p[n]] {
		n++
	}
	if n < len(p) && p[n] == '\n' {
		d.newLine()
		n++
	}
	return n
}

func (d *Disarmed) newLine() { d.inLine, d.run, d.runs, d.hashes = false, 0, 0, 0 }

// colour is the length of the sequence that p begins with and that sets colours; 0: there is none, or take
// has to tell.
func colour(p []byte) int {
	if len(p) < 3 || p[1] != '[' {
		return 0
	}
	n := 2
	for n < len(p) && n < longestSequence && isParameter(p[n]) {
		n++
	}
	if n == len(p) || p[n] != 'm' || hides(p[:n+1]) {
		return 0
	}
	return n + 1
}

// isParameter tells whether c can be part of the parameters of a sequence.
func isParameter(c byte) bool { return '0' <= c && c <= '9' || c == ';' || c == ':' }

// hides tells whether a sequence hides text, with which Jenkins hides its notes.
func hides(sequence []byte) bool { return string(sequence) == "\x1b[8m" }

// begins is [Disarmed.plain] where a line begins.
func (d *Disarmed) begins(c byte) int {
	switch {
	case d.runs > 0 || c >= utf8.RuneSelf || opens[c]:
		return 0
	case c == '#':
		d.hashes = 1
	}
	d.inLine = true
	return 1
}

// number is [Disarmed.plain] for number signs, and for letters that follow two of them.
func (d *Disarmed) number(p []byte) int {
	n := 0
	for n < len(p) && p[n] == '#' {
		n++
	}
	switch {
	case n > 0 && d.hashes == 3:
		d.hashes = min(n, 2)
		return n
	case n > 0:
		d.hashes = min(d.hashes+n, 2)
		return n
	}
	for d.hashes > 1 && n < len(p) && isLetter(p[n]) {
		n++
	}
	switch {
	case n > 0:
		d.hashes = 3
	case !special[p[0]] && p[0] != '[':
		d.hashes = 0
		return 1
	}
	return n
}

// colons is [Disarmed.plain] for colons within a line.
func (d *Disarmed) colons(p []byte) int {
	if endsWord[d.byteAt(len(d.out)-1)] {
		return 0
	}
	n := 1
	for n < len(p) && p[n] == ':' {
		n++
	}
	return n
}

// Close passes on what is held back. It does not close To.
func (d *Disarmed) Close() error {
	d.out = d.out[:0]
	d.release()
	return d.flush()
}

func (d *Disarmed) flush() error {
	if len(d.out) == 0 {
		return nil
	}
	for i := range d.before {
		d.before[i] = d.byteAt(len(d.out) - longestWord + i)
	}
	_, err := d.To.Write(d.out)
	return err
}

// byteAt is a byte of the text that goes out, or of what went out before it.
func (d *Disarmed) byteAt(i int) byte {
	if i < 0 {
		return d.before[longestWord+i]
	}
	return d.out[i]
}

// take takes one byte.
func (d *Disarmed) take(c byte) {
	switch {
	case len(d.held) > 0 && d.held[0] == escape:
		d.sequence(c)
	case len(d.held) > 0:
		d.bytes(c)
	case c == escape, c == 0xc2, c >= utf8.RuneSelf && !d.inLine:
		d.held = append(d.held, c)
	default:
		d.character(rune(c), 1)
	}
}

const escape = 0x1b

// longestSequence is the length in bytes of the longest sequence that sets colours.
const longestSequence = 48

// sequence takes one byte of what began with an escape character.
func (d *Disarmed) sequence(c byte) {
	begun := len(d.held)
	d.held = append(d.held, c)
	switch {
	case begun == 1 && c == '[', begun > 1 && begun < longestSequence && isParameter(c):
	case begun > 1 && c == 'm' && !hides(d.held):
		d.out = append(d.out, d.held...)
		d.held = d.held[:0]
	case begun > 1 && c == 'K':
		d.held = d.held[:0]
	default:
		d.held = d.held[:begun]
		d.release()
		d.take(c)
	}
}

// bytes takes one byte of what began like a character of several.
func (d *Disarmed) bytes(c byte) {
	d.held = append(d.held, c)
	switch {
	case !utf8.FullRune(d.held):
	case utf8.Valid(d.held):
		d.release()
	default: // c may begin another character
		d.held = d.held[:len(d.held)-1]
		d.release()
		d.take(c)
	}
}

// release takes what is held as the characters that it consists of.
func (d *Disarmed) release() {
	var held [longestSequence + 1]byte
	rest := held[:copy(held[:], d.held)]
	d.held = d.held[:0]
	for len(rest) > 0 {
		c, size := utf8.DecodeRune(rest)
		if c == utf8.RuneError {
			c, size = rune(rest[0])|invalid, 1
		}
		d.character(c, size)
		rest = rest[size:]
	}
}

// invalid marks a byte that is no character.
const invalid = 1 << 24

// character takes one character, which has size bytes.
func (d *Disarmed) character(c rune, size int) {
	switch {
	case c == '\n' || c == '\r':
		d.newLine()
	case c != '\t' && unicode.IsControl(c):
		d.inLine, d.hashes = true, 0
		d.broken(c)
		return
	case d.commands(c):
		d.broken(c)
		return
	}
	switch {
	case c >= invalid:
		d.out = append(d.out, byte(c))
	case size == 1:
		d.out = append(d.out, byte(c))
	default:
		d.out = utf8.AppendRune(d.out, c)
	}
}

// broken appends the escape of a character, which has at most 16 bits.
func (d *Disarmed) broken(c rune) {
	const digits = "0123456789abcdef"
	d.out = append(d.out, '\\', 'u', digits[c>>12&15], digits[c>>8&15], digits[c>>4&15], digits[c&15])
}

// commands tells whether a character completes what a command begins with.
func (d *Disarmed) commands(c rune) bool {
	atBegin := !d.inLine && d.atBegin(c)
	return d.afterHashes(c) || atBegin || c == ':' && d.afterWord()
}

// atBegin follows the beginning of a line.
func (d *Disarmed) atBegin(c rune) bool {
	space := unicode.IsSpace(c)
	switch {
	case d.runs == 0 && space:
	case d.runs == 0 && strings.ContainsRune(":-+~^", c), d.runs > 0 && d.runs < 3 && c == rune(d.run):
		d.run, d.runs = byte(c), d.runs+1
		d.inLine = d.run == ':' && d.runs == 2
		return d.inLine
	default:
		d.inLine = true
		return space && d.runs == 3
	}
	return false
}

// afterHashes follows ##, letters, and a bracket.
func (d *Disarmed) afterHashes(c rune) bool {
	begun := d.hashes
	switch {
	case c == '#' && begun < 3:
		d.hashes = min(begun+1, 2)
	case c == '#':
		d.hashes = 1
	case begun >= 2 && c < utf8.RuneSelf && isLetter(byte(c)):
		d.hashes = 3
	default:
		d.hashes = 0
		return c == '[' && begun >= 2
	}
	return false
}

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

// words are the commands that end with a colon.
var words = [][]byte{[]byte("section_start"), []byte("section_end"), []byte("travis_fold"), []byte("travis_time")}

// endsWord are the last bytes of words.
var endsWord = func() (ends [256]bool) {
	for _, word := range words {
		ends[word[len(word)-1]] = true
	}
	return ends
}()

// longestWord is the length in bytes of the longest of words.
const longestWord = len("section_start")

// afterWord tells whether one of words was written last.
func (d *Disarmed) afterWord() bool {
	if !endsWord[d.byteAt(len(d.out)-1)] {
		return false
	}
	var last [longestWord]byte
	for i := range last {
		last[i] = d.byteAt(len(d.out) - longestWord + i)
	}
	for _, word := range words {
		if bytes.HasSuffix(last[:], word) {
			return true
		}
	}
	return false
}

// Disarm is a text without commands.
func Disarm(text string) string {
	var b strings.Builder
	d := Disarmed{To: &b}
	_, _ = d.Write([]byte(text)) // into memory
	_ = d.Close()
	return b.String()
}
