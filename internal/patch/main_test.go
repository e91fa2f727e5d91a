package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestChanges: every change applies to the module that go.mod requires, what changed compiles as a part of the daemon,
// and layers are unpacked and compressed as before.
func TestChanges(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	modfile, err := write(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes { // BuildKit itself drops a function that ends a context (v0.34.2, solver/jobs.go, Get)
		pkg := c.module + "/" + filepath.Dir(c.file)
		if out, err := exec.Command("go", "vet", "-lostcancel=false", "-modfile", modfile, pkg).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", pkg, err, out)
		}
	}
	for last, args := range map[string][]string{ // the test that must have run, and what runs it
		"TestUnpackApply":       {"-race", "-run", "^TestUnpack", "."},
		"TestParallel":          {"-run", "^TestParallel", buildkit + "/" + flateDir},
		"TestParallel/mixed/0/": {"-race", "-run", "^TestParallel$/^mixed", buildkit + "/" + flateDir},
	} {
		test := exec.Command("go", append([]string{"test", "-modfile", modfile, "-v"}, args...)...)
		if out, err := test.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+last) {
			t.Errorf("%v: %v\n%s", test, err, out)
		}
	}
	// A second run begins anew.
	if _, err := write(dir); err != nil {
		t.Error(err)
	}
}

// TestTextOnce: a change whose text a new BuildKit lacks, or has twice, fails and changes nothing.
func TestTextOnce(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"none", "old old"} {
		dir := t.TempDir()
		path := filepath.Join(dir, "a.go")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		err := change{"", "a.go", []edit{{"old", "new"}}}.apply(dir)
		if err == nil || !strings.Contains(err.Error(), "internal/patch") {
			t.Errorf("%q: %v", content, err)
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != content {
			t.Errorf("%q became %q, %v", content, after, err)
		}
	}
}
