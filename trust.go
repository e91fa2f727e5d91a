package main

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// trust adds the authorities of the input ca-certificates to those of the system, for all
// connections of this process that name none themselves.
func trust(authorities string) syntax.Problems {
	if authorities == "" {
		return nil
	}
	err := load(authorities)
	if err == nil {
		return nil
	}
	return syntax.Problems{{
		Input: "ca-certificates", What: "the certificates cannot be used: " + err.Error(),
		Hint: "set SSL_CERT_FILE to a file with all certificates instead",
	}}
}

// load loads the system's authorities together with others. Go loads them once, when they are
// first needed, from SSL_CERT_FILE or its default and from every file in the directories of
// SSL_CERT_DIR (crypto/x509, root_unix.go and root_linux.go). Here one directory is added.
func load(authorities string) (err error) {
	dir, err := os.MkdirTemp("", "warmlayer-authorities-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), []byte(authorities), 0o600); err != nil {
		return err
	}
	const variable = "SSL_CERT_DIR"
	before := os.Getenv(variable)
	dirs := "/etc/ssl/certs:/etc/pki/tls/certs"
	if before != "" {
		dirs = strings.TrimSuffix(before, ":")
	}
	if err := os.Setenv(variable, dirs+":"+dir); err != nil {
		return err
	}
	loaded, err := x509.SystemCertPool()
	if err = errors.Join(err, os.Setenv(variable, before)); err != nil {
		return err
	}
	all := loaded.Clone()
	all.AppendCertsFromPEM([]byte(authorities))
	if !all.Equal(loaded) {
		return errors.New("those of the system are loaded already")
	}
	return nil
}
