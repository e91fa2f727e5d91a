package bench

import (
	"crypto/rand"
	"path/filepath"
	"testing"
	"time"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// far is the round trip time to a store on another continent.
const far = 100 * time.Millisecond

// BenchmarkScopes reads six scopes, each from another cache, while the builder starts. It reports
// how long both take, and how much the reading delays the first request to BuildKit.
func BenchmarkScopes(b *testing.B) {
	for _, store := range objectStores {
		b.Run(store.name, func(b *testing.B) {
			app := testkit.App(b)
			line := store.open(b, far)
			branches := []string{"feature", "a", "b", "c", "d", "main"}
			build := func(branch string) testkit.Report {
				return testkit.Invocation{Dir: app, Branch: branch, Args: []string{
					"--cache", line(branch, branches...), "--cache-fallbacks", "a,b,c,d", "--outputs", "type=cacheonly",
				}}.Build(b)
			}
			for _, branch := range branches {
				testkit.Write(b, filepath.Join(app, "site", "index.txt"), rand.Text())
				build(branch)
			}
			var reading, starting, delay float64
			for b.Loop() {
				r := build("feature")
				for _, s := range r.Sources {
					if s.State != "loaded" {
						b.Fatalf("%+v", s)
					}
				}
				if len(r.Sources) != len(branches) {
					b.Fatalf("%d sources: %+v", len(r.Sources), r.Sources)
				}
				read, started := r.Phase("read caches"), r.Phase("start builder")
				reading, starting, delay = reading+read, starting+started, delay+max(0, read-started)
			}
			ms := func(sum float64) float64 { return 1000 * sum / float64(b.N) }
			b.ReportMetric(ms(reading), "read-ms")
			b.ReportMetric(ms(starting), "builder-ms")
			b.ReportMetric(ms(delay), "delay-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}
