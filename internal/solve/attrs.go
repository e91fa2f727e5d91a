package solve

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// attrs are the options of the Dockerfile frontend (BuildKit v0.34.2,
// frontend/dockerui/config.go), as docker buildx v0.37.0 gives them (build/opt.go,
// toSolveOpt).
func (b *run) attrs(t target) map[string]string {
	in := b.Inputs
	attrs := maps.Clone(t.mounts.attrs)
	set := func(key, value string) {
		if value != "" {
			attrs[key] = value
		}
	}
	set("target", in.Target)
	set("platform", strings.Join(in.Platforms, ","))
	set("cgroup-parent", in.CgroupParent)
	set("add-hosts", joinHosts(b.hosts()))
	set("ulimit", strings.Join(in.Ulimits, ","))
	if in.ShmSize > 0 {
		set("shm-size", strconv.FormatInt(in.ShmSize, 10))
	}
	if in.Network != "default" {
		set("force-network-mode", in.Network)
	}
	switch {
	case in.Pull:
		set("image-resolve-mode", "pull")
	case b.Builder.Inside != nil:
		set("image-resolve-mode", "local") // an image that the engine has stands for that of the registry
	}
	for _, a := range in.Attests.WithBuilderID(b.BuilderID) {
		attrs["attest:"+a.Type] = a.String()
	}
	for _, p := range in.Labels {
		attrs["label:"+p.Key] = p.Value
	}
	b.setBuildArgs(attrs)
	if in.MultiPlatform {
		attrs["multi-platform"] = "true"
	}
	if in.Syntax != "" {
		attrs["source"], _, _ = strings.Cut(strings.TrimSpace(in.Syntax), " ")
		attrs["cmdline"] = in.Syntax
	}
	if t.noCache {
		set("no-cache", strings.Join(in.NoCacheFilters, ","))
		if in.NoCache {
			attrs["no-cache"] = "" // every stage
		}
	}
	return attrs
}

// setBuildArgs sets the build arguments, and those for proxies that the user has not set.
func (b *run) setBuildArgs(attrs map[string]string) {
	for name, value := range b.Proxies {
		if !slices.ContainsFunc(b.Inputs.BuildArgs, func(p syntax.Pair) bool { return strings.EqualFold(p.Key, name) }) {
			attrs[buildArg+name] = value
		}
	}
	for _, p := range b.Inputs.BuildArgs {
		attrs[buildArg+p.Key] = p.Value
	}
}

const buildArg = "build-arg:"

// frontend is BuildKit's own frontend, or the one that runs the image of BUILDKIT_SYNTAX.
func frontend(attrs map[string]string) string {
	if attrs["source"] != "" {
		return "gateway.v0"
	}
	return "dockerfile.v0"
}

// joinHosts is the frontend's option add-hosts: "db=10.0.0.1,db=::1".
func joinHosts(pairs []syntax.Pair) string {
	hosts := make([]string, len(pairs))
	for i, h := range pairs {
		hosts[i] = h.Key + "=" + h.Value
	}
	return strings.Join(hosts, ",")
}
