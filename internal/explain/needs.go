package explain

import (
	"regexp"
	"strings"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

var (
	noSecret    = regexp.MustCompile(`secret (\S+): not found`)
	noSSH       = regexp.MustCompile(`no SSH key "(.*)" forwarded from the client|unset ssh forward key (\S+)`)
	notAllowed  = regexp.MustCompile(`(network\.host|security\.insecure|device\S*) is not allowed`)
	noExporter  = regexp.MustCompile(`exporter "?([\w.-]+)"? could not be found|output (?:file writer|directory) is not supported by (\w+) exporter`)
	sshNoSocket = regexp.MustCompile(`invalid empty ssh agent socket`)
)

// missingInput explains what the Dockerfile or an output needs, and the build was not given.
func missingInput(f failure) Explanation {
	if found := f.find(noSecret); found != nil {
		id := found[1]
		return f.at.explained("the secret "+id+" is not set", "set it with the input secrets ("+id+"=value), secret-files or secret-envs")
	}
	if found := f.find(noSSH); found != nil {
		id := found[1] + found[2]
		if id == "" {
			id = "default"
		}
		return f.at.explained("the build was given no SSH agent or key with the id "+id, "set the input ssh to "+id+", or to "+id+"=PATH of a socket or key")
	}
	if f.find(sshNoSocket) != nil {
		return Explanation{What: "ssh: no SSH agent runs here (SSH_AUTH_SOCK is not set)", Next: "start an agent, or set the input ssh to default=PATH of a key"}
	}
	if found := f.find(notAllowed); found != nil {
		kind, value, _ := strings.Cut(found[1], ".")
		at := f.dockerfile.first(func(i *instruction) bool {
			return i.flag(kind) == value || kind != "network" && kind != "security" && i.flag("device") != ""
		})
		return at.explained("the entitlement "+found[1]+" is not granted",
			"if you trust the Dockerfile, set the input allow to "+found[1]+"; a remote builder must allow it too")
	}
	if found := f.find(noExporter); found != nil {
		return Explanation{What: "outputs: this builder does not support the type " + syntax.Quoted(found[1]+found[2]), Next: "use one of image, oci, docker, local, tar"}
	}
	return Explanation{}
}
