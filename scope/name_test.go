package scope

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

const goldenHeader = `# Names of scopes: kind, ref and key as Go strings, and the name that they get.
#
# A changed line is a broken promise: under a changed rule every cache that exists is orphaned,
# in every store of every user. New lines may be added, with go test ./scope -run TestNames -update.

`

var goldenRefs = []string{
	"main", "master", "develop", "_", "0", "v1", "release_1", "pr_7", "33e6d73fee",
	"abcdefghij_abcdefghij_abcdefghij_1234567",  // 40 characters are kept
	"abcdefghij_abcdefghij_abcdefghij_12345678", // 41 are cut
	"feature/a", "feature-a", "Feature/A", "feature//a", "feature/a/", "-feature-a-", "feature.a", "FEATURE_A", "feature a",
	"feature/ä", "ä", "Ä", "🎉", "🎉🎉", "ветка", "分支", "\u212a", "e\u0301", "\u00e9",
	"release/1.4", "v1.4.0", "v1.4.0-rc.1+build.5", "1.4", "pr-7", "b-main", "t-v1", "main.web", "gh-readonly-queue/main/pr-7-9f2c1a7b",
	"dependabot/npm_and_yarn/services/web/types/node-22.1.0", "renovate/ghcr.io-acme-base-1.x",
	"x,ref=evil.io/o/r", "x;main", "..", "../..", ".", "-", "--", "---", " ", "\n", "\t", "\x00", "a\nb", "a\r\nb", `"main"`, "'main'", "$(reboot)", "`id`", "%2e%2e", `a\b`, "*", "?",
	"", "\xff", "\xff\xfe", "main\xff", "aux", "con", "refs/heads/main", "HEAD", "@",
	strings.Repeat("x", 300), strings.Repeat("ä", 150), strings.Repeat("/", 300), strings.Repeat("x", 39) + "/y",
}

// TestNames compares the mapping with testdata/names.golden.
var update = flag.Bool("update", false, "write what the code gives into testdata")

func TestNames(t *testing.T) {
	t.Parallel()
	var got bytes.Buffer
	got.WriteString(goldenHeader)
	line := func(kind, ref, key string, name Name) {
		fmt.Fprintf(&got, "%s\t%+q\t%+q\t%s\n", kind, ref, key, name)
	}
	for _, ref := range goldenRefs {
		line("branch", ref, "", branchName(ref, ""))
	}
	for _, ref := range []string{"v1", "v1.4.0", "main", ""} {
		line("tag", ref, "", tagName(ref, ""))
	}
	for _, ref := range []string{"main", "release/1.4", ""} {
		line("queue", ref, "", queueName(ref, ""))
	}
	for _, n := range []int{1, 7, 12345, 1<<31 - 1} {
		line("pull", fmt.Sprint(n), "", pullRequestName(n, ""))
	}
	for _, key := range []string{
		"web", "Web", "services/web", "ä", "a.b", "7", strings.Repeat("k", 300),
		Key("docker/web.Dockerfile", "", nil), Key("", "services/web", nil), "target=release",
		Key("", "", []string{"linux/arm64"}), Key("", "", []string{"linux/amd64", "linux/arm64"}),
		"file=docker/web.Dockerfile\ncontext=services/web\ntarget=release\nplatform=linux/amd64\nplatform=linux/arm64",
	} {
		line("branch", "main", key, branchName("main", key))
	}
	line("branch", "feature/a", "Web", branchName("feature/a", "Web"))
	line("tag", "v1.4.0", "web", tagName("v1.4.0", "web"))
	line("pull", "7", "web", pullRequestName(7, "web"))
	line("queue", "main", "web", queueName("main", "web"))
	for _, key := range []string{"", "web", "Web"} {
		line("local", "", key, localName(key))
	}
	line("branch", "local", "", branchName("local", ""))
	const golden = "testdata/names.golden"
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the mapping differs from %s, so no build would find the existing caches:\n%s", golden, got.Bytes())
	}
}

func TestNamesAreDistinct(t *testing.T) {
	t.Parallel()
	seen := map[Name]string{}
	add := func(what string, n Name) {
		if other, ok := seen[n]; ok {
			t.Errorf("%s and %s are both %q", what, other, n)
		}
		seen[n] = what
	}
	keys := []string{"", "web", "Web", "a.b", "main", "7"}
	for _, key := range keys {
		for _, ref := range goldenRefs {
			add(fmt.Sprintf("branch %q key %q", ref, key), branchName(ref, key))
			add(fmt.Sprintf("tag %q key %q", ref, key), tagName(ref, key))
			add(fmt.Sprintf("queue %q key %q", ref, key), queueName(ref, key))
			// A branch may have the name that the naming rule makes from another branch.
			if s := Slug(ref); s != ref {
				add(fmt.Sprintf("branch %q key %q", s, key), branchName(s, key))
			}
		}
		for _, n := range []int{1, 7, 77} {
			add(fmt.Sprintf("pull request %d key %q", n, key), pullRequestName(n, key))
		}
	}
}

// TestRefName: the name of a full ref is that of a build of this ref.
func TestRefName(t *testing.T) {
	t.Parallel()
	for ref, want := range map[string]Name{
		"refs/heads/main": "b-main", "refs/heads/feature/a": branchName("feature/a", ""), "refs/heads/refs/tags/v1": branchName("refs/tags/v1", ""),
		"refs/tags/v1": "t-v1", "refs/tags/v1.4.0": tagName("v1.4.0", ""),
		"refs/pull/7/merge": "pr-7", "refs/pull/7/head": "", "refs/pull/0/merge": "", "refs/pull/-7/merge": "", "refs/pull//merge": "", "refs/pull/x/merge": "",
		"refs/heads/": "", "refs/tags/": "", "refs/notes/x": "", "main": "", "": "", "pr-7": "",
	} {
		if got := RefName(ref); got != want {
			t.Errorf("%s is %q, want %q", ref, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"", "web", "a.b", "Services/Web"} {
		for _, name := range []Name{branchName("main", key), branchName("release/1.4", key), tagName("v1.4.0", key), pullRequestName(7, key)} {
			ref, rest := name.Cut()
			if key == "" && (ref != name || rest != "") || key != "" && (rest != Slug(key) || string(ref)+"."+rest != string(name)) {
				t.Errorf("%s is %q and %q", name, ref, rest)
			}
		}
	}
}

// Two branches whose hashes agree in 40 bits, which a laptop finds in seconds, have two names.
func TestSlugOutlastsAShortCollision(t *testing.T) {
	t.Parallel()
	one, other := branchName("a/b/c-d/e-f/g/h=i+j=k/l", ""), branchName("a-b/c/d=e-f=g+h=i=j-k=l", "")
	if one == other || !strings.HasPrefix(string(other), string(one)[:len("b-a-b-c-d-e-f-g-h-i-j-k-l-e018406f93")]) {
		t.Errorf("the names are %q and %q, want two that agree in ten digits", one, other)
	}
}

func TestSlugStaysInBudget(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300)
	if n := branchName(long, long); len(n) != 2+53+1+53 {
		t.Errorf("%q is %d characters long, want 109", n, len(n))
	}
	if n := pullRequestName(1<<31-1, long); len(n) > 110 {
		t.Errorf("%q is %d characters long, want 110 at most", n, len(n))
	}
}

func TestKey(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		file, subdir string
		platforms    []string
		want         string
	}{
		{"", "", nil, ""},
		{"Dockerfile", ".", nil, ""},
		{"./Dockerfile", "./", nil, ""},
		{"web.Dockerfile", "", nil, "file=web.Dockerfile"},
		{"", "web", nil, "context=web"},
		{"web/Dockerfile", "web/", nil, "context=web"},
		{"Dockerfile", "web", nil, "file=Dockerfile\ncontext=web"},
		{"", "", []string{"linux/arm64"}, "platform=linux/arm64"},
		{"", "", []string{"linux/arm64", "linux/amd64", "linux/arm64"}, "platform=linux/amd64\nplatform=linux/arm64"},
		{"a\nplatform=b", "", nil, `file=a\nplatform=b`},
		{`a\nplatform=b`, "", nil, `file=a\\nplatform=b`},
		{"docker/web", "web", []string{"linux/arm64"}, "file=docker/web\ncontext=web\nplatform=linux/arm64"},
	} {
		if got := Key(tt.file, tt.subdir, tt.platforms); got != tt.want {
			t.Errorf("Key(%q, %q, %q) = %q, want %q", tt.file, tt.subdir, tt.platforms, got, tt.want)
		}
	}
	platforms := []string{"linux/arm64", "linux/amd64"}
	Key("", "", platforms)
	if platforms[0] != "linux/arm64" {
		t.Error("Key sorted the caller's platforms")
	}
}

// TestMounts: the names of cache mounts are those of no scope, fit wherever a scope's name does, and belong to the same ref.
func TestMounts(t *testing.T) {
	t.Parallel()
	names := map[Name]bool{}
	long := strings.Repeat("feature/", 30)
	for _, n := range []Name{
		branchName("main", ""), branchName("main", "app"), branchName(long, long), pullRequestName(1<<31-1, long), tagName("v1", ""),
		queueName("main", ""), localName(""), localName("app"),
	} {
		m := n.Mounts()
		ref, _ := n.Cut()
		if got, key := m.Cut(); got != ref || key == "" {
			t.Errorf("%q has the ref %q, and not that of %q", m, got, n)
		}
		if !nameGrammar.MatchString(string(m)) {
			t.Errorf("%q is no name", m)
		}
		if names[m] || names[n] || m == n {
			t.Errorf("%q and %q are not the only ones of their names", n, m)
		}
		names[m], names[n] = true, true
	}
}
