package inputs

import (
	"net"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/buildkit/util/entitlements"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// HostGateway is the value in add-hosts that stands for the engine's machine.
const HostGateway = "host-gateway"

// addHosts reads name=address or name:address. Commas separate addresses, and brackets around
// an IPv6 address are optional (build/utils.go in buildx).
func (p *parser) addHosts(inEngine bool) []syntax.Pair {
	var pairs []syntax.Pair
	for _, it := range p.list("add-hosts") {
		name, addresses, ok := strings.Cut(it.Text, "=")
		if !ok {
			name, addresses, ok = strings.Cut(it.Text, ":")
		}
		switch {
		case !ok || name == "" || strings.ContainsAny(name, " ,\"\n"):
			p.report("add-hosts", it.Line, "expected name=address", "write it like db=10.0.0.7")
			continue
		case addresses == HostGateway && !inEngine:
			p.report("add-hosts", it.Line, "host-gateway works only with the BuildKit inside Docker's engine", "set builder to engine, or write the address, such as 172.17.0.1 for the host on Docker's default bridge")
			continue
		case addresses == HostGateway:
			pairs = append(pairs, syntax.Pair{Key: name, Value: HostGateway})
			continue
		}
		for address := range strings.SplitSeq(addresses, ",") {
			if inner, ok := strings.CutPrefix(address, "["); ok {
				address = strings.TrimSuffix(inner, "]")
			}
			if net.ParseIP(address) == nil {
				p.report("add-hosts", it.Line, syntax.Quoted(address)+" is not an IP address", "write it like db=10.0.0.7")
				continue
			}
			pairs = append(pairs, syntax.Pair{Key: name, Value: address})
		}
	}
	return pairs
}

// localDelete is an entitlement that buildx itself checks: an output of type local may delete
// files outside of the working directory.
const localDelete = "buildx.local.delete"

// allow reads the entitlements, and adds the one that network=host needs, as buildx
// does (build/opt.go). deletes tells whether localDelete was given, which is not in all.
func (p *parser) allow(network string) (all []string, deletes bool) {
	host := entitlements.EntitlementNetworkHost.String()
	known := []string{host, entitlements.EntitlementSecurityInsecure.String(), entitlements.EntitlementDevice.String(), localDelete}
	for _, it := range p.list("allow") {
		if it.Text == localDelete {
			deletes = true
			continue
		}
		if _, _, err := entitlements.Parse(it.Text); err != nil {
			name, _, _ := strings.Cut(it.Text, "=")
			p.report("allow", it.Line, syntax.Quoted(it.Text)+" is not an entitlement", syntax.DidYouMean(name, known))
			continue
		}
		all = append(all, it.Text)
	}
	if network == "host" && !slices.Contains(all, host) {
		all = append(all, host)
	}
	return all, deletes
}

// limits are the names of docker/go-units.
var limits = []string{
	"core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile",
	"nproc", "rss", "rtprio", "rttime", "sigpending", "stack",
}

// ulimits reads name=soft:hard, or name=both.
func (p *parser) ulimits() []string {
	var all, seen []string
	for _, it := range p.list("ulimit") {
		name, _, ok := strings.Cut(it.Text, "=")
		limit, err := units.ParseUlimit(it.Text)
		switch {
		case !ok || err != nil && slices.Contains(limits, name):
			p.report("ulimit", it.Line, syntax.Quoted(it.Text)+" is not a limit", "write it like nofile=1024:2048, the soft limit first; -1 is none")
		case err != nil:
			p.report("ulimit", it.Line, "there is no limit "+syntax.Quoted(name), syntax.DidYouMean(name, limits))
		case slices.Contains(seen, name):
			p.report("ulimit", it.Line, name+" is given twice", "leave one of the lines out")
		default:
			seen, all = append(seen, name), append(all, limit.String())
		}
	}
	return all
}

// noCacheFilters reads names of stages. The frontend separates them by commas.
func (p *parser) noCacheFilters() []string {
	var all []string
	for _, it := range p.list("no-cache-filters") {
		if strings.ContainsAny(it.Text, ", \n") {
			p.report("no-cache-filters", it.Line, syntax.Quoted(it.Text)+" is not the name of a stage", "")
			continue
		}
		all = append(all, it.Text)
	}
	return all
}
