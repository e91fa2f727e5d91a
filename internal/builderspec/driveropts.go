package builderspec

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// containerOptions are the options of buildx's docker-container driver (v0.37.0,
// driver/docker-container/factory.go) that a builder of kind Container has too. Each returns
// whether the value is valid.
var containerOptions = map[string]func(c *ContainerOptions, value string) bool{
	"image":   func(c *ContainerOptions, v string) bool { return set(&c.Image, v) },
	"network": func(c *ContainerOptions, v string) bool { return set(&c.Network, v) },
	"memory":  func(c *ContainerOptions, v string) bool { return setSize(&c.Resources.Memory, v) },
	"memory-swap": func(c *ContainerOptions, v string) bool {
		return v == "-1" && setNumber(&c.Resources.MemorySwap, v) || setSize(&c.Resources.MemorySwap, v)
	},
	"cpu-period":    func(c *ContainerOptions, v string) bool { return setNumber(&c.Resources.CPUPeriod, v) },
	"cpu-quota":     func(c *ContainerOptions, v string) bool { return setNumber(&c.Resources.CPUQuota, v) },
	"cpu-shares":    func(c *ContainerOptions, v string) bool { return setNumber(&c.Resources.CPUShares, v) },
	"cpuset-cpus":   func(c *ContainerOptions, v string) bool { return set(&c.Resources.CpusetCpus, v) },
	"cpuset-mems":   func(c *ContainerOptions, v string) bool { return set(&c.Resources.CpusetMems, v) },
	"cgroup-parent": func(c *ContainerOptions, v string) bool { return set(&c.Resources.CgroupParent, v) },
}

func set(to *string, value string) bool {
	*to = value
	return value != ""
}

func setNumber(to *int64, value string) (ok bool) {
	n, err := strconv.ParseInt(value, 10, 64)
	*to = n
	return err == nil
}

func setSize(to *int64, value string) bool {
	n, err := units.RAMInBytes(value)
	*to = n
	return err == nil
}

// unsupportedOptions are further options of that driver, and what to do instead.
var unsupportedOptions = map[string]string{
	"restart-policy":        "remove it: the container is started again where that is needed",
	"allow-untrusted-image": "remove it: any image may be named",
	"default-load":          "remove it and set load",
	"provenance-add-gha":    "remove it and set provenance",
}

// readDriverOpts reads the variables in driver-opts, and the options of a container, which
// only a builder of kind Container has.
func (r *reader) readDriverOpts() (env []string, c ContainerOptions) {
	const input = "driver-opts"
	if !r.forManaged(input, len(r.in.DriverOpts) > 0) {
		return nil, c
	}
	inContainer := r.someNode(func(a Address) bool { return a.Kind == Container })
	for _, it := range r.in.DriverOpts {
		name, value, ok := strings.Cut(it.Text, "=")
		variable, isEnv := strings.CutPrefix(name, "env.")
		option, known := containerOptions[name]
		hint, unsupported := unsupportedOptions[name]
		switch {
		case isEnv && (!ok || variable == ""):
			r.report(input, it.Line, "expected env.NAME=value", "")
		case isEnv && slices.Contains(ownVariables, variable):
			r.report(input, it.Line, syntax.Quoted(name)+" would move files of the builder out of its private directory", "remove it")
		case isEnv:
			env = append(env, variable+"="+value)
		case unsupported:
			r.report(input, it.Line, syntax.Quoted(name)+" is not supported", hint)
		case !known:
			names := append(slices.Sorted(maps.Keys(containerOptions)), "env.NAME")
			r.report(input, it.Line, syntax.AttributeName(name)+" is unknown", syntax.DidYouMean(name, names))
		case !inContainer:
			r.report(input, it.Line, syntax.Quoted(name)+" is for a builder in a container, and this one is a process", "remove it, or set builder to container")
		case !option(&c, value):
			r.report(input, it.Line, syntax.Quoted(value)+" is not a valid "+name, "")
		}
	}
	return env, c
}

// ownVariables are those that keep a managed builder's files together.
var ownVariables = []string{"TMPDIR", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "USER", "NOTIFY_SOCKET"}
