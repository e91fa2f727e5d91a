package solve_test

import (
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// listing is a Dockerfile that lists the files of the context that it gets.
const listing = "FROM scratch\nCOPY . /\n"

// directory makes a directory of files whose content is their name.
func directory(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		testkit.Write(t, file, name)
	}
	return dir
}

// arrived are the files in the result of a build.
func arrived(t *testing.T, dir string, args ...string) string {
	t.Helper()
	return arrivedWith(t, dir, "", args...)
}

// arrivedWith is arrived, with a text on standard input.
func arrivedWith(t *testing.T, dir, stdin string, args ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	b := build(dir, append(args, "--cache", "none", "--outputs", "type=local,dest="+out)...)
	b.Stdin = stdin
	b.Build(t)
	var list []string
	err := filepath.WalkDir(out, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			list = append(list, strings.TrimPrefix(path, out+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(list, " ")
}

// TestDirectory: which files of a directory the build gets, and which Dockerfile it uses.
func TestDirectory(t *testing.T) {
	t.Parallel()
	other := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.Mkdir(other, 0o755); err != nil {
		t.Fatal(err)
	}
	testkit.Write(t, filepath.Join(other, "Other"), listing)
	testkit.Write(t, filepath.Join(other, "Other.dockerignore"), "a\n")
	tests := []struct {
		name  string
		files map[string]string
		args  []string
		want  string
	}{
		{"whole", map[string]string{"Dockerfile": listing}, nil, "Dockerfile a b sub/c"},
		{
			"ignored", map[string]string{"Dockerfile": listing, ".dockerignore": "# comment\nsub\n!sub/c\na\n"}, nil,
			".dockerignore Dockerfile b sub/c",
		},
		{
			"ignored by the Dockerfile's ignore file",
			map[string]string{"Dockerfile": listing, ".dockerignore": "a", "Dockerfile.dockerignore": "b"}, nil,
			".dockerignore Dockerfile Dockerfile.dockerignore a sub/c",
		},
		{"another name", map[string]string{"solve.Dockerfile": listing}, []string{"--file", "solve.Dockerfile"}, "a b solve.Dockerfile sub/c"},
		{"Dockerfile elsewhere", nil, []string{"--file", filepath.Join(other, "Other")}, "b sub/c"},
		{"a subdirectory", map[string]string{"Dockerfile": listing}, []string{"--file", "Dockerfile", "sub"}, "c"},
		{"a subdirectory with its own Dockerfile", map[string]string{"sub/Dockerfile": listing}, []string{"sub"}, "Dockerfile c"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := directory(t, "a", "b", "sub/c")
			for name, content := range test.files {
				testkit.Write(t, filepath.Join(dir, name), content)
			}
			if got := arrived(t, dir, test.args...); got != test.want {
				t.Errorf("the build got %s, want %s", got, test.want)
			}
		})
	}
}

// TestURL: contexts that the daemon fetches.
func TestURL(t *testing.T) {
	t.Parallel()
	dir := directory(t, "a", "app/b")
	testkit.Write(t, filepath.Join(dir, "Dockerfile"), listing)
	testkit.Write(t, filepath.Join(dir, "app", "Dockerfile"), listing)
	testkit.Write(t, filepath.Join(dir, "app", "Second"), "FROM scratch\nCOPY b /second\n")
	repo := serveGit(t, dir)
	archive := serveArchive(t, dir)
	outside := filepath.Join(t.TempDir(), "Dockerfile")
	testkit.Write(t, outside, "FROM scratch\nCOPY a /outside\n")
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"Git", []string{repo}, "Dockerfile a app/Dockerfile app/Second app/b"},
		{"Git at a branch in a directory", []string{repo + "#side:app"}, "Dockerfile Second b on-side"},
		{"Git with another Dockerfile", []string{"--file", "Second", repo + "#main:app"}, "second"},
		{"Git with a Dockerfile from here", []string{"--file", outside, repo}, "outside"},
		{"tar", []string{archive}, "Dockerfile a app/Dockerfile app/Second app/b"},
		{"tar with another Dockerfile", []string{"--file", "app/Dockerfile", archive}, "Dockerfile a app/Dockerfile app/Second app/b"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := arrived(t, t.TempDir(), test.args...); got != test.want {
				t.Errorf("the build got %s, want %s", got, test.want)
			}
		})
	}
}

// TestDockerfileFromInput: a Dockerfile from standard input is used instead of those in the
// context.
func TestDockerfileFromInput(t *testing.T) {
	t.Parallel()
	dir := directory(t, "a", "b", "app/c")
	testkit.Write(t, filepath.Join(dir, "Dockerfile"), listing)
	testkit.Write(t, filepath.Join(dir, ".dockerignore"), "a\n")
	for name, context := range map[string]string{"directory": dir, "Git": serveGit(t, dir), "tar": serveArchive(t, dir)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := arrivedWith(t, t.TempDir(), "FROM scratch\nCOPY b /from-input\n", "--file", "-", context); got != "from-input" {
				t.Errorf("the build got %s", got)
			}
		})
	}
}

// serveGit makes a repository from a directory, with branches main and side, and returns its URL.
func serveGit(t *testing.T, dir string) string {
	t.Helper()
	git := func(args ...string) string {
		cmd := exec.Command("git", slices.Concat([]string{"-C", dir, "-c", "user.name=a", "-c", "user.email=a@example.org"}, args)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	_, err := exec.LookPath("git")
	testkit.Need(t, "git", err)
	git("init", "--quiet", "--initial-branch=main")
	git("add", ".")
	git("commit", "--quiet", "--message=first")
	git("checkout", "--quiet", "-b", "side")
	testkit.Write(t, filepath.Join(dir, "app", "on-side"), "")
	git("add", ".")
	git("commit", "--quiet", "--message=second")
	git("checkout", "--quiet", "main")
	server := httptest.NewServer(&cgi.Handler{
		Path: filepath.Join(git("--exec-path"), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + filepath.Dir(dir), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
	})
	t.Cleanup(server.Close)
	return server.URL + "/" + filepath.Base(dir) + "/.git"
}

// serveArchive serves a directory as a tar file, and returns its URL.
func serveArchive(t *testing.T, dir string) string {
	t.Helper()
	archive, err := exec.Command("tar", "-C", dir, "--exclude=.git", "-czf", "-", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-tar")
		_, _ = w.Write(archive)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/context.tar.gz"
}

// TestCacheInContext: a cache and reports in the context's directory do not change the context.
func TestCacheInContext(t *testing.T) {
	t.Parallel()
	app := testkit.App(t)
	testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch\nCOPY . /\n")
	for _, outcome := range []string{"written", "unchanged"} {
		cmd, reports := build(app, "--cache", "type=local,dest=!cache/[b]*/warm").Command(t)
		cmd.Args[slices.Index(cmd.Args, reports)] = "reports"
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "  write  "+outcome+"  ") {
			t.Fatalf("the export is not %s: %v\n%s", outcome, err, out)
		}
	}
	for _, file := range []string{"!cache/[b]*/warm/index.json", "reports/warmlayer.json"} {
		if _, err := os.Stat(filepath.Join(app, file)); err != nil {
			t.Error(err)
		}
	}
}

// TestPlatforms: an image for two platforms is an index, and the second build is warm.
func TestPlatforms(t *testing.T) {
	t.Parallel()
	p, app := newProxy(t), testkit.App(t)
	testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch\nARG TARGETARCH\nCOPY site /site\nCOPY render.sh /$TARGETARCH\n")
	for _, line := range []string{p.cache("one").Line, "type=local,dest=" + filepath.Join(testkit.Temp(t), "cache")} {
		run := func() testkit.Report {
			return pushing(p, app, "--platforms", "linux/amd64,linux/arm64", "--cache", line).Build(t)
		}
		cold, warm := run(), run()
		allCached(t, warm)
		if cold.Cached() != 0 || warm.Digest != cold.Digest || warm.Outcome(t) != "unchanged" {
			t.Errorf("%s: %d steps cached in the first build; image %s, before %s; exports %v", line, cold.Cached(), warm.Digest, cold.Digest, warm.Exports)
		}
		if index := p.get(t, "/v2/image/manifests/v1"); !strings.Contains(index, `"architecture": "arm64"`) {
			t.Errorf("the image is %s", index)
		}
	}
}
