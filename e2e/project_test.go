package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// project is the test app, checked out on branch main.
type project struct{ dir, home string }

// newProject is a project with a remote repository and more files.
func newProject(t *testing.T, remote string, files map[string]string) project {
	t.Helper()
	p := project{testkit.App(t), t.TempDir()}
	for name, content := range files {
		path := filepath.Join(p.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		testkit.Write(t, path, content)
	}
	p.git(t, "init", "--quiet", "--initial-branch=main")
	p.git(t, "config", "user.name", "a")
	p.git(t, "config", "user.email", "a@example.org")
	p.git(t, "remote", "add", "origin", remote)
	p.git(t, "add", "--all")
	p.git(t, "commit", "--quiet", "--message", "a shop")
	p.git(t, "update-ref", "refs/remotes/origin/main", "main")
	p.git(t, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
	return p
}

func (p project) git(t *testing.T, args ...string) {
	t.Helper()
	p.run(t, "git", args...)
}

// run runs a program in the project, and returns its output.
func (p project) run(t *testing.T, program string, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, say bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, &out, &say
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.home, "GIT_CONFIG_NOSYSTEM=1"}
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s\n%s", program, err, out.String(), say.String())
	}
	return out.String(), say.String()
}
