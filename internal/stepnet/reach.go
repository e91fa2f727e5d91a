package stepnet

import (
	"bufio"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// metadata are the addresses at which clouds give a machine its identity and its settings.
var metadata = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"),     // AWS, Azure, Google, Oracle, OpenStack: link-local (RFC 3927)
	netip.MustParsePrefix("fd00:ec2::/32"),      // AWS, with the identities of pods and tasks
	netip.MustParsePrefix("fd20:ce::254/128"),   // Google
	netip.MustParsePrefix("100.100.100.200/32"), // Alibaba
	netip.MustParsePrefix("168.63.129.16/32"),   // Azure: the machine's agent
}

// reachable tells whether steps may reach an address: it must be one of another interface than
// loopback. The machine's other addresses are reachable, as they are from other machines.
func reachable(a netip.Addr, withMetadata bool) bool {
	if a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() && a.Is6() {
		return false
	}
	if a == netip.MustParseAddr("255.255.255.255") || netip.MustParsePrefix("0.0.0.0/8").Contains(a) {
		return false
	}
	if netip.PrefixFrom(netip.MustParseAddr(gateway4), prefix4).Contains(a) || netip.PrefixFrom(netip.MustParseAddr(gateway6), prefix6).Contains(a) {
		return false
	}
	return withMetadata || !slices.ContainsFunc(metadata, func(p netip.Prefix) bool { return p.Contains(a) })
}

// resolvConf names the machine's name servers.
const resolvConf = "/etc/resolv.conf"

// substitutes are the name servers that BuildKit writes into a step's resolv.conf where the
// machine has only loopback ones (v0.34.2, util/resolvconf/resolvconf.go).
var substitutes = []netip.Addr{
	netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("8.8.4.4"),
	netip.MustParseAddr("2001:4860:4860::8888"), netip.MustParseAddr("2001:4860:4860::8844"),
}

// nameServer returns the name server that answers a step's question, if it is one: the machine's
// own ones are reachable wherever they are, and where they are all on loopback they answer in
// place of BuildKit's substitutes.
func nameServer(to netip.AddrPort) (netip.AddrPort, bool) {
	if to.Port() != 53 {
		return to, false
	}
	text, err := os.ReadFile(resolvConf)
	if err != nil {
		return to, false
	}
	return answering(to, nameServers(string(text)))
}

// answering is nameServer with the machine's name servers.
func answering(to netip.AddrPort, servers []netip.Addr) (netip.AddrPort, bool) {
	own := slices.DeleteFunc(slices.Clone(servers), netip.Addr.IsLoopback)
	if slices.Contains(own, to.Addr()) {
		return to, true
	}
	if i := slices.Index(substitutes, to.Addr()); i >= 0 && len(own) == 0 && len(servers) > 0 {
		return netip.AddrPortFrom(servers[i%len(servers)], to.Port()), true
	}
	return to, false
}

// nameServers are those of a resolv.conf (resolv.conf(5)).
func nameServers(text string) []netip.Addr {
	var servers []netip.Addr
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if addr, err := netip.ParseAddr(fields[1]); err == nil {
			servers = append(servers, addr.Unmap())
		}
	}
	return servers
}
