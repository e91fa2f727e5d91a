package hosted

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-github/v75/github"
)

// githubPackages stands in for GitHub's API for packages, with the requests and answers of docs.github.com, "REST API endpoints for packages": the list
// of a container's versions, page by page, and the removal of one. Versions are tags joined by commas, by ID.
type githubPackages struct {
	under    string // "orgs" or "users"
	versions map[int]string
	refuses  bool
}

func (g *githubPackages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, ok := strings.CutPrefix(r.URL.EscapedPath(), "/"+g.under+"/acme/packages/container/shop%2Fweb/versions")
	switch {
	case r.Header.Get("Authorization") != "Bearer canary-of-packages":
		http.Error(w, `{"message": "Bad credentials"}`, http.StatusUnauthorized)
	case !ok:
		http.Error(w, `{"message": "Package not found."}`, http.StatusNotFound)
	case r.Method == http.MethodDelete && g.refuses:
		http.Error(w, `{"message": "Resource not accessible by integration"}`, http.StatusForbidden)
	case r.Method == http.MethodDelete:
		n, _ := strconv.Atoi(strings.TrimPrefix(id, "/"))
		delete(g.versions, n)
		w.WriteHeader(http.StatusNoContent)
	default:
		g.list(w, r)
	}
}

func (g *githubPackages) list(w http.ResponseWriter, r *http.Request) {
	var ids []int
	for n := range g.versions {
		ids = append(ids, n)
	}
	slices.Sort(ids)
	page, _ := strconv.Atoi(r.URL.Query().Get("page"))
	each, _ := strconv.Atoi(r.URL.Query().Get("per_page"))
	from := min((page-1)*each, len(ids))
	all := []map[string]any{}
	for _, n := range ids[from:min(from+each, len(ids))] {
		tags := strings.FieldsFunc(g.versions[n], func(r rune) bool { return r == ',' })
		all = append(all, map[string]any{"id": n, "name": "sha256:0", "metadata": map[string]any{"package_type": "container", "container": map[string]any{"tags": tags}}})
	}
	_ = json.NewEncoder(w).Encode(all)
}

// TestPackages: on ghcr.io the versions of tags that go are removed, and never one that another tag has.
func TestPackages(t *testing.T) {
	t.Parallel()
	for _, under := range []string{"orgs", "users"} {
		g := &githubPackages{under: under, versions: map[int]string{}}
		for n := range 230 {
			g.versions[n] = fmt.Sprintf("cache-b-%d", n)
		}
		g.versions[500], g.versions[501], g.versions[502] = "cache-b-main,v1", "cache-b-two,cache-b-three", ""
		server := httptest.NewServer(g)
		t.Cleanup(server.Close)
		forget := func(tags ...string) ([]string, error) {
			client := github.NewClient(nil).WithAuthToken("canary-of-packages")
			client.BaseURL, _ = url.Parse(server.URL + "/")
			var gone []string
			err := newPackage(client, "acme/shop/web").Remove(t.Context(), tags, func(tag string) { gone = append(gone, tag) })
			slices.Sort(gone)
			return gone, err
		}
		gone, err := forget("cache-b-7", "cache-b-229", "cache-b-two", "cache-b-three", "cache-b-absent")
		if err != nil || strings.Join(gone, " ") != "cache-b-229 cache-b-7 cache-b-absent cache-b-three cache-b-two" || len(g.versions) != 230 {
			t.Errorf("%s: %v, %v; %d versions are left", under, gone, err, len(g.versions))
		}
		gone, err = forget("cache-b-main", "cache-b-8")
		if err == nil || !strings.Contains(err.Error(), "the tag v1 has the same manifest") || strings.Join(gone, " ") != "cache-b-8" || g.versions[500] == "" {
			t.Errorf("%s: a manifest with another tag: %v, %v", under, gone, err)
		}
		g.refuses = true
		if gone, err = forget("cache-b-9"); err == nil || len(gone) > 0 || !strings.Contains(err.Error(), "packages: write") || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: refused: %v, %v", under, gone, err)
		}
	}
}
