package builderspec

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
)

// TLS holds the certificates for the connection to a builder at tcp://. The zero value is a
// connection without TLS. Printing one shows no key.
type TLS struct {
	CA         string // PEM of the authorities that vouch for the builder; "": the system's
	Cert       string // PEM of the client's certificate; "": none
	Key        string // PEM of its key
	ServerName string // the name in the builder's certificate; "": the address's host
}

// String tells only whether there is TLS.
func (t TLS) String() string {
	if t == (TLS{}) {
		return "no TLS"
	}
	return "TLS"
}

// GoString is as String.
func (t TLS) GoString() string { return t.String() }

// Config is the same for crypto/tls; nil for the zero value. What [Parse] returns is valid.
func (t TLS) Config() (*tls.Config, error) {
	if t == (TLS{}) {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CA != "" {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM([]byte(t.CA)) {
			return nil, errors.New("no certificate is in the authority's PEM")
		}
	}
	if t.Cert != "" {
		pair, err := tls.X509KeyPair([]byte(t.Cert), []byte(t.Key))
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// readTLS reads builder-cacert, builder-cert and builder-key or, where an input is unset,
// docker/setup-buildx-action's variable for the first node.
func (r *reader) readTLS() TLS {
	t := TLS{
		CA:   r.pem("builder-cacert", cmp.Or(r.in.CACert, r.variable("BUILDER_NODE_0_AUTH_TLS_CACERT"))),
		Cert: r.pem("builder-cert", cmp.Or(r.in.Cert, r.variable("BUILDER_NODE_0_AUTH_TLS_CERT"))),
		Key:  r.pem("builder-key", cmp.Or(r.in.Key, r.variable("BUILDER_NODE_0_AUTH_TLS_KEY"))),
	}
	if t == (TLS{}) {
		return t
	}
	_, caErr := TLS{CA: t.CA}.Config()
	_, pairErr := TLS{Cert: t.Cert, Key: t.Key}.Config()
	switch {
	case !r.someNode(func(a Address) bool { return a.Scheme == "tcp" }):
		r.report("builder-cacert", 0, "certificates are for a builder at tcp://", "remove them, or set builder to a tcp:// address")
	case t.Cert != "" && t.Key == "":
		r.report("builder-cert", 0, "the certificate has no key", "add builder-key")
	case t.Cert == "" && t.Key != "":
		r.report("builder-key", 0, "the key has no certificate", "add builder-cert")
	case caErr != nil:
		r.report("builder-cacert", 0, "it contains no certificate", "give the authority's certificate in PEM, or the path of such a file")
	case pairErr != nil: // the error itself may quote pieces of what is no PEM
		r.report("builder-cert", 0, "certificate and key are not a pair in PEM", "give both in PEM, or the paths of such files")
	}
	return t
}

// readAuthorities reads ca-certificates, which is for this process as well as for a managed builder.
func (r *reader) readAuthorities() string {
	text := r.pem("ca-certificates", r.in.Authorities)
	if text != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(text)) {
		r.report("ca-certificates", 0, "it contains no certificate", "give the authority's certificate in PEM, or the path of such a file")
	}
	return text
}

func (r *reader) variable(name string) string { return strings.TrimSpace(r.machine.Getenv(name)) }

// pem is the text itself, or the content of the file that it names.
func (r *reader) pem(input, text string) string {
	if text == "" || strings.Contains(text, "-----BEGIN") {
		return text
	}
	if !strings.ContainsAny(text, "\r\n") {
		if content, err := r.readFile(text); err == nil {
			return string(content)
		}
	}
	r.report(input, 0, "it is neither PEM nor a file that can be read", `PEM begins with "-----BEGIN"`)
	return ""
}
