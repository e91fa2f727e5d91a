package builder

import (
	"fmt"

	"github.com/pelletier/go-toml/v2"

	"github.com/warmlayer/warmlayer/internal/stepnet"
)

// registryConnections is how many requests a managed builder makes to one registry at once, where its buildkitd.toml
// does not say. BuildKit's own number is 4 (v0.34.2, util/resolver/limited/group.go), so that an image with more
// layers is asked for and pushed in turns, each of which costs a round trip.
const registryConnections = 16

// config is a managed builder's buildkitd.toml: the user's, with our own defaults, and the network of its steps if they
// have one. The network is not set by flags, because the flag for the configuration of CNI sets nothing (v0.34.2,
// cmd/buildkitd/main_oci_worker.go).
func config(text string, network *stepnet.Network) ([]byte, error) {
	tree := map[string]any{}
	if err := toml.Unmarshal([]byte(text), &tree); err != nil {
		return []byte(text), nil //nolint:nilerr // buildkitd says what is wrong
	}
	system, err := table(tree, "system")
	if err != nil {
		return []byte(text), nil //nolint:nilerr // the same
	}
	if _, set := system["maxRegistryConcurrency"]; !set {
		system["maxRegistryConcurrency"] = registryConnections
	}
	if network != nil {
		oci, err := table(tree, "worker", "oci")
		if err != nil {
			return []byte(text), nil //nolint:nilerr // the same
		}
		oci["networkMode"], oci["cniConfigPath"], oci["cniBinaryPath"] = "cni", network.Config(), network.Plugins()
	}
	return toml.Marshal(tree)
}

// table is a table in a buildkitd.toml, which it adds where it is missing.
func table(tree map[string]any, names ...string) (map[string]any, error) {
	for _, name := range names {
		switch inner := tree[name].(type) {
		case map[string]any:
			tree = inner
		case nil:
			added := map[string]any{}
			tree[name] = added
			tree = added
		default:
			return nil, fmt.Errorf("%s is not a table", name)
		}
	}
	return tree, nil
}
