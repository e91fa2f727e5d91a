package inputs

import (
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Container is what driver-opts say of a builder in a container.
type Container struct {
	Image     string              // "": this program's own
	Network   string              // "": the engine's default
	Resources container.Resources // memory, processors, parent of its control group
}

// containerOptions are those of buildx's docker-container driver (v0.37.0,
// driver/docker-container/factory.go) that a container of ours has. Each tells whether
// it understands its value.
var containerOptions = map[string]func(c *Container, value string) bool{
	"image":   func(c *Container, v string) bool { return set(&c.Image, v) },
	"network": func(c *Container, v string) bool { return set(&c.Network, v) },
	"memory":  func(c *Container, v string) bool { return setSize(&c.Resources.Memory, v) },
	"memory-swap": func(c *Container, v string) bool {
		return v == "-1" && setNumber(&c.Resources.MemorySwap, v) || setSize(&c.Resources.MemorySwap, v)
	},
	"cpu-period":    func(c *Container, v string) bool { return setNumber(&c.Resources.CPUPeriod, v) },
	"cpu-quota":     func(c *Container, v string) bool { return setNumber(&c.Resources.CPUQuota, v) },
	"cpu-shares":    func(c *Container, v string) bool { return setNumber(&c.Resources.CPUShares, v) },
	"cpuset-cpus":   func(c *Container, v string) bool { return set(&c.Resources.CpusetCpus, v) },
	"cpuset-mems":   func(c *Container, v string) bool { return set(&c.Resources.CpusetMems, v) },
	"cgroup-parent": func(c *Container, v string) bool { return set(&c.Resources.CgroupParent, v) },
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

// otherOptions are buildx's that no builder of ours has, and what stands for them.
var otherOptions = map[string]string{
	"restart-policy":        "remove it: the container is started again where that is needed",
	"allow-untrusted-image": "remove it: any image may be named",
	"default-load":          "remove it and set load",
	"provenance-add-gha":    "remove it and set provenance",
}

// driverOpts reads the variables of driver-opts, and what is about a container, which
// only a builder in one has.
func (p *parser) driverOpts(v *Values) []syntax.Pair {
	const input = "driver-opts"
	if !p.ours(input) {
		return nil
	}
	inContainer := p.anyBuilder(func(address string) bool { return address == "container" })
	var env []syntax.Pair
	for _, it := range p.list(input) {
		name, value, ok := strings.Cut(it.Text, "=")
		variable, isEnv := strings.CutPrefix(name, "env.")
		option, known := containerOptions[name]
		hint, isOther := otherOptions[name]
		switch {
		case isEnv && ok && variable != "":
			env = append(env, syntax.Pair{Key: variable, Value: value})
		case isEnv:
			p.report(input, it.Line, "expected env.NAME=value", "")
		case isOther:
			p.report(input, it.Line, syntax.Quoted(name)+" is none of ours", hint)
		case !known:
			p.report(input, it.Line, syntax.AttributeName(name)+" is unknown", syntax.DidYouMean(name, append(sortedKeys(containerOptions), "env.NAME")))
		case !inContainer:
			p.report(input, it.Line, syntax.Quoted(name)+" is for a builder in a container, and this one is a process", "remove it, or set builder to container")
		case !option(&v.Container, value):
			p.report(input, it.Line, syntax.Quoted(value)+" is not what "+name+" may be", "")
		}
	}
	if at := slices.IndexFunc(env, func(e syntax.Pair) bool { return slices.Contains(daemonVariables, e.Key) }); at >= 0 {
		p.report(input, 0, syntax.Quoted("env."+env[at].Key)+" would move the daemon out of its private directory", "remove it")
	}
	return env
}

// daemonVariables keep a daemon's files together.
var daemonVariables = []string{"TMPDIR", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "USER", "NOTIFY_SOCKET"}
