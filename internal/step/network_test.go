package step

import (
	"testing"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/report"
)

func TestNetwork(t *testing.T) {
	t.Parallel()
	own := builder.Builder{Address: "embedded", Network: builder.Network{Steps: builder.NetworkOwn}}
	for chosen, want := range map[string]report.Network{
		"":        {Builder: "embedded", Steps: "own"},
		"default": {Builder: "embedded", Steps: "own"},
		"host":    {Builder: "embedded", Steps: "host", Reason: "network: host"},
		"none":    {Builder: "embedded", Steps: "none", Reason: "network: none"},
	} {
		if got := network(Build{Inputs: inputs.Values{Network: chosen}}, &own); got != want {
			t.Errorf("%q: %+v, want %+v", chosen, got, want)
		}
	}
}

// A proxy that steps do not reach gives one warning, whatever its form.
func TestUnreachableProxies(t *testing.T) {
	t.Parallel()
	for value, warned := range map[string]bool{
		"http://127.0.0.1:3128": true, "127.0.0.2:3128": true, "http://user:secret@localhost:3128": true, "http://[::1]:3128": true,
		"http://[::ffff:127.0.0.1]:1": true, "socks5://proxy.localhost:1": true,
		"http://proxy.example.com:3128": false, "http://10.0.0.1:3128": false, "http://localhost.example.com": false, "": false, "%zz": false,
	} {
		got := unreachableProxies(report.Network{Steps: "own"}, map[string]string{"http_proxy": value, "OTHER": "http://127.0.0.1"})
		if (len(got) == 1) != warned {
			t.Errorf("%s: %q, want a warning: %t", value, got, warned)
		}
		if got := unreachableProxies(report.Network{Steps: "host"}, map[string]string{"HTTP_PROXY": value}); len(got) > 0 {
			t.Errorf("%s, on the host's network: %q", value, got)
		}
	}
}
