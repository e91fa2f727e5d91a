package inputs

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// onGitHub are the mounts of a container action.
var onGitHub = Mounts{Ephemeral: true, List: []Mount{
	{"/var/run/docker.sock", "/var/run/docker.sock"},
	{"/home/runner/work/_temp", "/github/runner_temp"},
	{"/home/runner/work/_temp/_github_home", "/github/home"},
	{"/home/runner/work/app/app", "/github/workspace"},
}}

func TestHere(t *testing.T) {
	t.Parallel()
	shared := onGitHub
	shared.Ephemeral = false
	same := Mounts{Ephemeral: true, List: []Mount{{"/work", "/work"}, {"/", "/host"}}}
	for _, test := range []struct {
		mounts Mounts
		name   string
		want   string
		lasts  bool
	}{
		{onGitHub, "out", "out", true},
		{onGitHub, "-", "-", true},
		{onGitHub, "/home/runner/work/app/app/out", "/github/workspace/out", true},
		{onGitHub, "/home/runner/work/app/app", "/github/workspace", true},
		{onGitHub, "/home/runner/work/app/app/../../_temp/x", "/github/runner_temp/x", true},
		{onGitHub, "/home/runner/work/_temp/_github_home/.npmrc", "/github/home/.npmrc", true},
		{onGitHub, "/github/workspace/out", "/github/workspace/out", true},
		{onGitHub, "/home/runner/work/app/application", "/home/runner/work/app/application", false},
		{onGitHub, "/tmp/.buildx-cache", "/tmp/.buildx-cache", false},
		{onGitHub, "/home/runner/.ssh/id", "/home/runner/.ssh/id", false},
		{shared, "/tmp/out", "/tmp/out", true},
		{shared, "/home/runner/work/_temp/x", "/github/runner_temp/x", true},
		{same, "/work/out", "/work/out", true},
		{same, "/host/etc", "/host/etc", true},
		{same, "/etc/passwd", "/host/etc/passwd", true},
		{Mounts{}, "/tmp/out", "/tmp/out", true},
	} {
		if got, lasts := test.mounts.Translate(test.name); got != test.want || lasts != test.lasts {
			t.Errorf("%s: %s, %v", test.name, got, lasts)
		}
	}
}

// TestHostPaths sets each input that names files to paths of the machine.
func TestHostPaths(t *testing.T) {
	t.Parallel()
	dir := checkout(t)
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("geheim"), 0o600); err != nil {
		t.Fatal(err)
	}
	mounts := Mounts{Ephemeral: true, List: []Mount{{"/home/runner/work", dir}}}
	v, problems := ParseJob(nil, []string{
		"INPUT_CONTEXT=/home/runner/work", "INPUT_FILE=/home/runner/work/Dockerfile", "INPUT_BUILD-CONTEXTS=docs=/home/runner/work",
		"INPUT_OUTPUTS=/home/runner/work/files\ntype=oci,tar=true,\"dest=/home/runner/work/a,b.tar\"",
		"INPUT_CACHE=type=local,src=/home/runner/work/c,dest=/home/runner/work/d", "INPUT_CACHE-TO=type=local,dest=/home/runner/work/e",
		"INPUT_SECRET-FILES=token=/home/runner/work/token", "INPUT_SECRETS=path=/home/runner/work/token",
		"INPUT_REPORT-DIR=/home/runner/work/report",
	}, dir, Job{Mounts: mounts})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for what, pair := range map[string][2]string{
		"context": {v.Context.Dir, dir}, "file": {v.Dockerfile.Path, at("Dockerfile")}, "build-contexts": {v.BuildContexts[0].Dir, dir},
		"outputs, a path": {v.Outputs[0].Dest, at("files")}, "outputs": {v.Outputs[1].Dest, at("a,b.tar")},
		"cache, src": {v.Caches[0].Attrs["src"], at("c")}, "cache, dest": {v.Caches[0].Attrs["dest"], at("d")},
		"cache-to": {v.CacheTo[0].Attrs["dest"], at("e")}, "report-dir": {v.ReportDir, at("report")},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %s, want %s", what, pair[0], pair[1])
		}
	}
	if want := []Secret{{"path", "/home/runner/work/token"}, {"token", "geheim"}}; !reflect.DeepEqual(v.Secrets, want) {
		t.Errorf("secrets: %d, want %d", len(v.Secrets), len(want)) // a value is not a path
	}
}

func TestHostPathsThatAreLost(t *testing.T) {
	t.Parallel()
	mounts := Mounts{Ephemeral: true, List: []Mount{{"/home/runner/work", "/github/workspace"}}}
	for input, value := range map[string]string{
		"outputs": "type=local,dest=/lost/out", "cache": "type=local,dest=/lost/cache", "cache-from": "type=local,src=/lost/cache",
		"secret-files": "id=/lost/secret", "ssh": "default=/lost/key", "context": "/lost", "file": "/lost/Dockerfile",
		"build-contexts": "docs=/lost", "buildkitd-config": "/lost/toml", "report-dir": "/lost/report",
	} {
		_, problems := ParseJob(nil, []string{"INPUT_" + strings.ToUpper(input) + "=" + value}, checkout(t), Job{Mounts: mounts})
		if got := problems.Error(); !strings.Contains(got, input+": ") || !strings.Contains(got, "is not mounted into this container\nhint: "+hintMounts) {
			t.Errorf("%s: %s", input, got)
		}
		if n := strings.Count(problems.Error(), input+": "); n != 1 {
			t.Errorf("%s: %d problems for one mistake:\n%s", input, n, problems)
		}
	}
	_, problems := ParseJob(nil, []string{"INPUT_SSH=default", "SSH_AUTH_SOCK=/lost/agent"}, checkout(t), Job{Mounts: mounts})
	if want := "ssh: line 1: the agent's socket is not mounted into this container\nhint: name a key instead: default=path"; problems.Error() != want {
		t.Errorf("agent: %s", problems)
	}
}
