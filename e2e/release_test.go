package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// repository is a clone with the files that a release reads and changes, and with earlier releases.
// Its origin is on this machine.
func repository(t *testing.T) project {
	t.Helper()
	p := project{t.TempDir(), t.TempDir()}
	origin := filepath.Join(p.home, "origin.git")
	p.git(t, "init", "--quiet", "--bare", "--initial-branch=main", origin)
	p.git(t, "clone", "--quiet", origin, ".")
	p.git(t, "config", "user.name", "a")
	p.git(t, "config", "user.email", "a@example.org")
	for _, file := range []string{".github/release.sh", "action.yml", "hooks/command", "templates/build.yml"} {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(p.dir, file)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Write(t, filepath.Join(p.dir, "CHANGELOG.md"),
		"# Changelog\n\n## Unreleased\n\n## v1.10.0\n\nThe tenth.\n\n- New.\n\n## v1.9.1\n\nThe ninth.\n")
	p.git(t, "add", "--all")
	p.git(t, "commit", "--quiet", "--message", "main")
	for _, tag := range []string{"v1.0.9", "v1.9.1", "v1"} {
		p.git(t, "tag", tag)
	}
	p.git(t, "push", "--quiet", "--tags", "origin", "main")
	return p
}

// release runs a step of a release, and tells whether it succeeded.
func (p project) release(args ...string) (said string, ok bool) {
	cmd := exec.Command(filepath.Join(p.dir, ".github", "release.sh"), args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.home, "GIT_CONFIG_NOSYSTEM=1"}
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

// A release is a commit on a detached HEAD, in which each package for a CI names one image by its
// digest. The tag that users follow moves to it.
func TestRelease(t *testing.T) {
	t.Parallel()
	p := repository(t)
	digest := "sha256:" + strings.Repeat("0123456789abcdef", 4)
	for _, step := range []struct {
		args, said string
		fails      bool
	}{
		{args: "check 1.10.0", said: `release: "1.10.0" is not a version such as v1.2.3`, fails: true},
		{args: "check v1.10", said: `release: "v1.10" is not a version such as v1.2.3`, fails: true},
		{args: "check v1.10.0-rc.1", said: `release: "v1.10.0-rc.1" is not a version such as v1.2.3`, fails: true},
		{args: "check v1.11.0", said: `release: CHANGELOG.md has no "## v1.11.0"`, fails: true},
		{args: "check v1.10.0"},
		{args: "notes v1.10.0", said: "The tenth.\n\n- New."},
		{args: "tags v1.10.0", said: "1.10\n1\nlatest"},
		{args: "tags v1.10.0 -emulation", said: "1.10-emulation\n1-emulation\nlatest-emulation"},
		{args: "pin v1.10.0", said: `release: "" is not a digest`, fails: true},
		{args: "pin v1.10.0 " + digest[:70], said: `release: "` + digest[:70] + `" is not a digest`, fails: true},
		{args: "pin v1.10.0 " + digest},
		{args: "tag v1.10.0"},
		{args: "pin v1.10.0 " + digest, said: `release: action.yml must have "  image: Dockerfile" on exactly one line`, fails: true},
		{args: "check v1.10.0", said: "release: v1.10.0 is released already", fails: true},
		{args: "check v1.9.2", said: "release: v1.9.2 is older than v1.10.0", fails: true},
		{args: "publish v1.10.0", said: `release: unknown command "publish"`, fails: true},
	} {
		said, ok := p.release(strings.Fields(step.args)...)
		if ok == step.fails || strings.TrimSpace(said) != step.said {
			t.Errorf("%s: ok is %t:\n%s", step.args, ok, said)
		}
	}
	if said, ok := p.release("check", "v1.10.0\nv1.10.0"); ok {
		t.Errorf("a version of two lines: %s", said)
	}
	p.checkReleased(t, "1.10.0@"+digest, digest)
}

// checkReleased checks the tags of the origin, and the images that the packages at these tags run.
func (p project) checkReleased(t *testing.T, tagged, digest string) {
	t.Helper()
	refs, _ := p.run(t, "git", "ls-remote", "--refs", "origin")
	at := map[string]string{}
	for line := range strings.Lines(refs) {
		commit, ref, _ := strings.Cut(strings.TrimSpace(line), "\t")
		at[ref] = commit
	}
	if len(at) != 5 || at["refs/tags/v1"] == "" || at["refs/tags/v1"] != at["refs/tags/v1.10.0"] || at["refs/tags/v1"] == at["refs/heads/main"] {
		t.Errorf("the origin has\n%s", refs)
	}
	p.git(t, "checkout", "--quiet", "v1")
	if runs := testkit.KeysAt(t, filepath.Join(p.dir, "action.yml"), "runs"); runs["image"] != "docker://ghcr.io/warmlayer/warmlayer@"+digest {
		t.Errorf("the action runs %v", runs["image"])
	}
	image := "ghcr.io/warmlayer/warmlayer:" + tagged
	if named := testkit.KeysAt(t, filepath.Join(p.dir, "templates", "build.yml"), "spec", "inputs", "image"); named["default"] != image {
		t.Errorf("the component runs %v", named["default"])
	}
	hook := exec.Command(filepath.Join(p.dir, "hooks", "command"))
	hook.Dir, hook.Env = p.dir, []string{"PATH=" + testkit.StubDocker(t) + ":/usr/bin:/bin", "HOME=" + p.home}
	if out, err := hook.Output(); err != nil || !strings.HasSuffix(string(out), "\n"+image+"\n") {
		t.Errorf("the plugin: %v, docker gets\n%s", err, out)
	}
}
