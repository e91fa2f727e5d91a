package inputs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// TestMergeInputs: digests are given as they are, or by files whose names or contents they are; what is no digest is told.
func TestMergeInputs(t *testing.T) {
	t.Parallel()
	one, two, three := digest.FromString("1"), digest.FromString("2"), digest.FromString("3")
	dir := t.TempDir()
	for _, d := range []string{"digests", "bad"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Write(t, filepath.Join(dir, "digests", one.Encoded()), "")
	testkit.Write(t, filepath.Join(dir, "digests", "arm64.txt"), two.String()+"\n")
	testkit.Write(t, filepath.Join(dir, "bad", "readme"), "none")
	for _, c := range []struct{ digests, want, problem string }{
		{three.String(), three.String(), ""},
		{"digests," + three.String(), one.String() + " " + two.String() + " " + three.String(), ""},
		{"digests," + one.String(), "", "is given twice"},
		{"bad", "", `the file "readme" has no digest`},
		{"missing", "", `"missing" is neither a digest nor a directory with files`},
	} {
		v, problems := ParseJob([]string{"--push", "--tags", "ghcr.io/o/app:1", "--digests", c.digests, "--annotations", "a=b"}, nil, dir, Job{Command: "merge"})
		if c.problem != "" {
			if !strings.Contains(problems.Error(), c.problem) {
				t.Errorf("%s: %v", c.digests, problems)
			}
			continue
		}
		var got []string
		for _, d := range v.Digests {
			got = append(got, d.String())
		}
		if len(problems) > 0 || strings.Join(got, " ") != c.want || v.Command != "merge" || strings.Join(v.Pushed(), " ") != "ghcr.io/o/app:1" || v.IndexAnnotations()["a"] != "b" {
			t.Errorf("%s: %q, %+v, %v", c.digests, got, v.Outputs, problems)
		}
	}
	if _, problems := ParseJob([]string{"--tags", "ghcr.io/o/app:1"}, nil, dir, Job{Command: "merge"}); !strings.Contains(problems.Error(), "push: a merge pushes the image") {
		t.Error(problems)
	}
	if _, problems := ParseJob([]string{"--push", "--tags", "ghcr.io/o/app:1", "--annotations", "manifest:a=b"}, nil, dir, Job{Command: "merge"}); !strings.Contains(problems.Error(), "the images exist already") {
		t.Error(problems)
	}
}

// TestPart: a part is pushed by digest to the repositories of its tags. Without an image that is pushed there is no part.
func TestPart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	testkit.Write(t, filepath.Join(dir, "Dockerfile"), "FROM scratch\n")
	v, problems := Parse([]string{"--part", "--push", "--tags", "ghcr.io/o/app:1,ghcr.io/o/app:2", dir}, nil, dir)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	parts := v.Builds()
	if len(parts) != 1 || parts[0].Outputs[0].Attrs["push-by-digest"] != "true" || parts[0].Outputs[0].Attrs["name"] != "ghcr.io/o/app" {
		t.Errorf("%+v", parts[0].Outputs)
	}
	for _, c := range []struct{ args, problem string }{
		{"--part", "a part is an image that is pushed"},
		{"--part --outputs type=local,dest=out", "an output has the type local"},
		{"--part --push --tags o/app --builder tcp://a:1;platforms=linux/amd64 --builder tcp://b:1;platforms=linux/arm64", "one job already makes the whole image"},
	} {
		if _, problems := Parse(append(strings.Fields(c.args), dir), nil, dir); !strings.Contains(problems.Error(), c.problem) {
			t.Errorf("%s: %v", c.args, problems)
		}
	}
}
