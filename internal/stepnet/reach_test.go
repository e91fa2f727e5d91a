package stepnet

import (
	"net/netip"
	"testing"
)

func TestReachable(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]struct{ plain, withMetadata bool }{
		"203.0.113.7": {true, true}, "10.1.2.3": {true, true}, "192.168.0.1": {true, true}, "2001:db8::1": {true, true}, "fd00::1": {true, true},
		"192.0.2.2": {true, true}, // beside the range of the link
		"127.0.0.1": {}, "127.255.255.254": {}, "::1": {}, "0.0.0.0": {}, "0.1.2.3": {}, "::": {},
		"192.0.0.1": {}, "192.0.0.7": {}, "fd6c:7761:726d::1": {},
		"224.0.0.251": {}, "ff02::fb": {}, "255.255.255.255": {}, "fe80::1": {},
		"169.254.169.254": {false, true}, "169.254.170.2": {false, true}, "fd00:ec2::254": {false, true}, "fd20:ce::254": {false, true},
		"100.100.100.200": {false, true}, "168.63.129.16": {false, true},
	} {
		a := netip.MustParseAddr(address)
		if got := reachable(a, false); got != want.plain {
			t.Errorf("%s: %t in an untrusted build, want %t", address, got, want.plain)
		}
		if got := reachable(a, true); got != want.withMetadata {
			t.Errorf("%s: %t in a trusted build, want %t", address, got, want.withMetadata)
		}
	}
}

func TestAnswering(t *testing.T) {
	t.Parallel()
	const (
		stub  = "# a comment\nnameserver 127.0.0.53\noptions edns0\n"
		two   = "nameserver 127.0.0.1\nnameserver ::1\n"
		mixed = "nameserver 127.0.0.1\nnameserver 169.254.169.253\nnameserver\nnameserver none\n"
	)
	for _, test := range []struct{ conf, to, want string }{
		{stub, "8.8.8.8", "127.0.0.53"}, {stub, "8.8.4.4", "127.0.0.53"}, {stub, "2001:4860:4860::8888", "127.0.0.53"},
		{stub, "9.9.9.9", ""}, {stub, "127.0.0.53", ""},
		{two, "8.8.8.8", "127.0.0.1"}, {two, "8.8.4.4", "::1"},
		{mixed, "169.254.169.253", "169.254.169.253"}, {mixed, "8.8.8.8", ""}, {mixed, "127.0.0.1", ""},
		{"", "8.8.8.8", ""},
	} {
		to := netip.AddrPortFrom(netip.MustParseAddr(test.to), 53)
		got, ok := answering(to, nameServers(test.conf))
		if ok != (test.want != "") || ok && (got.Addr().String() != test.want || got.Port() != 53) {
			t.Errorf("%q: %s goes to %s, %t, want %q", test.conf, test.to, got, ok, test.want)
		}
	}
	if _, ok := nameServer(netip.MustParseAddrPort("8.8.8.8:443")); ok {
		t.Error("a port of another service is one of a name server")
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	if got, want := quote("/a dir/it's"), `/a dir/it'\''s`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
