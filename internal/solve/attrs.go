package solve

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/util/entitlements"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// attrs are the options of the Dockerfile frontend (BuildKit v0.33.1,
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
	set("ulimit", strings.Join(in.Ulimits, ","))
	if in.ShmSize > 0 {
		set("shm-size", strconv.FormatInt(in.ShmSize, 10))
	}
	if in.Network != "default" {
		set("force-network-mode", in.Network)
	}
	if in.Pull {
		set("image-resolve-mode", "pull")
	}
	for kind, value := range in.Attests {
		attrs["attest:"+kind] = value
	}
	for _, p := range in.Labels {
		attrs["label:"+p.Key] = p.Value
	}
	b.setBuildArgs(attrs)
	if t.noCache {
		set("no-cache", strings.Join(in.NoCacheFilters, ","))
		if in.NoCache {
			attrs["no-cache"] = "" // every stage
		}
	}
	return attrs
}

// setBuildArgs sets the build arguments, those of the proxies that the user did not
// give, and the options that two of them stand for.
func (b *run) setBuildArgs(attrs map[string]string) {
	for name, value := range b.Proxies {
		if !slices.ContainsFunc(b.Inputs.BuildArgs, func(p syntax.Pair) bool { return strings.EqualFold(p.Key, name) }) {
			attrs[buildArg+name] = value
		}
	}
	for _, p := range b.Inputs.BuildArgs {
		attrs[buildArg+p.Key] = p.Value
	}
	if syntax.IsTrue(attrs[buildArg+"BUILDKIT_MULTI_PLATFORM"]) {
		attrs["multi-platform"] = "true"
	}
	if syntax, ok := attrs[buildArg+syntaxArg]; ok {
		attrs["source"], _, _ = strings.Cut(strings.TrimSpace(syntax), " ")
		attrs["cmdline"] = syntax
	}
}

const (
	buildArg  = "build-arg:"
	syntaxArg = "BUILDKIT_SYNTAX"
)

// frontend is BuildKit's own, or the one that runs the image of BUILDKIT_SYNTAX.
func frontend(attrs map[string]string) string {
	if attrs["source"] != "" {
		return "gateway.v0"
	}
	return "dockerfile.v0"
}

// inlineCache tells whether the build argument of that meaning asks for a cache in the
// image.
func inlineCache(in inputs.Values) bool {
	return slices.ContainsFunc(in.BuildArgs, func(p syntax.Pair) bool {
		return p.Key == "BUILDKIT_INLINE_CACHE" && syntax.IsTrue(p.Value)
	})
}

// Entitlements are what the build may do that a daemon must allow: those of the inputs,
// and network.host for steps on the host's network. That of docker buildx's own is no
// matter of BuildKit.
func Entitlements(in inputs.Values) []string {
	allowed := slices.DeleteFunc(slices.Clone(in.Allow), func(e string) bool { return e == "buildx.local.delete" })
	host := entitlements.EntitlementNetworkHost.String()
	if in.Network == "host" && !slices.Contains(allowed, host) {
		allowed = append(allowed, host)
	}
	return allowed
}

// hostGateway stands in add-hosts for the address of the machine that the engine runs
// on, which an engine's own BuildKit alone knows, by this label of its worker
// (moby/moby, builder/builder-next/worker/label).
const (
	hostGateway      = "host-gateway"
	hostGatewayLabel = "org.mobyproject.buildkit.worker.moby.host-gateway-ip"
)

// addHosts is the option add-hosts: "db=10.0.0.1,db=::1".
func (b *run) addHosts(ctx context.Context) (string, error) {
	var hosts []string
	for _, h := range b.Inputs.AddHosts {
		address := h.Value
		if address == hostGateway {
			var err error
			if address, err = b.gatewayAddress(ctx); err != nil {
				return "", fmt.Errorf("add host %s: %w", h.Key, err)
			}
		}
		hosts = append(hosts, h.Key+"="+address)
	}
	return strings.Join(hosts, ","), nil
}

func (b *run) gatewayAddress(ctx context.Context) (string, error) {
	workers, err := b.Builder.Client.ListWorkers(ctx)
	if err != nil {
		return "", err
	}
	for _, w := range workers {
		if address := w.Labels[hostGatewayLabel]; address != "" {
			return address, nil
		}
	}
	return "", errors.New("this builder does not know what host-gateway is\nhint: write the host's IP address instead")
}
