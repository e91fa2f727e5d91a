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

// In an untrusted run an empty username or password is a secret that the CI withheld: the run goes
// without the login, and never takes it for the request of the machine's identity.
func TestUntrustedLoginsWithoutSecrets(t *testing.T) {
	t.Parallel()
	const reason, cloud = "a fork's pull request", "x.azurecr.io"
	warning := func(at, host string) string {
		return at + ": the login for " + host + " is left out: its username or password is empty, as secrets are in runs that are not trusted (" + reason + ")"
	}
	for name, test := range map[string]struct {
		given   Inputs
		logins  string // registries that remain
		warning string
		problem string // of a trusted run
	}{
		"registry alone":       {given: Inputs{Registry: "ghcr.io"}, warning: warning("registry", "ghcr.io"), problem: "registry: username and password are missing"},
		"no password":          {given: Inputs{Registry: "ghcr.io", Username: "me"}, warning: warning("registry", "ghcr.io"), problem: "registry: there is a username and no password"},
		"no username":          {given: Inputs{Password: "hunter2"}, warning: warning("registry", "docker.io"), problem: "registry: there is a password and no username"},
		"a cloud's":            {given: Inputs{Registry: cloud}, warning: warning("registry", cloud)},
		"a list":               {given: Inputs{RegistryAuth: "- registry: ghcr.io\n  username:\n  password:\n- {registry: r.example, username: me, password: hunter2}"}, logins: "r.example", warning: warning("registry-auth (line 1)", "ghcr.io"), problem: "registry-auth: line 1: username and password are missing"},
		"a list, Hub":          {given: Inputs{RegistryAuth: "- username: ''\n  password: ''"}, warning: warning("registry-auth (line 1)", "docker.io"), problem: "registry-auth: line 1: username and password are missing"},
		"a cloud's, in a list": {given: Inputs{RegistryAuth: "- {registry: x.azurecr.io, username: '', password: ''}"}, warning: warning("registry-auth (line 1)", cloud)},
		"a cloud's, username":  {given: Inputs{RegistryAuth: "- {registry: x.azurecr.io, username: ''}"}, warning: warning("registry-auth (line 1)", cloud)},
		"the identity":         {given: Inputs{RegistryAuth: "- registry: x.azurecr.io"}, logins: cloud},
		"complete":             {given: Inputs{Username: "me", Password: "hunter2"}, logins: "docker.io"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, problems := New(Options{Inputs: test.given, Untrusted: reason})
			if len(problems) > 0 {
				t.Errorf("problems: %v", problems)
			}
			var logins []string
			for _, l := range r.logins {
				logins = append(logins, l.String())
			}
			if got := strings.Join(logins, " "); got != test.logins {
				t.Errorf("logins %q, want %q", got, test.logins)
			}
			if got := strings.Join(r.Warnings(), "\n"); got != test.warning || strings.Contains(got, "hunter2") {
				t.Errorf("warnings %q, want %q", got, test.warning)
			}
			trusted, problems := New(Options{Inputs: test.given})
			if got := problems.Error(); !strings.HasPrefix(got, test.problem) || test.problem == "" && got != "" || len(trusted.Warnings()) > 0 {
				t.Errorf("trusted: problems %q, want %q; warnings %q", got, test.problem, trusted.Warnings())
			}
		})
	}
}
