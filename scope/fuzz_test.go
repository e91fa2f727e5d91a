package scope

import (
	"fmt"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	nameGrammar = regexp.MustCompile(`^[a-z0-9_][a-z0-9._-]{0,109}$`)
	// A tag of the distribution specification, and the longest prefix that a user may give it.
	tagGrammar  = regexp.MustCompile(`^\w[\w.-]{0,127}$`)
	tagPrefix   = strings.Repeat("p", 17)
	pullGrammar = regexp.MustCompile(`^pr-[1-9][0-9]*(\.|$)`)
)

// checkName checks a name against the rules of every store. The grammar has no slash, which object
// stores treat as a folder, and no semicolon, at which BuildKit splits the names of s3.
func checkName(t *testing.T, n Name) {
	t.Helper()
	if !nameGrammar.MatchString(string(n)) {
		t.Errorf("%q is not a name", n)
	}
	if !tagGrammar.MatchString(tagPrefix + string(n)) {
		t.Errorf("%q is not the end of a registry tag", n)
	}
	if strings.Contains(string(n), "..") {
		t.Errorf("%q could leave its folder", n)
	}
}

func seedNames(f *testing.F) {
	for _, ref := range goldenRefs {
		f.Add(ref, "", 1)
		f.Add("main", ref, 7)
	}
}

func FuzzName(f *testing.F) {
	seedNames(f)
	f.Fuzz(func(t *testing.T, ref, key string, number int) {
		dots := min(len(key), 1)
		for _, n := range []Name{branchName(ref, key), tagName(ref, key), queueName(ref, key), pullRequestName(max(number, 1), key)} {
			checkName(t, n)
			if strings.Count(string(n), ".") != dots {
				t.Errorf("%q: the only dot must be between ref and key", n)
			}
		}
		if again := branchName(strings.Clone(ref), strings.Clone(key)); again != branchName(ref, key) {
			t.Errorf("branch %q, key %q: %q and %q", ref, key, branchName(ref, key), again)
		}
	})
}

func FuzzNamesDiffer(f *testing.F) {
	for i, ref := range goldenRefs {
		f.Add(ref, "", goldenRefs[(i+1)%len(goldenRefs)], "")
		f.Add(ref, "web", strings.ToUpper(ref), "Web")
		f.Add("main", ref, "main."+ref, "")
	}
	f.Fuzz(func(t *testing.T, ref1, key1, ref2, key2 string) {
		type made struct{ kind, ref, key string }
		seen := map[Name]made{}
		for _, ref := range []string{ref1, ref2, Slug(ref1), Slug(ref1)[max(0, len(Slug(ref1))-hashLength):], strings.ToUpper(ref1), ref1 + "." + key1} {
			for _, key := range []string{"", key1, key2, Slug(key1), strings.ToLower(key2)} {
				for kind, n := range map[string]Name{"branch": branchName(ref, key), "tag": tagName(ref, key), "queue": queueName(ref, key), "pull": pullRequestName(7, key)} {
					m := made{kind, ref, key}
					if kind == "pull" {
						m.ref = "7"
					}
					if other, ok := seen[n]; ok && other != m {
						t.Errorf("%q and %q are both %q", other, m, n)
					}
					seen[n] = m
				}
			}
		}
	})
}

func FuzzKey(f *testing.F) {
	f.Add("", "", "linux/amd64", "", "Dockerfile", ".", "linux/amd64", "linux/amd64")
	f.Add("web", "", "", "", "", "web", "", "")
	f.Add("", "a\nfile=b", "x", "y", "b", "a", "y", "x")
	f.Add(`a\`, "n", "", "", "a\\\nn", "", "", "")
	f.Add("Dockerfile", "web", "", "", "web/Dockerfile", "web/", "", "")
	f.Fuzz(func(t *testing.T, file1, dir1, a1, b1, file2, dir2, a2, b2 string) {
		// The parts of a key, computed in another way than in Key: defaults are left out.
		parts := func(file, dir string, platforms ...string) string {
			dir = path.Clean(dir)
			if file == "" || path.Clean(file) == path.Join(dir, "Dockerfile") {
				file = "default"
			} else {
				file = "file " + path.Clean(file)
			}
			slices.Sort(platforms)
			return fmt.Sprintf("%q", append([]string{file, dir}, slices.Compact(platforms)...))
		}
		key1, key2 := Key(file1, dir1, []string{a1, b1}), Key(file2, dir2, []string{a2, b2})
		if swapped := Key(file1, dir1, []string{b1, a1}); swapped != key1 {
			t.Errorf("the order of platforms matters: %q, %q", key1, swapped)
		}
		same := parts(file1, dir1, a1, b1) == parts(file2, dir2, a2, b2)
		if same != (key1 == key2) {
			t.Errorf("same parts: %v, but keys %q and %q", same, key1, key2)
		}
	})
}

// checkPlan checks a plan against the rules that hold for all facts and all options.
func checkPlan(t *testing.T, f Facts, o Options) {
	t.Helper()
	p := New(f, o)
	if again := New(f, o); !reflect.DeepEqual(p, again) {
		t.Errorf("the same facts give two plans: %+v and %+v", p, again)
	}
	e := p.Facts
	vouched := e.Trusted
	if f.Unlisted && vouched && (o.Trusted == nil || !*o.Trusted) {
		t.Error("an unlisted event is trusted without the user's word")
	}
	if p.Write != "" {
		checkName(t, p.Write)
		switch {
		case e.Queue && p.Write == branchName(e.Branch, o.Key) && o.Branch != "" && o.Write == WriteAlways && (vouched || e.PR == 0) && !e.Unlisted:
			// What the user says.
		case e.Queue && p.Write != queueName(e.Base, o.Key):
			t.Errorf("a merge queue writes %q", p.Write)
		case strings.HasPrefix(string(p.Write), "q-"):
			if !e.Queue || !vouched || e.Unlisted {
				t.Errorf("%+v writes %q", e, p.Write)
			}
		case e.PR < 0:
			t.Error("a pull request of unknown number writes")
		case e.PR > 0 && !pullGrammar.MatchString(string(p.Write)):
			t.Errorf("a pull request writes %q", p.Write)
		case !vouched && o.Write != WriteAlways:
			t.Error("an untrusted build writes")
		case !vouched && len(p.Warnings) == 0:
			t.Error("an untrusted build writes without a warning")
		case e.Unlisted && !pullGrammar.MatchString(string(p.Write)):
			t.Errorf("an unlisted event writes %q", p.Write)
		case o.Write == WriteNever:
			t.Error("cache-write: never writes")
		}
	}
	var branches []Name
	for _, ref := range append([]string{e.Base, e.Default}, o.Fallbacks...) {
		branches = append(branches, branchName(ref, o.Key))
	}
	seen := map[Name]bool{}
	for _, s := range p.Read {
		checkName(t, s.Name)
		if seen[s.Name] {
			t.Errorf("%q is read twice", s.Name)
		}
		seen[s.Name] = true
		if strings.HasPrefix(string(s.Name), "pr-") && (e.Protected || e.PR <= 0 || s.Name != pullRequestName(e.PR, o.Key)) {
			t.Errorf("reads %q, which is another branch's, or not a protected one's", s.Name)
		}
		if strings.HasPrefix(string(s.Name), "q-") {
			ofBase, ofBranch := e.Queue && s.Name == queueName(e.Base, o.Key), !e.Queue && vouched && e.PR == 0 && s.Name == queueName(e.Branch, o.Key)
			if !ofBase && !ofBranch {
				t.Errorf("reads %q, which is another branch's queue", s.Name)
			}
			continue
		}
		if !vouched && s.Name != p.Write && !slices.Contains(branches, s.Name) {
			t.Errorf("an untrusted build reads %q", s.Name)
		}
	}
}

func FuzzNew(f *testing.F) {
	f.Add("main", "dev", "main", "", "next", "web", 0, 0, uint8(1), "", "push")
	f.Add("main", "dev", "main", "", "next", "", 7, 0, uint8(0), "always", "pull_request")
	f.Add("gh-readonly-queue/dev/pr-7-a", "dev", "main", "", "next", "", 0, 0, uint8(3), "always", "merge_group")
	f.Add("fix", "dev", "main", "", "next", "x", 7, 0, uint8(66), "always", "merge_request_event")
	f.Add("main", "dev", "main", "v1", "pr-7", "", -1, 9, uint8(63), "always", "")
	f.Fuzz(func(t *testing.T, branch, base, standard, tag, fallback, key string, pr, optionPR int, bits uint8, write, event string) {
		facts := Facts{
			Event: event, Branch: branch, Base: base, Default: standard, Tag: tag, PR: pr,
			Trusted: bits&1 != 0, Queue: bits&2 != 0, Unlisted: bits&4 != 0, Protected: bits&8 != 0,
		}
		o := Options{PR: optionPR, Write: write, Fallbacks: []string{fallback, branch}, Key: key}
		if bits&16 != 0 {
			trusted := bits&32 != 0
			o.Trusted = &trusted
		}
		if bits&64 != 0 {
			o.Branch, o.Base = fallback, key
		}
		checkPlan(t, facts, o)
	})
}
