package login

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestLogins(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		given   Inputs
		want    []login
		problem string
	}{
		"none": {},
		"Docker Hub": {
			given: Inputs{Username: "me", Password: "hunter2"},
			want:  []login{{registry: "docker.io", username: "me", password: "hunter2", ecr: "auto"}},
		},
		"another": {
			given: Inputs{Username: "me", Password: "hunter2", Registry: "https://GHCR.io/v2/"},
			want:  []login{{registry: "ghcr.io", username: "me", password: "hunter2", ecr: "auto"}},
		},
		"no password": {given: Inputs{Username: "me"}, problem: "registry: there is a username and no password"},
		"no username": {given: Inputs{Password: "hunter2"}, problem: "registry: there is a password and no username"},
		"no host":     {given: Inputs{Username: "me", Password: "hunter2", Registry: "a b"}, problem: "registry: the registry is not a host"},
		"only Hub":    {given: Inputs{Registry: "docker.io"}, problem: "registry: username and password are missing"},
		"a list": {
			given: Inputs{RegistryAuth: "- username: me\n  password: hunter2\n- registry: r.example:5000\n  username: 7\n  password: \"hunter2: #\"\n  scope: o/app@push,pull\n  ecr: false"},
			want: []login{
				{line: 1, registry: "docker.io", username: "me", password: "hunter2", ecr: "auto"},
				{line: 3, registry: "r.example:5000", repository: "o/app", actions: []string{"push", "pull"}, username: "7", password: "hunter2: #", ecr: "false"},
			},
		},
		"JSON": {
			given: Inputs{RegistryAuth: `[{"registry": "r.example", "username": "me", "password": "hunter2"}]`},
			want:  []login{{line: 1, registry: "r.example", username: "me", password: "hunter2", ecr: "auto"}},
		},
		"a cloud's": {
			given: Inputs{RegistryAuth: "- registry: x.azurecr.io"},
			want:  []login{{line: 1, registry: "x.azurecr.io", ecr: "auto"}},
		},
		"twice": {
			given:   Inputs{RegistryAuth: "- {registry: a.example, username: me, password: hunter2}\n- {registry: A.example, username: me, password: hunter2}"},
			want:    []login{{line: 1, registry: "a.example", username: "me", password: "hunter2", ecr: "auto"}},
			problem: "registry-auth: line 2: this login is given twice",
		},
		"beside the others": {given: Inputs{Username: "me", Password: "hunter2", RegistryAuth: "[]"}, problem: "registry-auth: it cannot be combined with registry, username or password"},
		"no YAML":           {given: Inputs{RegistryAuth: "- registry: a\n  password: hunter2\n hunter2: [\n"}, problem: "registry-auth: line "},
		"no list":           {given: Inputs{RegistryAuth: "password: hunter2"}, problem: "registry-auth: a list is expected"},
		"no mapping":        {given: Inputs{RegistryAuth: "- hunter2"}, problem: "registry-auth: line 1: registry, username and password are expected"},
		"unknown":           {given: Inputs{RegistryAuth: "- pasword: hunter2"}, problem: "registry-auth: line 1: attribute \"pasword\" is unknown\nhint: did you mean \"password\"?"},
		"a password as key": {given: Inputs{RegistryAuth: "- registry: a.example\n  Hunter2: x"}, problem: "registry-auth: line 2: an attribute is unknown"},
		"half a pair":       {given: Inputs{RegistryAuth: "- registry: a.example\n  password: hunter2"}, problem: "registry-auth: line 1: there is a password and no username"},
		"two lines":         {given: Inputs{RegistryAuth: "- password: |\n    hunter2\n    hunter2"}, problem: "registry-auth: line 1: password must be one line of text"},
		"a key twice":       {given: Inputs{RegistryAuth: "- password: hunter2\n  password: hunter2"}, problem: "registry-auth: line 2: password is given twice"},
		"a bad scope":       {given: Inputs{RegistryAuth: "- {username: me, password: hunter2, scope: o/app@Push}"}, problem: "registry-auth: line 1: scope is malformed"},
		"a bad ecr":         {given: Inputs{RegistryAuth: "- {username: me, password: hunter2, ecr: hunter2}"}, problem: "registry-auth: line 1: ecr is none of auto, true, false"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var redacted []string
			r, problems := New(Options{Inputs: test.given, Redact: func(s string) { redacted = append(redacted, s) }})
			problem := problems.Error()
			if !slices.EqualFunc(r.logins, test.want, equalLogins) {
				t.Errorf("logins are %v, want %v", r.logins, test.want)
			}
			if !strings.HasPrefix(problem, test.problem) || test.problem == "" && problem != "" {
				t.Errorf("problem is %q, want %q", problem, test.problem)
			}
			if shown := fmt.Sprintf("%v %+v %#v %v %#v %s", r.logins, r.logins, r.logins, test.given, test.given, problem); strings.Contains(strings.ToLower(shown), "hunter2") {
				t.Errorf("a password is shown: %s", shown)
			}
			for _, l := range r.logins {
				if l.password != "" && (!slices.Contains(redacted, l.password) || !slices.Contains(r.Secrets(), l.password)) {
					t.Errorf("the password of %s is missing from the secrets", l)
				}
			}
		})
	}
}

func equalLogins(a, b login) bool {
	same := slices.Equal(a.actions, b.actions)
	return same && a.line == b.line && a.registry == b.registry && a.repository == b.repository &&
		a.username == b.username && a.password == b.password && a.ecr == b.ecr
}
