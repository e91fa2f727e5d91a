package ci

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/warmlayer/warmlayer/scope"
)

// checkPlan checks the plan of detected facts against the rules that keep caches apart. The tests
// of scope check the plans of all possible facts against these rules and more.
func checkPlan(t *testing.T, f scope.Facts, o scope.Options) {
	t.Helper()
	p := scope.New(f, o)
	e := p.Facts
	own := scope.RefName(fmt.Sprintf("refs/pull/%d/merge", e.PR))
	switch {
	case p.Write == "":
	case o.Write == scope.WriteNever:
		t.Errorf("%+v with %+v writes %q", f, o, p.Write)
	case e.Queue && o.Branch != "" && o.Write == scope.WriteAlways:
		if p.Write != scope.RefName("refs/heads/"+o.Branch) && p.Write != queueOf(e.Base) || !e.Trusted && e.PR != 0 {
			t.Errorf("a merge queue writes %q", p.Write)
		}
	case e.Queue || strings.HasPrefix(string(p.Write), "q-"):
		if !e.Queue || !e.Trusted || p.Write != queueOf(e.Base) {
			t.Errorf("%+v with %+v writes %q", f, o, p.Write)
		}
	case e.PR < 0:
		t.Errorf("%+v with %+v writes %q", f, o, p.Write)
	case e.PR > 0 && p.Write != own:
		t.Errorf("pull request %d writes %q", e.PR, p.Write)
	case e.Unlisted && p.Write != own:
		t.Errorf("an event that does not say whose code is built writes %q", p.Write)
	case !e.Trusted && (o.Write != scope.WriteAlways || len(p.Warnings) == 0):
		t.Errorf("an untrusted build writes %q, with warnings %q", p.Write, p.Warnings)
	}
	allowed := []scope.Name{p.Write}
	if e.Queue {
		allowed = append(allowed, queueOf(e.Base))
	}
	for _, branch := range append([]string{e.Base, e.Default}, o.Fallbacks...) {
		allowed = append(allowed, scope.RefName("refs/heads/"+branch))
	}
	for _, s := range p.Read {
		if strings.HasPrefix(string(s.Name), "pr-") && (e.Protected || e.PR <= 0 || s.Name != own) {
			t.Errorf("reads %q, which is another branch's, or not a protected one's", s.Name)
		}
		if !e.Trusted && !slices.Contains(allowed, s.Name) {
			t.Errorf("an untrusted build reads %q", s.Name)
		}
	}
}

// queueOf is the scope of a branch's merge queue.
func queueOf(base string) scope.Name { return scope.Name("q-" + scope.Slug(base)) }

func yes() *bool { b := true; return &b }
func no() *bool  { return new(bool) }

// FuzzGitHub: with any payload, only a head repository of this very name is trusted, and no option
// lets a pull request write a branch's scope.
func FuzzGitHub(f *testing.F) {
	for _, name := range []string{"pull-request", "pull-request-fork", "pull-request-deleted-fork", "pull-request-target", "push-default", "push-tag", "merge-group", "issue-comment-pull-request"} {
		archive, err := txtar.ParseFile("testdata/github/" + name + ".txtar")
		if err != nil {
			f.Fatal(err)
		}
		m := newMachine(archive)
		f.Add(m.env["GITHUB_EVENT_NAME"], m.env["GITHUB_REF"], m.env["GITHUB_HEAD_REF"], section(archive, "event.json").Data)
	}
	f.Fuzz(func(t *testing.T, event, ref, head string, text []byte) {
		m := machine{
			env: map[string]string{
				"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": event, "GITHUB_REF": ref, "GITHUB_HEAD_REF": head,
				"GITHUB_REPOSITORY": "acme/shop", "GITHUB_EVENT_PATH": "/event.json",
			},
			files: map[string][]byte{"/event.json": text},
		}
		facts := m.facts()
		if facts.Trusted == (facts.Untrusted != "") {
			t.Errorf("trusted %v, reason %q", facts.Trusted, facts.Untrusted)
		}
		switch event {
		case "push", "schedule", "workflow_dispatch", "release":
		case "pull_request":
			if facts.PR == 0 {
				t.Error("a pull request is not detected")
			}
			if facts.Trusted && !strings.Contains(string(text), "acme") && !strings.Contains(string(text), `\u`) {
				t.Errorf("trusted with the payload %q", text)
			}
		case "merge_group":
			if facts.Trusted && !strings.HasPrefix(ref, "refs/heads/gh-readonly-queue/"+facts.Base+"/") {
				t.Errorf("trusted on %q, with the payload %q", ref, text)
			}
		default:
			if facts.Trusted {
				t.Errorf("event %q is trusted", event)
			}
		}
		for _, write := range []string{scope.WriteAuto, scope.WriteAlways, scope.WriteNever} {
			for _, trusted := range []*bool{nil, yes(), no()} {
				checkPlan(t, facts, scope.Options{Write: write, Trusted: trusted, Branch: head})
			}
		}
	})
}

// FuzzCheckout: for files of any content detection succeeds, and finds only a branch that HEAD
// names.
func FuzzCheckout(f *testing.F) {
	f.Add("ref: refs/heads/main\n", "# pack-refs\n", "[init]\ndefaultBranch = main\n", "")
	f.Add(strings.Repeat("a", 40), strings.Repeat("b", 40)+" refs/tags/v1\n^"+strings.Repeat("a", 40)+"\n", "[init", "../..")
	f.Add("ref: refs/heads/.invalid", "^x", "[init] = \"", "/")
	f.Fuzz(func(t *testing.T, head, packed, config, common string) {
		m := machine{
			env:   map[string]string{"PWD": "/src"},
			files: map[string][]byte{"/src/.git/HEAD": []byte(head), "/src/.git/packed-refs": []byte(packed), "/src/.git/config": []byte(config)},
		}
		if common != "" {
			m.files["/src/.git/commondir"] = []byte(common)
		}
		facts := m.facts()
		if facts.Branch != "" && !strings.HasPrefix(head, "ref: refs/heads/"+facts.Branch) {
			t.Errorf("HEAD %q gives branch %q", head, facts.Branch)
		}
		if facts.Tag != "" && (facts.Branch != "" || !strings.Contains(packed, "refs/tags/"+facts.Tag)) {
			t.Errorf("HEAD %q and refs %q give branch %q and tag %q", head, packed, facts.Branch, facts.Tag)
		}
		if facts.Commit != "" && !isHash(facts.Commit) {
			t.Errorf("commit %q", facts.Commit)
		}
		checkPlan(t, facts, scope.Options{})
	})
}

// FuzzEnvironment: with any environment of any CI, and any payload, the facts follow the rules, and
// depend neither on the order of the variables nor on those that are empty.
func FuzzEnvironment(f *testing.F) {
	archives, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range archives {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		var payload []byte
		if event := slices.IndexFunc(archive.Files, func(a txtar.File) bool { return a.Name == "event.json" }); event >= 0 {
			payload = archive.Files[event].Data
		}
		f.Add(string(section(archive, "env").Data), payload, false)
	}
	f.Add("CI=1\n", []byte("{}"), true)
	f.Fuzz(func(t *testing.T, env string, payload []byte, terminal bool) {
		m := machine{env: map[string]string{}, files: map[string][]byte{}, terminal: terminal}
		for line := range strings.Lines(env) {
			if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok {
				m.env[name] = value
			}
		}
		m.files["/event.json"] = payload
		m.env["GITHUB_EVENT_PATH"] = "/event.json"
		d, facts := Detect(Machine{m.environ(), m.readFile, m.terminal})
		if facts.Trusted == (facts.Untrusted != "") {
			t.Errorf("trusted %v, reason %q", facts.Trusted, facts.Untrusted)
		}
		if facts.Trusted && facts.PR > 0 && slices.Contains([]string{"drone", "woodpecker", "bitbucket"}, d.Name) {
			t.Errorf("%s: a pull request that may be a fork's is trusted", d.Name)
		}
		if facts.Trusted && d.Name == "unknown" {
			t.Errorf("%s: what is not known is trusted: %+v", d.Name, facts)
		}
		for _, write := range []string{scope.WriteAuto, scope.WriteAlways} {
			for _, trusted := range []*bool{nil, yes(), no()} {
				checkPlan(t, facts, scope.Options{Write: write, Trusted: trusted})
			}
		}
		sorted := slices.Sorted(slices.Values(append(m.environ(), "WARMLAYER_UNSET=")))
		again, same := Detect(Machine{sorted, m.readFile, m.terminal})
		if again.Name != d.Name || same != facts {
			t.Errorf("%s %+v, and sorted %s %+v", d.Name, facts, again.Name, same)
		}
		if id, _ := d.Job(func(path string) string { return path }); strings.Contains(id, "\n") && !strings.Contains(env, "\n") {
			t.Errorf("the job %q", id)
		}
	})
}
