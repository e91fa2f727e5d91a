package backends_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// Six scopes are read at once: the server answers no request for a manifest before it has one of each.
func TestObjectsReadAtOnce(t *testing.T) { onEachServer(t, objectsReadAtOnce) }

func objectsReadAtOnce(t *testing.T, server testkit.ObjectServer) {
	store, c := objects(t, server.Line("")), newCache(t, imageManifest, "a layer")
	c.put(t, store)
	var p scope.Plan
	for i := range 6 {
		p.Read = append(p.Read, scope.Source{Name: scope.Name(fmt.Sprint("b-", i))})
		if err := store.PutManifest(t.Context(), p.Read[i].Name, c.Manifest); err != nil {
			t.Fatal(err)
		}
	}
	held := testkit.StartFaulty(t, server.Address())
	together := barrier(len(p.Read))
	held.Break(func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/manifests/b-") }, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		together(r)
		server.ServeHTTP(w, r)
	})
	readCache := backend(t, cachespec.Environment{}, server.At(held.Host))
	for _, s := range verified(t.Context(), []backends.Backend{readCache}, p, time.Minute) {
		if outcome(s) != loaded {
			t.Errorf("%s: %v", s.Name, s.Err)
		}
	}
}

// barrier is a function that waits until requests for n paths have called it.
func barrier(n int) func(*http.Request) {
	var mu sync.Mutex
	all, met := map[string]bool{}, make(chan struct{})
	return func(r *http.Request) {
		mu.Lock()
		if all[r.URL.Path] = true; len(all) == n {
			close(met)
			n = 0
		}
		mu.Unlock()
		select {
		case <-met:
		case <-r.Context().Done():
		}
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
