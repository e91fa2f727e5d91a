package leaks

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// keys are files of keys: of an SSH key without a passphrase, and of a client's TLS key with its
// certificate, which is its own authority.
type keys struct {
	ssh  string // path
	cert string // directory with ca.pem, cert.pem and key.pem, as in DOCKER_CERT_PATH
}

// newKeys makes keys, whose secret lines become secrets. The BuildKit at the address takes the TLS key.
func (w *world) newKeys(t testing.TB) {
	t.Helper()
	dir := t.TempDir()
	w.keys = keys{filepath.Join(dir, "id_ed25519"), dir}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(block))
	testkit.Write(t, w.keys.ssh, text)
	w.secrets["SSH key"] = strings.Split(text, "\n")[3] // its third line has the private part
	cert, key := pair(t)
	for name, content := range map[string][]byte{"ca.pem": cert, "cert.pem": cert, "key.pem": key} {
		testkit.Write(t, filepath.Join(dir, name), string(content))
	}
	w.secrets["TLS key"] = strings.Split(string(key), "\n")[1]
	w.secured = testkit.StartBuildkitdTLS(t, cert, cert, key)
}

// pair is a certificate for 127.0.0.1 that signs itself, and its key.
func pair(t testing.TB) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret})
}

// scanner speaks BuildKit's SBOM protocol (docs/attestations/sbom-protocol.md). What it finds is its own
// environment, and the names of the files that it may read.
const scanner = `#!/bin/sh
printf '{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document","predicate":{"environment":"%s","files":"%s"}}' \
  "$(env | base64 | tr -d '\n')" "$(find /run /etc | base64 | tr -d '\n')" > "$BUILDKIT_SCAN_DESTINATION/sbom.spdx.json"
`

// pushScanner pushes an image with the scanner to a new registry, and keeps its name.
func (w *world) pushScanner(t testing.TB) {
	t.Helper()
	app := testkit.App(t)
	testkit.Write(t, filepath.Join(app, "scan.sh"), scanner)
	testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch\nADD rootfs.tar /\nCOPY --chmod=755 scan.sh /\nENTRYPOINT [\"/scan.sh\"]\n")
	w.scanner = testkit.StartRegistry(t).Host + "/scanner:v1"
	testkit.Buildctl(t, w.builder, app, "--output", "type=image,push=true,name="+w.scanner)
}
