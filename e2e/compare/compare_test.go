// Package compare runs docker buildx and warmlayer on one BuildKit, for each input of
// docker/build-push-action, and compares the results: images, attestations, metadata, files,
// answers.
package compare

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	sshagent "golang.org/x/crypto/ssh/agent"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// A row is one input, given to both programs. In flags and files REGISTRY is the registry's host,
// IMAGE a name to push to, DIR the directory with the row's files, which is the context too, and
// OUT a path that differs between the two.
type row struct {
	name       string // the input, and the case
	dockerfile string // "": simple
	context    string // "": DIR
	files      map[string]string
	env        map[string]string // for both programs
	theirs     []string
	ours       []string                   // nil: the same as theirs
	stays      bool                       // nothing is pushed as IMAGE
	compare    func(*testing.T, run, run) // nil: sameImages
	differs    string                     // why the results differ in a known way
}

// run is the result of one program.
type run struct {
	image    string // name that it pushed; "": nothing
	out      string // path that replaced OUT
	code     int
	stdout   string
	text     string // stderr
	metadata map[string]any
	pushed   *artifact // what image refers to; nil: nothing
}

const simple = "FROM scratch AS base\nADD rootfs.tar /\nRUN echo hello > /hello\n"

// both are the daemon and the registry that the programs share.
type both struct {
	daemon, registry string
	config           string // of buildx
	layout, agent    string // an OCI layout, and the socket of an SSH agent
	git, engine      string // a repository of Git's own protocol, and the address of a container engine
}

func TestInputs(t *testing.T) {
	program, err := exec.LookPath("buildx")
	testkit.Need(t, "buildx", err)
	b := both{
		daemon:   testkit.StartBuildkitd(t, "--allow-insecure-entitlement=network.host", "--allow-insecure-entitlement=security.insecure"),
		registry: testkit.StartRegistry(t).Host, config: t.TempDir(),
	}
	create := exec.Command(program, "create", "--name", "here", "--driver", "remote", b.daemon)
	create.Env = b.env(t, nil)
	if out, err := create.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b.prepare(t)
	for _, r := range slices.Concat(imageRows, contextRows, resultRows) {
		t.Run(r.name, func(t *testing.T) {
			if r.differs != "" {
				t.Log("differs:", r.differs)
			}
			dir := b.context(t, r)
			theirs := b.buildx(t, program, r, dir)
			ours := b.warmlayer(t, r, dir)
			if (theirs.code == 0) != (ours.code == 0) {
				t.Fatalf("exit code %d, buildx's %d:\n%s\n%s", ours.code, theirs.code, ours.text, theirs.text)
			}
			if r.compare == nil {
				r.compare = sameImages
			}
			r.compare(t, theirs, ours)
		})
	}
}

func (b both) context(t *testing.T, r row) string {
	t.Helper()
	dir := testkit.App(t)
	if r.dockerfile == "" {
		r.dockerfile = simple
	}
	testkit.Write(t, filepath.Join(dir, "Dockerfile"), strings.ReplaceAll(r.dockerfile, "REGISTRY", b.registry))
	for name, content := range r.files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		testkit.Write(t, filepath.Join(dir, name), content)
	}
	return dir
}

func (b both) env(t *testing.T, more map[string]string) []string {
	t.Helper()
	env := map[string]string{
		"PATH": os.Getenv("PATH"), "HOME": t.TempDir(), "BUILDX_CONFIG": b.config, "DOCKER_CONFIG": t.TempDir(),
	}
	maps.Copy(env, more)
	var all []string
	for k, v := range env {
		all = append(all, k+"="+strings.NewReplacer("AGENT", b.agent, "ENGINE", b.engine).Replace(v))
	}
	return all
}

// placed are a row's flags with the placeholders replaced.
func (b both) placed(flags []string, image, dir, out string) []string {
	replace := strings.NewReplacer("REGISTRY", b.registry, "IMAGE", image, "DIR", dir, "OUT", out,
		"LAYOUT", b.layout, "AGENT", b.agent, "GIT", b.git)
	var all []string
	for _, f := range flags {
		all = append(all, replace.Replace(f))
	}
	return all
}

func (b both) image(t *testing.T) string {
	return b.registry + "/" + strings.ToLower(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.TrimPrefix(t.Name(), "TestInputs/"))) + ":v1"
}

func (b both) buildx(t *testing.T, program string, r row, dir string) run {
	t.Helper()
	result := run{image: b.image(t), out: filepath.Join(t.TempDir(), "out")}
	metadata := filepath.Join(t.TempDir(), "metadata.json")
	args := []string{"build", "--builder", "here", "--progress", "plain", "--metadata-file", metadata}
	if !r.stays {
		args = append(args, "--tag", result.image, "--push")
	}
	args = append(args, b.placed(r.theirs, result.image, dir, result.out)...)
	if r.context == "" {
		r.context = dir
	}
	result.run(t, dir, b.env(t, r.env), program, append(args, b.placed([]string{r.context}, result.image, dir, result.out)...)...)
	if content, err := os.ReadFile(metadata); err == nil {
		result.decode(t, content)
	}
	result.pushed = fetch(t, result.image)
	return result
}

func (b both) warmlayer(t *testing.T, r row, dir string) run {
	t.Helper()
	result := run{image: b.image(t), out: filepath.Join(t.TempDir(), "out")}
	flags := r.ours
	for _, f := range r.theirs {
		if r.ours == nil {
			flags = append(flags, strings.Replace(f, "--output", "--outputs", 1))
		}
	}
	outputs := filepath.Join(t.TempDir(), "outputs")
	testkit.Write(t, outputs, "")
	env := append(b.env(t, r.env), "GITHUB_OUTPUT="+outputs)
	args := []string{"build", "--builder", b.daemon, "--cache", "none", "--progress", "plain", "--report-dir", t.TempDir()}
	if !r.stays {
		args = append(args, "--tags", result.image, "--push")
	}
	if r.context == "" {
		r.context = dir
	}
	result.run(t, dir, env, testkit.Program(t), append(args, b.placed(append(flags, r.context), result.image, dir, result.out)...)...)
	content, err := os.ReadFile(outputs)
	if err != nil {
		t.Fatal(err)
	}
	if _, after, ok := strings.Cut(string(content), "metadata<<"); ok {
		lines := strings.SplitN(after, "\n", 3)
		result.decode(t, []byte(lines[1]))
	}
	result.pushed = fetch(t, result.image)
	return result
}

func (r *run) run(t *testing.T, dir string, env []string, program string, args ...string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, &stdout, &stderr
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	r.code, r.stdout, r.text = cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

func (r *run) decode(t *testing.T, content []byte) {
	t.Helper()
	if err := json.Unmarshal(content, &r.metadata); err != nil {
		t.Fatalf("metadata: %v\n%s", err, content)
	}
}

// prepare pushes the images that rows build from.
func (b *both) prepare(t *testing.T) {
	t.Helper()
	app := testkit.App(t)
	push := func(name, dockerfile string) {
		testkit.Write(t, filepath.Join(app, "Dockerfile"), dockerfile)
		testkit.Buildctl(t, b.daemon, app, "--output", "type=image,push=true,name="+b.registry+"/"+name+":v1")
	}
	push("base", simple)
	testkit.Write(t, filepath.Join(app, "scan.sh"), scanner)
	push("scanner", "FROM scratch\nADD rootfs.tar /\nCOPY --chmod=755 scan.sh /\nENTRYPOINT [\"/scan.sh\"]\n")
	testkit.Write(t, filepath.Join(app, "Dockerfile"), simple)
	layout := filepath.Join(t.TempDir(), "layout")
	testkit.Buildctl(t, b.daemon, app, "--output", "type=oci,tar=false,name=base:v1,dest="+layout)
	b.layout, b.agent, b.git, b.engine = layout, testkit.StartSSHAgent(t, sshagent.NewKeyring()), gitServer(t, app), testkit.StartDockerd(t)
}

// scanner speaks BuildKit's SBOM protocol (docs/attestations/sbom-protocol.md), with an empty
// result.
const scanner = `#!/bin/sh
echo '{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document","predicate":{"name":"sbom"}}' > "$BUILDKIT_SCAN_DESTINATION/sbom.spdx.json"
`

// gitServer serves a copy of a directory as the branch main of a repository.
func gitServer(t *testing.T, dir string) string {
	t.Helper()
	base := t.TempDir()
	repo := filepath.Join(base, "repo")
	if err := os.CopyFS(repo, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"init", "-q", "-b", "main"}, {"add", "."}, {"-c", "user.name=a", "-c", "user.email=a@b.example", "commit", "-q", "-m", "first"},
	} {
		if out, err := exec.Command("git", append([]string{"-C", repo}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	return testkit.StartGit(t, base) + "/repo"
}
