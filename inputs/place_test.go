package inputs

import (
	"os"
	"path/filepath"
	"testing"
)

// One Dockerfile and context have one place, wherever they lie on the machine and wherever the
// program is started.
func TestPlace(t *testing.T) {
	t.Parallel()
	at := t.TempDir()
	for _, file := range []string{
		"checkout/.git/HEAD", "checkout/web/Dockerfile", "checkout/web/prod.Dockerfile", "checkout/worktree/.git", "checkout/worktree/web/Dockerfile",
		"job@2/.git/HEAD", "job@2/web/Dockerfile", "plain/Dockerfile", "plain/docker/web.Dockerfile", "tmp.x/Dockerfile", "generated/Dockerfile", "generated/web.Dockerfile",
	} {
		write(t, at, file)
	}
	if err := os.Symlink("checkout", filepath.Join(at, "link")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		dir           string // where the program is started
		context, file string
		subdir, key   string
	}{
		{"checkout", "web", "", "web", ""},
		{"checkout/web", ".", "", "web", ""},
		{".", "checkout/web", "", "web", ""},
		{"/", at + "/checkout/web", "", "web", ""},
		{"link", "web", "", "web", ""},
		{".", "link/web", "link/web/Dockerfile", "web", ""},
		{"job@2", "web", "", "web", ""},
		{"checkout/worktree", "web", "", "web", ""},
		{"checkout", "web", "web/prod.Dockerfile", "web", "web/prod.Dockerfile"},
		{"/", at + "/checkout", at + "/checkout/web/prod.Dockerfile", "", "web/prod.Dockerfile"},
		{"checkout", ".", "web/Dockerfile", "", "web/Dockerfile"},
		// Outside of a repository no path of the machine is part of it.
		{"checkout", at + "/plain", "", "", ""},
		{"plain", ".", "", "", ""},
		{"checkout", at + "/tmp.x", "", "", ""},
		{"plain", ".", "docker/web.Dockerfile", "", "docker/web.Dockerfile"},
		{"/", at + "/plain", at + "/plain/docker/web.Dockerfile", "", "docker/web.Dockerfile"},
		{"checkout", "web", at + "/generated/Dockerfile", "web", ""},
		{"checkout", "web", at + "/generated/web.Dockerfile", "web", "web/web.Dockerfile"},
		{"checkout", at + "/plain", "web/prod.Dockerfile", "", "web/prod.Dockerfile"},
	} {
		args := []string{tt.context}
		if tt.file != "" {
			args = append(args, "--file", tt.file)
		}
		dir := tt.dir
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(at, dir)
		}
		v, problems := Parse(args, nil, dir)
		if len(problems) > 0 || v.Context.Subdir != tt.subdir || v.Dockerfile.Key != tt.key {
			t.Errorf("%+v: context %q, Dockerfile %q, %v", tt, v.Context.Subdir, v.Dockerfile.Key, problems)
		}
	}
}
