package faults

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// fault is one way in which a server misbehaves.
type fault struct {
	name string
	in   []phase // where it can occur
	not  string  // why it cannot occur in the other phases; "" when in has all
	// set breaks the store in a phase.
	set      func(t *testing.T, s *store, in phase)
	body     bool // it is one of a body: where requests of the phase have none, it does not exist
	manifest bool // it is one of a manifest
	// slow tells that the timeouts end it, so that they have to be short.
	slow bool
}

// short are timeouts for faults that only these end.
var short = []string{"--probe-timeout", "3s", "--cache-timeout", "6s"}

// met makes the requests of a phase meet a fault.
func met(f testkit.Fault) func(*testing.T, *store, phase) {
	return func(_ *testing.T, s *store, in phase) { s.breakIn(in, f) }
}

// metByContent makes the bodies of a phase meet a fault that is one of a body.
func metByContent(f testkit.Fault) func(*testing.T, *store, phase) {
	return func(t *testing.T, s *store, in phase) {
		ofPhase := s.in
		if s.content != nil {
			s.in = func(in phase, r *http.Request) bool { return ofPhase(in, r) && s.content(r) }
		}
		s.breakIn(in, f)
	}
}

func (s *store) breakIn(in phase, f testkit.Fault) {
	for _, p := range s.proxies {
		p.Break(func(r *http.Request) bool { return s.in(in, r) }, f)
	}
}

// says answers with an error in the store's own words.
func says(status int, limit func(testkit.Fault) testkit.Fault) func(*testing.T, *store, phase) {
	return func(_ *testing.T, s *store, in phase) {
		f := testkit.Answers(s.says(status))
		if limit != nil {
			f = limit(f)
		}
		s.breakIn(in, f)
	}
}

func once(f testkit.Fault) testkit.Fault { return testkit.First(1, f) }

// serverFaults are those of a server.
var serverFaults = []fault{
	{name: "connection refused", in: phases, set: func(t *testing.T, s *store, in phase) {
		for _, p := range s.proxies {
			if in == reading {
				p.Stop(t)
			}
			p.Break(func(r *http.Request) bool { return s.in(in, r) }, p.Stops(t))
		}
	}},
	{name: "reset at byte 0", in: phases, set: met(testkit.Resets(0))},
	{name: "reset at byte 100", in: phases, body: true, set: metByContent(testkit.Resets(100))},
	{name: "stall", in: phases, set: met(testkit.Stalls), slow: true},
	{name: "drip", in: phases, body: true, set: metByContent(testkit.Drips(50 * time.Millisecond)), slow: true},
	{name: "401", in: phases, set: says(401, nil)},
	{name: "403", in: phases, set: says(403, nil)},
	{name: "404", in: phases, set: says(404, nil)},
	{name: "409", in: phases, set: says(409, nil)},
	{name: "429", in: phases, set: says(429, nil)},
	{name: "429 once", in: phases, set: says(429, once)},
	{name: "500", in: phases, set: says(500, nil)},
	{name: "500 once", in: phases, set: says(500, once)},
	{name: "503", in: phases, set: says(503, nil)},
	{name: "short body", in: phases, body: true, set: metByContent(testkit.Changes(testkit.Halved))},
	{name: "flipped bit", in: phases, body: true, set: metByContent(testkit.Changes(testkit.Flipped))},
	{name: "blob deleted before it is read", in: []phase{importing}, not: "the blobs are looked up in the phase import",
		set: func(t *testing.T, s *store, _ phase) { s.remove(t, largest(s.manifest)) }},
	{name: "blob deleted after it is verified", in: []phase{extracting}, not: "what was verified is read in the phase extract",
		set: func(t *testing.T, s *store, in phase) {
			gone := sync.OnceFunc(func() { s.remove(t, largest(s.manifest)) })
			for _, p := range s.proxies {
				p.Break(func(r *http.Request) bool { return s.in(in, r) }, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
					gone()
					server.ServeHTTP(w, r)
				})
			}
		}},
	{name: "token expires half-way", in: []phase{extracting, uploading}, not: "one request of this phase is like another: see 401",
		set: func(_ *testing.T, s *store, in phase) {
			expired, f := false, testkit.Answers(s.says(401))
			var mu sync.Mutex
			for _, p := range s.proxies {
				p.Break(func(r *http.Request) bool {
					mu.Lock()
					defer mu.Unlock()
					was := expired
					expired = expired || s.in(in, r)
					return was
				}, f)
			}
		}},
	{name: "token becomes read-only", in: []phase{uploading}, not: "it is told by the uploads",
		set: func(_ *testing.T, s *store, in phase) {
			f := testkit.After(1, testkit.Answers(s.says(403)))
			for _, p := range s.proxies {
				p.Break(func(r *http.Request) bool { return s.in(uploading, r) || s.in(committing, r) }, f)
			}
		}},
	{name: "garbage manifest", in: []phase{reading, importing}, not: "no manifest is read", manifest: true, set: met(testkit.ToGet(testkit.Answers(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("<html>Welcome to the hotel's network</html>"))
	})))},
	{name: "huge manifest", in: []phase{reading, importing}, not: "no manifest is read", manifest: true, set: met(testkit.ToGet(testkit.Endless(`{"layers":[],"records":[],"more":"`))), slow: true},
	{name: "every answer 200 ms late", in: []phase{reading}, not: "it is every answer, in one build", set: func(_ *testing.T, s *store, _ phase) {
		for _, p := range s.proxies {
			p.Break(func(*http.Request) bool { return true }, testkit.Late(200*time.Millisecond))
		}
	}},
}
