package ci

import (
	"bytes"
	"encoding/json"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/warmlayer/warmlayer/scope"
)

var update = flag.Bool("update", false, "write what the code gives into testdata")

// TestDetect runs the archives of testdata/<ci>: env is the environment, event.json the payload
// at GITHUB_EVENT_PATH, a file with an absolute name is part of the machine, with PWD as the
// working directory. A file "terminal" says that the program runs at a terminal, and "context" names the
// root of the checkout that the context is in. want.json is the
// plan without options.
func TestDetect(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.ToSlash(file), "testdata/"), ".txtar")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			m := newMachine(archive)
			plan := scope.New(m.facts(), scope.Options{})
			var got bytes.Buffer
			out := json.NewEncoder(&got)
			out.SetEscapeHTML(false)
			out.SetIndent("", "  ")
			if err := out.Encode(plan); err != nil {
				t.Fatal(err)
			}
			want := section(archive, "want.json")
			if *update {
				want.Data = got.Bytes()
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(want.Data, got.Bytes()) {
				t.Errorf("plan:\n%swant:\n%s", got.Bytes(), want.Data)
			}
		})
	}
}

// When any one variable of a fork's pull request is missing, as in a container that gets only some
// of them, the build still writes no branch's cache.
func TestDetectWithoutOneVariable(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*/pull-request*fork*.txtar")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d cases, %v", len(files), err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		whole := newMachine(archive)
		ci := whole.facts().CI
		for missing := range whole.env {
			m := newMachine(archive)
			delete(m.env, missing)
			facts := m.facts()
			if plan := scope.New(facts, scope.Options{}); facts.CI == ci && strings.HasPrefix(string(plan.Write), "b-") {
				t.Errorf("%s without %s writes %s", file, missing, plan.Write)
			}
		}
	}
}

// For every captured environment the CI is recognised, the build is trusted or has a reason why
// not, and no input lets a pull request write a branch's cache.
func TestDetectAll(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m := newMachine(archive)
		facts := m.facts()
		if ci := filepath.Base(filepath.Dir(file)); ci != "git" && facts.CI != ci {
			t.Errorf("%s is detected as %q", file, facts.CI)
		}
		if facts.Trusted == (facts.Untrusted != "") {
			t.Errorf("%s: trusted %v, reason %q", file, facts.Trusted, facts.Untrusted)
		}
		for _, o := range []scope.Options{{}, {Write: "always"}, {Trusted: yes()}, {Trusted: yes(), Write: "always"}} {
			checkPlan(t, facts, o)
			if plan := scope.New(facts, o); facts.PR != 0 && strings.HasPrefix(string(plan.Write), "b-") {
				t.Errorf("%s with %+v writes %s", file, o, plan.Write)
			}
		}
	}
}

// section returns the file of that name in the archive. A missing one is added.
func section(archive *txtar.Archive, name string) *txtar.File {
	for i := range archive.Files {
		if archive.Files[i].Name == name {
			return &archive.Files[i]
		}
	}
	archive.Files = append(archive.Files, txtar.File{Name: name})
	return &archive.Files[len(archive.Files)-1]
}

// machine is an environment and a file system in memory.
type machine struct {
	env      map[string]string
	files    map[string][]byte
	terminal bool
}

func newMachine(archive *txtar.Archive) machine {
	m := machine{env: map[string]string{}, files: map[string][]byte{}}
	for line := range strings.Lines(string(section(archive, "env").Data)) {
		if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok {
			m.env[name] = value
		}
	}
	for _, file := range archive.Files {
		if file.Name == "event.json" {
			m.files[m.env["GITHUB_EVENT_PATH"]] = file.Data
		}
		m.terminal = m.terminal || file.Name == "terminal"
		m.files[file.Name] = file.Data
	}
	return m
}

func (m machine) facts() scope.Facts {
	dialect, facts := Detect(Machine{m.environ(), m.readFile, m.terminal})
	_, facts = dialect.Around(strings.TrimSpace(string(m.files["context"])), facts)
	return facts
}

func (m machine) environ() []string {
	var environ []string
	for name, value := range m.env {
		environ = append(environ, name+"="+value)
	}
	return environ
}

func (m machine) readFile(name string) ([]byte, error) {
	if !filepath.IsAbs(name) {
		name = filepath.Join("/", m.env["PWD"], name)
	}
	if text, ok := m.files[filepath.ToSlash(filepath.Clean(name))]; ok {
		return text, nil
	}
	return nil, fs.ErrNotExist
}

func TestRepositoryAddress(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"git@github.com:acme/shop.git":               "github.com/acme/shop",
		"github.com:acme/shop":                       "github.com/acme/shop",
		"git@github.com:/acme/shop.git":              "github.com/acme/shop",
		"ssh://git@GitHub.com/acme/shop.git":         "github.com/acme/shop",
		"ssh://git@github.com:22/acme/shop":          "github.com/acme/shop",
		"ssh://git@github.com:2222/acme/shop":        "github.com:2222/acme/shop",
		"git://github.com/acme/shop.git":             "github.com/acme/shop",
		"https://github.com:443/acme/shop/":          "github.com/acme/shop",
		"https://user:hunter2@github.com/acme/shop":  "github.com/acme/shop",
		"https://github.com/Acme/shop":               "github.com/Acme/shop",
		"https://gitlab.example/group/sub/shop.git":  "gitlab.example/group/sub/shop",
		"https://github.com/acme/shop.github.io.git": "github.com/acme/shop.github.io",
		"https://github.com/":                        "",
		"/srv/git/shop.git":                          "",
		"../shop":                                    "",
		"file:///srv/git/shop.git":                   "",
		"https://%zz/acme/shop":                      "",
		"shop":                                       "",
		"":                                           "",
	} {
		if got := repository(address); got != want {
			t.Errorf("repository(%q) = %q, want %q", address, got, want)
		}
	}
}

func TestQueueBase(t *testing.T) {
	t.Parallel()
	for branch, want := range map[string]string{
		"gh-readonly-queue/main/pr-7-abc":        "main",
		"gh-readonly-queue/release/1.4/pr-7-abc": "release/1.4",
		"gh-readonly-queue/a/pr-1/pr-7-abc":      "a/pr-1",
		"gh-readonly-queue/main":                 "",
		"gh-readonly-queue//pr-7-abc":            "",
		"x/gh-readonly-queue/main/pr-7-abc":      "",
		"main":                                   "",
		"":                                       "",
	} {
		if got := queueBase(branch); got != want {
			t.Errorf("queueBase(%q) = %q, want %q", branch, got, want)
		}
	}
}

func TestPullNumber(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]int{
		"7": 7, "2147483647": 1<<31 - 1,
		"": 0, "false": 0, "0": 0, "-7": 0, "+7": 0, "7 ": 0, "7.0": 0, "0x7": 0, "2147483648": 0, "٧": 0,
	} {
		if got := pullNumber(s); got != want {
			t.Errorf("pullNumber(%q) = %d, want %d", s, got, want)
		}
	}
}

func TestConfigValue(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"[init]\n\tdefaultBranch = main\n":                        "main",
		"[INIT] DEFAULTBRANCH=main":                               "main",
		"[init]\ndefaultBranch = \"a # b\" ; c\n":                 "a # b",
		"[init]\ndefaultBranch = a#b\n":                           "a",
		"[init]\ndefaultBranch = a\ndefaultBranch = b\n":          "b",
		"[init \"x\"]\ndefaultBranch = a\n":                       "",
		"[core]\ndefaultBranch = a\n":                             "",
		"[init]\n# defaultBranch = a\n":                           "",
		"[init]\ndefaultBranch\n":                                 "",
		"[init]\ndefaultBranch = a\r\n[core]\r\nbare = false\r\n": "a",
		"": "",
	} {
		if got := configValue(text, "init", "defaultBranch"); got != want {
			t.Errorf("configValue(%q) = %q, want %q", text, got, want)
		}
	}
}
