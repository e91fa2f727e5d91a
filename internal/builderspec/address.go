package builderspec

import (
	"net/url"
	"slices"
	"strings"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Kind tells which BuildKit an [Address] stands for.
type Kind int

// All kinds but Engine and Remote stand for a managed builder: one that warmlayer starts, and ends.
const (
	Auto      Kind = iota // Container where this process is root of a container that may not mount, else Embedded; where neither starts Engine
	Embedded              // a process; rootless unless this process is root
	Rootless              // a process of a user other than root, through RootlessKit
	Container             // a container that the container engine runs
	Engine                // the BuildKit inside the container engine, which buildx calls default
	Remote                // a builder that runs already, at a URL
)

// kinds are the words for the kinds in the input builder. Remote has none.
var kinds = []string{Auto: "auto", Embedded: "embedded", Rootless: "rootless", Container: "container", Engine: "engine"}

// schemes are those of remote builders: BuildKit's client dials unix and tcp itself, and all
// others through its connection helpers (v0.34.2, client/connhelper).
var schemes = []string{"unix", "tcp", "docker-container", "podman-container", "nerdctl-container", "kube-pod", "ssh"}

// Schemes are the schemes that the URL of a remote builder may have.
func Schemes() []string { return slices.Clone(schemes) }

// Address says which BuildKit builds. The zero value is Auto.
type Address struct {
	Kind   Kind
	Scheme string // of a Remote one: one of [Schemes]; else ""
	URL    string // of a Remote one, as BuildKit's client takes it: tcp://host:1234; it may hold a password
	Origin string // the variable that a Remote one comes from: BUILDKIT_HOST; "": the input, or a builder's name

	// Container is the name of the container of docker-container://NAME?context=ENGINE, and
	// Engine is a docker context or, as buildx stores it, an engine's address; "": the engine
	// that the environment names. Both are "" for all other schemes.
	Container, Engine string
}

// ParseAddress reads auto, embedded, rootless, container, engine, or the URL of a remote builder.
func ParseAddress(text string) (Address, *syntax.Problem) {
	if kind := slices.Index(kinds, text); kind >= 0 {
		return Address{Kind: Kind(kind)}, nil
	}
	scheme, rest, _ := strings.Cut(text, "://")
	u, err := url.Parse(text)
	switch {
	case !slices.Contains(schemes, scheme):
		return Address{}, &syntax.Problem{What: syntax.Quoted(scheme) + " is not a kind of address", Hint: syntax.DidYouMean(scheme, schemes)}
	case strings.Trim(rest, "/") == "" || err == nil && scheme != "unix" && scheme != "tcp" && u.Hostname() == "":
		return Address{}, &syntax.Problem{What: "the address names no builder", Hint: "write it like unix:///run/buildkit/buildkitd.sock or docker-container://name"}
	case err != nil:
		return Address{}, &syntax.Problem{What: "the address is not a URL", Hint: "write it like tcp://host:1234, and special characters in it as %20"}
	}
	a := Address{Kind: Remote, Scheme: scheme, URL: text}
	if scheme == "docker-container" {
		a.Container, a.Engine = u.Hostname(), u.Query().Get("context")
	}
	return a, nil
}

// Managed tells whether warmlayer starts the builder.
func (a Address) Managed() bool { return a.Kind != Remote && a.Kind != Engine }

// String is the address as it may be shown: "embedded", or the URL without a password and,
// for a Docker container, without its engine.
func (a Address) String() string {
	switch {
	case a.Kind != Remote:
		return kinds[a.Kind]
	case a.Container != "":
		return a.Scheme + "://" + a.Container
	}
	return Redacted(a.URL)
}

// Redacted hides the password in an address of any kind, valid or not.
func Redacted(address string) string {
	scheme, rest, _ := strings.Cut(address, "//")
	at := strings.LastIndex(rest, "@")
	if at < 0 {
		return address
	}
	user, _, secret := strings.Cut(rest[:at], ":")
	if !secret {
		return address
	}
	return scheme + "//" + user + ":***" + rest[at:]
}
