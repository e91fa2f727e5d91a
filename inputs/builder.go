package inputs

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/google/shlex"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// TLS is how a builder at tcp:// is known, and how it knows us. The zero value is none.
// Printing one shows no key.
type TLS struct {
	CA         string // PEM of the authorities; "": the system's
	Cert       string // PEM of our certificate; "": none
	Key        string // PEM of its key
	ServerName string // whom its certificate is for; "": the address's host
}

// String tells nothing but whether there is one.
func (t TLS) String() string {
	if t == (TLS{}) {
		return "no TLS"
	}
	return "TLS"
}

// GoString is as String.
func (t TLS) GoString() string { return t.String() }

// Config is nil for the zero value.
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

// builderTLS reads builder-cacert, builder-cert and builder-key or, where an input is
// unset, docker/setup-buildx-action's variable for the first node.
func (p *parser) builderTLS() TLS {
	t := TLS{
		CA:   p.pem("builder-cacert", "BUILDER_NODE_0_AUTH_TLS_CACERT"),
		Cert: p.pem("builder-cert", "BUILDER_NODE_0_AUTH_TLS_CERT"),
		Key:  p.pem("builder-key", "BUILDER_NODE_0_AUTH_TLS_KEY"),
	}
	if t == (TLS{}) {
		return t
	}
	_, caErr := TLS{CA: t.CA}.Config()
	_, pairErr := TLS{Cert: t.Cert, Key: t.Key}.Config()
	switch {
	case !p.anyBuilder(func(address string) bool { return strings.HasPrefix(address, "tcp://") }):
		p.report("builder-cacert", 0, "certificates are for a builder at tcp://", "remove them, or set builder to its address")
	case t.Cert != "" && t.Key == "":
		p.report("builder-cert", 0, "the certificate has no key", "add builder-key")
	case t.Cert == "" && t.Key != "":
		p.report("builder-key", 0, "the key has no certificate", "add builder-cert")
	case caErr != nil:
		p.report("builder-cacert", 0, "no certificate is in it", "give the authority's certificate in PEM, or the path of such a file")
	case pairErr != nil: // its words may hold pieces of what is no PEM
		p.report("builder-cert", 0, "certificate and key are no pair in PEM", "give both in PEM, or the paths of such files")
	}
	return t
}

// pem is the text of an input, or of the file that it names.
func (p *parser) pem(name, variable string) string {
	text := cmp.Or(p.settings[name].text, strings.TrimSpace(p.env[variable]))
	if text == "" || strings.Contains(text, "-----BEGIN") {
		return text
	}
	if !strings.ContainsAny(text, "\r\n") {
		file, _ := p.mounts.Here(text)
		if content, err := os.ReadFile(locate(p.dir, file)); err == nil {
			return string(content)
		}
	}
	p.report(name, 0, "it is neither PEM nor a file that can be read", `PEM begins with "-----BEGIN"`)
	return ""
}

// anyBuilder tells whether there is such an address among those of the builders, or one
// that is not known for a problem that it has; one of a daemon that is started here is
// "embedded", "rootless" or "container".
func (p *parser) anyBuilder(such func(address string) bool) bool {
	return slices.ContainsFunc(p.nodes, func(n Node) bool {
		if n.Address == "auto" {
			return such(cmp.Or(p.env["BUILDKIT_HOST"], "embedded"))
		}
		return n.Address == "" || such(n.Address)
	})
}

// ours reports an input that is for a daemon of ours where there is none. It tells
// whether the input is to be looked at.
func (p *parser) ours(name string) bool {
	s, given := p.settings[name]
	if !given || s.text == "" && s.items == nil {
		return false
	}
	if !p.anyBuilder(func(address string) bool {
		return address == "embedded" || address == "rootless" || address == "container"
	}) {
		p.report(name, 0, "it is for a daemon that is started here, and the builder runs already", "remove it, or use builder=embedded")
		return false
	}
	return true
}

// daemonFlagKinds are buildkitd's flags (v0.33.1, cmd/buildkitd) that may be given,
// and whether they are switches.
var daemonFlagKinds = map[string]bool{
	"debug": true, "trace": true, "log-format": false, "log-level": false, "debugaddr": false,
	"allow-insecure-entitlement": false, "proxy-network": true, "cdi-disabled": true, "cdi-spec-dir": false,
	"save-cache-debug": true, "oci-worker-labels": false, "oci-worker-snapshotter": false,
	"oci-worker-proxy-snapshotter-path": false, "oci-worker-platform": false, "oci-worker-net": false,
	"oci-cni-config-path": false, "oci-cni-binary-dir": false, "oci-cni-pool-size": false,
	"oci-worker-binary": false, "oci-worker-apparmor-profile": false, "oci-worker-selinux": true,
	"oci-max-parallelism": false, "oci-worker-gc": true, "oci-worker-gc-keepstorage": false,
}

// daemonFlagsOurs are those that would break a daemon of ours, and why.
var daemonFlagsOurs = map[string]string{
	"root": "its state lies in a private directory, which is removed", "addr": "it listens on a private socket alone",
	"group": "it listens on a private socket alone", "tlscert": "it listens on a private socket alone",
	"tlskey": "it listens on a private socket alone", "tlscacert": "it listens on a private socket alone",
	"config": "the input buildkitd-config is for that", "otel-socket-path": "it lies in its private directory",
	"oci-worker": "it works with runc", "containerd-worker": "its state would stay in the machine's containerd",
	"rootless": "builder=rootless is for that", "oci-worker-rootless": "builder=rootless is for that",
	"oci-worker-no-process-sandbox": "it is set where it is needed", "help": "it would not start", "version": "it would not start",
}

// daemonFlags reads buildkitd-flags, split as in a shell. A flag and its value become
// one argument.
func (p *parser) daemonFlags() []string {
	const input = "buildkitd-flags"
	if !p.ours(input) {
		return nil
	}
	var flags []string
	for _, it := range p.list(input) {
		words, err := shlex.Split(it.Text)
		if err != nil {
			p.report(input, it.Line, "quotes are not balanced", "")
			continue
		}
		for len(words) > 0 {
			name, value, hasValue := strings.Cut(strings.TrimLeft(words[0], "-"), "=")
			isSwitch, known := daemonFlagKinds[name]
			isFlag := strings.HasPrefix(words[0], "-")
			words = words[1:]
			takes := isFlag && !hasValue && !isSwitch && len(words) > 0
			if takes && (known || !strings.HasPrefix(words[0], "-")) { // an unknown one may have a value too
				value, hasValue, words = words[0], true, words[1:]
			}
			switch {
			case !isFlag:
				p.report(input, it.Line, "what is no flag stands between flags", "write --name=value")
			case !known:
				p.refuseFlag(it.Line, name)
			case !hasValue && !isSwitch:
				p.report(input, it.Line, "--"+name+" has no value", "write --"+name+"=value")
			case hasValue:
				flags = append(flags, "--"+name+"="+value)
			default:
				flags = append(flags, "--"+name)
			}
		}
	}
	return flags
}

func (p *parser) refuseFlag(line int, name string) {
	const input = "buildkitd-flags"
	reason, ours := daemonFlagsOurs[name]
	switch {
	case ours:
		p.report(input, line, "--"+name+" cannot be set: "+reason, "remove it")
	case strings.HasPrefix(name, "containerd-worker"):
		p.report(input, line, "--"+name+" cannot be set: the daemon works with runc", "remove it")
	case syntax.IsName(name) || len(name) > 20 && syntax.IsName(name[:20]):
		p.report(input, line, "--"+name+" is unknown", cmp.Or(syntax.NearestHint(name, slices.Sorted(maps.Keys(daemonFlagKinds))), "buildkitd --help lists the flags"))
	default:
		p.report(input, line, "a flag is unknown", "buildkitd --help lists the flags")
	}
}
