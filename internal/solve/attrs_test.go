package solve

import (
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	policy "github.com/moby/buildkit/sourcepolicy/pb"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/syntax"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// facts prints what a step can see of its environment.
const facts = `RUN { cat /etc/hosts; echo "nofile $(ulimit -Sn):$(ulimit -Hn)"; echo "shm $(df -k /dev/shm | awk 'NR==2 {print $2}')"; \
  echo "interfaces $(awk -F: 'NR>2 {print $1}' /proc/net/dev | tr -d ' ' | sort | tr '\n' ' ')"; env; } > /facts
FROM scratch
COPY --from=base /facts /
`

// TestWhatStepsSee sets one option at a time.
func TestWhatStepsSee(t *testing.T) {
	t.Parallel()
	daemon := testkit.StartBuildkitd(t, "--allow-insecure-entitlement=network.host")
	tests := []struct {
		name   string
		change func(*Request)
		want   string
	}{
		{"add-hosts", func(r *Request) {
			r.Inputs.AddHosts = []syntax.Pair{{Key: "db", Value: "10.0.0.1"}, {Key: "db", Value: "fd00::1"}}
		}, "10.0.0.1\tdb\nfd00::1\tdb\n"},
		{"ulimit", func(r *Request) { r.Inputs.Ulimits = []string{"nofile=123:456", "nproc=99"} }, "nofile 123:456\n"},
		{"shm-size", func(r *Request) { r.Inputs.ShmSize = 128 << 20 }, "shm 131072\n"},
		{"network none", func(r *Request) { r.Inputs.Network = "none" }, "interfaces lo \n"},
		{"network host", func(r *Request) {
			r.Inputs.Network, r.Inputs.Allow = "host", []string{"network.host"}
		}, "interfaces " + interfaces(t) + "\n"},
		{"proxy of the config", func(r *Request) { r.Proxies = map[string]string{"FTP_PROXY": "http://config:1"} }, "FTP_PROXY=http://config:1\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := request(t, daemon, app(t, facts))
			test.change(&r)
			got := r.file(t, "facts")
			if !strings.Contains(got, test.want) {
				t.Errorf("a step sees\n%swant\n%s", got, test.want)
			}
		})
	}
}

// TestProxies: a proxy of the user, in upper or lower case, replaces that of the config.
func TestProxies(t *testing.T) {
	t.Parallel()
	b := run{Request: Request{
		Proxies: map[string]string{"HTTP_PROXY": "config", "http_proxy": "config", "NO_PROXY": "config"},
		Inputs:  inputs.Values{BuildArgs: []syntax.Pair{{Key: "Http_Proxy", Value: "user"}, {Key: "A", Value: "b"}}},
	}}
	got := map[string]string{}
	b.setBuildArgs(got)
	want := map[string]string{"build-arg:Http_Proxy": "user", "build-arg:A": "b", "build-arg:NO_PROXY": "config"}
	if !maps.Equal(got, want) {
		t.Errorf("attributes %v, want %v", got, want)
	}
}

// interfaces are the network interfaces of this machine, as the test's image lists them.
func interfaces(t *testing.T) string {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range all {
		names = append(names, i.Name)
	}
	slices.Sort(names)
	return strings.Join(names, " ") + " "
}

// TestCgroupParent: a step cannot see the path of its cgroup, but the machine can while it runs.
func TestCgroupParent(t *testing.T) {
	t.Parallel()
	const parent = "warmlayer-test-parent"
	var seen []string
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		for _, pattern := range []string{"/sys/fs/cgroup/" + parent + "/*/cgroup.procs", "/sys/fs/cgroup/*/" + parent + "/*/cgroup.procs"} {
			found, _ := filepath.Glob(pattern)
			seen = append(seen, found...)
		}
	}))
	defer server.Close()
	r := request(t, testkit.StartBuildkitd(t), app(t, "RUN wget -q -O /dev/null "+server.URL+"\n"))
	r.Inputs.CgroupParent = parent
	r.must(t)
	if len(seen) == 0 {
		t.Errorf("%s had no cgroup while the step ran", parent)
	}
}

// TestRefused: a build that the daemon or a policy forbids fails, and the error has their text.
func TestRefused(t *testing.T) {
	t.Parallel()
	daemon := testkit.StartBuildkitd(t)
	tests := []struct {
		name   string
		change func(*Request)
		words  []string
	}{
		{"network host", func(r *Request) {
			r.Inputs.Network, r.Inputs.Allow = "host", []string{"network.host"}
		}, []string{"network.host is not allowed"}},
		{"entitlement", func(r *Request) { r.Inputs.Allow = []string{"security.insecure"} }, []string{"security.insecure is not allowed"}},
		{"source policy", func(r *Request) {
			r.Inputs.BuildContexts = []inputs.Context{{Name: "base", Kind: inputs.Image, Source: "docker-image://127.0.0.1:1/denied:v1"}}
			r.Inputs.SourcePolicy = &policy.Policy{Rules: []*policy.Rule{{
				Action:   policy.PolicyAction_DENY,
				Selector: &policy.Selector{Identifier: "docker-image://127.0.0.1:1/*", MatchType: policy.MatchType_WILDCARD},
			}}}
		}, []string{"127.0.0.1:1/denied:v1", "denied by policy"}},
		{"frontend of BUILDKIT_SYNTAX", func(r *Request) {
			r.Inputs.Syntax = "127.0.0.1:1/frontend:v1 more words"
		}, []string{"127.0.0.1:1/frontend:v1"}},
		{"missing ssh agent", func(r *Request) {
			r.Inputs.SSH = []inputs.SSH{{ID: "default", Paths: []string{"/nowhere/agent"}}}
		}, []string{"forward ssh: ", "/nowhere/agent"}},
		{"missing build context", func(r *Request) {
			r.Inputs.BuildContexts = []inputs.Context{{Name: "docs", Dir: "/nowhere"}}
		}, []string{"open build context docs: ", "nowhere"}},
		{"missing layout", func(r *Request) {
			r.Inputs.BuildContexts = []inputs.Context{{Name: "base", Kind: inputs.Layout, Layout: inputs.OCILayout{Dir: "/nowhere", Tag: "latest"}}}
		}, []string{"open build context base: "}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := request(t, daemon, app(t, "FROM base\nRUN true\n"))
			test.change(&r)
			r.fails(t, test.words...)
		})
	}
}

// TestNoCacheFilters: the steps of the named stages run again, and no others.
func TestNoCacheFilters(t *testing.T) {
	t.Parallel()
	r := request(t, testkit.StartBuildkitd(t), app(t, `FROM base AS first
RUN echo first > /first
FROM base AS second
COPY --from=first /first /
RUN echo second > /second
`))
	r.must(t)
	r.Inputs.NoCacheFilters = []string{"second"}
	for _, s := range r.must(t).Steps {
		if again := strings.Contains(s.Name, "[second "); s.Cached == again {
			t.Errorf("%s: cached %t", s.Name, s.Cached)
		}
	}
}

// TestBuildArgsWithMeaning: two build arguments that BuildKit reads too.
func TestBuildArgsWithMeaning(t *testing.T) {
	t.Parallel()
	r := request(t, testkit.StartBuildkitd(t), app(t, "FROM base\nRUN true\n"))
	image := testkit.StartRegistry(t).Host + "/app"
	r.pushes(image + ":plain")
	r.must(t)
	if config := imageConfig(t, image+":plain"); strings.Contains(config, "moby.buildkit.cache.v0") {
		t.Error("an inline cache that was not requested")
	}
	r.Inputs.Outputs = nil
	r.pushes(image + ":inline")
	r.Inputs.InlineCache = true
	r.must(t)
	if config := imageConfig(t, image+":inline"); !strings.Contains(config, "moby.buildkit.cache.v0") {
		t.Errorf("no inline cache in %s", config)
	}
	r.Inputs.Outputs = nil
	r.pushes(image + ":multi")
	r.Inputs.MultiPlatform = true
	r.must(t)
	if m := index(t, image+":multi"); len(m.Manifests) != 1 {
		t.Errorf("index %+v", m)
	}
}

// imageConfig is the config of an image that was pushed.
func imageConfig(t *testing.T, image string) string {
	t.Helper()
	config, err := testkit.PushedImage(t, image).RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return string(config)
}
