package upkeep

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// TestFaults: a store that fails half-way is told, with what was done, and the next prune finishes. Nothing that stays is lost.
func TestFaults(t *testing.T) {
	t.Parallel()
	s3, azblob, registry := testkit.StartS3(t), testkit.StartAzblob(t), testkit.StartRegistry(t)
	for name, open := range map[string]func(address string) string{
		"s3":       func(address string) string { return s3.At(address) + ",touch_refresh=0s" },
		"azblob":   func(address string) string { return azblob.At(address) + ",touch_refresh=0s" },
		"registry": func(address string) string { return "type=registry,ref=" + address + "/o/app" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := map[string]string{"s3": s3.Address(), "azblob": azblob.Address(), "registry": registry.Host}[name]
			faulty := testkit.StartFaulty(t, address)
			_, store := opened(t, cachespec.Environment{}, open(address))
			c, _ := opened(t, cachespec.Environment{}, open(faulty.Host))
			removes := func(r *http.Request) bool { return r.Method == http.MethodDelete || r.URL.Query().Has("delete") }
			lists := func(r *http.Request) bool {
				return r.URL.Query().Has("list-type") || r.URL.Query().Get("comp") == "list" || strings.HasSuffix(r.URL.Path, "/tags/list")
			}
			broken := testkit.Answers(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
			for i, fault := range []struct {
				match func(*http.Request) bool
				fault testkit.Fault
			}{
				{removes, broken}, {removes, testkit.After(1, broken)}, {removes, testkit.Resets(0)}, {lists, broken}, {lists, testkit.After(1, broken)}, {lists, testkit.Resets(0)},
			} {
				populate(t, store, "b-main", backends.Record{Branch: "main"}, "base")
				for n := range 3 {
					populate(t, store, scope.Name(fmt.Sprintf("b-old%d", n)), backends.Record{}, "base", fmt.Sprintf("old %d %d", i, n))
				}
				rules := Rules{Gone: true, Grace: time.Nanosecond}
				refs := Refs{names: map[scope.Name]bool{"b-main": true}}
				faulty.Break(fault.match, fault.fault)
				stock, err := Take(t.Context(), c)
				var done Pruned
				if err == nil {
					done, err = Prune(t.Context(), c, rules.Choose(stock, refs, time.Now()), rules)
				}
				hit := faulty.Mend(t)
				if err == nil && len(hit) > 0 && !(name == "registry" && i == 1) && !(i == 4) {
					t.Errorf("fault %d: no error, although %v failed: %+v", i, hit, done)
				}
				left := len(strings.Fields(names(take(t, c)))) - 1
				if got := len(done.Removed); got+left != 3 {
					t.Errorf("fault %d: %d are told as removed, %d are left", i, got, left)
				}
				prune(t, c, rules, refs)
				if got := names(take(t, c)); got != "b-main" || has(t, store, "base") == "" {
					t.Errorf("fault %d: after the second prune %s, %q", i, got, has(t, store, "base"))
				}
				if name != "registry" && has(t, store, fmt.Sprintf("old %d 0", i), fmt.Sprintf("old %d 1", i), fmt.Sprintf("old %d 2", i)) != "" {
					t.Errorf("fault %d: blobs are left", i)
				}
			}
		})
	}
}

// TestDirectoryFaults: a directory in which something cannot be read or removed is told, and the next prune finishes.
func TestDirectoryFaults(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(t *testing.T, dir string) (mend func()){
		"a lock that is a directory": func(t *testing.T, dir string) func() {
			lock := filepath.Join(dir, "index.json.lock")
			if err := os.RemoveAll(lock); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(lock, 0o700); err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := os.Remove(lock); err != nil {
					t.Error(err)
				}
			}
		},
		"an index that is cut off": func(t *testing.T, dir string) func() {
			index := filepath.Join(dir, "index.json")
			whole, err := os.ReadFile(index)
			if err != nil {
				t.Fatal(err)
			}
			testkit.Write(t, index, string(whole[:len(whole)/2]))
			return func() { testkit.Write(t, index, string(whole)) }
		},
		"an index that is a directory": func(t *testing.T, dir string) func() {
			index := filepath.Join(dir, "index.json")
			if err := os.Rename(index, index+".away"); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Join(index, "a directory with another"), 0o700); err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := os.RemoveAll(index); err != nil {
					t.Error(err)
				}
				if err := os.Rename(index+".away", index); err != nil {
					t.Error(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := testkit.Temp(t)
			c, store := opened(t, cachespec.Environment{}, "type=local,dest="+dir)
			populate(t, store, "b-main", backends.Record{Branch: "main"}, "base")
			for n := range 3 {
				populate(t, store, scope.Name(fmt.Sprintf("b-old%d", n)), backends.Record{}, "base", fmt.Sprintf("old %d", n))
			}
			rules, refs := Rules{Gone: true, Grace: time.Nanosecond}, Refs{names: map[scope.Name]bool{"b-main": true}}
			mend := fault(t, dir)
			stock, err := Take(t.Context(), c)
			var done Pruned
			if err == nil {
				done, err = Prune(t.Context(), c, rules.Choose(stock, refs, time.Now()), rules)
			}
			mend()
			left := len(strings.Fields(names(take(t, c)))) - 1
			if err == nil || len(done.Removed)+left != 3 {
				t.Errorf("removed %d, left %d, %v", len(done.Removed), left, err)
			}
			prune(t, c, rules, refs)
			if got := names(take(t, c)); got != "b-main" || has(t, store, "base") == "" || has(t, store, "old 0", "old 1", "old 2") != "" {
				t.Errorf("after the second prune %s, %q", got, has(t, store, "base", "old 0", "old 1", "old 2"))
			}
		})
	}
}

// TestGHAFaults: the same for GitHub's REST API. A prune that fails half-way leaves whole caches.
func TestGHAFaults(t *testing.T) {
	t.Parallel()
	server := testkit.StartGHA(t)
	faulty := testkit.StartFaulty(t, strings.TrimPrefix(strings.TrimSuffix(server.URL, "/"), "http://"))
	job := func(ref, api string) (Cache, backends.Store) {
		env := server.Env(server.Token(ref))
		env["GITHUB_REPOSITORY"], env["GITHUB_API_URL"] = testkit.Repository, api
		return opened(t, cachespec.Environment{Getenv: func(name string) string { return env[name] }}, "gha")
	}
	c, main := job("refs/heads/main", "http://"+faulty.Host)
	populate(t, main, "b-main", backends.Record{}, "base", "main's own")
	rules, refs := Rules{Gone: true, Grace: time.Nanosecond}, Refs{names: map[scope.Name]bool{"b-main": true}, pulls: map[int]bool{}}
	removes := func(r *http.Request) bool { return r.Method == http.MethodDelete }
	lists := func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/actions/caches")
	}
	broken := testkit.Answers(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	for i, fault := range []struct {
		match func(*http.Request) bool
		fault testkit.Fault
	}{{removes, broken}, {removes, testkit.After(1, broken)}, {removes, testkit.Resets(0)}, {lists, broken}, {lists, testkit.Resets(0)}} {
		for n := range 3 {
			_, old := job(fmt.Sprintf("refs/heads/old%d", n), "")
			populate(t, old, scope.Name(fmt.Sprintf("b-old%d", n)), backends.Record{Commit: fmt.Sprint(i)}, fmt.Sprintf("old %d %d", i, n))
		}
		faulty.Break(fault.match, fault.fault)
		stock, err := Take(t.Context(), c)
		var done Pruned
		if err == nil {
			done, err = Prune(t.Context(), c, rules.Choose(stock, refs, time.Now()), rules)
		}
		hit := faulty.Mend(t)
		left := len(strings.Fields(names(take(t, c)))) - 1
		if err == nil || len(hit) == 0 || len(done.Removed)+left != 3 {
			t.Errorf("fault %d: %v, met by %v; removed %d, left %d", i, err, hit, len(done.Removed), left)
		}
		prune(t, c, rules, refs)
		if got := names(take(t, c)); got != "b-main" || has(t, main, "base", "main's own") == "" {
			t.Errorf("fault %d: after the second prune %s", i, got)
		}
		for _, e := range server.Entries("") {
			if !strings.HasPrefix(e, "refs/heads/main ") {
				t.Errorf("fault %d: %s is left", i, e)
			}
		}
	}
}
