package inputs

import (
	"errors"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// SSH is an agent for RUN --mount=type=ssh. One is made of keys if Paths names keys.
type SSH struct {
	ID    string   // "default" unless named
	Paths []string // of one agent's socket, or of keys; none: the agent of SSH_AUTH_SOCK
}

const defaultAgent = "default"

var agentID = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

// ssh reads the agents. As in buildx (commands/build.go), a context that is read over SSH gets
// the default agent if no agents are given.
func (p *parser) ssh(context Context) []SSH {
	var all []SSH
	items := p.list("ssh")
	for _, it := range items {
		id, paths, _ := strings.Cut(it.Text, "=")
		s := SSH{ID: id}
		if s.ID == "" {
			s.ID = defaultAgent
		}
		if paths != "" {
			s.Paths = strings.Split(paths, ",")
		}
		switch problem := p.checkSSH(s); {
		case problem != nil:
			p.report("ssh", it.Line, problem.What, problem.Hint)
		case slices.ContainsFunc(all, func(other SSH) bool { return other.ID == s.ID }):
			p.report("ssh", it.Line, "agent "+syntax.Quoted(s.ID)+" is given twice", "give one of them another id")
		default:
			all = append(all, s)
		}
	}
	if len(items) == 0 && context.ssh {
		if problem := p.checkAgent(); problem != nil {
			p.report("context", 0, "the repository is read over ssh, and "+problem.What, problem.Hint)
		}
		all = []SSH{{ID: defaultAgent}}
	}
	return all
}

// checkSSH applies the rule of BuildKit's client before the build (sshprovider in v0.34.2): an
// agent is one socket, or any number of keys without passphrases.
func (p *parser) checkSSH(s SSH) *syntax.Problem {
	if !agentID.MatchString(s.ID) {
		return &syntax.Problem{What: "expected default, id or id=path", Hint: `put quotes around several paths: "id=a,b"`}
	}
	if len(s.Paths) == 0 {
		return p.checkAgent()
	}
	sockets := 0
	for i, path := range s.Paths {
		path, problem := p.translate(path)
		s.Paths[i] = path
		if problem != nil {
			return problem
		}
		info, err := os.Stat(locate(p.dir, path))
		switch {
		case err != nil && strings.HasPrefix(path, "~"):
			return &syntax.Problem{What: "no key or socket at " + syntax.Quoted(path), Hint: "write the whole path: ~ is not expanded"}
		case err != nil:
			return &syntax.Problem{What: "no key or socket at " + syntax.Quoted(path), Hint: "relative paths start from the working directory"}
		case info.Mode()&os.ModeSocket != 0:
			sockets++
		default:
			if problem := p.checkKey(path); problem != nil {
				return problem
			}
		}
	}
	if sockets > 0 && len(s.Paths) > 1 {
		return &syntax.Problem{What: "an agent's socket cannot be combined with other paths", Hint: "give it its own id"}
	}
	return nil
}

// checkAgent looks for the agent of SSH_AUTH_SOCK.
func (p *parser) checkAgent() *syntax.Problem {
	const hint = "start an agent before this step, or name a key: default=path"
	socket := p.env["SSH_AUTH_SOCK"]
	if socket == "" {
		return &syntax.Problem{What: "there is no agent: SSH_AUTH_SOCK is not set", Hint: hint}
	}
	if _, mounted := p.mounts.Translate(socket); !mounted {
		return &syntax.Problem{What: "the agent's socket is not mounted into this container", Hint: "name a key instead: default=path"}
	}
	if _, err := os.Stat(locate(p.dir, socket)); err != nil {
		return &syntax.Problem{What: "there is no agent at the path in SSH_AUTH_SOCK", Hint: hint}
	}
	return nil
}

const maxKey = 100 << 10 // bytes of a key that BuildKit's client reads

func (p *parser) checkKey(path string) *syntax.Problem {
	f, err := os.Open(locate(p.dir, path))
	if err != nil {
		return unreadable
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxKey))
	if err != nil {
		return unreadable
	}
	var locked *ssh.PassphraseMissingError
	switch _, err := ssh.ParseRawPrivateKey(content); {
	case errors.As(err, &locked):
		return &syntax.Problem{What: syntax.Quoted(path) + " is a key with a passphrase", Hint: "add it to an agent, and name the agent's socket"}
	case err != nil:
		return &syntax.Problem{What: syntax.Quoted(path) + " is not a private key"}
	}
	return nil
}
