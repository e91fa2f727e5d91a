package solve_test

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// remembered is a Dockerfile with the instructions that steps come from, and with those that make none.
const remembered = `ARG TAG=1
FROM BASE:${TAG} AS tools
RUN echo tools > /tools

FROM scratch AS files
COPY go.mod /

FROM BASE:1 AS build
ARG VERSION=1.2
ARG UNUSED=1
ENV MODE=fast
SHELL ["/bin/sh", "-c"]
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=secret,id=token echo deps > /deps
COPY . .
RUN --mount=type=cache,target=/cache --mount=type=tmpfs,target=/scratch echo building > /out
RUN <<END
echo one
echo two
END
USER root
RUN id

FROM BASE:1
LABEL kind=app
COPY --chmod=644 <<END /etc/app.conf
port=80
END
COPY --from=tools /tools /tools
COPY --from=build /out /out
COPY --from=assets logo /logo
ADD data.tar /data/
COPY --exclude=*.md docs /docs
RUN --mount=type=bind,source=site,target=/site ls /site
EXPOSE 80
VOLUME /var
STOPSIGNAL SIGTERM
HEALTHCHECK NONE
ENTRYPOINT ["/bin/sh"]
CMD ["-c", "id"]
`

// missing is a change of a build, with what is said of it.
type missing struct {
	name   string
	change func(t *testing.T, dir string)
	args   []string
	want   []string // a sentence for each stage; none: every step is cached
}

// replace changes the Dockerfile.
func replace(pairs ...string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		file := filepath.Join(dir, "app", "Dockerfile")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.NewReplacer(pairs...).Replace(string(text))
		if changed == string(text) {
			t.Fatalf("%q changes nothing", pairs)
		}
		testkit.Write(t, file, changed)
	}
}

// writing writes files.
func writing(pairs ...string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		for pair := range slices.Chunk(pairs, 2) {
			testkit.Write(t, filepath.Join(dir, pair[0]), pair[1])
		}
	}
}

var misses = []missing{
	{name: "nothing"},
	{name: "times of files", change: writing("app/main.go", "package main\n")},
	{name: "LABEL", change: replace("kind=app", "kind=service")},
	{name: "CMD", change: replace(`["-c", "id"]`, `["-c", "ls"]`)},
	{name: "ENTRYPOINT", change: replace(`["/bin/sh"]`, `["/bin/ash"]`)},
	{name: "EXPOSE", change: replace("EXPOSE 80", "EXPOSE 81")},
	{name: "VOLUME", change: replace("VOLUME /var", "VOLUME /srv")},
	{name: "STOPSIGNAL", change: replace("SIGTERM", "SIGINT")},
	{name: "HEALTHCHECK", change: replace("HEALTHCHECK NONE", "HEALTHCHECK CMD id")},
	{name: "comment", change: replace("USER root", "# a comment\nUSER root")},
	{name: "unknown build argument", args: []string{"--build-args", "OTHER=1"}},
	{name: "value of a secret", args: []string{"--secrets", "token=another"}},
	{name: "ignored file", change: writing("app/debug.log", "another\n")},
	{name: "address of a host", args: []string{"--add-hosts", "db=10.0.0.2"}},

	{name: "files", change: writing("app/main.go", "other\n", "app/lib/a.go", "other\n", "app/lib/b.go", "other\n"),
		want: []string{"build: COPY . .: 3 files changed: lib/a.go, lib/b.go, +1"}},
	{name: "file and mode", change: func(t *testing.T, dir string) {
		writing("app/main.go", "other\n")(t, dir)
		chmod(t, filepath.Join(dir, "app/run.sh"), 0o755)
	}, want: []string{"build: COPY . .: 2 files changed: main.go, run.sh (mode only: run.sh)"}},
	{name: "mode", change: func(t *testing.T, dir string) { chmod(t, filepath.Join(dir, "app/run.sh"), 0o755) },
		want: []string{"build: COPY . .: the mode of 1 file changed: run.sh"}},
	{name: "umask", change: groupWritable, want: []string{
		"build: COPY go.mod go.sum ./: mode of files differs: umask 0002 against 0022",
		"stage-3: ADD data.tar /data/: mode of files differs: umask 0002 against 0022",
	}},
	{name: "new file", change: writing("app/lib/c.go", "package lib\n"), want: []string{"build: COPY . .: 1 file added: lib/c.go"}},
	{name: "no file", change: func(t *testing.T, dir string) {
		if err := os.Remove(filepath.Join(dir, "app/lib/b.go")); err != nil {
			t.Fatal(err)
		}
	}, want: []string{"build: COPY . .: 1 file removed: lib/b.go"}},
	{name: "link", change: func(t *testing.T, dir string) {
		if err := os.Symlink("a.go", filepath.Join(dir, "app/lib/link")); err != nil {
			t.Fatal(err)
		}
	}, want: []string{"build: COPY . .: 1 file added: lib/link"}},
	{name: "dependencies", change: writing("app/go.sum", "x\n"), want: []string{"build: COPY go.mod go.sum ./: 1 file changed: go.sum"}},
	{name: ".dockerignore", change: writing("app/.dockerignore", "Dockerfile\n"),
		want: []string{"build: COPY . .: 1 file changed: .dockerignore; 1 file added: debug.log; .dockerignore changed"}},
	{name: "COPY --exclude", change: writing("app/docs/a.txt", "other\n"), want: []string{
		"build: COPY . .: 1 file changed: docs/a.txt",
		"stage-3: COPY --exclude=*.md docs /docs: 1 file changed: docs/a.txt",
	}},
	{name: "bind mount", change: writing("app/site/index", "other\n"), want: []string{
		"build: COPY . .: 1 file changed: site/index",
		"stage-3: RUN --mount=type=bind,source=site,target=/site ls /site: 1 file changed: site/index",
	}},
	{name: "ADD", change: writing("app/data.tar", "other\n"), want: []string{
		"build: COPY . .: 1 file changed: data.tar",
		"stage-3: ADD data.tar /data/: 1 file changed: data.tar",
	}},
	{name: "build context", change: writing("assets/logo", "other\n"), want: []string{"stage-3: COPY --from=assets logo /logo: 1 file changed: logo"}},

	{name: "RUN", change: replace("echo building", "echo -n building"), want: []string{
		"build: RUN echo -n building > /out: the command changed: -echo building > /out +echo -n building > /out",
		"stage-3: COPY --from=build /out /out: what it takes from stage build changed",
	}},
	{name: "new RUN", change: replace("RUN id\n", "RUN true\nRUN id\n"), want: []string{"build: RUN true: this step is new"}},
	{name: "RUN is gone", change: replace("RUN id\n", "")},
	{name: "heredoc of RUN", change: replace("echo two", "echo three"), want: []string{"build: RUN <<END (echo one...): the command changed: -echo one echo two +echo one echo three"}},
	{name: "heredoc of COPY", change: replace("port=80", "port=81"), want: []string{"stage-3: COPY --chmod=644 <<END /etc/app.conf: the content of the heredoc END: changed"}},
	{name: "COPY --chmod", change: replace("--chmod=644", "--chmod=600"), want: []string{"stage-3: COPY --chmod=600 <<END /etc/app.conf: the instruction changed: -COPY --chmod=644 <<END /etc/app.conf +COPY --chmod=600 <<END /etc/app.conf"}},
	{name: "COPY", change: replace("docs /docs", "docs /doc"), want: []string{"stage-3: COPY --exclude=*.md docs /doc: the instruction changed: -COPY --exclude=*.md docs /docs +COPY --exclude=*.md docs /doc"}},
	{name: "COPY --from", change: replace("--from=tools /tools", "--from=build /deps"), want: []string{"stage-3: COPY --from=build /deps /tools: the instruction changed: -COPY --from=tools /tools /tools +COPY --from=build /deps /tools"}},
	{name: "ENV", change: replace("MODE=fast", "MODE=slow"), want: []string{"build: RUN --mount=type=secret,id=token echo deps > /deps: variable MODE: changed"}},
	{name: "new ENV", change: replace("ENV MODE=fast", "ENV MODE=fast MORE=1"), want: []string{"build: RUN --mount=type=secret,id=token echo deps > /deps: variable MORE: new"}},
	{name: "ARG", args: []string{"--build-args", "VERSION=1.3"}, want: []string{"build: RUN --mount=type=secret,id=token echo deps > /deps: build argument VERSION: changed"}},
	{name: "default of ARG", change: replace("VERSION=1.2", "VERSION=1.3"), want: []string{"build: RUN --mount=type=secret,id=token echo deps > /deps: build argument VERSION: changed"}},
	{name: "new ARG", change: replace("ARG UNUSED=1", "ARG UNUSED=1\nARG MORE=1"), want: []string{"build: RUN --mount=type=secret,id=token echo deps > /deps: build argument MORE: new"}},
	{name: "WORKDIR", change: replace("WORKDIR /src", "WORKDIR /work"), want: []string{"build: WORKDIR /work: the instruction changed: -WORKDIR /src +WORKDIR /work"}},
	{name: "USER", change: replace("USER root", "USER 1"), want: []string{"build: RUN id: user: root → 1"}},
	{name: "SHELL", change: replace(`SHELL ["/bin/sh", "-c"]`, `SHELL ["/bin/ash", "-c"]`), want: []string{"build: RUN --mount=type=secret,id=token echo deps > /deps: the command changed: -echo deps > /deps +/bin/ash -c echo deps > /deps"}},
	{name: "secret", change: replace("id=token", "id=token,required=true"), want: []string{"build: RUN echo deps > /deps: mount of secret token: -…gid=0 required=false +…gid=0 required=true"}},
	{name: "cache mount", change: replace("type=cache,target=/cache", "type=cache,target=/other"), want: []string{"build: RUN echo building > /out: mount of cache /other: new; mount of cache /cache: gone"}},
	{name: "network of RUN", change: replace("RUN id", "RUN --network=none id"), want: []string{"build: RUN --network=none id: network mode: default → none"}},
	{name: "base image", args: []string{"--build-args", "TAG=2"}, want: []string{"tools: RUN echo tools > /tools: base image: BASE:1 → BASE:2"}},
	{name: "new stage", args: []string{"--target", "files"}, want: []string{`files: COPY go.mod /: b-main was built without the stage "files"`}},
	{name: "changed order", change: replace("RUN <<END\necho one\necho two\nEND\nUSER root\nRUN id\n", "USER root\nRUN id\nRUN <<END\necho one\necho two\nEND\n"), want: []string{"build: RUN id: a step before it is gone: RUN <<END (echo one...)"}},
	{name: "RUN before is gone", change: replace("RUN <<END\necho one\necho two\nEND\n", ""), want: []string{"build: RUN id: a step before it is gone: RUN <<END (echo one...)"}},
	{name: "target", args: []string{"--target", "tools"}, want: nil},
	{name: "no-cache", args: []string{"--no-cache-filters", "tools"}, want: []string{"tools: RUN echo tools > /tools: no-cache asks for it"}},
	{name: "SOURCE_DATE_EPOCH", args: []string{"--build-args", "SOURCE_DATE_EPOCH=1"}, want: []string{"build: WORKDIR /src: SOURCE_DATE_EPOCH: new"}},
	{name: "ulimit", args: []string{"--ulimit", "nofile=100:100"}, want: []string{
		"tools: RUN echo tools > /tools: ulimit nofile: none → 100:100",
		"build: RUN --mount=type=secret,id=token echo deps > /deps: ulimit nofile: none → 100:100",
		"stage-3: RUN --mount=type=bind,source=site,target=/site ls /site: ulimit nofile: none → 100:100",
	}},
	{name: "host", args: []string{"--add-hosts", "db=10.0.0.1\nweb=10.0.0.1"}, want: []string{
		"tools: RUN echo tools > /tools: host web: new",
		"build: RUN --mount=type=secret,id=token echo deps > /deps: host web: new",
		"stage-3: RUN --mount=type=bind,source=site,target=/site ls /site: host web: new",
	}},
}

// groupWritable makes the files as they are under another umask.
func groupWritable(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "app"), func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := os.FileMode(0o664)
		if d.IsDir() {
			mode = 0o775
		}
		return os.Chmod(path, mode)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// TestMisses: the reasons why steps were not cached.
func TestMisses(t *testing.T) {
	t.Parallel()
	registry, app := testkit.StartRegistry(t).Host, testkit.App(t)
	layer, err := tarball.LayerFromFile(filepath.Join(app, "rootfs.tar"))
	if err != nil {
		t.Fatal(err)
	}
	testkit.PushImage(t, registry+"/base:1", []string{"PATH=/bin"}, layer)
	testkit.PushImage(t, registry+"/base:2", []string{"PATH=/bin", "NEW=1"}, layer)
	dir := t.TempDir()
	writeRemembered(t, dir, registry)
	cache := "type=local,dest=" + filepath.Join(t.TempDir(), "cache")
	args := []string{"--cache", cache, "--build-contexts", "assets=../assets", "--outputs", "type=cacheonly"}
	build(filepath.Join(dir, "app"), append(args, "--secrets", "token=s3cr3t-value", "--add-hosts", "db=10.0.0.1")...).Build(t)
	for _, one := range misses {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			writeRemembered(t, dir, registry)
			if one.change != nil {
				one.change(t, dir)
			}
			args := append(slices.Clone(args), "--cache-write", "never")
			for option, value := range map[string]string{"--secrets": "token=s3cr3t-value", "--add-hosts": "db=10.0.0.1"} {
				if !slices.Contains(one.args, option) {
					args = append(args, option, value)
				}
			}
			out := build(filepath.Join(dir, "app"), append(args, one.args...)...).Start(t)
			if out.Code != 0 {
				t.Fatal(out.Text)
			}
			var got []string
			for _, m := range out.Report.Misses {
				got = append(got, fmt.Sprintf("%s: %s: %s", m.Stage, m.Step, m.Reason))
			}
			for i := range got {
				got[i] = strings.ReplaceAll(got[i], registry+"/base", "BASE")
			}
			if !slices.Equal(got, one.want) {
				t.Errorf("got  %q\nwant %q\n", got, one.want)
			}
		})
	}
}

// TestMissesMoved: a base image that has moved under its tag is named with both digests.
func TestMissesMoved(t *testing.T) {
	t.Parallel()
	app, base := testkit.App(t), testkit.StartRegistry(t).Host+"/base:1"
	layer, err := tarball.LayerFromFile(filepath.Join(app, "rootfs.tar"))
	if err != nil {
		t.Fatal(err)
	}
	testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM "+base+"\nRUN echo it > /it\n")
	args := []string{"--cache", "type=local,dest=" + t.TempDir(), "--outputs", "type=cacheonly"}
	testkit.PushImage(t, base, []string{"PATH=/bin"}, layer)
	build(app, args...).Build(t)
	testkit.PushImage(t, base, []string{"PATH=/bin", "NEW=1"}, layer)
	missed := build(app, args...).Build(t).Misses
	reason := regexp.MustCompile(`^base image ` + regexp.QuoteMeta(base) + ` moved: sha256:[0-9a-f]+… → sha256:[0-9a-f]+…$`)
	if len(missed) != 1 || missed[0].Step != "RUN echo it > /it" || !reason.MatchString(missed[0].Reason) {
		t.Errorf("%+v", missed)
	}
}

// TestMissesLost: the layer of a step was lost from the store.
func TestMissesLost(t *testing.T) {
	t.Parallel()
	app, dir := testkit.App(t), t.TempDir()
	cache := testkit.Cache{Line: "type=local,dest=" + dir}
	testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch\nADD rootfs.tar /\nRUN echo it > /it\n")
	built := build(app, "--cache", cache.Line, "--outputs", "type=local,dest="+t.TempDir())
	built.Build(t)
	layers := manifest(t, cache, "b-main").Layers
	small := slices.MinFunc(layers, func(a, b ocispecs.Descriptor) int { return cmp.Compare(a.Size, b.Size) })
	if err := os.Remove(filepath.Join(dir, "blobs", "sha256", small.Digest.Encoded())); err != nil {
		t.Fatal(err)
	}
	if missed := built.Build(t).Misses; len(missed) != 1 || missed[0].Step != "RUN echo it > /it" || missed[0].Reason != "its layer was lost from the store" {
		t.Errorf("%d layers, %+v", len(layers), missed)
	}
}

func writeRemembered(t *testing.T, dir, registry string) {
	t.Helper()
	for _, sub := range []string{"app/lib", "app/docs", "app/site", "assets"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writing(
		"app/Dockerfile", strings.ReplaceAll(remembered, "BASE", registry+"/base"), "app/.dockerignore", "Dockerfile\n*.log\n",
		"app/go.mod", "module app\n", "app/go.sum", "", "app/main.go", "package main\n", "app/run.sh", "#!/bin/sh\n",
		"app/lib/a.go", "package lib\n", "app/lib/b.go", "package lib\n", "app/docs/a.txt", "a\n", "app/docs/b.md", "b\n",
		"app/site/index", "hello\n", "app/debug.log", "x\n", "app/data.tar", "not a tar file\n", "assets/logo", "logo\n",
	)(t, dir)
}
