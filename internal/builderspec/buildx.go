package builderspec

import (
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// buildxBuilder is a builder as buildx stores it (v0.37.0, store/nodegroup.go).
type buildxBuilder struct {
	Driver string // docker-container, remote, kubernetes, cloud
	Nodes  []buildxNode
}

// buildxNode is one of a builder's BuildKits.
type buildxNode struct {
	Name       string
	Endpoint   string // docker-container: a docker context, or an engine's address; remote: the BuildKit's address
	Platforms  []ocispecs.Platform
	DriverOpts map[string]string
}

// buildxContainer is how buildx names a node's container (driver/driver.go).
const buildxContainer = "buildx_buildkit_"

// buildxName is what buildx lets a builder be called (store/util.go); it keeps lower case.
var buildxName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9._-]*$`)

// named finds a builder that buildx has made: in its store or, where that is empty, as the
// container of the first node, which has a 0 after the builder's name. The input or variable
// holds the name. Where there is a problem it is one broken node.
func (r *reader) named(input string, line int, name string) []Node {
	store := r.buildxStore()
	known := fileNames(store)
	file := strings.ToLower(name)
	switch {
	case name == "default": // which buildx finds among docker's contexts, with the driver docker (store/storeutil, GetNodeGroup)
		return []Node{{Line: line, Address: Address{Kind: Engine}}}
	case !buildxName.MatchString(name):
		r.report(input, line, syntax.Quoted(name)+" is not the name of a builder", "use auto, embedded, rootless, container, engine, an address, or the name of a builder of buildx")
	case slices.Contains(known, file):
		b, err := readBuildx(filepath.Join(store, file))
		if err == nil {
			return r.buildxNodes(input, line, b)
		}
		r.report(input, line, "the file in which buildx keeps "+syntax.Quoted(name)+" cannot be read: "+err.Error(), "docker buildx rm "+name+", and create it again")
	case len(known) > 0:
		r.report(input, line, "buildx has no builder "+syntax.Quoted(name)+" here", syntax.DidYouMean(name, known))
	default:
		return []Node{r.node(input, line, containerURL(file+"0", ""))}
	}
	return []Node{{Line: line, broken: true}}
}

// buildxStore is the directory with a file for each builder (util/confutil/config.go), ""
// where none of the variables names it.
func (r *reader) buildxStore() string {
	dir := r.machine.Getenv("BUILDX_CONFIG")
	docker, home := r.machine.Getenv("DOCKER_CONFIG"), r.machine.Getenv("HOME")
	switch {
	case dir != "":
	case docker != "":
		dir = filepath.Join(docker, "buildx")
	case home != "":
		dir = filepath.Join(home, ".docker", "buildx")
	default:
		return ""
	}
	dir, _ = r.machine.File(dir)
	return filepath.Join(dir, "instances")
}

// fileNames lists a directory. It is empty for one that cannot be read.
func fileNames(dir string) []string {
	entries, _ := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func readBuildx(file string) (buildxBuilder, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return buildxBuilder{}, errors.Unwrap(err) // without the path
	}
	var b buildxBuilder
	if err := json.Unmarshal(content, &b); err != nil {
		return buildxBuilder{}, err
	}
	if len(b.Nodes) == 0 {
		return buildxBuilder{}, errors.New("it has no nodes")
	}
	return b, nil
}

// buildxNodes are the nodes of a builder that are used: where the input platforms is unset
// the first one only, as in buildx (build/resolver/driver.go).
func (r *reader) buildxNodes(input string, line int, b buildxBuilder) []Node {
	if !r.in.Platforms {
		b.Nodes = b.Nodes[:1]
	}
	var nodes []Node
	for _, n := range b.Nodes {
		var node Node
		switch b.Driver {
		case "docker-container":
			node = r.node(input, line, containerURL(n.Name, n.Endpoint))
		case "remote":
			node = r.node(input, line, n.Endpoint)
			node.TLS = r.nodeTLS(input, line, n)
		case "kubernetes":
			r.report(input, line, "builders of the driver kubernetes cannot be used by name", "give the address of a pod: kube-pod://POD?namespace=NAMESPACE")
			return []Node{{Line: line, broken: true}}
		default:
			r.report(input, line, "builders of the driver "+syntax.Quoted(b.Driver)+" cannot be used", "use one of docker-container or remote, or leave it out")
			return []Node{{Line: line, broken: true}}
		}
		for _, one := range n.Platforms {
			node.Platforms = append(node.Platforms, platforms.FormatAll(platforms.Normalize(one)))
		}
		nodes = append(nodes, node)
	}
	return nodes
}

// nodeTLS are the certificates of a node (driver/remote/factory.go).
func (r *reader) nodeTLS(input string, line int, n buildxNode) TLS {
	t := TLS{ServerName: n.DriverOpts["servername"]}
	for _, part := range []struct {
		option string
		text   *string
	}{{"cacert", &t.CA}, {"cert", &t.Cert}, {"key", &t.Key}} {
		name := n.DriverOpts[part.option]
		if name == "" {
			continue
		}
		content, err := r.readFile(name)
		if err != nil {
			r.report(input, line, "the "+part.option+" of node "+syntax.Quoted(n.Name)+" cannot be read", "put the file back, or use the address, with builder-cacert, builder-cert and builder-key")
			return TLS{}
		}
		*part.text = string(content)
	}
	switch _, err := t.Config(); {
	case t != TLS{} && !strings.HasPrefix(n.Endpoint, "tcp://"):
		r.report(input, line, "certificates are for a builder at tcp://, and node "+syntax.Quoted(n.Name)+" is at another address", "create the builder again without them")
	case err != nil:
		r.report(input, line, "the certificates of node "+syntax.Quoted(n.Name)+" are not PEM, or not a pair", "create the builder again, with cacert, cert and key in PEM")
	}
	return t
}

// containerURL is the address of a node's container in the engine of a docker context, or at
// an engine's address. Without either it is in the engine that the environment names.
func containerURL(name, engine string) string {
	u := url.URL{Scheme: "docker-container", Host: buildxContainer + name}
	if engine != "" {
		u.RawQuery = url.Values{"context": {engine}}.Encode()
	}
	return u.String()
}
