package inputs

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

// parseIn reads inputs given as INPUT_ variables, in a directory.
func parseIn(dir string, environ ...string) (Values, string) {
	values, problems := Parse(nil, environ, dir)
	problems = slices.DeleteFunc(problems, func(p syntax.Problem) bool { return p.Input == "file" || p.Input == "context" })
	return values, problems.Error()
}

func TestDaemonFlags(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		flags, want, problem string
	}{
		{"--debug", "--debug", ""},
		{"--oci-max-parallelism 2 --debug=true -log-level=debug", "--oci-max-parallelism=2 --debug=true --log-level=debug", ""},
		{"--allow-insecure-entitlement security.insecure\n--oci-worker-labels 'a=b c'", "--allow-insecure-entitlement=security.insecure --oci-worker-labels=a=b c", ""},
		{"--root=/x", "", "buildkitd-flags: line 1: --root cannot be set: its state lies in a private directory, which is removed\nhint: remove it"},
		{"--debug\n--addr tcp://0.0.0.0:1", "--debug", "buildkitd-flags: line 2: --addr cannot be set: it listens on a private socket alone\nhint: remove it"},
		{"--containerd-worker-addr=x", "", "buildkitd-flags: line 1: --containerd-worker-addr cannot be set: the daemon works with runc\nhint: remove it"},
		{"--oci-max-paralelism=2", "", "buildkitd-flags: line 1: --oci-max-paralelism is unknown\nhint: did you mean \"oci-max-parallelism\"?"},
		{"--log-level", "", "buildkitd-flags: line 1: --log-level has no value\nhint: write --log-level=value"},
		{"--log-level 'debug", "", "buildkitd-flags: line 1: quotes are not balanced"},
		{"debug", "", "buildkitd-flags: line 1: what is no flag stands between flags\nhint: write --name=value"},
	} {
		values, problem := parseIn(t.TempDir(), "INPUT_BUILDKITD-FLAGS="+test.flags)
		if got := strings.Join(values.DaemonFlags, " "); got != test.want || problem != test.problem {
			t.Errorf("%q: %q\n%s", test.flags, got, problem)
		}
	}
}

func TestContainerOptions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		opts    string
		want    Container
		problem string
	}{
		{"image=warmlayer:1\nnetwork=host", Container{Image: "warmlayer:1", Network: "host"}, ""},
		{"memory=1g\nmemory-swap=-1\ncpu-quota=50000\ncpuset-cpus=0-3\ncgroup-parent=/ci", Container{Resources: container.Resources{
			Memory: 1 << 30, MemorySwap: -1, CPUQuota: 50000, CpusetCpus: "0-3", CgroupParent: "/ci",
		}}, ""},
		{"memory=lots", Container{}, "driver-opts: line 1: \"lots\" is not what memory may be"},
		{"image=", Container{}, "driver-opts: line 1: \"\" is not what image may be"},
	} {
		values, problem := parseIn(t.TempDir(), "INPUT_BUILDER=container", "INPUT_DRIVER-OPTS="+test.opts)
		if problem != test.problem || problem == "" && !reflect.DeepEqual(values.Container, test.want) {
			t.Errorf("%q: %+v\n%s", test.opts, values.Container, problem)
		}
	}
}

func TestDriverOpts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		opts    string
		want    []syntax.Pair
		problem string
	}{
		{"env.A=1\nenv.B=x,y=z", []syntax.Pair{{Key: "A", Value: "1"}, {Key: "B", Value: "x,y=z"}}, ""},
		{"env.A=", []syntax.Pair{{Key: "A", Value: ""}}, ""},
		{"env.A", nil, "driver-opts: line 1: expected env.NAME=value"},
		{"image=moby/buildkit:master", nil, "driver-opts: line 1: \"image\" is for a builder in a container, and this one is a process\n" +
			"hint: remove it, or set builder to container"},
		{"network=host", nil, "driver-opts: line 1: \"network\" is for a builder in a container, and this one is a process\n" +
			"hint: remove it, or set builder to container"},
		{"default-load=true", nil, "driver-opts: line 1: \"default-load\" is none of ours\nhint: remove it and set load"},
		{"memmory=1g", nil, "driver-opts: line 1: attribute \"memmory\" is unknown\nhint: did you mean \"memory\"?"},
		{"env.TMPDIR=/x", []syntax.Pair{{Key: "TMPDIR", Value: "/x"}}, "driver-opts: \"env.TMPDIR\" would move the daemon out of its private directory\nhint: remove it"},
	} {
		values, problem := parseIn(t.TempDir(), "INPUT_DRIVER-OPTS="+test.opts)
		if !slices.Equal(values.DaemonEnv, test.want) || problem != test.problem {
			t.Errorf("%q: %v\n%s", test.opts, values.DaemonEnv, problem)
		}
	}
}

// What a daemon is started with makes no sense for one that runs already.
func TestDaemonOfOthers(t *testing.T) {
	t.Parallel()
	const what = ": it is for a daemon that is started here, and the builder runs already\nhint: remove it, or use builder=embedded"
	for _, where := range []string{"INPUT_BUILDER=docker-container://b", "BUILDKIT_HOST=unix:///run/b.sock"} {
		_, problem := parseIn(t.TempDir(), where, "INPUT_DRIVER-OPTS=env.A=1", "INPUT_BUILDKITD-FLAGS=--debug", "INPUT_BUILDKITD-CONFIG=x", "INPUT_BUILDKITD-CONFIG-INLINE=debug=true")
		want := "driver-opts" + what + "\nbuildkitd-flags" + what + "\nbuildkitd-config" + what + "\nbuildkitd-config-inline" + what
		if problem != want {
			t.Errorf("%s: %s", where, problem)
		}
	}
}

func TestDaemonConfig(t *testing.T) {
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
		{[]string{"INPUT_BUILDKITD-CONFIG=buildkitd.toml", "INPUT_BUILDKITD-CONFIG-INLINE=debug = true"}, "", "buildkitd-config: it stands beside buildkitd-config-inline\nhint: leave one of them out"},
		{[]string{"INPUT_BUILDKITD-CONFIG-INLINE=debug = true\n[registry.\"r\"]\nmirors = [\"m\"]"}, "",
			"buildkitd-config-inline: line 3: \"registry.r.mirors\" is unknown to buildkitd\nhint: did you mean \"mirrors\"?"},
		{[]string{"INPUT_BUILDKITD-CONFIG-INLINE=debug = true\n[registry"}, "", "buildkitd-config-inline: line 2: this is not what buildkitd reads: "},
		{[]string{"INPUT_BUILDKITD-CONFIG-INLINE=debug = \"yes\""}, "", "buildkitd-config-inline: line 1: this is not what buildkitd reads: "},
	} {
		values, problem := parseIn(dir, test.environ...)
		if !strings.Contains(values.DaemonConfig, test.want) || !strings.HasPrefix(problem, test.problem) || test.problem == "" && problem != "" {
			t.Errorf("%q: %q\n%s", test.environ, values.DaemonConfig, problem)
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

func TestBuilderTLS(t *testing.T) {
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
		"no pair":         {[]string{tcp, "INPUT_BUILDER-CERT=" + cert, "INPUT_BUILDER-KEY=" + otherKey}, "builder-cert: certificate and key are no pair in PEM"},
		"no file":         {[]string{tcp, "INPUT_BUILDER-KEY=none.pem"}, "builder-key: it is neither PEM nor a file that can be read\nhint: PEM begins with \"-----BEGIN\""},
		"no authority":    {[]string{tcp, "INPUT_BUILDER-CACERT=-----BEGIN X-----"}, "builder-cacert: no certificate is in it"},
		"another builder": {[]string{"INPUT_BUILDER-CACERT=" + cert}, "builder-cacert: certificates are for a builder at tcp://"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			values, problem := parseIn(dir, test.environ...)
			if !strings.HasPrefix(problem, test.problem) || test.problem == "" && problem != "" {
				t.Errorf("problem %s", problem)
			}
			if test.problem == "" {
				if c, err := values.BuilderTLS.Config(); err != nil || c.RootCAs == nil || len(c.Certificates) != 1 {
					t.Errorf("%v, %v", c, err)
				}
			}
			if shown := fmt.Sprintf("%v %+v %#v %s", values.BuilderTLS, values, values, problem); strings.Contains(shown, strings.Split(key, "\n")[1]) {
				t.Error("the key is shown")
			}
			if test.problem == "" && !slices.Contains(values.Sensitive(), strings.TrimSpace(key)) {
				t.Error("the key is not known to be sensitive")
			}
		})
	}
}
