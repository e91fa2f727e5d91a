package step

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/report"
)

// network is what the RUN steps of a build are on that choose none: what the input network says,
// or else what the builder gives them.
func network(b Build, on *builder.Builder) report.Network {
	n := report.Network{Builder: on.Address, Steps: string(on.Network.Steps), Reason: on.Network.Reason}
	if chosen := b.Inputs.Network; chosen == "host" || chosen == "none" {
		n.Steps, n.Reason = chosen, "network: "+chosen
	}
	return n
}

// proxyArguments are the build arguments that RUN steps get as variables without a declaration
// (Dockerfile reference, predefined ARGs).
var proxyArguments = []string{"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY"}

// unreachableProxies warns of proxies on the machine's loopback interface, which steps on a network
// of their own do not reach.
func unreachableProxies(n report.Network, arguments map[string]string) []string {
	if n.Steps != string(builder.NetworkOwn) {
		return nil
	}
	var names []string
	for name, value := range arguments {
		if slices.Contains(proxyArguments, strings.ToUpper(name)) && onLoopback(value) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return []string{fmt.Sprintf("RUN steps do not reach the proxy in %s: it is on this machine's loopback interface, and steps have a network of their own; "+
		"name the proxy by another address of the machine, or set network: host and allow: network.host", strings.Join(names, ", "))}
}

// arguments are the build arguments of a build, with those for proxies in the Docker config.
func (r Run) arguments(b Build) map[string]string {
	all := r.proxies()
	for _, p := range b.Inputs.BuildArgs {
		for name := range all {
			if strings.EqualFold(name, p.Key) {
				delete(all, name)
			}
		}
	}
	for _, p := range b.Inputs.BuildArgs {
		all[p.Key] = p.Value
	}
	return all
}

// onLoopback tells whether a proxy is on the loopback interface: a URL, or a host with a port.
func onLoopback(proxy string) bool {
	if !strings.Contains(proxy, "://") {
		proxy = "http://" + proxy
	}
	u, err := url.Parse(proxy)
	if err != nil {
		return false
	}
	host := strings.ToLower(u.Hostname())
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && addr.Unmap().IsLoopback()
}
