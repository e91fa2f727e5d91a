package ci

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// dialect is a CI of the table, on a machine with these variables; "" is a shell without a CI.
func dialect(t testing.TB, name string, environ ...string) Dialect {
	t.Helper()
	i := slices.IndexFunc(dialects, func(d Dialect) bool { return d.Name == name })
	detected, _ := Detect(Machine{Environ: environ, ReadFile: os.ReadFile})
	if i < 0 {
		return Dialect{host: detected.host}
	}
	d := dialects[i]
	d.host = detected.host
	return d
}

func TestTable(t *testing.T) {
	t.Parallel()
	names := Names()
	for i, d := range dialects {
		if d.Name == "" || d.here == nil || d.facts == nil || slices.Contains(names[:i], d.Name) {
			t.Errorf("entry %d, %q: its name is missing or used twice, or its detection is missing", i, d.Name)
		}
		cases, err := filepath.Glob("testdata/" + d.Name + "/*.txtar")
		if d.Name == "unknown" {
			cases, err = filepath.Glob("testdata/git/unknown-*.txtar")
		}
		if len(cases) == 0 || err != nil {
			t.Errorf("%s has no cases; %v", d.Name, err)
		}
	}
}

func TestSection(t *testing.T) {
	t.Parallel()
	began := time.Unix(1767225600, 7)
	ended := began.Add(3 * time.Second)
	type section struct{ begin, end, failed string }
	actions := section{"::group::Build\n", "::endgroup::\n", "::endgroup::\n"}
	folding := map[string]section{
		"github": actions, "gitea": actions, "forgejo": actions,
		"gitlab": {
			"\x1b[0Ksection_start:1767225600:warmlayer_1767225600000000007[collapsed=true]\r\x1b[0KBuild\n",
			"\x1b[0Ksection_end:1767225603:warmlayer_1767225600000000007\r\x1b[0K\n",
			"\x1b[0Ksection_end:1767225603:warmlayer_1767225600000000007\r\x1b[0K\n",
		},
		"buildkite": {"--- Build\n", "+++ Report\n", "^^^ +++\n+++ Report\n"},
		"azure":     {"##[group]Build\n", "##[endgroup]\n", "##[endgroup]\n"},
	}
	for _, name := range append(Names(), "") {
		d, s := dialect(t, name), Section{Title: "Build", Began: began}
		got := section{d.Begin(s), d.End(s, ended, false), d.End(s, ended, true)}
		if want := folding[name]; got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// Secrets are printed to the log only for a runner that removes the commands from it.
func TestMasks(t *testing.T) {
	t.Parallel()
	lines := []string{"100%;]", "first line"}
	actions := "::add-mask::100%25;]\n::add-mask::first line\n"
	masking := map[string]string{
		"github": actions, "gitea": actions, "forgejo": actions,
		"azure": "##vso[task.setsecret]100%AZP25;]\n##vso[task.setsecret]first line\n",
	}
	for _, name := range append(Names(), "") {
		d := dialect(t, name)
		if got := d.Masks(lines); got != masking[name] {
			t.Errorf("%s: %q, want %q", name, got, masking[name])
		}
	}
}

func TestNotes(t *testing.T) {
	t.Parallel()
	notes := []Note{
		{Level: "warning", File: "a:b", Title: "Rule, one", Message: []string{"100%;]", "more"}},
		{Level: "error", File: "Dockerfile", Line: 7, EndLine: 8, Title: "RUN", Message: []string{"x"}},
		{Level: "error", Title: "warmlayer", Message: []string{"y"}},
	}
	actions := "::warning file=a%3Ab,title=Rule%2C one::100%25;]%0Amore\n::error file=Dockerfile,line=7,endLine=8,title=RUN::x\n::error title=warmlayer::y\n"
	showing := map[string]string{
		"github": actions, "gitea": actions, "forgejo": actions,
		"azure": "##vso[task.logissue type=warning;sourcepath=a:b;code=Rule, one]100%AZP25;] — more\n" +
			"##vso[task.logissue type=error;sourcepath=Dockerfile;linenumber=7;code=RUN]x\n##vso[task.logissue type=error;code=warmlayer]y\n",
	}
	for _, name := range append(Names(), "") {
		if got := dialect(t, name).Notes(notes); got != showing[name] {
			t.Errorf("%s: %q, want %q", name, got, showing[name])
		}
	}
}

// The files in GitHub's variables are appended to on every CI, without the summary when it is
// disabled.
func TestPublish(t *testing.T) {
	t.Parallel()
	page := Page{Markdown: "# summary\n", Summary: true, Outputs: []Output{{"digest", "sha256:abc"}, {"first-miss", "a\nb"}}}
	for _, name := range append(Names(), "") {
		tmp := t.TempDir()
		output, summary := filepath.Join(tmp, "output"), filepath.Join(tmp, "summary")
		d := dialect(t, name, "GITHUB_OUTPUT="+output, "GITHUB_STEP_SUMMARY="+summary)
		for _, wanted := range []bool{true, false, true} {
			page.Summary = wanted
			if err := d.Publish(&bytes.Buffer{}, page); err != nil {
				t.Fatal(err)
			}
		}
		got, err := parseGitHub(read(t, output))
		if want := slices.Concat(page.Outputs, page.Outputs, page.Outputs); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: outputs %q, %v", name, got, err)
		}
		if got := read(t, summary); got != page.Markdown+page.Markdown {
			t.Errorf("%s: summary %q", name, got)
		}
	}
}

func TestPublishOnAzure(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	page := Page{File: "/a/warmlayer.md", Outputs: []Output{
		{"cache-export", "failed\n 100%"}, {"metadata", strings.Repeat("x", longestVariable+1)},
	}}
	if err := dialect(t, "azure").Publish(&b, page); err != nil {
		t.Fatal(err)
	}
	want := "##vso[task.setvariable variable=WARMLAYER_CACHE_EXPORT;isoutput=true]failed 100%AZP25\n" +
		"##vso[task.uploadsummary]/a/warmlayer.md\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestReportDir(t *testing.T) {
	t.Parallel()
	for _, name := range append(Names(), "") {
		want := ".warmlayer"
		if name == "git" || name == "" {
			want = ""
		}
		if got := dialect(t, name).ReportDir(); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		if got := dialect(t, name, "RUNNER_TEMP=/tmp/r").ReportDir(); got != "/tmp/r/warmlayer" {
			t.Errorf("%s with RUNNER_TEMP: %q", name, got)
		}
	}
}

// The id of a job has all of its numbers, and the directory that tells jobs of one matrix apart. So has the
// runner, whose name may be another runner's too. Both are empty where the CI runs nothing after the last step.
func TestJob(t *testing.T) {
	t.Parallel()
	environ := []string{
		"GITHUB_SERVER_URL=https://git.example", "GITHUB_REPOSITORY=o/r", "GITHUB_RUN_ID=7", "GITHUB_RUN_ATTEMPT=2", "GITHUB_JOB=image",
		"GITHUB_OUTPUT=/github/file_commands/set_output_1",
	}
	mounted := func(path string) string {
		if path == "/github/file_commands/set_output_1" {
			return "/work/_temp"
		}
		return ""
	}
	unknown := func(string) string { return "" }
	named := append(slices.Clone(environ), "RUNNER_NAME=big one")
	for _, name := range append(Names(), "") {
		for _, test := range []struct {
			environ    []string
			source     func(string) string
			id, runner string
		}{
			{named, mounted, "https://git.example o/r 7 2 image big one /work/_temp", "big one /work/_temp"},
			{named, unknown, "https://git.example o/r 7 2 image big one ", ""},
			{environ, mounted, "https://git.example o/r 7 2 image  /work/_temp", ""},
			{nil, mounted, "", ""},
		} {
			want := [2]string{}
			if slices.Contains([]string{"github", "gitea", "forgejo"}, name) {
				want = [2]string{test.id, test.runner}
			}
			id, runner := dialect(t, name, test.environ...).Job(test.source)
			if got := [2]string{id, runner}; got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	}
}

// A CI's credentials are used in its own jobs: variables of the same names on other CIs are
// ignored. The input github-token is used on every CI, for github.com only.
func TestCredentials(t *testing.T) {
	t.Parallel()
	environ := []string{
		"CI_REGISTRY=registry.gitlab.example", "CI_REGISTRY_USER=job", "CI_REGISTRY_PASSWORD=one",
		"CI_DEPENDENCY_PROXY_SERVER=gitlab.example:443", "CI_DEPENDENCY_PROXY_USER=proxy", "CI_DEPENDENCY_PROXY_PASSWORD=two",
	}
	for _, name := range append(Names(), "") {
		var want []Credential
		if name == "gitlab" {
			want = []Credential{{"registry.gitlab.example", "job", "one"}, {"gitlab.example:443", "proxy", "two"}, {"gitlab.example", "proxy", "two"}}
		}
		if got := dialect(t, name, environ...).Credentials(""); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
		want = append(want, Credential{"ghcr.io", "octocat", "t"})
		if got := dialect(t, name, append(environ, "GITHUB_ACTOR=octocat")...).Credentials("t"); !slices.Equal(got, want) {
			t.Errorf("%s with a token: %v, want %v", name, got, want)
		}
		if got := dialect(t, name, "GITHUB_SERVER_URL=https://git.example").Credentials("t"); got != nil {
			t.Errorf("%s at another server: %v", name, got)
		}
	}
	if got := dialect(t, "gitlab", environ[:2]...).Credentials(""); got != nil {
		t.Errorf("an incomplete credential: %v", got)
	}
}

func TestRepository(t *testing.T) {
	t.Parallel()
	const context = "https://github.com/o/r.git"
	merge := "GITHUB_REF=refs/pull/3/merge"
	event := func(content string) string {
		file := filepath.Join(t.TempDir(), "event.json")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return "GITHUB_EVENT_PATH=" + file
	}
	for _, tt := range []struct {
		name    string
		environ []string
		want    Repository
	}{
		{"commit", nil, Repository{Context: context + "#abc"}},
		{"pull request", []string{merge}, Repository{Context: context + "#refs/pull/3/merge"}},
		{"head of a pull request", []string{merge, "DOCKER_DEFAULT_GIT_CONTEXT_PR_HEAD_REF=true"}, Repository{Context: context + "#refs/pull/3/head"}},
		{"no commit", []string{"GITHUB_SHA="}, Repository{Context: context + "#refs/heads/main"}},
		{"no ref", []string{"GITHUB_SHA=", "GITHUB_REF="}, Repository{Context: context}},
		{"no repository", []string{"GITHUB_REPOSITORY="}, Repository{}},
		{"server", []string{"GITHUB_SERVER_URL=https://git.example:8443/"}, Repository{Server: "https://git.example:8443", Context: "https://git.example:8443/o/r.git#abc"}},
		{"public", []string{event(`{"repository": {"private": false}}`)}, Repository{Context: context + "#abc", Public: true}},
		{"private", []string{event(`{"repository": {"private": true}}`)}, Repository{Context: context + "#abc"}},
		{"event of no repository", []string{event(`{"repository": {"name": "r"}}`)}, Repository{Context: context + "#abc"}},
		{"broken event", []string{event(`{"repository": {"private": false}`)}, Repository{Context: context + "#abc"}},
		{"no event", []string{"GITHUB_EVENT_PATH=/nowhere"}, Repository{Context: context + "#abc"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			environ := append([]string{"GITHUB_REPOSITORY=o/r", "GITHUB_REF=refs/heads/main", "GITHUB_SHA=abc"}, tt.environ...)
			for _, name := range append(Names(), "") {
				want := Repository{}
				if slices.Contains([]string{"github", "gitea", "forgejo"}, name) {
					want = tt.want
					want.Actions = true
				}
				if want.Server = tt.want.Server; want.Server == "" {
					want.Server = "https://github.com"
				}
				if got := dialect(t, name, environ...).Repository(); got != want {
					t.Errorf("%s: %+v, want %+v", name, got, want)
				}
			}
		})
	}
}

// parseGitHub parses the file by the rules of GitHub's runner (actions/runner,
// src/Runner.Worker/FileCommandManager.cs, EnvFileKeyValuePairs).
func parseGitHub(text string) ([]Output, error) {
	var all []Output
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for len(lines) > 0 {
		name, delimiter, ok := strings.Cut(lines[0], "<<")
		end := slices.Index(lines[1:], delimiter)
		if !ok || end < 0 {
			return nil, errors.New("no delimiter")
		}
		all = append(all, Output{name, strings.Join(lines[1:end+1], "\n")})
		lines = lines[end+2:]
	}
	return all, nil
}

func FuzzGitHubOutput(f *testing.F) {
	f.Add("", "x")
	f.Add("two\nlines\n", "\n")
	f.Add("EOF\nother=1", "a<<EOF\nb\nEOF\n")
	f.Add("warmlayer_\nwarmlayer_AAAA\r\n", "::set-output name=a::b\x1b[0m`|\u202e\x00\xff")
	f.Fuzz(func(t *testing.T, first, second string) {
		want := []Output{{"first-miss", first}, {"metadata", second}}
		text := githubOutputs(want)
		got, err := parseGitHub(text)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q is read as %q, %v; want %q", text, got, err, want)
		}
	})
}

func TestGitHubDelimitersDiffer(t *testing.T) {
	t.Parallel()
	lines := strings.Split(githubOutputs([]Output{{"a", "1"}, {"b", "2"}}), "\n")
	if lines[2] == lines[5] || len(lines[2]) < 30 {
		t.Errorf("the delimiters %q and %q are predictable", lines[2], lines[5])
	}
}
