package report

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestSection(t *testing.T) {
	t.Parallel()
	began := time.Unix(1767225600, 7)
	ended := began.Add(3 * time.Second)
	for _, tt := range []struct{ ci, begin, end, failed string }{
		{"github", "::group::Build\n", "::endgroup::\n", "::endgroup::\n"},
		{"gitea", "::group::Build\n", "::endgroup::\n", "::endgroup::\n"},
		{"forgejo", "::group::Build\n", "::endgroup::\n", "::endgroup::\n"},
		{
			"gitlab", "\x1b[0Ksection_start:1767225600:warmlayer_1767225600000000007[collapsed=true]\r\x1b[0KBuild\n",
			"\x1b[0Ksection_end:1767225603:warmlayer_1767225600000000007\r\x1b[0K\n",
			"\x1b[0Ksection_end:1767225603:warmlayer_1767225600000000007\r\x1b[0K\n",
		},
		{"buildkite", "--- Build\n", "+++ Report\n", "^^^ +++\n+++ Report\n"},
		{"azure", "##[group]Build\n", "##[endgroup]\n", "##[endgroup]\n"},
		{"jenkins", "", "", ""}, {"git", "", "", ""}, {"", "", "", ""},
	} {
		s := Section{CI: tt.ci, Title: "Build", Began: began}
		if got := s.Begin(); got != tt.begin {
			t.Errorf("%s begins with %q, want %q", tt.ci, got, tt.begin)
		}
		if got := s.End(ended, false); got != tt.end {
			t.Errorf("%s ends with %q, want %q", tt.ci, got, tt.end)
		}
		if got := s.End(ended, true); got != tt.failed {
			t.Errorf("%s ends a failure with %q, want %q", tt.ci, got, tt.failed)
		}
	}
}

// Only a runner that takes the commands out of the log is ever told a secret.
func TestMasks(t *testing.T) {
	t.Parallel()
	secrets := []string{"100%;]", "first line\r\n  second line\n\nabc\n", "abc", ""}
	for ci, want := range map[string]string{
		"github": "::add-mask::100%25;]\n::add-mask::first line\n::add-mask::second line\n",
		"azure": "##vso[task.setsecret]100%AZP25;]\n" +
			"##vso[task.setsecret]first line\n##vso[task.setsecret]second line\n",
	} {
		if got := Masks(ci, secrets); got != want {
			t.Errorf("%s: %q, want %q", ci, got, want)
		}
	}
	for _, ci := range []string{"gitea", "forgejo"} {
		if Masks(ci, secrets) != Masks("github", secrets) {
			t.Errorf("%s masks otherwise than GitHub", ci)
		}
	}
	for _, ci := range []string{"gitlab", "buildkite", "woodpecker", "drone", "circleci", "bitbucket", "jenkins", "travis", "appveyor", "unknown", "git", ""} {
		if got := Masks(ci, secrets); got != "" {
			t.Errorf("%s is told %q", ci, got)
		}
	}
}

func TestAnnotationsElsewhere(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := on("gitlab", reports()["failed"]).Annotations(&b, true, same); err != nil || b.Len() > 0 {
		t.Errorf("%q, %v", b.String(), err)
	}
}

func TestPublishOnAzure(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var b bytes.Buffer
	r := reports()["several"]
	r.Result.Metadata = map[string]string{"long": strings.Repeat("x", longestVariable)}
	if err := r.Publish(Places{Dir: dir, Azure: &b}, same); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"##vso[task.uploadsummary]" + dir + "/warmlayer.md\n",
		"##vso[task.setvariable variable=WARMLAYER_CACHE_EXPORT;isoutput=true]failed\n",
		"##vso[task.setvariable variable=WARMLAYER_DIGEST;isoutput=true]sha256:",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "WARMLAYER_METADATA") {
		t.Error("an output is handed on that no environment holds")
	}
}
