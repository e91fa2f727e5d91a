package inputs

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestLogins(t *testing.T) {
	t.Parallel()
	const pair = "INPUT_USERNAME=me"
	for name, test := range map[string]struct {
		environ []string
		want    []Login
		problem string
	}{
		"none": {},
		"Docker Hub": {
			environ: []string{pair, "INPUT_PASSWORD=hunter2"},
			want:    []Login{{Registry: "docker.io", Username: "me", Password: "hunter2", ECR: "auto"}},
		},
		"another": {
			environ: []string{pair, "INPUT_PASSWORD=hunter2", "INPUT_REGISTRY=https://GHCR.io/v2/"},
			want:    []Login{{Registry: "ghcr.io", Username: "me", Password: "hunter2", ECR: "auto"}},
		},
		"no password": {environ: []string{pair}, problem: "registry: there is a username and no password"},
		"no username": {environ: []string{"INPUT_PASSWORD=hunter2"}, problem: "registry: there is a password and no username"},
		"no host":     {environ: []string{pair, "INPUT_PASSWORD=hunter2", "INPUT_REGISTRY=a b"}, problem: "registry: the registry is not a host"},
		"only Hub":    {environ: []string{"INPUT_REGISTRY=docker.io"}, problem: "registry: username and password are missing"},
		"a list": {
			environ: []string{"INPUT_REGISTRY-AUTH=" + "- username: me\n  password: hunter2\n- registry: r.example:5000\n  username: 7\n  password: \"hunter2: #\"\n  scope: o/app@push,pull\n  ecr: false"},
			want: []Login{
				{Line: 1, Registry: "docker.io", Username: "me", Password: "hunter2", ECR: "auto"},
				{Line: 3, Registry: "r.example:5000", Repository: "o/app", Actions: []string{"push", "pull"}, Username: "7", Password: "hunter2: #", ECR: "false"},
			},
		},
		"JSON": {
			environ: []string{`BUILDKITE_PLUGIN_CONFIGURATION={"registry-auth": [{"registry": "r.example", "username": "me", "password": "hunter2"}]}`},
			want:    []Login{{Line: 1, Registry: "r.example", Username: "me", Password: "hunter2", ECR: "auto"}},
		},
		"a cloud's": {
			environ: []string{"INPUT_REGISTRY-AUTH=- registry: x.azurecr.io"},
			want:    []Login{{Line: 1, Registry: "x.azurecr.io", ECR: "auto"}},
		},
		"twice": {
			environ: []string{"INPUT_REGISTRY-AUTH=- {registry: a.example, username: me, password: hunter2}\n- {registry: A.example, username: me, password: hunter2}"},
			want:    []Login{{Line: 1, Registry: "a.example", Username: "me", Password: "hunter2", ECR: "auto"}},
			problem: "registry-auth: line 2: this login is given twice",
		},
		"beside the others": {environ: []string{pair, "INPUT_PASSWORD=hunter2", "INPUT_REGISTRY-AUTH=[]"}, problem: "registry-auth: it stands beside registry, username or password"},
		"no YAML":           {environ: []string{"INPUT_REGISTRY-AUTH=- registry: a\n  password: hunter2\n hunter2: [\n"}, problem: "registry-auth: line "},
		"no list":           {environ: []string{"INPUT_REGISTRY-AUTH=password: hunter2"}, problem: "registry-auth: a list is expected"},
		"no mapping":        {environ: []string{"INPUT_REGISTRY-AUTH=- hunter2"}, problem: "registry-auth: line 1: registry, username and password are expected"},
		"unknown":           {environ: []string{"INPUT_REGISTRY-AUTH=- pasword: hunter2"}, problem: "registry-auth: line 1: attribute \"pasword\" is unknown\nhint: did you mean \"password\"?"},
		"a password as key": {environ: []string{"INPUT_REGISTRY-AUTH=- registry: a.example\n  Hunter2: x"}, problem: "registry-auth: line 2: an attribute is unknown"},
		"half a pair":       {environ: []string{"INPUT_REGISTRY-AUTH=- registry: a.example\n  password: hunter2"}, problem: "registry-auth: line 1: there is a password and no username"},
		"two lines":         {environ: []string{"INPUT_REGISTRY-AUTH=- password: |\n    hunter2\n    hunter2"}, problem: "registry-auth: line 1: password is not one line of text"},
		"a key twice":       {environ: []string{"INPUT_REGISTRY-AUTH=- password: hunter2\n  password: hunter2"}, problem: "registry-auth: line 2: password is given twice"},
		"a bad scope":       {environ: []string{"INPUT_REGISTRY-AUTH=- {username: me, password: hunter2, scope: o/app@Push}"}, problem: "registry-auth: line 1: scope is not understood"},
		"a bad ecr":         {environ: []string{"INPUT_REGISTRY-AUTH=- {username: me, password: hunter2, ecr: hunter2}"}, problem: "registry-auth: line 1: ecr is none of auto, true, false"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			values, problem := parseIn(t.TempDir(), test.environ...)
			if !slices.EqualFunc(values.Logins, test.want, equalLogins) {
				t.Errorf("logins %v", values.Logins)
			}
			if !strings.HasPrefix(problem, test.problem) || test.problem == "" && problem != "" {
				t.Errorf("problem %s", problem)
			}
			if shown := fmt.Sprintf("%v %+v %#v %s", values.Logins, values, values, problem); strings.Contains(strings.ToLower(shown), "hunter2") {
				t.Errorf("a password is shown: %s", shown)
			}
			for _, l := range values.Logins {
				if l.Password != "" && !slices.Contains(values.Sensitive(), l.Password) {
					t.Errorf("the password of %s is not known to be sensitive", l)
				}
			}
		})
	}
}

func equalLogins(a, b Login) bool {
	same := slices.Equal(a.Actions, b.Actions)
	return same && a.Line == b.Line && a.Registry == b.Registry && a.Repository == b.Repository &&
		a.Username == b.Username && a.Password == b.Password && a.ECR == b.ECR
}
