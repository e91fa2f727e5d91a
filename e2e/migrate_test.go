package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// job is a block of docs/migrate.md: the steps of a job, with its matrix if there is one.
type job struct {
	heading  string
	Strategy struct {
		Matrix map[string][]string `yaml:"matrix"`
	} `yaml:"strategy"`
	Steps []struct {
		Uses string            `yaml:"uses"`
		With map[string]string `yaml:"with"`
	} `yaml:"steps"`
}

// TestMigrationGuide runs every step of docs/migrate.md that uses warmlayer, first as a push to
// main and then as a push to a branch, which must find all steps in main's cache. A step that merges follows the jobs before it
// in its section.
func TestMigrationGuide(t *testing.T) {
	t.Parallel()
	jobs := migrationGuide(t)
	if len(jobs) < 8 {
		t.Fatalf("%d blocks use warmlayer", len(jobs))
	}
	for i, j := range jobs {
		if j.merges() {
			continue // it runs with the job before it
		}
		t.Run(fmt.Sprint(i, " ", j.heading), func(t *testing.T) {
			t.Parallel()
			c := newCheckout(t, j.heading)
			for _, values := range combinations(j.Strategy.Matrix) {
				for _, s := range j.Steps {
					if strings.HasPrefix(s.Uses, "warmlayer/warmlayer@") {
						c.run(t, "main", s.With, values)
						warm := c.run(t, "feature/x", s.With, values)
						if warm.Cached() != len(warm.Steps) || warm.Digest == "" && len(warm.Images) == 0 {
							t.Errorf("%v: %d of %d steps cached, image %q", values, warm.Cached(), len(warm.Steps), warm.Digest)
						}
					}
				}
			}
			for _, branch := range []string{"main", "feature/x"} {
				if i+1 < len(jobs) && jobs[i+1].merges() {
					if merged := c.run(t, branch, jobs[i+1].Steps[0].With, nil); merged.Digest == "" {
						t.Errorf("%s: nothing is merged", branch)
					}
				}
			}
		})
	}
}

// merges tells whether the job makes one image of those of the jobs before it.
func (j job) merges() bool { return j.Steps[0].With["command"] == "merge" }

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// migrationGuide are the blocks that use warmlayer.
func migrationGuide(t *testing.T) []job {
	t.Helper()
	text, err := os.ReadFile("docs/migrate.md")
	if err != nil {
		t.Fatal(err)
	}
	var jobs []job
	for section := range strings.SplitSeq(string(text), "\n## ") {
		heading, _, _ := strings.Cut(section, "\n")
		for _, block := range yamlBlock.FindAllStringSubmatch(section, -1) {
			j := job{heading: heading}
			if err := yaml.Unmarshal([]byte(block[1]), &j); err != nil {
				if err := yaml.Unmarshal([]byte(block[1]), &j.Steps); err != nil {
					t.Fatalf("%s: %v\n%s", heading, err, block[1])
				}
			}
			if strings.Contains(block[1], "uses: warmlayer/warmlayer@") {
				jobs = append(jobs, j)
			}
		}
	}
	return jobs
}

// combinations are those of a matrix; without a matrix, one without values.
func combinations(matrix map[string][]string) []map[string]string {
	all := []map[string]string{{}}
	for key, values := range matrix {
		var next []map[string]string
		for _, one := range all {
			for _, v := range values {
				more := maps.Clone(one)
				more[key] = v
				next = append(next, more)
			}
		}
		all = next
	}
	return all
}

// checkout is a repository on a runner, with a local registry instead of ghcr.io.
type checkout struct {
	dir     string
	path    string // the runner's PATH
	replace *strings.Replacer
}

// The Dockerfiles of the guide's repository. Those for several platforms have no RUN steps: other
// tests cover emulators and builders of other architectures.
const (
	plainFile    = "FROM scratch AS base\nADD rootfs.tar /\nFROM base AS api\nRUN echo api > /api\nFROM base AS worker\nRUN echo worker > /worker\n"
	portableFile = "FROM scratch\nARG TARGETPLATFORM\nCOPY render.sh /\nLABEL platform=$TARGETPLATFORM\n"
	secretFile   = "FROM scratch\nADD rootfs.tar /\nRUN --mount=type=secret,id=token --mount=type=secret,id=key --mount=type=secret,id=npmrc test \"$(cat /run/secrets/token /run/secrets/key /run/secrets/npmrc)\" = 'canary-onecanary-twocanary-three'\n"
	bakeFile     = `group "release" { targets = ["api", "worker"] }
target "api" {
  target = "api"
  tags = ["ghcr.io/acme/api:latest"]
}
target "worker" {
  target = "worker"
  tags = ["ghcr.io/acme/worker:latest"]
}
`
	apiFile = "FROM scratch AS base\nADD rootfs.tar /\nARG VERSION=0\nRUN echo $VERSION > /version\n"
)

func newCheckout(t *testing.T, heading string) checkout {
	t.Helper()
	root := plainFile
	switch {
	case strings.HasPrefix(heading, "Several platforms"):
		root = portableFile
	case heading == "Secrets":
		root = secretFile
	}
	c := checkout{dir: testkit.App(t), path: os.Getenv("PATH")}
	write := func(name, content string) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(c.dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		testkit.Write(t, filepath.Join(c.dir, name), content)
	}
	tar, err := os.ReadFile(filepath.Join(c.dir, "rootfs.tar"))
	if err != nil {
		t.Fatal(err)
	}
	write("Dockerfile", root)
	write(".npmrc", "canary-three")
	write("services/api/Dockerfile", apiFile)
	write("services/api/rootfs.tar", string(tar))
	write("services/worker/note", "shared")
	replace := []string{
		"ghcr.io", testkit.StartRegistry(t).Host, "${{ secrets.TOKEN }}", "canary-one",
	}
	for _, arch := range []string{"amd64", "arm64"} {
		if strings.Contains(heading, "each on a machine of its own") {
			replace = append(replace, "tcp://"+arch+".builders.example:1234", testkit.StartBuildkitd(t))
		}
	}
	c.replace = strings.NewReplacer(replace...)
	if heading == "docker/bake-action" {
		write("docker-bake.hcl", c.replace.Replace(bakeFile))
		c.path = testkit.ImagePath(t)
	}
	return c
}

// run pushes to a branch on GitHub.
func (c checkout) run(t *testing.T, branch string, with, matrix map[string]string) testkit.Report {
	t.Helper()
	temp, outputs := t.TempDir(), filepath.Join(t.TempDir(), "outputs")
	testkit.Write(t, outputs, "")
	event := filepath.Join(temp, "event.json")
	testkit.Write(t, event, `{"repository": {"default_branch": "main", "private": true}}`)
	env := map[string]string{
		"CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "push", "GITHUB_EVENT_PATH": event,
		"GITHUB_REF": "refs/heads/" + branch, "GITHUB_REF_NAME": branch, "GITHUB_REF_TYPE": "branch", "GITHUB_REPOSITORY": "acme/shop",
		"PATH": c.path, "GITHUB_SERVER_URL": "https://github.com", "GITHUB_RUN_ID": "1", "GITHUB_SHA": strings.Repeat("0a", 20), "GITHUB_OUTPUT": outputs, "RUNNER_TEMP": temp, "BUILDX_NO_DEFAULT_ATTESTATIONS": "0", "SIGNING_KEY": "canary-two",
	}
	for name, value := range with {
		for key, v := range matrix {
			value = strings.ReplaceAll(value, "${{ matrix."+key+" }}", v)
		}
		env["INPUT_"+strings.ToUpper(name)] = c.replace.Replace(value)
	}
	out := testkit.Invocation{Dir: c.dir, Env: env}.Start(t)
	if out.Code != 0 || strings.Contains(out.Text+out.Files, "${{") {
		t.Fatalf("exit code %d:\n%s", out.Code, out.Text)
	}
	shown := regexp.MustCompile(`(?m)^::add-mask::.*$`).ReplaceAllString(out.Text, "") // GitHub's runner removes these lines
	if strings.Contains(shown+out.Files, "canary") {
		t.Errorf("a secret is in the output:\n%s", out.Text)
	}
	return out.Report
}
