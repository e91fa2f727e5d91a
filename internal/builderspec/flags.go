package builderspec

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/google/shlex"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// flagIsSwitch are buildkitd's flags (v0.34.2, cmd/buildkitd) that may be set, and whether
// they are switches.
var flagIsSwitch = map[string]bool{
	"debug": true, "trace": true, "log-format": false, "log-level": false, "debugaddr": false,
	"allow-insecure-entitlement": false, "proxy-network": true, "cdi-disabled": true, "cdi-spec-dir": false,
	"save-cache-debug": true, "oci-worker-labels": false, "oci-worker-snapshotter": false,
	"oci-worker-proxy-snapshotter-path": false, "oci-worker-platform": false, "oci-worker-net": false,
	"oci-cni-config-path": false, "oci-cni-binary-dir": false, "oci-cni-pool-size": false,
	"oci-worker-binary": false, "oci-worker-apparmor-profile": false, "oci-worker-selinux": true,
	"oci-max-parallelism": false, "oci-worker-gc": true, "oci-worker-gc-keepstorage": false,
}

// flagRefusals are the flags that would break a managed builder, and why.
var flagRefusals = map[string]string{
	"root": "a managed builder keeps its state in a private directory, which is removed with it",
	"addr": onlySocket, "group": onlySocket, "tlscert": onlySocket, "tlskey": onlySocket, "tlscacert": onlySocket,
	"config":            "use the input buildkitd-config",
	"otel-socket-path":  "a managed builder has its sockets in a private directory",
	"oci-worker":        "a managed builder works with runc",
	"containerd-worker": "its state would stay in the machine's containerd",
	"rootless":          "use builder=rootless", "oci-worker-rootless": "use builder=rootless",
	"oci-worker-no-process-sandbox": "warmlayer sets it where it is needed",
	"help":                          "buildkitd would not start", "version": "buildkitd would not start",
}

const onlySocket = "a managed builder listens on a private socket only"

// readFlags reads buildkitd-flags, split as in a shell. A flag and its value become one argument.
func (r *reader) readFlags() []string {
	const input = "buildkitd-flags"
	if !r.forManaged(input, len(r.in.Flags) > 0) {
		return nil
	}
	var flags []string
	for _, it := range r.in.Flags {
		words, err := shlex.Split(it.Text)
		if err != nil {
			r.report(input, it.Line, "quotes are not balanced", "close the quote, or put a backslash before it")
			continue
		}
		for len(words) > 0 {
			var flag string
			if flag, words = r.flag(it.Line, words); flag != "" {
				flags = append(flags, flag)
			}
		}
	}
	return flags
}

// flag reads the first flag of some words, and returns the words after it. The flag is ""
// where it has a problem.
func (r *reader) flag(line int, words []string) (string, []string) {
	const input = "buildkitd-flags"
	name, value, hasValue := strings.Cut(strings.TrimLeft(words[0], "-"), "=")
	isSwitch, known := flagIsSwitch[name]
	isFlag := strings.HasPrefix(words[0], "-")
	words = words[1:]
	takes := isFlag && !hasValue && !isSwitch && len(words) > 0
	if takes && (known || !strings.HasPrefix(words[0], "-")) { // an unknown flag may have a value too
		value, hasValue, words = words[0], true, words[1:]
	}
	switch {
	case !isFlag:
		r.report(input, line, "a word stands where a flag is expected", "write --name=value")
	case !known:
		r.refuseFlag(line, name)
	case !hasValue && !isSwitch:
		r.report(input, line, "--"+name+" has no value", "write --"+name+"=value")
	case hasValue:
		return "--" + name + "=" + value, words
	default:
		return "--" + name, words
	}
	return "", words
}

func (r *reader) refuseFlag(line int, name string) {
	const input = "buildkitd-flags"
	reason, refused := flagRefusals[name]
	switch {
	case refused:
		r.report(input, line, "--"+name+" cannot be set: "+reason, "remove it")
	case strings.HasPrefix(name, "containerd-worker"):
		r.report(input, line, "--"+name+" cannot be set: "+flagRefusals["oci-worker"], "remove it")
	case syntax.IsName(name) || len(name) > 20 && syntax.IsName(name[:20]):
		near := syntax.NearestHint(name, slices.Sorted(maps.Keys(flagIsSwitch)))
		r.report(input, line, "--"+name+" is unknown", cmp.Or(near, "buildkitd --help lists the flags"))
	default:
		r.report(input, line, "a flag is unknown", "buildkitd --help lists the flags")
	}
}
