package backends_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// Six scopes cost two round trips: one for all manifests, and one for all of their blobs. One after
// the other they would cost twelve.
func TestObjectsReadAtOnce(t *testing.T) { onEachServer(t, objectsReadAtOnce) }

func objectsReadAtOnce(t *testing.T, server testkit.ObjectServer) {
	var contents []string
	for i := range 20 {
		contents = append(contents, fmt.Sprint("layer ", i))
	}
	store, c := objects(t, server.Line("")), newCache(t, imageManifest, contents...)
	c.put(t, store)
	var p scope.Plan
	for i := range 6 {
		p.Read = append(p.Read, scope.Source{Name: scope.Name(fmt.Sprint("b-", i))})
		if err := store.PutManifest(t.Context(), p.Read[i].Name, c.Manifest); err != nil {
			t.Fatal(err)
		}
	}
	const roundTrip = 200 * time.Millisecond
	far := testkit.Delay(t, server.Address(), roundTrip)
	readCache := backend(t, cachespec.Environment{}, server.At(far))
	began := time.Now()
	for _, s := range verified(t.Context(), []backends.Backend{readCache}, p, time.Minute) {
		if outcome(s) != loaded {
			t.Errorf("%s: %v", s.Name, s.Err)
		}
	}
	took := time.Since(began)
	t.Logf("%d scopes of %d blobs took %s", len(p.Read), len(contents), took)
	if took < 2*roundTrip || took > 6*roundTrip {
		t.Errorf("%d scopes took %s, at %s a round trip", len(p.Read), took, roundTrip)
	}
}

// A server that never answers delays a build by at most probe-timeout.
func TestObjectsSilent(t *testing.T) { onEachServer(t, objectsSilent) }

func objectsSilent(t *testing.T, server testkit.ObjectServer) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	readCache := backend(t, cachespec.Environment{}, server.At(l.Addr().String()))
	s := verified(t.Context(), []backends.Backend{readCache}, plan("b-main"), 50*time.Millisecond)[0]
	if outcome(s) != failed || !strings.Contains(s.Err.Error(), "no answer within 50ms") {
		t.Errorf("state %s, error %v", outcome(s), s.Err)
	}
}
