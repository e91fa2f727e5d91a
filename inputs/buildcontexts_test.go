package inputs

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

func TestBuildContexts(t *testing.T) {
	t.Parallel()
	dir := checkout(t)
	write(t, dir, "docs/x")
	if err := os.MkdirAll(filepath.Join(dir, "layout:1"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "layout/index.json")
	const digest = "@sha256:9f2c1a7be04d5538c1d6a0e3b7f4985210dcab369f2c1a7be04d5538c1d6a0e3"
	const absent = "\nhint: write it like oci-layout://path:tag, a directory that has an index.json"
	for _, tt := range []struct {
		line     string
		want     syntax.Pair
		problems string
	}{
		{line: "docs=docs", want: syntax.Pair{Key: "docs", Value: "docs"}},
		{line: "Docs=" + dir, want: syntax.Pair{Key: "docs", Value: dir}},
		{line: "docker.io/library/alpine:latest=docker-image://Alpine", problems: "\"Alpine\" has upper-case letters in its repository\nhint: write \"alpine\""},
		{line: "docker.io/library/alpine:latest=docker-image://alpine:3.22" + digest, want: syntax.Pair{Key: "alpine", Value: "docker-image://alpine:3.22" + digest}},
		{line: "ghcr.io/o/App:V1=docker-image://alpine", problems: "\"ghcr.io/o/App:V1\" is not the name of a context\nhint: write a stage's name, or an image as FROM has it"},
		{line: "src=https://example.com/o/r.git?ref=main&subdir=x", want: syntax.Pair{Key: "src", Value: "https://example.com/o/r.git?ref=main&subdir=x"}},
		{line: "src={{defaultContext}}:docs", want: syntax.Pair{Key: "src", Value: repository + "#abc:docs"}},
		{line: "src=git@example.com:o/r.git", want: syntax.Pair{Key: "src", Value: "git@example.com:o/r.git"}},
		{line: "src=https://example.com/x.tar.gz", want: syntax.Pair{Key: "src", Value: "https://example.com/x.tar.gz"}},
		{line: "img=oci-layout://layout", want: syntax.Pair{Key: "img", Value: "oci-layout://layout"}},
		{line: "img=oci-layout://" + dir + "/layout:v1" + digest, want: syntax.Pair{Key: "img", Value: "oci-layout://" + dir + "/layout:v1" + digest}},

		{line: "docs", problems: "expected name=place\nhint: write it like docs=../docs or base=docker-image://alpine:3.22"},
		{line: "a b=docs", problems: "\"a b\" is not the name of a context\nhint: write a stage's name, or an image as FROM has it"},
		{line: "docs=nope", problems: "no directory \"nope\"\nhint: an image is written docker-image://name; relative paths start from the working directory"},
		{line: "docs=Dockerfile", problems: "\"Dockerfile\" is not a directory\nhint: name the directory that it is in"},
		{line: "docs=Dockerfile/x", problems: "the directory cannot be read\nhint: check the path and its permissions"},
		{line: "src=https://example.com/o/r.git?foo=hunter2", problems: "BuildKit does not understand the URL's query\nhint: known are ref, subdir, checksum, submodules and keep-git-dir"},
		{line: "img=docker-image://a b", problems: "\"a b\" is not the name of an image"},
		{line: "img=oci-layout://docs:1", problems: "no OCI layout at \"docs\"" + absent},
		{line: "img=target:base", problems: "a target is a context in bake files alone\nhint: a stage of this Dockerfile needs no context: write COPY --from=stage"},
	} {
		t.Run(tt.line, func(t *testing.T) {
			t.Parallel()
			v, problems := ParseJob(nil, []string{"INPUT_BUILD-CONTEXTS=" + tt.line}, dir, github)
			want := tt.problems
			if want != "" {
				want = "build-contexts: line 1: " + want
			}
			if got := problems.Error(); got != want {
				t.Fatalf("got:\n%s\nwant:\n%s", got, want)
			}
			if want == "" && !slices.Equal(v.BuildContexts, []syntax.Pair{tt.want}) {
				t.Errorf("contexts are %q, want %q", v.BuildContexts, tt.want)
			}
		})
	}
}

func TestBuildContextsTogether(t *testing.T) {
	t.Parallel()
	_, problems := Parse(nil, []string{"INPUT_BUILD-CONTEXTS=a=.\nA=.\nb={{defaultContext}}"}, checkout(t))
	want := "build-contexts: line 2: context \"a\" is given twice\nhint: leave one of the lines out\n" +
		"build-contexts: line 3: there is no default context outside GitHub Actions\nhint: name the directory, or the repository's URL"
	if problems.Error() != want {
		t.Errorf("got:\n%s\nwant:\n%s", problems, want)
	}
}
