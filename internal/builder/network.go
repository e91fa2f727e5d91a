package builder

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/moby/buildkit/client"
	"github.com/pelletier/go-toml/v2"

	"github.com/warmlayer/warmlayer/internal/builderspec"
	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/stepnet"
)

// StepNetwork is a network that RUN steps are on.
type StepNetwork string

// The networks of steps that choose none (RUN --network).
const (
	NetworkOwn        StepNetwork = "own"        // one of the step's own
	NetworkHost       StepNetwork = "host"       // the machine's, with its loopback interface
	NetworkContainer  StepNetwork = "container"  // that of the builder's container
	NetworkConfigured StepNetwork = "configured" // as the builder's settings say
	NetworkRemote     StepNetwork = "remote"     // as the remote builder has it
)

// Network says which network the steps of a builder are on.
type Network struct {
	Steps  StepNetwork
	Reason string // why it is not one of their own; "" for NetworkOwn
}

// stepsDir is the part of the private directory for [stepnet].
const stepsDir = "steps"

// cniScript gives the daemon of root an empty directory in memory where libcni keeps its results
// (github.com/containernetworking/cni v1.3.0, libcni/api.go), for which BuildKit has no setting.
const cniScript = `{ [ -d ` + cniParent + `/cni ] || mkdir -p ` + cniParent + `/cni; } && mount -t tmpfs -o mode=700 cni ` + cniParent + `/cni ||
{ echo '` + stepnet.Failed + cniParent + `/cni cannot be replaced' >&2; exit 1; }
`

// cniScriptRootless does the same in the copy of the parent: the directory may be a link to the
// machine's.
const cniScriptRootless = `rm -f ` + cniParent + `/cni && mkdir ` + cniParent + `/cni ||
{ echo '` + stepnet.Failed + cniParent + `/cni cannot be replaced' >&2; exit 1; }
`

const cniParent = "/var/lib"

// giveNetwork prepares a network of their own for the steps, where that can be done.
func (d *processDaemon) giveNetwork() error {
	if why := configuredNetwork(d.options.Managed); why != "" {
		d.steps = Network{NetworkConfigured, why}
		return nil
	}
	switch {
	case d.options.Program == "":
		d.steps = Network{NetworkHost, "the program that makes networks is unknown"}
		return nil
	case d.shell == "":
		d.steps = Network{NetworkHost, "sh is not on PATH"}
		return nil
	}
	dir := d.dir.join(stepsDir)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	network, err := stepnet.New(stepnet.Options{Dir: dir, Program: d.options.Program, Shell: d.shell, Metadata: d.options.Metadata})
	if err != nil {
		return fmt.Errorf("prepare the network of steps: %w", err)
	}
	d.network, d.steps = network, Network{Steps: NetworkOwn}
	if !d.rootless {
		d.environ = append(d.environ, lazyNetwork)
	}
	return nil
}

// lazyNetwork makes the image's daemon wait with a step's network until a step needs it, in place of trying one at its start
// (internal/patch): that is a third of a start. BuildKit's own daemon does not know it.
const lazyNetwork = "BUILDKIT_CNI_LAZY=1"

// tryNetwork tries a step's network in this process, beside the start of a root's daemon, which has the same permissions. The returned
// function waits for the outcome. With an error it closes the connection to the daemon, and the error is in the daemon's log, too.
func (d *processDaemon) tryNetwork() (wait func(*client.Client) error) {
	if d.network == nil || d.rootless {
		return func(*client.Client) error { return nil }
	}
	tried := make(chan error, 1)
	go func() {
		defer crash.Catch()
		err := d.network.Try()
		if err != nil {
			fmt.Fprintf(&d.log, "%s%v\n", stepnet.Failed, err)
		}
		tried <- err
	}()
	return func(c *client.Client) error {
		err := <-tried
		if err != nil {
			_ = c.Close()
		}
		return err
	}
}

// withoutNetwork leaves the steps on the machine's network, after a start has failed with one of
// their own.
func (d *processDaemon) withoutNetwork() error {
	err := d.network.Close()
	d.network, d.steps = nil, Network{NetworkHost, networkFailure(d.log.String())}
	d.setCommand()
	return errors.Join(err, d.writeConfig())
}

// networkFailure is the reason in a daemon's log why steps have no network of their own.
func networkFailure(log string) string {
	for _, mark := range []string{stepnet.Failed, "buildkitd: "} {
		for line := range strings.Lines(log) {
			if _, why, found := strings.Cut(line, mark); found {
				return strings.TrimRight(why, "\"\n")
			}
		}
	}
	return strings.TrimSpace(lastLines(log, 1))
}

// networkFlags are the flags and networkKeys the keys of worker.oci in buildkitd.toml (v0.34.2)
// with which a user chooses the network of steps.
var (
	networkFlags = []string{"oci-worker-net", "oci-cni-config-path", "oci-cni-binary-dir"}
	networkKeys  = []string{"networkMode", "cniConfigPath", "cniBinaryPath", "bridgeName", "bridgeSubnet"}
)

// bridgeVariable chooses BuildKit's bridge network.
const bridgeVariable = "BUILDKIT_NETWORK_BRIDGE_AUTO"

// configuredNetwork tells which setting chooses the network of steps, "" for none.
func configuredNetwork(m builderspec.Managed) string {
	for _, flag := range m.Flags {
		if name, _, _ := strings.Cut(strings.TrimLeft(flag, "-"), "="); slices.Contains(networkFlags, name) {
			return "buildkitd-flags sets --" + name
		}
	}
	if variable(m.Env, bridgeVariable) != "" {
		return "driver-opts sets " + bridgeVariable
	}
	var set struct{ Worker struct{ OCI map[string]any } }
	_ = toml.Unmarshal([]byte(m.Config), &set) // buildkitd says what is wrong
	for _, key := range networkKeys {
		if set.Worker.OCI[key] != nil {
			return "buildkitd.toml sets worker.oci." + key
		}
	}
	return ""
}
