package report

import (
	"bytes"
	"slices"
	"testing"
)

// Where the runner executes commands in the log, the commands in a build's output are disarmed.
func TestLog(t *testing.T) {
	t.Parallel()
	r := NewRedactor([]string{"hunter2"})
	for variable, want := range map[string]string{"TF_BUILD": "\\u0023#vso[x]*** #", "GITLAB_CI": "##vso[x]*** #"} {
		var b bytes.Buffer
		l := r.Log(runner(variable+"=true"), &b)
		if _, err := l.Write([]byte("##vso[x]hunter2 #")); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil || b.String() != want {
			t.Errorf("%s: %q, want %q; %v", variable, b.String(), want, err)
		}
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
