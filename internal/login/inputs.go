package login

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Inputs are the texts of the inputs registry, username, password and registry-auth. They can
// be printed: all verbs of fmt leave the passwords out.
type Inputs struct {
	Registry, Username, Password string // a single login; all three empty: none
	RegistryAuth                 string // several logins in YAML; "": none
}

// String is the registry of the single login.
func (i Inputs) String() string { return i.Registry }

// GoString shows what String shows.
func (i Inputs) GoString() string { return "login.Inputs(" + i.Registry + ")" }

// login is a username and a password for a registry, or for a part of one. It can be printed:
// all verbs of fmt leave the password out.
type login struct {
	line       int      // its line in registry-auth, from 1; 0: it comes from registry, username and password
	registry   string   // host, with a port where there is one: docker.io, ghcr.io, 127.0.0.1:5000
	repository string   // limits the login to one repository, without the host; "": all
	actions    []string // limits the login to some of pull and push; empty: all
	username   string   // empty, as the password is: a cloud's registry, used with the identity
	password   string
	ecr        string // auto, true or false: username and password are an AWS access key
	identity   bool   // registry-auth names neither username nor password, so it asks for the identity
}

// String is the registry with the limits of the login: "ghcr.io/owner/app@pull,push".
func (l login) String() string {
	text := l.registry
	if l.repository != "" {
		text += "/" + l.repository
	}
	if len(l.actions) > 0 {
		text += "@" + strings.Join(l.actions, ",")
	}
	return text
}

// GoString shows what String shows.
func (l login) GoString() string { return "login.login(" + l.String() + ")" }

// input is the name of the input that the login comes from.
func (l login) input() string {
	if l.line > 0 {
		return "registry-auth"
	}
	return "registry"
}

// from is where the login comes from, as a phrase.
func (l login) from() string {
	if l.line > 0 {
		return "the input registry-auth, line " + strconv.Itoa(l.line)
	}
	return "the inputs registry, username and password"
}

// reader parses the inputs, and collects the problems.
type reader struct {
	clouds    clouds
	redact    func(string)
	untrusted string // why the run is untrusted; "": it is trusted
	problems  syntax.Problems
	warnings  []string
}

func (r *reader) report(input string, line int, what, hint string) {
	r.problems = append(r.problems, syntax.Problem{Input: input, Line: line, What: what, Hint: hint})
}

// logins parses registry, username and password, or registry-auth, by the rules of
// docker/login-action (src/context.ts, v4). Problems leave all values out: with a mistake in the
// YAML a password may be in any of them.
func (r *reader) logins(in Inputs) []login {
	one := login{registry: in.Registry, username: in.Username, password: in.Password, ecr: "auto"}
	given := one.registry+one.username+one.password != ""
	r.redact(one.password)
	if in.RegistryAuth != "" {
		if given {
			r.report("registry-auth", 0, "it cannot be combined with registry, username or password", "put all logins into registry-auth")
		}
		return r.registryAuth(in.RegistryAuth)
	}
	if !given || r.withoutSecrets(one) || !r.complete(&one) {
		return nil
	}
	return []login{one}
}

var loginKeys = []string{"registry", "username", "password", "scope", "ecr"}

var yamlLine = regexp.MustCompile(`line (\d+)`)

func (r *reader) registryAuth(text string) []login {
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(text), &document); err != nil {
		line := 0
		if at := yamlLine.FindStringSubmatch(err.Error()); at != nil {
			line, _ = strconv.Atoi(at[1])
		}
		r.report("registry-auth", line, "this is not YAML", `put quotes around values with ":", "#" or other special characters`)
		return nil
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.SequenceNode {
		r.report("registry-auth", 0, "a list is expected", `begin each login with "- registry: " and its host`)
		return nil
	}
	var logins []login
	for _, node := range document.Content[0].Content {
		l, ok := r.login(node)
		if !ok || r.withoutSecrets(l) || !r.complete(&l) {
			continue
		}
		if slices.ContainsFunc(logins, func(other login) bool { return other.String() == l.String() }) {
			r.report("registry-auth", l.line, "this login is given twice", "leave one of them out")
			continue
		}
		logins = append(logins, l)
	}
	return logins
}

// login parses one element of registry-auth.
func (r *reader) login(node *yaml.Node) (login, bool) {
	if node.Kind != yaml.MappingNode {
		r.report("registry-auth", node.Line, "registry, username and password are expected", `write them as "key: value", one on each line`)
		return login{}, false
	}
	values, ok := map[string]string{}, true
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		_, twice := values[key.Value]
		switch {
		case !slices.Contains(loginKeys, key.Value):
			r.unknown(key)
			ok = false
		case value.Kind != yaml.ScalarNode || strings.ContainsAny(value.Value, "\r\n"):
			r.report("registry-auth", value.Line, key.Value+" must be one line of text", "")
			ok = false
		case twice:
			r.report("registry-auth", key.Line, key.Value+" is given twice", "leave one of them out")
			ok = false
		}
		values[key.Value] = value.Value
	}
	r.redact(values["password"])
	l := login{line: node.Line, registry: values["registry"], username: values["username"], password: values["password"], ecr: "auto"}
	_, user := values["username"]
	_, password := values["password"]
	l.identity = !user && !password
	if e := strings.ToLower(values["ecr"]); e != "" {
		l.ecr = e
	}
	if !slices.Contains([]string{"auto", "true", "false"}, l.ecr) {
		r.report("registry-auth", l.line, "ecr is none of auto, true, false", "")
		ok = false
	}
	return l, r.scope(&l, values["scope"]) && ok
}

// unknown reports a key that no login has. It may be a password, and is shown only where it is nearly
// one of the known keys.
func (r *reader) unknown(key *yaml.Node) {
	shown := "an attribute"
	if syntax.NearestHint(key.Value, loginKeys) != "" {
		shown = syntax.AttributeName(key.Value)
	}
	r.report("registry-auth", key.Line, shown+" is unknown", syntax.DidYouMean(key.Value, loginKeys))
}

var actionPattern = regexp.MustCompile(`^[a-z]+(,[a-z]+)*$`)

// scope parses "owner/app", "owner/app@push", "@pull,push" or "", by buildx's rules for the
// directories in which login-action keeps such logins (v0.37.0, util/dockerutil/dockerconfig).
func (r *reader) scope(l *login, text string) bool {
	repository, actions, limited := strings.Cut(text, "@")
	if limited && !actionPattern.MatchString(actions) || strings.HasPrefix(repository, "/") {
		r.report("registry-auth", l.line, "scope is malformed", "write it like owner/app, owner/app@push or @pull,push")
		return false
	}
	l.repository = repository
	if limited {
		l.actions = strings.Split(actions, ",")
	}
	return true
}

// withoutSecrets reports whether an untrusted run goes without a login, with a warning: an empty
// username or password is a secret that the CI withholds from it. Only an entry of registry-auth that
// names neither asks for the identity of the machine, which must not follow from a missing secret.
func (r *reader) withoutSecrets(l login) bool {
	host := registryHost(l.registry)
	if r.untrusted == "" || l.identity || l.username != "" && l.password != "" || !hostPattern.MatchString(host) {
		return false
	}
	at := ""
	if l.line > 0 {
		at = fmt.Sprintf(" (line %d)", l.line)
	}
	r.warnings = append(r.warnings, fmt.Sprintf(
		"%s%s: the login for %s is left out: its username or password is empty, as secrets are in runs that are not trusted (%s)", l.input(), at, host, r.untrusted))
	return true
}

// complete checks one login, and replaces its registry by the canonical host. A login without a
// username must be for a cloud's registry, which accepts the identity.
func (r *reader) complete(l *login) bool {
	host := registryHost(l.registry)
	_, ofCloud := r.clouds.find(host)
	switch {
	case !hostPattern.MatchString(host):
		r.report(l.input(), l.line, "the registry is not a host", "write it like ghcr.io or registry.example:5000")
	case l.username != "" && l.password == "":
		r.report(l.input(), l.line, "there is a username and no password", "add the password; a secret that is not set is empty")
	case l.username == "" && l.password != "":
		r.report(l.input(), l.line, "there is a password and no username", "add the username")
	case l.username == "" && host == hub:
		r.report(l.input(), l.line, "username and password are missing", "add both")
	case l.username == "" && (!ofCloud || l.ecr == "false"):
		r.report(l.input(), l.line, "username and password are missing", "add both; only registries of AWS, Azure and Google accept the machine's identity instead")
	default:
		l.registry = host
		return true
	}
	return false
}

// registryHost is the canonical host of a registry as an input names it: with a scheme and a path, or
// "" for Docker Hub.
func registryHost(text string) string {
	host := strings.TrimPrefix(strings.TrimPrefix(text, "https://"), "http://")
	host, _, _ = strings.Cut(host, "/")
	return canonical(cmp.Or(host, hub))
}

var hostPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?$`)
