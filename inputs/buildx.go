package inputs

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

// named finds a builder that buildx has made: in its store or, where there is none, as the
// container of the first node, which has a 0 after the builder's name. input is who names
// it. Where there is a problem it is a node without an address.
func (p *parser) named(input string, line int, name string) []Node {
	store := p.buildxStore()
	known := fileNames(store)
	file := strings.ToLower(name)
	switch {
	case name == "default":
		p.report(input, line, syntax.Quoted(name)+" is the BuildKit inside the container engine, which is not available yet",
			"leave it out, or have buildx make one: docker buildx create --driver docker-container")
	case !buildxName.MatchString(name):
		p.report(input, line, syntax.Quoted(name)+" is no builder", "use auto, embedded, rootless, container, an address, or the name of a builder of buildx")
	case slices.Contains(known, file):
		b, err := readBuildx(filepath.Join(store, file))
		if err == nil {
			return p.buildxNodes(input, line, b)
		}
		p.report(input, line, "what buildx has stored of "+syntax.Quoted(name)+" cannot be read: "+err.Error(), "docker buildx rm "+name+", and create it again")
	case len(known) > 0:
		p.report(input, line, "buildx has no builder "+syntax.Quoted(name)+" here", syntax.DidYouMean(name, known))
	default:
		return []Node{{Line: line, Address: containerAddress(file+"0", "")}}
	}
	return []Node{{Line: line}}
}

// buildxStore is the directory with a file for each builder (util/confutil/config.go), ""
// where it cannot be known.
func (p *parser) buildxStore() string {
	dir := p.env["BUILDX_CONFIG"]
	switch {
	case dir != "":
	case p.env["DOCKER_CONFIG"] != "":
		dir = filepath.Join(p.env["DOCKER_CONFIG"], "buildx")
	case p.env["HOME"] != "":
		dir = filepath.Join(p.env["HOME"], ".docker", "buildx")
	default:
		return ""
	}
	dir, _ = p.mounts.Here(dir)
	return filepath.Join(locate(p.dir, dir), "instances")
}

// fileNames lists a directory; none where it cannot be read.
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

// buildxNodes are those of a builder that are used: without platforms the first alone, as
// in buildx (build/resolver/driver.go). One with a problem has no address.
func (p *parser) buildxNodes(input string, line int, b buildxBuilder) []Node {
	if _, given := p.settings["platforms"]; !given {
		b.Nodes = b.Nodes[:1]
	}
	var nodes []Node
	for _, n := range b.Nodes {
		node := Node{Line: line}
		switch b.Driver {
		case "docker-container":
			node.Address = containerAddress(n.Name, n.Endpoint)
		case "remote":
			node.Address, node.TLS = p.address(input, line, n.Endpoint), p.nodeTLS(input, line, n)
		case "kubernetes":
			p.report(input, line, "builders of the driver kubernetes cannot be used by name", "give the address of a pod: kube-pod://POD?namespace=NAMESPACE")
			return []Node{node}
		default:
			p.report(input, line, "builders of the driver "+syntax.Quoted(b.Driver)+" cannot be used", "use one of docker-container or remote, or leave it out")
			return []Node{node}
		}
		for _, one := range n.Platforms {
			node.Platforms = append(node.Platforms, platforms.FormatAll(platforms.Normalize(one)))
		}
		nodes = append(nodes, node)
	}
	return nodes
}

// nodeTLS are the certificates of a node (driver/remote/factory.go).
func (p *parser) nodeTLS(input string, line int, n buildxNode) TLS {
	t := TLS{ServerName: n.DriverOpts["servername"]}
	for _, part := range []struct {
		option string
		text   *string
	}{{"cacert", &t.CA}, {"cert", &t.Cert}, {"key", &t.Key}} {
		name := n.DriverOpts[part.option]
		if name == "" {
			continue
		}
		file, _ := p.mounts.Here(name)
		content, err := os.ReadFile(file)
		if err != nil {
			p.report(input, line, "the "+part.option+" of node "+syntax.Quoted(n.Name)+" cannot be read", "put the file there again, or use the address, with builder-cacert, builder-cert and builder-key")
			return TLS{}
		}
		*part.text = string(content)
	}
	switch _, err := t.Config(); {
	case t != TLS{} && !strings.HasPrefix(n.Endpoint, "tcp://"):
		p.report(input, line, "certificates are for a builder at tcp://, and node "+syntax.Quoted(n.Name)+" is at another", "create the builder again without them")
	case err != nil:
		p.report(input, line, "the certificates of node "+syntax.Quoted(n.Name)+" are not PEM, or no pair", "create the builder again, with cacert, cert and key in PEM")
	}
	return t
}

// containerAddress is where a node's container is: in the engine of a docker context, at an
// engine's address, or, with neither, in ours.
func containerAddress(name, engine string) string {
	u := url.URL{Scheme: "docker-container", Host: buildxContainer + name}
	if engine != "" {
		u.RawQuery = url.Values{"context": {engine}}.Encode()
	}
	return u.String()
}
