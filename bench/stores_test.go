package bench

import (
	"strings"
	"testing"
	"time"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// roundTrip is the round trip time between a CI's machine and an object store in the same region.
const roundTrip = 40 * time.Millisecond

// lines writes a cache line for a run of a branch, which may read the scopes of other branches too.
type lines func(branch string, others ...string) string

// objectStores are the caches for which BuildKit has its own backend, which a managed builder does
// not use. Each is an empty store behind a proxy that adds the round trip time.
var objectStores = []struct {
	name string
	open func(b testing.TB, roundTrip time.Duration) lines
}{
	{"s3", func(b testing.TB, roundTrip time.Duration) lines {
		s := testkit.StartS3(b)
		s.Endpoint = delayed(b, s.Endpoint, roundTrip)
		return func(string, ...string) string { return s.Line("") }
	}},
	{"azblob", func(b testing.TB, roundTrip time.Duration) lines {
		a := testkit.StartAzblob(b)
		a.Service = delayed(b, a.Service, roundTrip)
		return func(string, ...string) string { return a.Line("") }
	}},
	{"gha", func(b testing.TB, roundTrip time.Duration) lines {
		g := testkit.StartGHABehind(b, func(url string) string { return delayed(b, url, roundTrip) })
		return func(branch string, others ...string) string {
			var refs []string
			for _, one := range others {
				refs = append(refs, "refs/heads/"+one)
			}
			return "type=gha,version=2,url_v2=" + g.URL + "/,token=" + g.Token("refs/heads/"+branch, refs...)
		}
	}},
}

func delayed(b testing.TB, url string, roundTrip time.Duration) string {
	b.Helper()
	address, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	return strings.TrimSuffix("http://"+testkit.Delay(b, address, roundTrip)+"/"+path, "/")
}
