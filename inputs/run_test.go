package inputs

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	policy "github.com/moby/buildkit/sourcepolicy/pb"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

func TestRunOptions(t *testing.T) {
	t.Parallel()
	v := mustParse(t, nil,
		"INPUT_ADD-HOSTS=a=10.0.0.1, b:10.0.0.2\nc:::1\n\"d=10.0.0.4,[::4]\"",
		"INPUT_ALLOW=security.insecure,device=gpu\nbuildx.local.delete", "INPUT_NETWORK=host",
		"INPUT_CGROUP-PARENT=/builds", "INPUT_SHM-SIZE=1.5g", "INPUT_NO-CACHE-FILTERS=base, Test",
		"INPUT_ULIMIT=nofile=1024:2048\nnproc=-1\ncore=0",
	)
	if want := []syntax.Pair{{Key: "a", Value: "10.0.0.1"}, {Key: "b", Value: "10.0.0.2"}, {Key: "c", Value: "::1"}, {Key: "d", Value: "10.0.0.4"}, {Key: "d", Value: "::4"}}; !slices.Equal(v.AddHosts, want) {
		t.Errorf("hosts are %q, want %q", v.AddHosts, want)
	}
	if want := []string{"security.insecure", "device=gpu", "network.host"}; !slices.Equal(v.Allow, want) {
		t.Errorf("allowed are %q, want %q", v.Allow, want)
	}
	if want := []string{"base", "Test"}; !slices.Equal(v.NoCacheFilters, want) {
		t.Errorf("stages are %q, want %q", v.NoCacheFilters, want)
	}
	if want := []string{"nofile=1024:2048", "nproc=-1:-1", "core=0:0"}; !slices.Equal(v.Ulimits, want) {
		t.Errorf("limits are %q, want %q", v.Ulimits, want)
	}
	if v.Network != "host" || v.CgroupParent != "/builds" || v.ShmSize != 3<<29 {
		t.Errorf("network %q, control group %q, shared memory %d", v.Network, v.CgroupParent, v.ShmSize)
	}
	if v := mustParse(t, nil, "INPUT_BUILDER=engine", "INPUT_ADD-HOSTS=host:host-gateway"); !slices.Equal(v.AddHosts, []syntax.Pair{{Key: "host", Value: HostGateway}}) {
		t.Errorf("the engine's hosts are %q", v.AddHosts)
	}
	if v := mustParse(t, nil, "INPUT_ALLOW=network.host", "INPUT_NETWORK=host"); !slices.Equal(v.Allow, []string{"network.host"}) {
		t.Errorf("allowed are %q", v.Allow)
	}
}

func TestShmSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"0": 0, "512": 512, "10b": 10, "2K": 2048, "64m": 64 << 20, "64MiB": 64 << 20, "1GB": 1 << 30} {
		if got := mustParse(t, nil, "INPUT_SHM-SIZE="+text).ShmSize; got != want {
			t.Errorf("%s is %d bytes, want %d", text, got, want)
		}
	}
}

func TestRunProblems(t *testing.T) {
	t.Parallel()
	const host, limit = "\nhint: write it like db=10.0.0.7", "\nhint: write it like nofile=1024:2048, the soft limit first; -1 is none"
	for variable, want := range map[string]string{
		"INPUT_ADD-HOSTS=db":                             "add-hosts: line 1: expected name=address" + host,
		"INPUT_ADD-HOSTS==10.0.0.1":                      "add-hosts: line 1: expected name=address" + host,
		"INPUT_ADD-HOSTS=db=":                            "add-hosts: line 1: \"\" is not an IP address" + host,
		"INPUT_ADD-HOSTS=db=10.0.0.256":                  "add-hosts: line 1: \"10.0.0.256\" is not an IP address" + host,
		"INPUT_ADD-HOSTS=host:host-gateway":              "add-hosts: line 1: host-gateway works only with the BuildKit inside Docker's engine\nhint: set builder to engine, or write the address, such as 172.17.0.1 for the host on Docker's default bridge",
		"INPUT_ALLOW=network.hots":                       "allow: line 1: \"network.hots\" is not an entitlement\nhint: did you mean \"network.host\"?",
		"INPUT_ALLOW=root":                               "allow: line 1: \"root\" is not an entitlement\nhint: use one of network.host, security.insecure, device, buildx.local.delete",
		"INPUT_ALLOW=\"device=gpu,name=x\"":              "allow: line 1: \"device=gpu,name=x\" is not an entitlement\nhint: did you mean \"device\"?",
		"INPUT_NETWORK=bridge":                           "network: \"bridge\" is none of default, none, host",
		"INPUT_SHM-SIZE=64q":                             "shm-size: \"64q\" is not a size\nhint: write it like 64m or 1g",
		"INPUT_SHM-SIZE=-1":                              "shm-size: \"-1\" is not a size\nhint: write it like 64m or 1g",
		"INPUT_SHM-SIZE=1e40":                            "shm-size: \"1e40\" is not a size\nhint: write it like 64m or 1g",
		"INPUT_ULIMIT=nofile":                            "ulimit: line 1: \"nofile\" is not a limit" + limit,
		"INPUT_ULIMIT=nofile=2048:1024":                  "ulimit: line 1: \"nofile=2048:1024\" is not a limit" + limit,
		"INPUT_ULIMIT=nofiles=1":                         "ulimit: line 1: there is no limit \"nofiles\"\nhint: did you mean \"nofile\"?",
		"INPUT_ULIMIT=core=1\ncore=2":                    "ulimit: line 2: core is given twice\nhint: leave one of the lines out",
		"INPUT_NO-CACHE-FILTERS=\"a,b\"":                 "no-cache-filters: line 1: \"a,b\" is not the name of a stage",
		"INPUT_BUILD-ARGS=BUILDKIT_SYNTAX=":              "build-args: line 1: BUILDKIT_SYNTAX is empty\nhint: leave it out, or write it without = to take it from the environment where it is set",
		"INPUT_CALL=chek":                                "call: \"chek\" is none of build, check, outline, targets\nhint: did you mean \"check\"?",
		"INPUT_CALL=check,outline":                       "call: \"outline\" is malformed\nhint: write it like check or check,format=json",
		"INPUT_CALL=check,format=jsn":                    "call: format: \"jsn\" is none of text, json\nhint: did you mean \"json\"?",
		"INPUT_CALL=check,ignorestatus=yes":              "call: ignorestatus: \"yes\" is neither true nor false",
		"INPUT_CALL=\"check":                             "call: quotes are not balanced at column 2",
		"DOCKER_BUILD_SUMMARY=yes":                       "DOCKER_BUILD_SUMMARY: \"yes\" is neither true nor false",
		"BUILDX_METADATA_PROVENANCE=mx":                  "BUILDX_METADATA_PROVENANCE: \"mx\" is none of min, max, disabled\nhint: did you mean \"max\"?",
		"EXPERIMENTAL_BUILDKIT_SOURCE_POLICY=nope":       "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY: the file of the source policy cannot be read\nhint: check the path and its permissions",
		"EXPERIMENTAL_BUILDKIT_SOURCE_POLICY=Dockerfile": "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY: the file is not a source policy\nhint: write JSON such as {\"rules\": [{\"action\": \"DENY\", \"selector\": {\"identifier\": \"docker-image://…\"}}]}",
	} {
		t.Run(variable, func(t *testing.T) {
			t.Parallel()
			_, problems := Parse(nil, []string{variable}, checkout(t))
			if got := problems.Error(); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestCall(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Values{
		"":                        {},
		"build":                   {},
		"check":                   {Call: "check"},
		"lint":                    {Call: "check"},
		"outline,format=json":     {Call: "outline", CallFormat: "json"},
		"format=text,targets":     {Call: "targets"},
		"check,ignorestatus=true": {Call: "check", CallIgnoreStatus: true},
	} {
		v := mustParse(t, nil, "INPUT_CALL="+text)
		if v.Call != want.Call || v.CallFormat != want.CallFormat || v.CallIgnoreStatus != want.CallIgnoreStatus {
			t.Errorf("%q calls %q, format %q, ignoring %v", text, v.Call, v.CallFormat, v.CallIgnoreStatus)
		}
	}
}

func TestBuildArgsOfMeaning(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		environ []string
		want    []syntax.Pair
	}{
		{[]string{"SOURCE_DATE_EPOCH=1"}, []syntax.Pair{{Key: "SOURCE_DATE_EPOCH", Value: "1"}}},
		{[]string{"SOURCE_DATE_EPOCH=1", "INPUT_BUILD-ARGS=SOURCE_DATE_EPOCH=2"}, []syntax.Pair{{Key: "SOURCE_DATE_EPOCH", Value: "2"}}},
		{[]string{"SOURCE_DATE_EPOCH=1", "INPUT_BUILD-ARGS=SOURCE_DATE_EPOCH="}, []syntax.Pair{{Key: "SOURCE_DATE_EPOCH", Value: ""}}},
		{[]string{"INPUT_BUILD-ARGS=BUILDKIT_SYNTAX"}, nil},
		{[]string{"INPUT_BUILD-ARGS=BUILDKIT_SYNTAX", "BUILDKIT_SYNTAX=docker/dockerfile:1"}, []syntax.Pair{{Key: "BUILDKIT_SYNTAX", Value: "docker/dockerfile:1"}}},
	} {
		if got := mustParse(t, nil, tt.environ...).BuildArgs; !slices.Equal(got, tt.want) {
			t.Errorf("with %q the arguments are %q, want %q", tt.environ, got, tt.want)
		}
	}
}

// BUILDKIT_INLINE_CACHE adds one inline cache to the other caches.
func TestInlineCacheArgument(t *testing.T) {
	t.Parallel()
	const on = "INPUT_BUILD-ARGS=BUILDKIT_INLINE_CACHE=1"
	for _, tt := range []struct {
		environ []string
		want    []string // types of CacheTo
	}{
		{[]string{on}, []string{"inline"}},
		{[]string{on, "INPUT_CACHE-TO=type=gha"}, []string{"gha", "inline"}},
		{[]string{on, "INPUT_CACHE-TO=type=inline"}, []string{"inline"}},
		{[]string{on, "INPUT_CACHE=inline"}, nil},
		{[]string{"INPUT_BUILD-ARGS=BUILDKIT_INLINE_CACHE=0"}, nil},
		{[]string{"INPUT_BUILD-ARGS=BUILDKIT_INLINE_CACHE=1\nBUILDKIT_INLINE_CACHE=0"}, nil},
	} {
		var got []string
		for _, c := range mustParse(t, nil, tt.environ...).CacheTo {
			got = append(got, c.Type)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("with %q the caches are %q, want %q", tt.environ, got, tt.want)
		}
	}
}

func TestSwitches(t *testing.T) {
	t.Parallel()
	v := mustParse(t, nil)
	if !v.Summary || !v.Annotate || v.MetadataProvenance != "min" || v.MetadataWarnings || v.SourcePolicy != nil {
		t.Errorf("unset switches are %v, %v, %q, %v, %v", v.Summary, v.Annotate, v.MetadataProvenance, v.MetadataWarnings, v.SourcePolicy)
	}
	v = mustParse(t, nil, "DOCKER_BUILD_SUMMARY=false", "DOCKER_BUILD_CHECKS_ANNOTATIONS=0", "BUILDX_METADATA_PROVENANCE=max", "BUILDX_METADATA_WARNINGS=true")
	if v.Summary || v.Annotate || v.MetadataProvenance != "max" || !v.MetadataWarnings {
		t.Errorf("set switches are %v, %v, %q, %v", v.Summary, v.Annotate, v.MetadataProvenance, v.MetadataWarnings)
	}
	for text, want := range map[string]string{"disabled": "disabled", "false": "disabled", "true": "min"} {
		if got := mustParse(t, nil, "BUILDX_METADATA_PROVENANCE="+text).MetadataProvenance; got != want {
			t.Errorf("%s is %q, want %q", text, got, want)
		}
	}
	if v, problems := ParseJob(nil, nil, checkout(t), github); !v.MetadataWarnings || len(problems) > 0 {
		t.Errorf("the metadata has no warnings on GitHub; %v", problems)
	}
}

func TestSourcePolicy(t *testing.T) {
	t.Parallel()
	dir := checkout(t)
	message, err := (&policy.Policy{Version: 1}).MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"policy.json": []byte(`{"version": 1, "rules": [{"action": "DENY", "selector": {"identifier": "docker-image://evil.example/*"}}]}`),
		"policy.pb":   message,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		v, problems := Parse(nil, []string{"EXPERIMENTAL_BUILDKIT_SOURCE_POLICY=" + name}, dir)
		if len(problems) > 0 || v.SourcePolicy.Version != 1 {
			t.Errorf("%s is %v; %v", name, v.SourcePolicy, problems)
		}
	}
	v, _ := Parse(nil, []string{"EXPERIMENTAL_BUILDKIT_SOURCE_POLICY=policy.json"}, dir)
	if rules := v.SourcePolicy.Rules; len(rules) != 1 || rules[0].Action != policy.PolicyAction_DENY || rules[0].Selector.Identifier != "docker-image://evil.example/*" {
		t.Errorf("the rules are %v", rules)
	}
}
