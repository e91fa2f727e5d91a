package inputs

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/moby/buildkit/session/secrets/secretsprovider"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Secret is a secret of the build. It can be printed: all verbs of fmt show only its ID.
type Secret struct{ ID, Value string }

// String is the secret's ID.
func (s Secret) String() string { return s.ID }

// GoString is the secret's ID.
func (s Secret) GoString() string { return "inputs.Secret(" + s.ID + ")" }

// expectedSecrets says what a line of each input must be. A problem shows no part of a line,
// since any part may be secret: the line may be the second one of a key without quotes, or
// have a value where the name of a variable belongs.
var expectedSecrets = map[string]syntax.Problem{
	"secrets":      {What: "expected id=value", Hint: `put quotes around a secret of several lines: "id=value"`},
	"secret-envs":  {What: "expected id=NAME", Hint: "NAME is the variable that has the secret"},
	"secret-files": {What: "expected id=path", Hint: "the path starts from the working directory"},
}

// secrets reads the three inputs. As in docker/build-push-action, an id with an empty value is
// ignored: secrets are empty in a workflow that a fork starts.
func (p *parser) secrets() []Secret {
	var all []Secret
	for _, input := range []string{"secrets", "secret-envs", "secret-files"} {
		for _, it := range p.list(input) {
			s, problem := p.secret(input, it.Text)
			twice := slices.ContainsFunc(all, func(other Secret) bool { return other.ID == s.ID })
			switch {
			case problem == nil && twice:
				problem = &syntax.Problem{What: "the id is given twice", Hint: "leave one of the lines out"}
			case problem == nil && len(s.Value) > secretsprovider.MaxSecretSize:
				problem = &syntax.Problem{What: "the secret is larger than 500 KiB, which BuildKit refuses"}
			}
			if problem != nil {
				p.report(input, it.Line, problem.What, problem.Hint)
				continue
			}
			if s.Value != "" || input != "secrets" {
				all = append(all, s)
			}
		}
	}
	return all
}

// secret reads one line of an input.
func (p *parser) secret(input, text string) (Secret, *syntax.Problem) {
	if spec, ok := secretSpec(text); ok {
		return p.specified(spec)
	}
	id, rest, ok := strings.Cut(text, "=")
	if !ok && input == "secret-envs" {
		rest, ok = id, true
	}
	if !ok || id == "" || strings.ContainsAny(id, " \t\n") || rest == "" && input != "secrets" {
		problem := expectedSecrets[input]
		return Secret{}, &problem
	}
	switch input {
	case "secret-envs":
		return p.secretOfEnv(id, rest)
	case "secret-files":
		return p.secretOfFile(id, rest)
	}
	return Secret{id, rest}, nil
}

// secretSpec reads a line as buildx's --secret does (util/buildflags/secrets.go), such
// as type=env,id=token,env=TOKEN or id=key,src=path. Any other line is id=value.
func secretSpec(text string) (map[string]string, bool) {
	pairs, err := syntax.ParseCSV(text)
	if err != nil {
		return nil, false
	}
	spec := map[string]string{}
	for _, pair := range pairs {
		if pair.Key == "source" {
			pair.Key = "src"
		}
		if !slices.Contains([]string{"type", "id", "env", "src"}, pair.Key) {
			return nil, false
		}
		spec[pair.Key] = pair.Value
	}
	return spec, spec["id"] != "" && len(spec) > 1
}

// specified reads the secret of a line in buildx's form. With only an id it is the variable of that
// name, or else the file.
func (p *parser) specified(spec map[string]string) (Secret, *syntax.Problem) {
	id, env, file := spec["id"], spec["env"], spec["src"]
	if spec["type"] == "env" && env == "" {
		env, file = file, ""
	}
	_, isVariable := p.env[id]
	switch {
	case !slices.Contains([]string{"", "secret", "env", "file"}, spec["type"]):
		return Secret{}, &syntax.Problem{What: "the type of a secret is secret, env or file"}
	case env != "":
		return p.secretOfEnv(id, env)
	case file != "":
		return p.secretOfFile(id, file)
	case isVariable && spec["type"] != "file":
		return p.secretOfEnv(id, id)
	}
	return p.secretOfFile(id, id)
}

// secretOfEnv is a variable's value, which may be empty but must be set.
func (p *parser) secretOfEnv(id, name string) (Secret, *syntax.Problem) {
	value, ok := p.env[name]
	if !ok {
		return Secret{}, &syntax.Problem{What: "the variable is not set", Hint: "set it in the step's environment"}
	}
	return Secret{id, value}, nil
}

// secretOfFile is a file's content, up to one byte more than BuildKit accepts.
func (p *parser) secretOfFile(id, name string) (Secret, *syntax.Problem) {
	name, problem := p.translate(name)
	if problem != nil { // without the name, which may be a secret by mistake
		return Secret{}, &syntax.Problem{What: "the file is not mounted into this container", Hint: problem.Hint}
	}
	f, err := os.Open(locate(p.dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return Secret{}, &syntax.Problem{What: "there is no such file", Hint: expectedSecrets["secret-files"].Hint}
	}
	if err != nil {
		return Secret{}, unreadable
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, secretsprovider.MaxSecretSize+1))
	if err != nil {
		return Secret{}, unreadable
	}
	return Secret{id, string(content)}, nil
}

var unreadable = &syntax.Problem{What: "the file cannot be read", Hint: "check the path and its permissions"}
