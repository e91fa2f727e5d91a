package builder_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/entitlements"

	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/builderspec"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// TestEntitlements: a managed builder allows exactly the entitlements that it was started with.
func TestEntitlements(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		options builder.Options
		ok      bool
	}{
		"by default":       {},
		"another":          {options: builder.Options{Entitlements: []string{"security.insecure", "device=vendor.com/gpu"}}},
		"allowed":          {options: builder.Options{Entitlements: []string{"network.host"}}, ok: true},
		"by a flag":        {options: builder.Options{Managed: builderspec.Managed{Flags: []string{"--allow-insecure-entitlement=network.host"}}}, ok: true},
		"by configuration": {options: builder.Options{Managed: builderspec.Managed{Config: `insecure-entitlements = ["network.host"]`}}, ok: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t, in(tempDir(t), test.options))
			definition, err := llb.Scratch().Run(llb.Args([]string{"/none"}), llb.Network(pb.NetMode_HOST)).Marshal(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, err = b.Client.Solve(t.Context(), definition, client.SolveOpt{
				AllowedEntitlements: []string{entitlements.EntitlementNetworkHost.String()},
			}, nil)
			// An allowed step fails too, because its program does not exist.
			if err == nil || strings.Contains(err.Error(), "network.host is not allowed") == test.ok {
				t.Errorf("a step on the host's network: %v", err)
			}
			closeTimely(t, b)
		})
	}
}

// TestDaemonSettings: flags, variables and the configuration reach the daemon, and they do not
// change where its state and its socket are.
func TestDaemonSettings(t *testing.T) {
	t.Parallel()
	dir, elsewhere := tempDir(t), filepath.Join(t.TempDir(), "state")
	b := open(t, in(dir, builder.Options{Managed: builderspec.Managed{
		Flags: []string{"--oci-worker-labels=flag=yes", "--debug"},
		Env:   []string{"BUILDKIT_TEST_NAME=value"},
		Config: "root = \"" + elsewhere + "\"\n[grpc]\naddress = [\"unix://" + elsewhere + ".sock\"]\n" +
			"[worker.oci]\nmax-parallelism = 2\n[worker.oci.labels]\nconfig = \"yes\"\n",
	}}))
	workers, err := b.Client.ListWorkers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if labels := workers[0].Labels; labels["flag"] != "yes" || labels["config"] != "yes" {
		t.Errorf("labels %v", labels)
	}
	if _, err := os.Stat(elsewhere); !os.IsNotExist(err) {
		t.Errorf("the daemon keeps its state elsewhere: %v", err)
	}
	found := false
	for _, pid := range processes(t, dir) {
		text, _ := os.ReadFile(filepath.Join("/proc", pid, "environ"))
		found = found || strings.Contains(string(text), "BUILDKIT_TEST_NAME=value\x00")
	}
	if !found {
		t.Error("the variable did not reach the daemon")
	}
	closeTimely(t, b)
	nothingLeft(t, dir)
}

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	a := authority{}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	a.pem, a.key = a.sign(t, a.cert)
	return a
}

func (a authority) sign(t *testing.T, cert *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer := a.key
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key
}

// pair is a certificate for 127.0.0.1 and builder.example, valid for servers and for clients, and
// its key.
func (a authority) pair(t *testing.T) (cert, key []byte) {
	t.Helper()
	cert, private := a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"builder.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	der, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

// client are the settings of a client with a certificate of the authority.
func (a authority) client(t *testing.T, withPair bool) builderspec.TLS {
	t.Helper()
	c := builderspec.TLS{CA: string(a.pem)}
	if withPair {
		cert, key := a.pair(t)
		c.Cert, c.Key = string(cert), string(key)
	}
	return c
}

// TestProgramOverTLS: the program takes certificates from its inputs, or from buildx's store.
func TestProgramOverTLS(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root starts a daemon without RootlessKit")
	}
	known := newAuthority(t)
	cert, key := known.pair(t)
	secured := testkit.StartBuildkitdTLS(t, known.pem, cert, key)
	t.Run("the program", func(t *testing.T) {
		t.Parallel()
		cert, key := known.pair(t)
		out := testkit.Invocation{Dir: testkit.App(t), Branch: "main", Args: []string{
			"--builder", secured, "--builder-cacert=" + string(known.pem), "--builder-cert=" + string(cert), "--builder-key=" + string(key),
			"--outputs", "type=cacheonly", "--cache", "none",
		}}.Start(t)
		if out.Code != 0 || strings.Contains(out.Text+out.Files, strings.Split(string(key), "\n")[1]) {
			t.Errorf("exit code %d:\n%s", out.Code, out.Text)
		}
	})
	t.Run("the program by name", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		cert, key := known.pair(t)
		options := "servername=builder.example"
		for option, text := range map[string][]byte{"cacert": known.pem, "cert": cert, "key": key} {
			file := filepath.Join(dir, option+".pem")
			testkit.Write(t, file, string(text))
			options += "," + option + "=" + file
		}
		store := map[string]string{"BUILDX_CONFIG": dir}
		testkit.Buildx(t, store, "create", "--name", "secured", "--driver", "remote", "--driver-opt", options, secured)
		out := testkit.Invocation{
			Dir: testkit.App(t), Branch: "main", Env: store, Args: []string{"--builder", "secured", "--outputs", "type=cacheonly", "--cache", "none"},
		}.Start(t)
		if out.Code != 0 || out.Report.Builder != secured || strings.Contains(out.Text+out.Files, strings.Split(string(key), "\n")[1]) {
			t.Errorf("exit code %d, builder %s:\n%s", out.Code, out.Report.Builder, out.Text)
		}
	})
}

// TestTLS: a daemon at tcp:// that requires certificates gets them. The error for a wrong
// certificate differs from that for a daemon that does not answer.
func TestTLS(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root starts a daemon without RootlessKit")
	}
	known, unknown := newAuthority(t), newAuthority(t)
	cert, key := known.pair(t)
	secured := testkit.StartBuildkitdTLS(t, known.pem, cert, key)
	named, misnamed := known.client(t, true), known.client(t, true)
	named.ServerName, misnamed.ServerName = "builder.example", "other.example"
	// The host is verified, and the client is not.
	otherClient := unknown.client(t, true)
	otherClient.CA = string(known.pem)
	for name, test := range map[string]struct {
		security builderspec.TLS
		hint     string
	}{
		"mutual":              {security: known.client(t, true)},
		"by a name":           {security: named},
		"by a wrong name":     {security: misnamed, hint: "give the builder a certificate for the host"},
		"an unknown builder":  {security: unknown.client(t, true), hint: "set builder-cacert"},
		"no certificate":      {security: known.client(t, false), hint: "set builder-cert and builder-key"},
		"another certificate": {security: otherClient, hint: "set builder-cert and builder-key"},
		"plain":               {hint: "TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			b, err := builder.Open(ctx, builder.Options{Address: remote(t, secured), TLS: test.security})
			if err == nil {
				defer b.Close()
			}
			if test.hint == "" {
				if err != nil || b.Managed || len(b.Platforms) == 0 {
					t.Errorf("%+v, %v", b, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.hint) {
				t.Errorf("error %v", err)
			}
		})
	}
}
