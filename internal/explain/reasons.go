package explain

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/warmlayer/warmlayer/internal/refusal"
)

// reason is why another host did not do what was asked.
type reason struct {
	kind    Kind
	answer  *refusal.Answer // or
	pattern *regexp.Regexp
	what    string                 // %host stands for the host
	next    func(r request) string // may use %host too
	host    *regexp.Regexp         // finds the host in the error, in its first group
}

// Kind is a class of reasons.
type Kind int

// A refusal is certain and lasts until somebody changes something; what is [Unclear] may be gone
// with the next try.
const (
	Unclear     Kind = iota
	Denied           // the registry refuses these credentials
	Unreachable      // no such host, nothing listens there, or its certificate is not trusted
)

// reasons are looked for in this order: words that registries wrap into others come first. A full
// disk behind a registry is answered as "denied" by some.
var reasons = []reason{
	{answer: refusal.FullDisk,
		what: "the disk of %host is full", next: fixed("free space there, and try again")},
	{answer: refusal.Immutable,
		what: "%host takes each tag once (immutable tags)", next: fixed("push another tag, or change that rule of the repository")},
	{answer: refusal.Quota,
		what: "the storage of %host is full, or its quota is", next: fixed("delete images there, or raise the quota")},
	{answer: refusal.TooLarge,
		what: "a proxy in front of %host limits the size of requests", next: fixed("raise its limit (nginx: client_max_body_size 0)")},
	{answer: refusal.RateLimit,
		what: "%host limits the number of requests (429)", next: limited},
	{pattern: regexp.MustCompile(`no match for platform in manifest`),
		what: "it is not made for the platform of the build", next: fixed("set platforms to one that the image has, or use another image: docker buildx imagetools inspect lists them")},
	{answer: refusal.Unauthorized, kind: Denied,
		what: "%host does not accept the login (401), or there is no such repository", next: login},
	{answer: refusal.Denied, kind: Denied,
		what: "%host refuses access (403)", next: login},
	{pattern: regexp.MustCompile(`no such host`), kind: Unreachable, host: regexp.MustCompile(`lookup (\S+?)(?: on \S+)?: no such host`),
		what: "there is no host %host", next: fixed("check the name, and the DNS of the builder")},
	{pattern: regexp.MustCompile(`connection refused`), kind: Unreachable, host: regexp.MustCompile(`dial tcp (\S+): connect: connection refused`),
		what: "nothing listens at %host (connection refused)", next: fixed("check the address and the port, and that the server runs where the builder reaches it")},
	{answer: refusal.PlainHTTP, kind: Unreachable,
		what: "%host speaks HTTP, and HTTPS was expected", next: plainHTTP},
	{pattern: regexp.MustCompile(`x509: (certificate (?:has expired|is not valid|is valid for|relies on)|cannot validate)`), kind: Unreachable,
		what: "the certificate of %host is not valid", next: fixed("renew the certificate, or use the name that it is made for; check the clock of the machine")},
	{pattern: regexp.MustCompile(`x509: |failed to verify certificate|remote error: tls: |handshake failure`), kind: Unreachable,
		what: "the certificate of %host is not trusted", next: trust},
	{pattern: regexp.MustCompile(`(?i)i/o timeout|handshake timeout|deadline exceeded|request canceled|timed out`),
		what: "%host does not answer in time", next: fixed("try again; where a proxy or a firewall is between, check the builder's HTTPS_PROXY")},
	{pattern: regexp.MustCompile(`no route to host|network is unreachable`),
		what: "%host cannot be reached", next: fixed("check the builder's network, and its HTTPS_PROXY")},
	{pattern: regexp.MustCompile(`connection reset by peer|broken pipe|unexpected EOF`),
		what: "%host broke the connection off", next: fixed("try again")},
	{pattern: regexp.MustCompile(`Bad Gateway|Service Unavailable|Gateway Time-?out|Internal Server Error|: 5\d\d |status (?:code )?5\d\d`),
		what: "%host has a fault of its own (5xx)", next: fixed("try again later; look at the server's status page or log")},
	{pattern: regexp.MustCompile(`(?i)404 Not Found|status 404\)|: not found|manifest unknown|manifest_unknown|name unknown|name_unknown|invalid response status 404`),
		what: "%host does not have it", next: spelling},
	{pattern: regexp.MustCompile(`invalid response status (\d+)`),
		what: "%host refuses the request", next: fixed("open the URL elsewhere, and check whether it needs a login")},
}

// whyNot is the first reason that an error's text gives; false: none is known.
func whyNot(text string) (reason, bool) {
	for _, r := range reasons {
		if r.answer != nil && r.answer.In(text) || r.pattern != nil && r.pattern.MatchString(text) {
			return r, true
		}
	}
	return reason{}, false
}

// explained are the words for a request that failed for this reason. The host is the one that the
// error names or, where it names none, the request's.
func (r reason) explained(q request, text string) (what, next string) {
	host := q.host
	if r.host != nil {
		if found := r.host.FindStringSubmatch(text); found != nil {
			host = found[1]
		}
	}
	if host == "" {
		host = "the server"
	}
	fill := strings.NewReplacer("%host", host)
	next = fill.Replace(r.next(q))
	if r.kind == Denied && q.known {
		next += "; " + q.user.Used(host)
	}
	return fill.Replace(r.what), next
}

// Used says who was logged in to a host, and where the login came from.
func (l Login) Used(host string) string {
	switch {
	case l.From == "":
		return "no login for " + host + " was found"
	case l.User == "":
		return "the login came from " + l.From
	}
	return "the user was " + l.User + ", from " + l.From
}

func fixed(text string) func(request) string { return func(request) string { return text } }

// login says how to be let in. GitHub's registry needs a permission of the job.
func login(q request) string {
	var next string
	switch {
	case q.known && q.user.From == "" || !q.known && q.what == "pull":
		next = "check the name; log in with the inputs registry, username and password, or registry-auth"
	case q.what == "push":
		next = "check the password, and that this user may push to " + q.of
	default:
		next = "check the name and the password, and that this user may pull " + q.of
	}
	if q.host == "ghcr.io" {
		next += "; on GitHub give the job permissions: packages: " + map[bool]string{true: "write", false: "read"}[q.what == "push"]
	}
	return next
}

func limited(q request) string {
	if q.known && q.user.From == "" {
		return "log in to %host, which allows more; or wait, or set a mirror in buildkitd-config"
	}
	return "wait, or set a mirror of %host in buildkitd-config; without a login the limit is lower"
}

func plainHTTP(q request) string {
	if q.what == "push" {
		return `add registry.insecure=true to the line in outputs, or http = true under [registry."%host"] in buildkitd-config`
	}
	return `set http = true under [registry."%host"] in buildkitd-config, or use a server with HTTPS`
}

func trust(request) string {
	return `set ca-certificates to the certificate of its authority; a remote builder needs ca = ["PATH"] under [registry."%host"] in its own buildkitd.toml`
}

func spelling(q request) string {
	if q.what == "push" {
		return "check the name; some registries want the repository to be made first"
	}
	return "check the name and the tag"
}

// Refusal explains why a registry refuses a push that was tried before the build, and tells how
// certain the refusal is. The repository is a name such as "ghcr.io/owner/app".
func Refusal(repository string, user Login, err error) (Explanation, Kind) {
	text := err.Error()
	var answer *transport.Error
	if errors.As(err, &answer) {
		text += fmt.Sprintf(" (status %d)", answer.StatusCode)
	}
	r, ok := whyNot(text)
	if !ok {
		return Explanation{}, Unclear
	}
	what, next := r.explained(request{what: "push", of: repository, host: hostOf(repository), user: user, known: true}, text)
	return Explanation{What: "pushing " + repository + ": " + what, Next: next}, r.kind
}

// full explains a disk that is full where the builder keeps its data.
func full(f failure) Explanation {
	if refusal.FullDisk.In(f.text) {
		return Explanation{What: "the disk is full", Next: "free space where the builder keeps its data and where outputs are written, or use a larger runner"}
	}
	return Explanation{}
}
