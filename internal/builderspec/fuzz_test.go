package builderspec

import (
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/moby/buildkit/cmd/buildkitd/config"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// FuzzAddress: an address is shown without its password, and read again is the same.
func FuzzAddress(f *testing.F) {
	for _, text := range []string{
		"auto", "unix:///run/b.sock", "tcp://u:pass@h:1234", "docker-container://b?context=c", "ssh://me:a@b@h", "kube-pod://p?namespace=n", "tcp://u:%zz@h", "tcp://[::1]:1", "TCP://h", "tcp://u:p/w@h", "docker-container://u:p@c", "unix://u:p@/x",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, problem := ParseAddress(text)
		shown := a.String() + Redacted(text)
		if problem != nil {
			shown = problem.What + problem.Hint + Redacted(text)
		} else if again, p := ParseAddress(text); p != nil || again != a {
			t.Errorf("%q is %+v, and then %+v", text, a, again)
		}
		u, err := url.Parse(text)
		if err != nil || u.User == nil {
			return
		}
		password, ok := u.User.Password()
		if ok && len(password) > 3 && strings.Count(text, password) == 1 && !strings.Contains("***", password) && strings.Contains(shown, password) {
			t.Errorf("%q is shown as %q", text, shown)
		}
		if problem == nil && a.Managed() != (a.URL == "") {
			t.Errorf("%q is %+v", text, a)
		}
	})
}

// FuzzConfig reads a buildkitd.toml. One that is taken is what buildkitd reads, and stays what it
// is; one that is not has a problem.
func FuzzConfig(f *testing.F) {
	for _, text := range []string{
		"debug = true\n", "[worker.oci]\nmax-parallelism = 4\n[worker.oci.labels]\na = \"b\"\n", "[registry.\"docker.io\"]\nmirrors = [\"m\"]\nca = [\"/dev/null\"]\n",
		"[[registry.\"a\".keypair]]\nkey = \"/dev/null\"\ncert = \"/dev/null\"\n", "x = 1", "debug = 1", "registry = 1", "[registry]\na = 1", "debug=true\ndebug=false", "gckeepstorage = 1979-05-27T07:32:00Z", "[worker.oci]\ngckeepstorage = \"10%\"\n",
		"insecure-entitlements = [ \"a\", ]\n", "[dns]\nnameservers=[]\n", "\xef\xbb\xbfdebug = true", "root = \"\"\"\n\"\"\"", "[registry.a]\nca=\"/dev/null\"",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		spec, problems := parse(t.TempDir(), "INPUT_BUILDKITD-CONFIG-INLINE="+text)
		if text == "" {
			return
		}
		theirs, err := config.Load(strings.NewReader(text))
		if problems != "" {
			if spec.Managed.Config != "" && !strings.Contains(problems, "cannot be read") {
				t.Errorf("%q is taken with %s", text, problems)
			}
			return
		}
		if err != nil {
			t.Fatalf("%q is taken, and buildkitd refuses it: %v", text, err)
		}
		ours, err := config.Load(strings.NewReader(spec.Managed.Config))
		if err != nil {
			t.Fatalf("%q becomes %q: %v", text, spec.Managed.Config, err)
		}
		if len(spec.Managed.ConfigFiles) == 0 && !reflect.DeepEqual(ours, theirs) {
			t.Errorf("%q becomes %q: %+v, want %+v", text, spec.Managed.Config, ours, theirs)
		}
	})
}

// FuzzFlags: each flag that is taken is a known one, in one argument, and none shows what it is given.
func FuzzFlags(f *testing.F) {
	for _, text := range []string{"--debug --oci-max-parallelism=4", "--oci-worker-labels 'a b'", "-debug", "--root=/x", "x", "--debug=false \"", "--addr tcp://h", "--oci-worker-net host --trace", "--=x", "--oci-worker-labels=\"a=b,c=d\" # x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		items, err := syntax.Split(syntax.Lines, text)
		if err != nil {
			return
		}
		spec, problems := Parse(Inputs{Builder: []syntax.Item{{Line: 1, Text: "auto"}}, Flags: items}, Machine{Getenv: func(string) string { return "" }})
		var again []syntax.Item
		for _, flag := range spec.Managed.Flags {
			name, _, _ := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
			if _, known := flagIsSwitch[name]; !known || !strings.HasPrefix(flag, "--") {
				t.Errorf("%q has the flag %q", text, flag)
			}
			again = append(again, syntax.Item{Line: 1, Text: "'" + strings.ReplaceAll(flag, "'", `'"'"'`) + "'"})
		}
		if len(problems) > 0 {
			return
		}
		second, problems := Parse(Inputs{Builder: []syntax.Item{{Line: 1, Text: "auto"}}, Flags: again}, Machine{Getenv: func(string) string { return "" }})
		if len(problems) > 0 || !reflect.DeepEqual(second.Managed.Flags, spec.Managed.Flags) {
			t.Errorf("%q is %q, and that is %q, %v", text, spec.Managed.Flags, second.Managed.Flags, problems)
		}
	})
}
