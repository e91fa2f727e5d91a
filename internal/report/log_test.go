package report

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// Secrets are hidden, and commands broken, whatever the CI: the job may run in a container that
// does not know it.
func TestLog(t *testing.T) {
	t.Parallel()
	r := NewRedactor([]string{"hunter2", "##vso[secret"})
	var b bytes.Buffer
	l := r.Log(&b)
	const text, want = "##vso[x]hunter2 ##vso[secret\x1b]1339;x\a#", "##vso\\u005bx]*** ***\\u001b]1339;x\\u0007#"
	if _, err := l.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil || b.String() != want {
		t.Errorf("%q, want %q; %v", b.String(), want, err)
	}
	if got := r.Text(text); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestProgress: what a display writes comes out whole, in few pieces, also when nothing follows it.
func TestProgress(t *testing.T) {
	t.Parallel()
	const lines = 10000
	var text bytes.Buffer
	writes, line := make(chan string, 2*lines), "#7 0.1 hunter2\n"
	p := NewRedactor([]string{"hunter2"}).Progress(writerFunc(func(b []byte) (int, error) {
		writes <- string(b)
		return len(b), nil
	}))
	for range lines {
		fmt.Fprint(p, line[:len(line)-1])
		fmt.Fprint(p, line[len(line)-1:])
	}
	want, pieces := strings.Repeat("#7 0.1 ***\n", lines), 0
	for deadline := time.After(time.Minute); text.Len() < len(want); pieces++ {
		select {
		case piece := <-writes:
			text.WriteString(piece)
		case <-deadline:
			t.Fatalf("%d bytes of %d come out", text.Len(), len(want))
		}
	}
	if text.String() != want || pieces > lines/10 {
		t.Errorf("%d bytes in %d pieces", text.Len(), pieces)
	}
	fmt.Fprint(p, "hunt")
	if err := p.Close(); err != nil || <-writes != "hunt" {
		t.Errorf("the end: %v", err)
	}
}

func TestProgressReportsErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("no space left on device")
	p := new(Redactor).Progress(writerFunc(func([]byte) (int, error) { return 0, broken }))
	if _, err := p.Write(make([]byte, gatherSize)); !errors.Is(err, broken) {
		t.Errorf("Write: %v", err)
	}
	fmt.Fprint(p, "the end")
	if err := p.Close(); !errors.Is(err, broken) {
		t.Errorf("Close: %v", err)
	}
}

// Lines of a secret that are too short to redact are left out.
func TestSecretLines(t *testing.T) {
	t.Parallel()
	got := SecretLines([]string{"100%;]", "first line\r\n  second line\n\nabc\n", "abc", ""})
	if want := []string{"100%;]", "first line", "second line"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
