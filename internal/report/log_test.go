package report

import (
	"bytes"
	"slices"
	"testing"
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

// Lines of a secret that are too short to redact are left out.
func TestSecretLines(t *testing.T) {
	t.Parallel()
	got := SecretLines([]string{"100%;]", "first line\r\n  second line\n\nabc\n", "abc", ""})
	if want := []string{"100%;]", "first line", "second line"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
