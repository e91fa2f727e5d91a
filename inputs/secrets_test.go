package inputs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSecrets(t *testing.T) {
	t.Parallel()
	dir := checkout(t)
	for name, content := range map[string]string{"key": "one\ntwo\n", "NAME": "file", "most": strings.Repeat("x", 500<<10), "large": strings.Repeat("x", 500<<10+1)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const (
		twice  = "the id is given twice\nhint: leave one of the lines out"
		unset  = "the variable is not set\nhint: set it in the step's environment"
		absent = "there is no such file\nhint: the path starts from the working directory"
		large  = "the secret is larger than 500 KiB, which BuildKit refuses"
	)
	for _, tt := range []struct {
		name     string
		environ  []string
		want     []Secret
		problems string
	}{
		{name: "value", environ: []string{"INPUT_SECRETS=a=1=2\nid=x\ntype=y"}, want: []Secret{{"a", "1=2"}, {"id", "x"}, {"type", "y"}}},
		{name: "nothing for a fork's build", environ: []string{"INPUT_SECRETS=a=\nb=2"}, want: []Secret{{"b", "2"}}},
		{name: "variables", environ: []string{"INPUT_SECRET-ENVS=a=A,B\nc=EMPTY", "A=1", "B=2", "EMPTY="}, want: []Secret{{"a", "1"}, {"B", "2"}, {"c", ""}}},
		{name: "files", environ: []string{"INPUT_SECRET-FILES=a=key\nb=" + dir + "/NAME"}, want: []Secret{{"a", "one\ntwo\n"}, {"b", "file"}}},
		{name: "the largest", environ: []string{"INPUT_SECRET-FILES=a=most"}, want: []Secret{{"a", strings.Repeat("x", 500<<10)}}},
		{name: "buildx's form", environ: []string{"INPUT_SECRETS=type=env,id=a,env=A\ntype=secret,id=b,env=A\nid=c,src=key\nsource=NAME,id=d,type=file\ntype=env,id=e,src=A", "A=1"},
			want: []Secret{{"a", "1"}, {"b", "1"}, {"c", "one\ntwo\n"}, {"d", "file"}, {"e", "1"}}},
		{name: "the id is the place", environ: []string{"INPUT_SECRETS=type=env,id=A\ntype=file,id=NAME\ntype=secret,id=key", "A=1", "NAME=2"},
			want: []Secret{{"A", "1"}, {"NAME", "file"}, {"key", "one\ntwo\n"}}},
		{name: "values that look like it", environ: []string{`INPUT_SECRETS=id=x,y=z` + "\n" + `json={"id":"x","env":"y"}`},
			want: []Secret{{"id", "x,y=z"}, {"json", `{"id":"x","env":"y"}`}}},

		{name: "twice", environ: []string{"INPUT_SECRETS=a=hunter2\na=hunter2", "INPUT_SECRET-ENVS=a=A", "INPUT_SECRET-FILES=a=key", "A=1"},
			problems: "secrets: line 2: " + twice + "\nsecret-envs: line 1: " + twice + "\nsecret-files: line 1: " + twice},
		{name: "unset", environ: []string{"INPUT_SECRETS=type=env,id=a,env=HUNTER2", "INPUT_SECRET-ENVS=a=hunter2"},
			problems: "secrets: line 1: " + unset + "\nsecret-envs: line 1: " + unset},
		{name: "absent", environ: []string{"INPUT_SECRETS=id=a,src=hunter2\ntype=secret,id=hunter2", "INPUT_SECRET-FILES=a=hunter2"},
			problems: "secrets: line 1: " + absent + "\nsecrets: line 2: " + absent + "\nsecret-files: line 1: " + absent},
		{name: "directory", environ: []string{"INPUT_SECRET-FILES=a=."}, problems: "secret-files: line 1: the file cannot be read\nhint: check the path and its permissions"},
		{name: "large", environ: []string{"INPUT_SECRET-FILES=a=large", "INPUT_SECRETS=b=" + strings.Repeat("x", 500<<10+1)}, problems: "secrets: line 1: " + large + "\nsecret-files: line 1: " + large},
		{name: "no such type", environ: []string{"INPUT_SECRETS=type=hunter2,id=a"}, problems: "secrets: line 1: the type of a secret is secret, env or file"},
		{name: "no id", environ: []string{"INPUT_SECRETS==hunter2", "INPUT_SECRET-ENVS==HUNTER2", "INPUT_SECRET-FILES=hunter2\nhunter2="},
			problems: "secrets: line 1: expected id=value\nhint: put quotes around a secret of several lines: \"id=value\"\n" +
				"secret-envs: line 1: expected id=NAME\nhint: NAME is the variable that has the secret\n" +
				"secret-files: line 1: expected id=path\nhint: the path starts from the working directory\n" +
				"secret-files: line 2: expected id=path\nhint: the path starts from the working directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v, problems := Parse(nil, tt.environ, dir)
			if got := problems.Error(); got != tt.problems {
				t.Fatalf("got:\n%s\nwant:\n%s", got, tt.problems)
			}
			if tt.problems == "" && !slices.Equal(v.Secrets, tt.want) {
				t.Errorf("secrets are %v, want %v, or their values differ", v.Secrets, tt.want)
			}
		})
	}
}

const repository = "https://github.com/o/r.git"

// The token is passed to BuildKit when a context is on the server, as a secret that BuildKit uses
// only for that server.
func TestGitToken(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		environ []string
		want    string // the secret's name
	}{
		{"context", []string{"INPUT_CONTEXT=" + repository}, "GIT_AUTH_TOKEN.github.com"},
		{"short context", []string{"INPUT_CONTEXT=github.com/o/r"}, "GIT_AUTH_TOKEN.github.com"},
		{"named context", []string{"INPUT_BUILD-CONTEXTS=x=" + repository + "#main:x"}, "GIT_AUTH_TOKEN.github.com"},
		{"checkout", nil, ""},
		{"another host", []string{"INPUT_CONTEXT=https://github.com.evil.example/o/r.git"}, ""},
		{"no repository", []string{"INPUT_CONTEXT=https://github.com/o/r/archive/main.tar.gz"}, ""},
		{"user", []string{"INPUT_CONTEXT=https://me:pw@github.com/o/r.git"}, ""},
		{"own token", []string{"INPUT_CONTEXT=" + repository, "INPUT_SECRETS=GIT_AUTH_TOKEN=mine"}, "GIT_AUTH_TOKEN"},
		{"own header", []string{"INPUT_CONTEXT=" + repository, "INPUT_SECRETS=GIT_AUTH_HEADER.github.com=mine"}, "GIT_AUTH_HEADER.github.com"},
		{"token for another host", []string{"INPUT_CONTEXT=" + repository, "INPUT_SECRETS=GIT_AUTH_TOKEN.gitlab.com=mine"}, "GIT_AUTH_TOKEN.gitlab.com GIT_AUTH_TOKEN.github.com"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var names []string
			for _, s := range mustParse(t, nil, append(tt.environ, "INPUT_GITHUB-TOKEN=ghs_x")...).Secrets {
				names = append(names, s.ID)
			}
			if got := strings.Join(names, " "); got != tt.want {
				t.Errorf("secrets are %q, want %q", got, tt.want)
			}
		})
	}
}

// The token is used only for the server that the CI names.
func TestGitTokenOfAServer(t *testing.T) {
	t.Parallel()
	job := Job{Repository: Repository{Server: "https://git.example:8443"}}
	for context, want := range map[string][]Secret{
		"https://git.example:8443/o/r.git": {{"GIT_AUTH_TOKEN.git.example:8443", "ghs_x"}},
		repository:                         nil,
	} {
		v, problems := ParseJob(nil, []string{"INPUT_CONTEXT=" + context, "INPUT_GITHUB-TOKEN=ghs_x"}, checkout(t), job)
		if len(problems) > 0 || !slices.Equal(v.Secrets, want) {
			t.Errorf("%s: %v; %v", context, v.Secrets, problems)
		}
	}
}
