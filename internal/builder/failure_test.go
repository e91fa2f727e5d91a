package builder_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/builder"
)

func TestMissingPrograms(t *testing.T) {
	t.Parallel()
	tests := []struct {
		missing  []string
		rootless bool
		want     string
	}{
		{
			missing: []string{"buildkitd"},
			want: "builder: buildkitd is not on PATH\n" +
				"hint: buildkitd comes with BuildKit (github.com/moby/buildkit, releases); " +
				"or set builder to the address of a BuildKit that runs",
		},
		{
			missing: []string{"buildkitd", "runc"},
			want: "builder: buildkitd, runc are not on PATH\n" +
				"hint: buildkitd comes with BuildKit (github.com/moby/buildkit, releases); " +
				"runc is a package of that name (apt-get install runc, apk add runc); " +
				"or set builder to the address of a BuildKit that runs",
		},
		{
			missing: []string{"rootlesskit", "newuidmap"}, rootless: true,
			want: "builder: rootlesskit, newuidmap are not on PATH\n" +
				"hint: rootlesskit comes with RootlessKit (github.com/rootless-containers/rootlesskit, releases); " +
				"newuidmap is in a package (apt-get install uidmap, apk add shadow-uidmap); " +
				"or set builder to the address of a BuildKit that runs",
		},
	}
	for _, test := range tests {
		t.Run(strings.Join(test.missing, " "), func(t *testing.T) {
			if test.rootless && os.Geteuid() == 0 {
				t.Skip("root does not need them; see TestAsAnotherUser")
			}
			dir, bin := tempDir(t), programs(t)
			for _, name := range test.missing {
				if err := os.Remove(filepath.Join(bin, name)); err != nil {
					t.Fatal(err)
				}
			}
			_, err := builder.Open(t.Context(), in(dir, builder.Options{Address: embedded, Environ: environ(bin)}))
			if err == nil || err.Error() != test.want {
				t.Errorf("got %v\nwant %s", err, test.want)
			}
			nothingLeft(t, dir)
		})
	}
}

// TestDaemonDies: a daemon prints an error of real daemons and exits.
func TestDaemonDies(t *testing.T) {
	t.Parallel()
	for words, hint := range map[string]string{
		"mount: /proc: permission denied.":                                                  "run the container with --privileged",
		"failed to mount overlay: operation not permitted":                                  "run the container with --privileged",
		"write /tmp/x: no space left on device":                                             "make room",
		"failed to start the child: fork/exec /proc/self/exe: no space left on device":      "sysctl user.max_user_namespaces",
		"failed to start the child: fork/exec /proc/self/exe: operation not permitted":      "sysctl user.max_user_namespaces",
		"failed to setup UID/GID map: No subuid ranges found for user 1001 (\"ci\")":        "usermod --add-subuids",
		"newuidmap 4711 [0 1001 1 1 100000 65536] failed: newuidmap: uid range not allowed": "usermod --add-subuids",
		"buildkitd: invalid database\na text that is unknown":                               "set builder to the address",
		strings.Repeat("chatter\n", 10_000) + "last words that come after a lot of chatter": "set builder to the address",
	} {
		lines := strings.Split(words, "\n")
		last := lines[len(lines)-1]
		t.Run(last, func(t *testing.T) {
			t.Parallel()
			dir, bin := tempDir(t), programs(t)
			text := filepath.Join(bin, "words")
			if err := os.WriteFile(text, []byte(words+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			replace(t, bin, "buildkitd", `while read -r line; do echo "$line"; done < `+text+" >&2; exit 3")
			_, err := builder.Open(t.Context(), in(dir, builder.Options{Address: embedded, Environ: environ(bin)}))
			var e *builder.Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want a *builder.Error", err)
			}
			if !strings.HasPrefix(err.Error(), "builder: buildkitd exited while it started: exit status 3\n  | ") {
				t.Errorf("got %v", err)
			}
			if !strings.Contains(e.Log, last) || strings.Count(e.Log, "\n") > 12 {
				t.Errorf("the log shown is %q", e.Log)
			}
			if !strings.Contains(e.Hint, hint) {
				t.Errorf("hint: %s\nwant %s", e.Hint, hint)
			}
			nothingLeft(t, dir)
		})
	}
}

func TestUnusableTempDir(t *testing.T) {
	t.Parallel()
	bin := programs(t)
	long := filepath.Join(tempDir(t), strings.Repeat("x", 80))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ dir, want string }{
		"too long": {long, "is too long for a socket: "},
		"absent":   {"/nowhere", "make a private directory: "},
	} {
		_, err := builder.Open(t.Context(), in(test.dir, builder.Options{Address: embedded, Environ: environ(bin)}))
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "\nhint: set TMPDIR") {
			t.Errorf("%s: %v", name, err)
		}
	}
	nothingLeft(t, long)
}
