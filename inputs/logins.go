package inputs

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Login is what a registry, or a part of it, knows the user by. Printing one shows no
// password.
type Login struct {
	Line       int      // of registry-auth, from 1; 0: of the inputs registry, username and password
	Registry   string   // host, and port where there is one: docker.io, ghcr.io, 127.0.0.1:5000
	Repository string   // the only one it is for, without the host; "": all
	Actions    []string // the only ones it is for: pull, push; none: all
	Username   string   // "" with Password: the registry of a cloud, for the machine's identity
	Password   string
	ECR        string // auto, true or false: Username and Password are an AWS access key
}

// String is the registry with what the login is for in it.
func (l Login) String() string {
	text := l.Registry
	if l.Repository != "" {
		text += "/" + l.Repository
	}
	if len(l.Actions) > 0 {
		text += "@" + strings.Join(l.Actions, ",")
	}
	return text
}

// GoString is as String.
func (l Login) GoString() string { return "inputs.Login(" + l.String() + ")" }

// dockerHub is what images call the registry of which docker login has other names.
const dockerHub = "docker.io"

// logins reads registry, username and password, or registry-auth, by the rules of
// docker/login-action (src/context.ts, v4). Nothing of a value is shown, since what
// went wrong may have put a password anywhere.
func (p *parser) logins() []Login {
	single := Login{Registry: p.value("registry"), Username: p.value("username"), Password: p.settings["password"].text, ECR: "auto"}
	if text := p.settings["registry-auth"].text; text != "" {
		if single.Registry+single.Username+single.Password != "" {
			p.report("registry-auth", 0, "it stands beside registry, username or password", "put all logins into registry-auth")
		}
		return p.registryAuth(text)
	}
	if single.Registry+single.Username+single.Password == "" {
		return nil
	}
	if !p.completeLogin("registry", &single) {
		return nil
	}
	return []Login{single}
}

var loginKeys = []string{"registry", "username", "password", "scope", "ecr"}

var yamlLine = regexp.MustCompile(`line (\d+)`)

func (p *parser) registryAuth(text string) []Login {
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(text), &document); err != nil {
		line := 0
		if at := yamlLine.FindStringSubmatch(err.Error()); at != nil {
			line, _ = strconv.Atoi(at[1])
		}
		p.report("registry-auth", line, "this is not YAML", `put quotes around values with ":", "#" or other special characters`)
		return nil
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.SequenceNode {
		p.report("registry-auth", 0, "a list is expected", `begin each login with "- registry: " and its host`)
		return nil
	}
	var logins []Login
	for _, node := range document.Content[0].Content {
		l, ok := p.loginOf(node)
		if !ok || !p.completeLogin("registry-auth", &l) {
			continue
		}
		if slices.ContainsFunc(logins, func(other Login) bool { return other.String() == l.String() }) {
			p.report("registry-auth", l.Line, "this login is given twice", "leave one of them out")
			continue
		}
		logins = append(logins, l)
	}
	return logins
}

// loginOf reads one element of registry-auth.
func (p *parser) loginOf(node *yaml.Node) (Login, bool) {
	if node.Kind != yaml.MappingNode {
		p.report("registry-auth", node.Line, "registry, username and password are expected", `write them as "key: value", one a line`)
		return Login{}, false
	}
	values, ok := map[string]string{}, true
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		_, twice := values[key.Value]
		switch {
		case !slices.Contains(loginKeys, key.Value):
			p.report("registry-auth", key.Line, syntax.AttributeName(key.Value)+" is unknown", syntax.DidYouMean(key.Value, loginKeys))
			ok = false
		case value.Kind != yaml.ScalarNode || strings.ContainsAny(value.Value, "\r\n"):
			p.report("registry-auth", value.Line, key.Value+" is not one line of text", "")
			ok = false
		case twice:
			p.report("registry-auth", key.Line, key.Value+" is given twice", "leave one of them out")
			ok = false
		}
		values[key.Value] = value.Value
	}
	l := Login{Line: node.Line, Registry: values["registry"], Username: values["username"], Password: values["password"], ECR: "auto"}
	if e := strings.ToLower(values["ecr"]); e != "" {
		l.ECR = e
	}
	if !slices.Contains([]string{"auto", "true", "false"}, l.ECR) {
		p.report("registry-auth", l.Line, "ecr is none of auto, true, false", "")
		ok = false
	}
	return l, p.loginScope(&l, values["scope"]) && ok
}

var actionPattern = regexp.MustCompile(`^[a-z]+(,[a-z]+)*$`)

// loginScope reads "owner/app", "owner/app@push", "@pull,push" or "", as buildx reads
// the folders that login-action keeps such logins in (v0.37.0, util/dockerutil/dockerconfig).
func (p *parser) loginScope(l *Login, text string) bool {
	repository, actions, limited := strings.Cut(text, "@")
	if limited && !actionPattern.MatchString(actions) || strings.HasPrefix(repository, "/") {
		p.report("registry-auth", l.Line, "scope is not understood", "write it like owner/app, owner/app@push or @pull,push")
		return false
	}
	l.Repository = repository
	if limited {
		l.Actions = strings.Split(actions, ",")
	}
	return true
}

// completeLogin checks one login, and brings its registry to the name that images use.
func (p *parser) completeLogin(input string, l *Login) bool {
	host := strings.TrimPrefix(strings.TrimPrefix(l.Registry, "https://"), "http://")
	host, _, _ = strings.Cut(host, "/")
	if slices.Contains([]string{"", "index.docker.io", "registry-1.docker.io"}, host) {
		host = dockerHub
	}
	switch {
	case !hostPattern.MatchString(host):
		p.report(input, l.Line, "the registry is not a host", "write it like ghcr.io or registry.example:5000")
	case l.Username != "" && l.Password == "":
		p.report(input, l.Line, "there is a username and no password", "add the password, or is the secret that it comes from empty?")
	case l.Username == "" && l.Password != "":
		p.report(input, l.Line, "there is a password and no username", "add the username")
	case l.Username == "" && host == dockerHub:
		p.report(input, l.Line, "username and password are missing", "add both")
	default:
		l.Registry = strings.ToLower(host)
		return true
	}
	return false
}

var hostPattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?$`)
