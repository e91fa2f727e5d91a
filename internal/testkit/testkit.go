// Package testkit has what tests of several rooms use: servers, container engines and builders
// that run until the test's end, runs of the program, files and images. Only tests import it.
//
//	func TestWarm(t *testing.T) {
//		image := testkit.StartRegistry(t).Host + "/app"
//		build := testkit.Invocation{Dir: testkit.App(t), Args: []string{"--cache", "type=registry,ref=" + image}}
//		build.Build(t)
//		if r := build.Build(t); r.Cached() != len(r.Steps) {
//			t.Errorf("%d of %d steps cached", r.Cached(), len(r.Steps))
//		}
//	}
//
// In CI a program or a server that is missing from the machine is a failure: see [Need].
package testkit
