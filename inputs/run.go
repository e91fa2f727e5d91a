package inputs

import (
	"net"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/buildkit/util/entitlements"
)

// addHosts reads name=address or name:address, with several addresses after commas and
// those of IPv6 in brackets or not (build/utils.go in buildx).
func (p *parser) addHosts() []Pair {
	var pairs []Pair
	for _, it := range p.list("add-hosts") {
		name, addresses, ok := strings.Cut(it.text, "=")
		if !ok {
			name, addresses, ok = strings.Cut(it.text, ":")
		}
		switch {
		case !ok || name == "" || strings.ContainsAny(name, " ,\"\n"):
			p.report("add-hosts", it.line, "expected name=address", "write it like db=10.0.0.7")
			continue
		case addresses == "host-gateway":
			p.report("add-hosts", it.line, "host-gateway is known to the builder in Docker's engine alone", "write the address, such as 172.17.0.1 for the host on Docker's default bridge")
			continue
		}
		for address := range strings.SplitSeq(addresses, ",") {
			if inner, ok := strings.CutPrefix(address, "["); ok {
				address = strings.TrimSuffix(inner, "]")
			}
			if net.ParseIP(address) == nil {
				p.report("add-hosts", it.line, quoted(address)+" is not an IP address", "write it like db=10.0.0.7")
				continue
			}
			pairs = append(pairs, Pair{name, address})
		}
	}
	return pairs
}

// localDelete is the entitlement that buildx keeps to itself: it lets an output of type
// local delete files outside the working directory.
const localDelete = "buildx.local.delete"

// allow reads the entitlements, and adds the one that network=host needs, as buildx
// does (build/opt.go). deletes tells whether buildx's own is among them.
func (p *parser) allow(network string) (all []string, deletes bool) {
	host := entitlements.EntitlementNetworkHost.String()
	known := []string{host, entitlements.EntitlementSecurityInsecure.String(), entitlements.EntitlementDevice.String(), localDelete}
	for _, it := range p.list("allow") {
		if it.text == localDelete {
			deletes = true
			continue
		}
		if _, _, err := entitlements.Parse(it.text); err != nil {
			name, _, _ := strings.Cut(it.text, "=")
			p.report("allow", it.line, quoted(it.text)+" is not an entitlement", didYouMean(name, known))
			continue
		}
		all = append(all, it.text)
	}
	if network == "host" && !slices.Contains(all, host) {
		all = append(all, host)
	}
	return all, deletes
}

// limits are the names that docker/go-units knows.
var limits = []string{
	"core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile",
	"nproc", "rss", "rtprio", "rttime", "sigpending", "stack",
}

// ulimits reads name=soft:hard, or name=both.
func (p *parser) ulimits() []string {
	var all, seen []string
	for _, it := range p.list("ulimit") {
		name, _, ok := strings.Cut(it.text, "=")
		limit, err := units.ParseUlimit(it.text)
		switch {
		case !ok || err != nil && slices.Contains(limits, name):
			p.report("ulimit", it.line, quoted(it.text)+" is not a limit", "write it like nofile=1024:2048, the soft limit first; -1 is none")
		case err != nil:
			p.report("ulimit", it.line, "there is no limit "+quoted(name), didYouMean(name, limits))
		case slices.Contains(seen, name):
			p.report("ulimit", it.line, name+" is given twice", "leave one of the lines out")
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
		if strings.ContainsAny(it.text, ", \n") {
			p.report("no-cache-filters", it.line, quoted(it.text)+" is not the name of a stage", "")
			continue
		}
		all = append(all, it.text)
	}
	return all
}
