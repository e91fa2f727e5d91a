package backends_test

import (
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/builderspec"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// A refusal is what is wrong with a cache line.
type refusal struct {
	line string
	o    backends.Options
	want string // of each problem, after "cache: line 1: type=s3: "; "" for none
}

// at is the remote builder at an address, and secured the same over TLS.
func at(address string) builderspec.Node {
	a, problem := builderspec.ParseAddress(address)
	if problem != nil {
		panic(problem)
	}
	return builderspec.Node{Address: a}
}

func secured(n builderspec.Node) builderspec.Node {
	n.TLS.ServerName = "build.example"
	return n
}

func refuses(t *testing.T, kind string, tests []refusal) {
	t.Helper()
	for _, test := range tests {
		t.Run(test.line+" "+test.o.Builder.Address.String(), func(t *testing.T) {
			t.Parallel()
			_, problems := backends.New(lines(test.line), test.o)
			got := ""
			if len(problems) > 0 {
				got = strings.ReplaceAll(syntax.Problems(problems).Error(), "cache: line 1: type="+kind+": ", "")
			}
			if got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
			if strings.Contains(got, "canary") {
				t.Error("a credential is shown")
			}
		})
	}
}

// On a remote builder nothing is said of a compression that BuildKit does not do.
func TestObjectsRemoteOptions(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"type=s3,bucket=b,region=r", "type=azblob,account_url=https://acme.blob.core.windows.net"} {
		for builder, want := range map[string]string{
			"auto":        " compression=zstd image-manifest=true mode=max oci-mediatypes=true",
			"ssh://there": " mode=max",
		} {
			c := backend(t, backends.Options{Builder: at(builder)}, line).(backends.Gated)
			if got := attrsText(c.Options()); got != want {
				t.Errorf("%s, builder %q: options%s, want%s", line, builder, got, want)
			}
		}
	}
}
