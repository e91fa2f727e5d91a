package builderspec

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// buildxStore writes builders in the format of buildx v0.37.0, and returns the directory of the
// store.
func buildxStore(t *testing.T, builders map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "instances"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range builders {
		writeText(t, filepath.Join(dir, "instances"), name, text)
	}
	return dir
}

const twoContainers = `{"Name":"two","Driver":"docker-container","Nodes":[
	{"Name":"two0","Endpoint":"unix:///var/run/docker.sock","Platforms":[{"architecture":"amd64","os":"linux"}],"DriverOpts":null,"Flags":["--allow-insecure-entitlement=network.host"],"Files":null},
	{"Name":"graviton","Endpoint":"arm-context","Platforms":[{"architecture":"arm64","os":"linux"},{"architecture":"arm","os":"linux","variant":"v7"}]}],"Dynamic":false}`

// storedBuilders are builders in the format of buildx's store.
var storedBuilders = map[string]string{
	"ci":     `{"Name":"ci","Driver":"docker-container","Nodes":[{"Name":"ci0","Endpoint":"unix:///var/run/docker.sock","Platforms":[{"architecture":"arm64","os":"linux"}]}]}`,
	"two":    twoContainers,
	"silent": strings.Replace(twoContainers, `"Platforms":[{"architecture":"amd64","os":"linux"}]`, `"Platforms":null`, 1),
	"far":    `{"Name":"far","Driver":"remote","Nodes":[{"Name":"far0","Endpoint":"tcp://far.example:1234"}]}`,
	"odd":    `{"Name":"odd","Driver":"remote","Nodes":[{"Name":"odd0","Endpoint":"npipe:////./pipe/x"}]}`,
	"lost":   `{"Name":"lost","Driver":"remote","Nodes":[{"Name":"lost0","Endpoint":"tcp://far.example:1","DriverOpts":{"cacert":"/nowhere/ca.pem"}}]}`,
	"pods":   `{"Name":"pods","Driver":"kubernetes","Nodes":[{"Name":"pods0","Endpoint":"kubernetes:///pods?deployment=pods0"}]}`,
	"cloudy": `{"Name":"cloudy","Driver":"cloud","Nodes":[{"Name":"cloudy0"}]}`,
	"empty":  `{"Name":"empty","Driver":"remote","Nodes":null}`,
	"torn":   `{"Name":`,
	"auto1":  `{"Name":"auto1","Driver":"remote","Nodes":[{"Name":"n","Endpoint":"unix:///b.sock"}]}`,
}

func TestBuildxNames(t *testing.T) {
	t.Parallel()
	store := buildxStore(t, storedBuilders)
	const (
		ci  = "docker-container://buildx_buildkit_ci0?context=unix%3A%2F%2F%2Fvar%2Frun%2Fdocker.sock"
		two = "docker-container://buildx_buildkit_two0?context=unix%3A%2F%2F%2Fvar%2Frun%2Fdocker.sock"
		arm = "docker-container://buildx_buildkit_graviton?context=arm-context"
	)
	for name, test := range map[string]struct {
		environ []string
		want    string // the problems, or the nodes
	}{
		"a container":            {[]string{"INPUT_BUILDER=ci"}, "" + ci + " []"},
		"any case":               {[]string{"INPUT_BUILDER=CI"}, "" + ci + " []"},
		"near a word":            {[]string{"INPUT_BUILDER=auto1"}, "unix:///b.sock []"},
		"another platform":       {[]string{"INPUT_BUILDER=ci", "INPUT_PLATFORMS=linux/amd64"}, "" + ci + " [linux/amd64]"},
		"remote":                 {[]string{"INPUT_BUILDER=far"}, "tcp://far.example:1234 []"},
		"a variable":             {[]string{"BUILDX_BUILDER=far"}, "tcp://far.example:1234 []"},
		"a variable, and auto":   {[]string{"BUILDX_BUILDER=far", "INPUT_BUILDER=auto"}, "tcp://far.example:1234 []"},
		"two variables":          {[]string{"BUILDX_BUILDER=far", "BUILDKIT_HOST=unix:///b.sock"}, "unix:///b.sock []"},
		"an input before it":     {[]string{"BUILDX_BUILDER=far", "INPUT_BUILDER=embedded"}, "embedded []"},
		"the first node":         {[]string{"INPUT_BUILDER=two"}, "" + two + " []"},
		"both nodes":             {[]string{"INPUT_BUILDER=two", "INPUT_PLATFORMS=linux/arm64,linux/amd64"}, two + " [linux/amd64], " + arm + " [linux/arm64]"},
		"the second node":        {[]string{"INPUT_BUILDER=two", "INPUT_PLATFORMS=linux/arm/v7"}, "" + arm + " [linux/arm/v7]"},
		"with an address":        {[]string{"INPUT_BUILDER=ci\nunix:///b.sock;platforms=linux/amd64"}, ci + " [linux/arm64], unix:///b.sock [linux/amd64]"},
		"with platforms":         {[]string{"INPUT_BUILDER=far;platforms=linux/amd64\nci"}, "tcp://far.example:1234 [linux/amd64], " + ci + " [linux/arm64]"},
		"platforms given twice":  {[]string{"INPUT_BUILDER=two;platforms=linux/amd64", "INPUT_PLATFORMS=linux/arm64,linux/amd64"}, "builder: this builder has several nodes, and each names its own platforms\nhint: remove ;platforms=linux/amd64"},
		"a node says nothing":    {[]string{"INPUT_BUILDER=silent", "INPUT_PLATFORMS=linux/arm64,linux/amd64"}, two + " [linux/amd64], " + arm + " [linux/arm64]"},
		"unknown":                {[]string{"INPUT_BUILDER=fer"}, "builder: buildx has no builder \"fer\" here\nhint: did you mean \"far\"?"},
		"unknown variable":       {[]string{"BUILDX_BUILDER=nothing-like-it"}, "BUILDX_BUILDER: buildx has no builder \"nothing-like-it\" here\nhint: use one of auto1, ci, cloudy, empty, far, lost, odd, pods, silent, torn, two"},
		"the engine's":           {[]string{"INPUT_BUILDER=default"}, "engine []"},
		"the engine's, and auto": {[]string{"BUILDX_BUILDER=default", "INPUT_BUILDER=auto"}, "engine []"},
		"the engine of several":  {[]string{"INPUT_BUILDER=default;platforms=linux/386\nunix:///b.sock;platforms=linux/amd64"}, "builder: line 1: the engine's BuildKit cannot be one of several builders: it does not push by digest\nhint: use container, or other builders"},
		"not the engine's":       {[]string{"INPUT_BUILDER=engine", "INPUT_DRIVER-OPTS=env.A=b"}, "driver-opts: it configures a builder that warmlayer starts, and this builder runs already\nhint: remove it, or use builder=embedded"},
		"no name":                {[]string{"INPUT_BUILDER=../ci"}, "builder: \"../ci\" is not the name of a builder\nhint: use auto, embedded, rootless, container, engine, an address, or the name of a builder of buildx"},
		"in pods":                {[]string{"INPUT_BUILDER=pods"}, "builder: builders of the driver kubernetes cannot be used by name\nhint: give the address of a pod: kube-pod://POD?namespace=NAMESPACE"},
		"in a cloud":             {[]string{"INPUT_BUILDER=cloudy"}, "builder: builders of the driver \"cloud\" cannot be used\nhint: use one of docker-container or remote, or leave it out"},
		"not dialled":            {[]string{"INPUT_BUILDER=odd"}, "builder: \"npipe\" is not a kind of address\nhint: use one of unix, tcp, docker-container, podman-container, nerdctl-container, kube-pod, ssh"},
		"no certificate":         {[]string{"INPUT_BUILDER=lost"}, "builder: the cacert of node \"lost0\" cannot be read\nhint: put the file back, or use the address, with builder-cacert, builder-cert and builder-key"},
		"no nodes":               {[]string{"INPUT_BUILDER=empty"}, "builder: the file in which buildx keeps \"empty\" cannot be read: it has no nodes\nhint: docker buildx rm empty, and create it again"},
		"torn":                   {[]string{"INPUT_BUILDER=torn"}, "builder: the file in which buildx keeps \"torn\" cannot be read: unexpected end of JSON input\nhint: docker buildx rm torn, and create it again"},
		"not ours": {[]string{"INPUT_BUILDER=ci", "INPUT_BUILDKITD-FLAGS=--debug"},
			"buildkitd-flags: it configures a builder that warmlayer starts, and this builder runs already\nhint: remove it, or use builder=embedded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec, got := parse(t.TempDir(), append(test.environ, "BUILDX_CONFIG="+store)...)
			if got == "" {
				got = nodesText(spec)
			}
			if got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}

// The directory in which buildx stores its builders. Without it, the container engine may have the
// builder.
func TestBuildxStore(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	store := filepath.Join(home, ".docker", "buildx", "instances")
	if err := os.MkdirAll(store, 0o700); err != nil {
		t.Fatal(err)
	}
	writeText(t, store, "ci", `{"Driver":"remote","Nodes":[{"Name":"ci0","Endpoint":"unix:///ci.sock"}]}`)
	const stored, inEngine = "unix:///ci.sock", "docker-container://buildx_buildkit_ci0"
	for _, test := range []struct {
		environ string
		mounted bool // home is /machine on the engine's machine
		want    string
	}{
		{"HOME=" + home, false, stored},
		{"DOCKER_CONFIG=" + home + "/.docker", false, stored},
		{"BUILDX_CONFIG=" + home + "/.docker/buildx", false, stored},
		{"BUILDX_CONFIG=/machine/.docker/buildx", true, stored},
		{"BUILDX_CONFIG=/machine/.docker/buildx", false, inEngine},
		{"HOME=" + t.TempDir(), false, inEngine},
		{"CI=true", false, inEngine},
	} {
		from := ""
		if test.mounted {
			from = "/machine"
		}
		spec, problem := parseMoved(t.TempDir(), from, home, test.environ, "INPUT_BUILDER=ci")
		if got := nodesText(spec); problem != "" || got != test.want+" []" {
			t.Errorf("%s: %s %s", test.environ, got, problem)
		}
	}
}

// The certificates of a remote node come before those of the inputs, and are used for this node
// only.
func TestBuildxTLS(t *testing.T) {
	t.Parallel()
	cert, key := keyPair(t)
	dir := t.TempDir()
	writeText(t, dir, "cert.pem", cert)
	writeText(t, dir, "key.pem", key)
	node := func(name, platform string, options string) string {
		return fmt.Sprintf(`{"Name":%q,"Endpoint":"tcp://%s.example:1","Platforms":[{"architecture":%q,"os":"linux"}],"DriverOpts":{%s}}`, name, name, platform, options)
	}
	whole := fmt.Sprintf(`"cacert":"%[1]s/cert.pem","cert":"%[1]s/cert.pem","key":"%[1]s/key.pem","servername":"other.example"`, dir)
	store := buildxStore(t, map[string]string{
		"two":    `{"Driver":"remote","Nodes":[` + node("a", "amd64", whole) + `,` + node("b", "arm64", "") + `]}`,
		"broken": `{"Driver":"remote","Nodes":[` + node("a", "amd64", fmt.Sprintf(`"cacert":"%s/key.pem"`, dir)) + `]}`,
		"near":   `{"Driver":"remote","Nodes":[{"Name":"n","Endpoint":"unix:///b.sock","DriverOpts":{` + whole + `}}]}`,
	})
	parse := func(environ ...string) (Spec, string) { return parse(dir, append(environ, "BUILDX_CONFIG="+store)...) }
	own, given := TLS{CA: cert, Cert: cert, Key: key, ServerName: "other.example"}, TLS{CA: cert}
	lone, problem := parse("INPUT_BUILDER=two", "INPUT_BUILDER-CACERT="+cert)
	if problem != "" || lone.Nodes[0].TLS != own {
		t.Errorf("one node: %s", problem)
	}
	both, problem := parse("INPUT_BUILDER=two", "INPUT_BUILDER-CACERT="+cert, "INPUT_PLATFORMS=linux/amd64,linux/arm64")
	if problem != "" {
		t.Fatal(problem)
	}
	if nodes := both.Nodes; len(nodes) != 2 || nodes[0].TLS != own || nodes[1].TLS != given {
		t.Errorf("two nodes: %d", len(nodes))
	}
	for _, s := range []Spec{lone, both} {
		if c, err := s.Nodes[0].TLS.Config(); err != nil || c == nil || strings.Contains(fmt.Sprintf("%+v", s), "PRIVATE") {
			t.Errorf("%v, or the key is shown", err)
		}
	}
	if _, problem := parse("INPUT_BUILDER=broken"); problem != "builder: the certificates of node \"a\" are not PEM, or not a pair\nhint: create the builder again, with cacert, cert and key in PEM" {
		t.Error(problem)
	}
	if _, problem := parse("INPUT_BUILDER=near"); problem != "builder: certificates are for a builder at tcp://, and node \"n\" is at another address\nhint: create the builder again without them" {
		t.Error(problem)
	}
}
