// Package builderspec knows what may be said about builders: their addresses, the platforms of
// several, the builders that docker buildx has stored, certificates, and what a managed builder
// (one that warmlayer starts) is started with. Everything is parsed once, to typed values.
//
//	spec, problems := builderspec.Parse(builderspec.Inputs{
//		Builder: []syntax.Item{{Line: 1, Text: "tcp://amd.example:1234"}},
//	}, machine)
//	// spec.Nodes[0].Address is {Kind: Remote, Scheme: "tcp", URL: "tcp://amd.example:1234"}
package builderspec

import (
	"os"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Inputs are the inputs about builders, as they were written. The zero value has none set.
type Inputs struct {
	Builder           []syntax.Item // builder: one builder a line
	CACert, Cert, Key string        // builder-cacert, builder-cert, builder-key: PEM, or a file's path
	DriverOpts        []syntax.Item // driver-opts
	Flags             []syntax.Item // buildkitd-flags
	Authorities       string        // ca-certificates: PEM, or a file's path
	ConfigFile        string        // buildkitd-config: a path
	Config            string        // buildkitd-config-inline: TOML
	Platforms         bool          // the input platforms is set
	State             State         // builder-state and what belongs to it; Dir is as written
}

// Machine is what the inputs refer to.
type Machine struct {
	// Getenv is a variable's value, "" for one that is unset.
	Getenv func(name string) string
	// File is the path, from the process's working directory, of a file that the user names.
	// The problem tells that this process cannot reach it.
	File func(name string) (string, *syntax.Problem)
}

// Spec is what the inputs say.
type Spec struct {
	Nodes   []Node // in the order of the input; one at least, also where there are problems
	Managed Managed
}

// Node is one builder, and the platforms that it builds for.
type Node struct {
	Line      int // in the input builder, from 1; 0 where it has one line
	Address   Address
	TLS       TLS      // for an address at tcp://; the zero value: none
	Platforms []string // normalised, as in linux/arm64; empty: those that the other builders leave

	broken bool // a problem of it is reported: what it is stays unknown
}

// Plaintext tells that the builder is reached over a network, without encryption.
func (n Node) Plaintext() bool { return n.Address.Scheme == "tcp" && n.TLS == TLS{} }

// Managed is what a managed builder is started with besides its defaults.
type Managed struct {
	Flags       []string // buildkitd's (v0.34.2), each with its value: "--oci-max-parallelism=2"
	Config      string   // buildkitd.toml, with absolute paths; "": an empty one
	ConfigFiles []string // absolute paths of the files and directories that Config names
	Env         []string // further variables, as in os.Environ
	Authorities string   // PEM of certificate authorities in addition to the system's; "": none
	Container   ContainerOptions
	State       State
}

// State is where a managed builder that runs as a process (embedded or rootless) keeps what it has built, for the next run on the
// machine. The zero value: nowhere.
type State struct {
	Dir  string        // absolute; "": nothing is kept
	Size int64         // bytes that it may take after a run; 0: no limit
	Wait time.Duration // how long to wait while another run uses it; 0: not at all
}

// ContainerOptions say how the container of a builder of kind Container is made.
type ContainerOptions struct {
	Image     string              // name or ID; "": that of this process's own container
	Network   string              // the engine's; "": that of this process's own container where Image is "", else the engine's default
	Resources container.Resources // memory, processors, parent of its control group
}

// Parse reads the inputs, and reports everything that is wrong with them.
func Parse(in Inputs, m Machine) (Spec, syntax.Problems) {
	r := &reader{in: in, machine: m}
	r.nodes = r.readNodes()
	given := r.readTLS()
	for i := range r.nodes {
		if r.nodes[i].TLS == (TLS{}) {
			r.nodes[i].TLS = given
		}
	}
	var managed Managed
	managed.Flags = r.readFlags()
	managed.Config, managed.ConfigFiles = r.readConfig()
	managed.Env, managed.Container = r.readDriverOpts()
	managed.Authorities = r.readAuthorities()
	managed.State = r.readState()
	return Spec{Nodes: r.nodes, Managed: managed}, r.problems
}

// reader reads the inputs, and collects their problems.
type reader struct {
	in       Inputs
	machine  Machine
	nodes    []Node
	problems syntax.Problems
}

func (r *reader) report(input string, line int, what, hint string) {
	r.problems = append(r.problems, syntax.Problem{Input: input, Line: line, What: what, Hint: hint})
}

// readFile reads a file that the user names, if this process can reach it.
func (r *reader) readFile(name string) ([]byte, error) {
	path, _ := r.machine.File(name)
	return os.ReadFile(path)
}

// someNode tells whether one of the builders is such a one, or may be: a broken one is unknown.
func (r *reader) someNode(such func(Address) bool) bool {
	for _, n := range r.nodes {
		if n.broken || such(n.Address) {
			return true
		}
	}
	return false
}

// forManaged tells whether an input that only a managed builder has is to be read: it is set,
// and there is such a builder. Where there is none the input is a problem.
func (r *reader) forManaged(input string, set bool) bool {
	if !set {
		return false
	}
	if !r.someNode(Address.Managed) {
		r.report(input, 0, "it configures a builder that warmlayer starts, and this builder runs already", "remove it, or use builder=embedded")
		return false
	}
	return true
}
