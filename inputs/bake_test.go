package inputs_test

import (
	"crypto/ed25519"
	"encoding/json"
	"encoding/pem"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/crypto/ssh"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/bakefile"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// printed is a target as docker buildx bake --print shows it.
type printed struct {
	Context, Dockerfile, Target, Network, Call string
	Inline                                     string `json:"dockerfile-inline"`
	Contexts, Args, Labels                     map[string]string
	Hosts                                      map[string]string `json:"extra-hosts"`
	Tags, Platforms, Ulimits, Entitlements     []string
	Annotations                                []string
	Filter                                     []string `json:"no-cache-filter"`
	Pull                                       bool
	NoCache                                    bool   `json:"no-cache"`
	ShmSize                                    string `json:"shm-size"`
	Attest                                     []map[string]any
	From                                       []map[string]string `json:"cache-from"`
	To                                         []map[string]string `json:"cache-to"`
	Secret, Output                             []map[string]string
	SSH                                        []struct {
		ID    string
		Paths []string
	}
}

// TestBakeAsBuildx: bake files mean what they mean to docker buildx bake --print: the same targets, with the same attributes.
func TestBakeAsBuildx(t *testing.T) {
	t.Parallel()
	cases, err := filepath.Glob("testdata/bake/*.txtar")
	if err != nil || len(cases) < 20 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	for _, file := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			c := newBakeCase(t, file)
			want := c.buildx(t)
			c.makeFiles(t, want)
			v := c.parse(t)
			var names []string
			for _, target := range v.Targets {
				names = append(names, target.Bake.Target)
				if p, ok := want[target.Bake.Target]; ok {
					if b, w := shown(t, c.expected(t, p)), shown(t, seen(target)); b != w {
						t.Errorf("target %s: buildx has\n%s\nwarmlayer has\n%s", target.Bake.Target, b, w)
					}
				}
			}
			if !slices.Equal(names, slices.Sorted(maps.Keys(want))) {
				t.Errorf("targets %v, buildx has %v", names, slices.Sorted(maps.Keys(want)))
			}
		})
	}
}

// bakeCase is a directory with bake files, and what is asked of them.
type bakeCase struct {
	dir     string
	environ []string
	asked   map[string][]string // bake, targets, set, vars and allow
}

func newBakeCase(t *testing.T, file string) bakeCase {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c := bakeCase{dir: t.TempDir(), asked: map[string][]string{}, environ: []string{"PATH=" + os.Getenv("PATH"), "DOCKER_CONFIG=" + t.TempDir()}}
	for _, f := range archive.Files {
		if f.Name != "args" {
			testkit.Write(t, filepath.Join(c.dir, f.Name), string(f.Data))
			continue
		}
		for line := range strings.Lines(string(f.Data)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			if key == "env" {
				c.environ = append(c.environ, value)
				continue
			}
			c.asked[key] = append(c.asked[key], value)
		}
	}
	return c
}

// buildx is what docker buildx bake prints.
func (c bakeCase) buildx(t *testing.T) map[string]printed {
	t.Helper()
	program, err := exec.LookPath("buildx")
	testkit.Need(t, "buildx", err)
	args := []string{"bake", "--print"}
	for flag, key := range map[string]string{"--set": "set", "--var": "vars", "--allow": "allow"} {
		for _, value := range c.asked[key] {
			args = append(args, flag, value)
		}
	}
	for _, files := range c.asked["bake"] {
		for file := range strings.SplitSeq(files, ",") {
			args = append(args, "--file", file)
		}
	}
	cmd := exec.Command(program, append(args, c.asked["targets"]...)...)
	cmd.Dir, cmd.Env = c.dir, c.environ
	c.makeKey(t)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, complaint.String())
	}
	var said struct{ Target map[string]printed }
	if err := json.Unmarshal(out, &said); err != nil {
		t.Fatal(err)
	}
	return said.Target
}

// makeKey makes the key that a case may name.
func (c bakeCase) makeKey(t *testing.T) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	testkit.Write(t, filepath.Join(c.dir, "deploy.key"), string(pem.EncodeToMemory(block)))
}

// shown is a build as text.
func shown(t *testing.T, b build) string {
	t.Helper()
	text, err := json.MarshalIndent(b, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// makeFiles makes the directories and Dockerfiles that targets name.
func (c bakeCase) makeFiles(t *testing.T, targets map[string]printed) {
	t.Helper()
	for _, p := range targets {
		dirs := slices.Collect(maps.Values(p.Contexts))
		if !strings.Contains(p.Context, "://") {
			writeFile(t, filepath.Join(c.dir, p.Context, p.Dockerfile), "FROM scratch\n")
		}
		for _, dir := range dirs {
			if !strings.Contains(dir, ":") {
				writeFile(t, filepath.Join(c.dir, dir, "file"), "")
			}
		}
	}
}

// writeFile writes a file, and the directories that it is in.
func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	testkit.Write(t, path, content)
}

func (c bakeCase) parse(t *testing.T, more ...string) inputs.Values {
	t.Helper()
	args := append([]string{"--context", c.dir}, more...)
	for key, values := range c.asked {
		for _, value := range values {
			args = append(args, "--"+key, value)
		}
	}
	if c.asked["targets"] == nil {
		args = append(args, "--targets", "default")
	}
	v, problems := inputs.ParseJob(args, c.environ, ".", inputs.Job{Bake: func(r bakefile.Request) (bakefile.Definition, error) {
		return bakefile.Read(t.Context(), r)
	}})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return v
}

// TestBakeForAllTargets: provenance and sbom are attributes of all targets, in every spelling of true and false.
func TestBakeForAllTargets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	testkit.Write(t, filepath.Join(dir, "docker-bake.hcl"), `target "default" { attest = ["type=sbom"] }`)
	testkit.Write(t, filepath.Join(dir, "Dockerfile"), "FROM scratch\n")
	for args, want := range map[string]string{
		"--provenance=false --sbom=False": "", "--provenance=mode=max --sbom=0": "provenance mode=max ", "--provenance=FALSE --sbom=true": "sbom  ",
	} {
		v := bakeCase{dir: dir, asked: map[string][]string{}}.parse(t, strings.Fields(args)...)
		got := ""
		for _, a := range v.Targets[0].Attests {
			got += a.Type + " " + a.String() + " "
		}
		if got != want {
			t.Errorf("%s: %q", args, got)
		}
	}
}

// TestBakeProblems: what does not go with bake files is reported at once, and by its target.
func TestBakeProblems(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	testkit.Write(t, filepath.Join(dir, "docker-bake.hcl"), `
group "default" { targets = ["a", "b"] }
target "a" { no-cache-filter = ["x y"] }
target "b" {
  dockerfile = "missing.Dockerfile"
  entitlements = ["network.host"]
}`)
	testkit.Write(t, filepath.Join(dir, "Dockerfile"), "FROM scratch\n")
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"inputs of a target": {[]string{"--tags", "a/b:1", "--build-args", "A=1", "--part"}, []string{
			"tags: with bake files this is an attribute of each target\nhint: write it there, or replace it with set: *.tags=…",
			"build-args: with bake files this is an attribute of each target", "part: an image of several jobs has no bake file",
		}},
		"attributes of targets": {[]string{"--allow", "network.host"}, []string{
			`target a: no-cache-filters: line 1: "x y" is not the name of a stage`, `target b: file: no Dockerfile at "missing.Dockerfile"`,
		}},
		"entitlements":   {nil, []string{`allow: the bake files ask for "network.host", which is not allowed`}},
		"no such target": {[]string{"--targets", "c"}, []string{"bake: failed to find target c"}},
		"no such file":   {[]string{"--bake", "none.hcl"}, []string{"bake: open none.hcl: no such file or directory"}},
		"standard input": {[]string{"--bake", "-"}, []string{"bake: line 1: a bake file cannot be standard input"}},
		"mounts":         {[]string{"--cache-mounts", "auto"}, []string{"cache-mounts: cache mounts are not kept with bake files"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"--context", dir, "--targets", "default"}, c.args...)
			if slices.Contains(c.args, "--targets") {
				args = append([]string{"--context", dir}, c.args...)
			}
			_, problems := inputs.ParseJob(args, nil, ".", inputs.Job{Bake: func(r bakefile.Request) (bakefile.Definition, error) {
				return bakefile.Read(t.Context(), r)
			}})
			said := problems.Error()
			for i, want := range c.want {
				if !strings.Contains(said, want) {
					t.Errorf("%s: no %q in:\n%s", strconv.Itoa(i), want, said)
				}
			}
		})
	}
}
