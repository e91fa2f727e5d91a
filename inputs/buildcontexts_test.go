package inputs

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestBuildContexts(t *testing.T) {
	t.Parallel()
	dir := checkout(t)
	write(t, dir, "docs/x")
	if err := os.MkdirAll(filepath.Join(dir, "layout:1"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "layout/index.json")
	const hex = "sha256:9f2c1a7be04d5538c1d6a0e3b7f4985210dcab369f2c1a7be04d5538c1d6a0e3"
	const digest = "@" + hex
	const absent = "\nhint: write it like oci-layout://path:tag, a directory that has an index.json"
	for _, tt := range []struct {
		line     string
		want     Context
		problems string
	}{
		{line: "docs=docs", want: Context{Name: "docs", Source: "docs", Dir: dir + "/docs", Subdir: "docs"}},
		{line: "Docs=" + dir, want: Context{Name: "docs", Source: dir, Dir: dir}},
		{line: "docker.io/library/alpine:latest=docker-image://Alpine", problems: "\"Alpine\" has upper-case letters in its repository\nhint: write \"alpine\""},
		{line: "docker.io/library/alpine:latest=docker-image://alpine:3.22" + digest, want: Context{Name: "alpine", Kind: Image, Source: "docker-image://alpine:3.22" + digest}},
		{line: "ghcr.io/o/App:V1=docker-image://alpine", problems: "\"ghcr.io/o/App:V1\" is not the name of a context\nhint: write a stage's name, or an image as FROM has it"},
		{line: "src=https://example.com/o/r.git?ref=main&subdir=x", want: Context{Name: "src", Kind: Git, Source: "https://example.com/o/r.git?ref=main&subdir=x", Subdir: "x", HasQuery: true, host: "example.com"}},
		{line: "src={{defaultContext}}:docs", want: Context{Name: "src", Kind: Git, Source: repository + "#abc:docs", Subdir: "docs", host: "github.com"}},
		{line: "src=git@example.com:o/r.git", want: Context{Name: "src", Kind: Git, Source: "git@example.com:o/r.git", ssh: true}},
		{line: "src=https://example.com/x.tar.gz", want: Context{Name: "src", Kind: HTTP, Source: "https://example.com/x.tar.gz"}},
		{line: "img=oci-layout://layout", want: Context{Name: "img", Kind: Layout, Source: "oci-layout://layout", Layout: OCILayout{Dir: dir + "/layout", Tag: "latest"}}},
		{line: "img=oci-layout://" + dir + "/layout:v1" + digest, want: Context{
			Name: "img", Kind: Layout, Source: "oci-layout://" + dir + "/layout:v1" + digest,
			Layout: OCILayout{Dir: dir + "/layout", Tag: "v1", Digest: hex},
		}},

		{line: "docs", problems: "expected name=source\nhint: write it like docs=../docs or base=docker-image://alpine:3.22"},
		{line: "a b=docs", problems: "\"a b\" is not the name of a context\nhint: write a stage's name, or an image as FROM has it"},
		{line: "docs=nope", problems: "no directory \"nope\"\nhint: an image is written docker-image://name; relative paths start from the working directory"},
		{line: "docs=Dockerfile", problems: "\"Dockerfile\" is not a directory\nhint: name the directory that it is in"},
		{line: "docs=Dockerfile/x", problems: "the directory cannot be read\nhint: check the path and its permissions"},
		{line: "src=https://example.com/o/r.git?foo=hunter2", problems: "BuildKit does not understand the URL's query\nhint: known are ref, subdir, checksum, submodules and keep-git-dir"},
		{line: "img=docker-image://a b", problems: "\"a b\" is not the name of an image"},
		{line: "img=oci-layout://docs:1", problems: "no OCI layout at \"docs\"" + absent},
		{line: "img=oci-layout://layout:x/y", problems: "no OCI layout at \"layout:x/y\"" + absent},
		{line: "img=oci-layout://layout@sha256:2c26b46b68ffc68ff99b453c1d304134", problems: "\"sha256:2c26b46b68ffc68ff99b453c1d304134\" is not a digest\nhint: write it like sha256: and 64 hexadecimal digits"},
		{line: "img=target:base", problems: "a target can be a context only in bake files\nhint: a stage of this Dockerfile needs no context: write COPY --from=stage"},
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
			if want == "" && !slices.Equal(v.BuildContexts, []Context{tt.want}) {
				t.Errorf("contexts are %+v, want %+v", v.BuildContexts, tt.want)
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

func TestParseLayout(t *testing.T) {
	t.Parallel()
	const hex = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
	for text, want := range map[string]OCILayout{
		"dir":                      {Dir: "dir", Tag: "latest"},
		"/a/b:1.3":                 {Dir: "/a/b", Tag: "1.3"},
		"/a/b@" + hex:              {Dir: "/a/b", Digest: hex},
		"/a/b:1.3@" + hex:          {Dir: "/a/b", Tag: "1.3", Digest: hex},
		"/a@b/layout":              {Dir: "/a@b/layout", Tag: "latest"},
		"/a:b/layout":              {Dir: "/a:b/layout", Tag: "latest"},
		"l:x/y":                    {Dir: "l:x/y", Tag: "latest"},
		"a/layout@sha256:tooshort": {Dir: "a/layout@sha256", Tag: "tooshort"},
	} {
		if got := parseLayout(text); got != want {
			t.Errorf("%s: %+v, want %+v", text, got, want)
		}
	}
}
