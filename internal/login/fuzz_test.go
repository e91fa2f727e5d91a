package login

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/docker/cli/cli/config/configfile"
	"go.yaml.in/yaml/v3"
)

// hidden is a password that nothing may show.
const hidden = "p4ssw0rd-p4ssw0rd"

// FuzzRegistryAuth reads logins in YAML with a password in them. Nothing that people read shows the
// password, and the logins are those that a plain reader of YAML finds.
func FuzzRegistryAuth(f *testing.F) {
	for _, parts := range [][2]string{
		{"- registry: r.example\n  username: me\n  password: ", ""}, {"- {registry: a, username: b, password: ", ", scope: o/a@push}"}, {"- password: |\n    ", "\n    x"},
		{"[{\"registry\": \"a\", \"password\": \"", "\"}]"}, {"- &a {username: b, password: ", "}\n- *a"}, {"- registry: x.azurecr.io\n- ", ": 1"}, {"password: ", ""}, {"- username: x\n  password: '", ""},
		{"- registry: AWS\n  ecr: true\n  username: k\n  password: ", " # x"}, {"- ? [a]\n  : ", ""}, {"!!binary |\n ", ""}, {"- {<<: {password: ", "}}"}, {"a: &a [*a]\n", ""},
	} {
		f.Add(parts[0], parts[1], false)
		f.Add(parts[0], parts[1], true)
	}
	f.Fuzz(func(t *testing.T, before, after string, fork bool) {
		var known []string
		text := before + hidden + after
		o := Options{Inputs: Inputs{RegistryAuth: text}, Redact: func(s string) { known = append(known, s) }, clouds: allClouds(func(string) string { return "" }, nil)}
		if fork {
			o.Untrusted = "a fork's pull request"
		}
		r, problems := New(o)
		shown := problems.Error() + strings.Join(r.Warnings(), "\n")
		if strings.Contains(strings.Join(known, "\n"), hidden) { // it is a password, and stands nowhere else
			for _, l := range r.logins {
				if !strings.Contains(l.username+l.registry+l.repository, hidden) {
					shown += l.String() + l.GoString()
				}
			}
		}
		if strings.Contains(shown, hidden) {
			t.Errorf("%q shows its password: %s", text, shown)
		}
		for _, secret := range r.Secrets() {
			if secret != "" && !strings.Contains(strings.Join(known, "\n"), secret) {
				t.Errorf("%q is not redacted", secret)
			}
		}
		var plain []map[string]yaml.Node
		if len(problems) > 0 || yaml.Unmarshal([]byte(text), &plain) != nil {
			return
		}
		found := map[string]string{}
		for _, one := range plain {
			found[one["username"].Value] += one["password"].Value + "\n"
		}
		for _, l := range r.logins {
			if !strings.Contains(found[l.username], l.password+"\n") {
				t.Errorf("%q has the login %q %q, and in plain YAML %q", text, l.username, l.password, found)
			}
		}
		if len(r.logins)+len(r.warnings) != len(plain) {
			t.Errorf("%q has %d logins and %d warnings, of %d", text, len(r.logins), len(r.warnings), len(plain))
		}
	})
}

// FuzzVariable reads DOCKER_AUTH_CONFIG. Where docker/cli can read it too, both find the same
// logins; no problem shows a part of a password.
func FuzzVariable(f *testing.F) {
	for _, text := range []string{
		`{"auths": {"r.example:5000": {"auth": "bWU6aHVudGVyMg=="}}}`, `{"auths": {"https://index.docker.io/v1/": {"auth": "OjpvOg=="}}}`, `{"auths": {"docker.io": {"auth": "YTpiOmM="}}}`,
		`{"auths": {"a": {"auth": "YTpi", "email": 1}}, "x": []}`, `{"auths": {"a": {"auth": "YQ=="}}}`, `{"auths": {"a": {}}}`, `[]`, `{"Auths": {"A": {"AUTH": "YTpi"}}}`, `{"auths": {"a": {"auth": "YTo="}}}`, `{"auths": {"a": {"auth": "YTpi\u0000"}}}`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var known []string
		r, problems := New(Options{
			Getenv: func(name string) string { return map[string]string{configfile.DockerEnvConfigKey: text}[name] },
			Redact: func(s string) { known = append(known, s) },
		})
		var document struct {
			Auths map[string]struct{ Auth string }
		}
		if json.Unmarshal([]byte(text), &document) == nil {
			for host, one := range document.Auths {
				if len(one.Auth) > 8 && strings.Contains(problems.Error(), one.Auth) && !strings.Contains(host, one.Auth) {
					t.Errorf("%v shows %q", problems, one.Auth)
				}
			}
		}
		theirs := configfile.New("")
		if len(problems) > 0 || theirs.LoadFromReader(strings.NewReader(text)) != nil {
			return
		}
		for host := range document.Auths {
			found, err := r.fromDocker(canonical(host))
			if err != nil {
				t.Fatal(err)
			}
			want, ok := theirs.AuthConfigs[host]
			if !ok || canonical(host) != host || canonical(host) == hub {
				continue // a name that the host of an image cannot have, or one of several
			}
			// docker/cli cuts NULs off a password.
			if found.auth.Username != want.Username || strings.Trim(found.auth.Password, "\x00") != want.Password {
				t.Errorf("%q for %q: %+v, in docker/cli %+v", text, host, found.auth, want)
			}
			if found.auth.Password != "" && !strings.Contains(strings.Join(known, "\n"), found.auth.Password) {
				t.Errorf("%q is not redacted", found.auth.Password)
			}
		}
	})
}
