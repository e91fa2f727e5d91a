package builderspec

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// parse parses inputs given as INPUT_ variables, with the other variables as the environment.
func parse(dir string, environ ...string) (Spec, string) { return parseMoved(dir, "", "", environ...) }

// parseMoved is parse on a machine where the files at one path are at another path.
func parseMoved(dir, from, to string, environ ...string) (Spec, string) {
	env := map[string]string{}
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		env[name] = value
	}
	list := func(name string) []syntax.Item {
		items, _ := syntax.Split(syntax.Lines, env["INPUT_"+name])
		return items
	}
	in := Inputs{
		Builder: list("BUILDER"), CACert: env["INPUT_BUILDER-CACERT"], Cert: env["INPUT_BUILDER-CERT"], Key: env["INPUT_BUILDER-KEY"],
		Authorities: env["INPUT_CA-CERTIFICATES"],
		DriverOpts:  list("DRIVER-OPTS"), Flags: list("BUILDKITD-FLAGS"),
		ConfigFile: env["INPUT_BUILDKITD-CONFIG"], Config: env["INPUT_BUILDKITD-CONFIG-INLINE"],
		Platforms: env["INPUT_PLATFORMS"] != "",
	}
	if in.Builder == nil {
		in.Builder = []syntax.Item{{Line: 1, Text: "auto"}}
	}
	spec, problems := Parse(in, Machine{
		Getenv: func(name string) string { return env[name] },
		File: func(name string) (string, *syntax.Problem) {
			if rest, ok := strings.CutPrefix(name, from); ok && from != "" {
				name = to + rest
			}
			if !filepath.IsAbs(name) {
				name = filepath.Join(dir, name)
			}
			return name, nil
		},
	})
	var wanted []string
	for text := range strings.SplitSeq(env["INPUT_PLATFORMS"], ",") {
		if text != "" {
			wanted = append(wanted, text)
		}
	}
	nodes, more := Assign(spec.Nodes, wanted)
	spec.Nodes = nodes
	return spec, append(problems, more...).Error()
}

// nodesText is a text of the builders.
func nodesText(s Spec) string {
	var all []string
	for _, n := range s.Nodes {
		address := n.Address.URL
		if n.Address.Kind != Remote {
			address = n.Address.String()
		}
		all = append(all, address+" "+fmt.Sprint(n.Platforms))
	}
	return strings.Join(all, ", ")
}

func TestFlags(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		flags, want, problem string
	}{
		{"--debug", "--debug", ""},
		{"--oci-max-parallelism 2 --debug=true -log-level=debug", "--oci-max-parallelism=2 --debug=true --log-level=debug", ""},
		{"--allow-insecure-entitlement security.insecure\n--oci-worker-labels 'a=b c'", "--allow-insecure-entitlement=security.insecure --oci-worker-labels=a=b c", ""},
		{"--root=/x", "", "buildkitd-flags: line 1: --root cannot be set: a managed builder keeps its state in a private directory, which is removed with it\nhint: remove it"},
		{"--debug\n--addr tcp://0.0.0.0:1", "--debug", "buildkitd-flags: line 2: --addr cannot be set: a managed builder listens on a private socket only\nhint: remove it"},
		{"--containerd-worker-addr=x", "", "buildkitd-flags: line 1: --containerd-worker-addr cannot be set: a managed builder works with runc\nhint: remove it"},
		{"--oci-max-paralelism=2", "", "buildkitd-flags: line 1: --oci-max-paralelism is unknown\nhint: did you mean \"oci-max-parallelism\"?"},
		{"--log-level", "", "buildkitd-flags: line 1: --log-level has no value\nhint: write --log-level=value"},
		{"--log-level 'debug", "", "buildkitd-flags: line 1: quotes are not balanced\nhint: close the quote, or put a backslash before it"},
		{"debug", "", "buildkitd-flags: line 1: a word stands where a flag is expected\nhint: write --name=value"},
	} {
		spec, problem := parse(t.TempDir(), "INPUT_BUILDKITD-FLAGS="+test.flags)
		if got := strings.Join(spec.Managed.Flags, " "); got != test.want || problem != test.problem {
			t.Errorf("%q: %q\n%s", test.flags, got, problem)
		}
	}
}

func TestContainerOptions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		opts    string
		want    ContainerOptions
		problem string
	}{
		{"image=warmlayer:1\nnetwork=host", ContainerOptions{Image: "warmlayer:1", Network: "host"}, ""},
		{"memory=1g\nmemory-swap=-1\ncpu-quota=50000\ncpuset-cpus=0-3\ncgroup-parent=/ci", ContainerOptions{Resources: container.Resources{
			Memory: 1 << 30, MemorySwap: -1, CPUQuota: 50000, CpusetCpus: "0-3", CgroupParent: "/ci",
		}}, ""},
		{"memory=lots", ContainerOptions{}, "driver-opts: line 1: \"lots\" is not a valid memory"},
		{"image=", ContainerOptions{}, "driver-opts: line 1: \"\" is not a valid image"},
	} {
		spec, problem := parse(t.TempDir(), "INPUT_BUILDER=container", "INPUT_DRIVER-OPTS="+test.opts)
		if problem != test.problem || problem == "" && !reflect.DeepEqual(spec.Managed.Container, test.want) {
			t.Errorf("%q: %+v\n%s", test.opts, spec.Managed.Container, problem)
		}
	}
}

func TestDriverOpts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		opts    string
		want    []string
		problem string
	}{
		{"env.A=1\nenv.B=x,y=z", []string{"A=1", "B=x,y=z"}, ""},
		{"env.A=", []string{"A="}, ""},
		{"env.A", nil, "driver-opts: line 1: expected env.NAME=value"},
		{"image=moby/buildkit:master", nil, "driver-opts: line 1: \"image\" is for a builder in a container, and this one is a process\n" +
			"hint: remove it, or set builder to container"},
		{"network=host", nil, "driver-opts: line 1: \"network\" is for a builder in a container, and this one is a process\n" +
			"hint: remove it, or set builder to container"},
		{"default-load=true", nil, "driver-opts: line 1: \"default-load\" is not supported\nhint: remove it and set load"},
		{"memmory=1g", nil, "driver-opts: line 1: attribute \"memmory\" is unknown\nhint: did you mean \"memory\"?"},
		{"env.TMPDIR=/x", nil, "driver-opts: line 1: \"env.TMPDIR\" would move files of the builder out of its private directory\nhint: remove it"},
	} {
		spec, problem := parse(t.TempDir(), "INPUT_DRIVER-OPTS="+test.opts)
		if !slices.Equal(spec.Managed.Env, test.want) || problem != test.problem {
			t.Errorf("%q: %v\n%s", test.opts, spec.Managed.Env, problem)
		}
	}
}

// The settings of a managed builder are refused for a remote one.
func TestRemoteIsNotConfigured(t *testing.T) {
	t.Parallel()
	const what = ": it configures a builder that warmlayer starts, and this builder runs already\nhint: remove it, or use builder=embedded"
	for _, where := range []string{"INPUT_BUILDER=docker-container://b", "BUILDKIT_HOST=unix:///run/b.sock"} {
		_, problem := parse(t.TempDir(), where, "INPUT_DRIVER-OPTS=env.A=1", "INPUT_BUILDKITD-FLAGS=--debug", "INPUT_BUILDKITD-CONFIG=x", "INPUT_BUILDKITD-CONFIG-INLINE=debug=true")
		want := "buildkitd-flags" + what + "\nbuildkitd-config" + what + "\nbuildkitd-config-inline" + what + "\ndriver-opts" + what
		if problem != want {
			t.Errorf("%s: %s", where, problem)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"ca.pem", "cert.pem", "key.pem"} {
		writeText(t, dir, name, "")
	}
	writeText(t, dir, "buildkitd.toml", "debug = true\n")
	certificates := "[registry.\"r.example\"]\nmirrors = [\"m.example\"]\nca = [\"ca.pem\"]\n[[registry.\"r.example\".keypair]]\nkey = \"key.pem\"\ncert = \"cert.pem\"\n"
	for _, test := range []struct {
		environ []string
		want    string // a part of the configuration
		problem string
	}{
		{[]string{"INPUT_BUILDKITD-CONFIG=buildkitd.toml"}, "debug = true\n", ""},
		{[]string{"INPUT_BUILDKITD-CONFIG-INLINE=[worker.oci]\nmax-parallelism = 4\ngc = true"}, "max-parallelism = 4", ""},
		{[]string{"INPUT_BUILDKITD-CONFIG-INLINE=" + certificates}, dir + "/ca.pem", ""},
		{[]string{"INPUT_BUILDKITD-CONFIG-INLINE=" + certificates}, dir + "/key.pem", ""},
		{[]string{"INPUT_BUILDKITD-CONFIG-INLINE=" + strings.Replace(certificates, "ca.pem", "none.pem", 1)}, "",
			"buildkitd-config-inline: registry \"r.example\": ca: the file cannot be read: no such file or directory\nhint: paths start from the working directory"},
		{[]string{"INPUT_BUILDKITD-CONFIG=none.toml"}, "", "buildkitd-config: the file cannot be read: no such file or directory\nhint: paths start from the working directory"},
		{[]string{"INPUT_BUILDKITD-CONFIG=buildkitd.toml", "INPUT_BUILDKITD-CONFIG-INLINE=debug = true"}, "", "buildkitd-config: buildkitd-config-inline is set too\nhint: set only one of them"},
		{[]string{"INPUT_BUILDKITD-CONFIG-INLINE=debug = true\n[registry.\"r\"]\nmirors = [\"m\"]"}, "",
			"buildkitd-config-inline: line 3: \"registry.r.mirors\" is unknown to buildkitd\nhint: did you mean \"mirrors\"?"},
		{[]string{"INPUT_BUILDKITD-CONFIG-INLINE=debug = true\n[registry"}, "", "buildkitd-config-inline: line 2: buildkitd cannot read this: "},
		{[]string{"INPUT_BUILDKITD-CONFIG-INLINE=debug = \"yes\""}, "", "buildkitd-config-inline: line 1: buildkitd cannot read this: "},
	} {
		spec, problem := parse(dir, test.environ...)
		if !strings.Contains(spec.Managed.Config, test.want) || !strings.HasPrefix(problem, test.problem) || test.problem == "" && problem != "" {
			t.Errorf("%q: %q\n%s", test.environ, spec.Managed.Config, problem)
		}
	}
}

func writeText(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// keyPair is a certificate and its key, in PEM.
func keyPair(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}))
}

// TestAuthorities: ca-certificates is for every kind of builder.
func TestAuthorities(t *testing.T) {
	t.Parallel()
	cert, _ := keyPair(t)
	dir := t.TempDir()
	writeText(t, dir, "ca.pem", cert)
	for _, test := range []struct{ builder, text, problem string }{
		{"embedded", cert, ""},
		{"tcp://b.example:1234", "ca.pem", ""},
		{"container", "-----BEGIN X-----", "ca-certificates: it contains no certificate"},
		{"container", "none.pem", "ca-certificates: it is neither PEM nor a file that can be read"},
	} {
		spec, problem := parse(dir, "INPUT_BUILDER="+test.builder, "INPUT_CA-CERTIFICATES="+test.text)
		if !strings.HasPrefix(problem, test.problem) || test.problem == "" && (problem != "" || spec.Managed.Authorities != cert) {
			t.Errorf("%s: %q, problem %q", test.builder, spec.Managed.Authorities, problem)
		}
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	cert, key := keyPair(t)
	_, otherKey := keyPair(t)
	dir := t.TempDir()
	writeText(t, dir, "ca.pem", cert)
	const tcp = "INPUT_BUILDER=tcp://b.example:1234"
	for name, test := range map[string]struct {
		environ []string
		problem string
	}{
		"text":            {environ: []string{tcp, "INPUT_BUILDER-CACERT=" + cert, "INPUT_BUILDER-CERT=" + cert, "INPUT_BUILDER-KEY=" + key}},
		"a file":          {environ: []string{tcp, "INPUT_BUILDER-CACERT=ca.pem", "INPUT_BUILDER-CERT=" + cert, "INPUT_BUILDER-KEY=" + key}},
		"variables":       {environ: []string{tcp, "BUILDER_NODE_0_AUTH_TLS_CACERT=" + cert, "BUILDER_NODE_0_AUTH_TLS_CERT=" + cert, "BUILDER_NODE_0_AUTH_TLS_KEY=" + key}},
		"BUILDKIT_HOST":   {environ: []string{"BUILDKIT_HOST=tcp://b.example:1234", "INPUT_BUILDER-CACERT=" + cert, "INPUT_BUILDER-CERT=" + cert, "INPUT_BUILDER-KEY=" + key}},
		"no key":          {[]string{tcp, "INPUT_BUILDER-CERT=" + cert}, "builder-cert: the certificate has no key\nhint: add builder-key"},
		"no certificate":  {[]string{tcp, "INPUT_BUILDER-KEY=" + key}, "builder-key: the key has no certificate\nhint: add builder-cert"},
		"no pair":         {[]string{tcp, "INPUT_BUILDER-CERT=" + cert, "INPUT_BUILDER-KEY=" + otherKey}, "builder-cert: certificate and key are not a pair in PEM"},
		"no file":         {[]string{tcp, "INPUT_BUILDER-KEY=none.pem"}, "builder-key: it is neither PEM nor a file that can be read\nhint: PEM begins with \"-----BEGIN\""},
		"no authority":    {[]string{tcp, "INPUT_BUILDER-CACERT=-----BEGIN X-----"}, "builder-cacert: it contains no certificate"},
		"another builder": {[]string{"INPUT_BUILDER-CACERT=" + cert}, "builder-cacert: certificates are for a builder at tcp://"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec, problem := parse(dir, test.environ...)
			if !strings.HasPrefix(problem, test.problem) || test.problem == "" && problem != "" {
				t.Errorf("problem %s", problem)
			}
			if test.problem == "" {
				if c, err := spec.Nodes[0].TLS.Config(); err != nil || c.RootCAs == nil || len(c.Certificates) != 1 {
					t.Errorf("%v, %v", c, err)
				}
			}
			if shown := fmt.Sprintf("%v %+v %#v %s", spec.Nodes[0].TLS, spec, spec, problem); strings.Contains(shown, strings.Split(key, "\n")[1]) {
				t.Error("the key is shown")
			}
		})
	}
}
