package upkeep

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// repository is a Git repository with these branches, and a tag v1.
func repository(t testing.TB, branches ...string) string {
	t.Helper()
	return repositoryAt(t, t.TempDir(), branches...)
}

func repositoryAt(t testing.TB, dir string, branches ...string) string {
	t.Helper()
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-c", "user.name=a", "-c", "user.email=a@example.com"}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	_, err := exec.LookPath("git")
	testkit.Need(t, "git", err)
	git("init", "-q", "-b", "main")
	if len(branches) == 0 {
		return dir
	}
	git("commit", "-q", "--allow-empty", "-m", "one")
	git("tag", "v1")
	for _, b := range branches {
		if b != "main" {
			git("branch", b)
		}
	}
	return dir
}

// TestBranches: what exists is not gone, in a repository that is served and in a directory.
func TestBranches(t *testing.T) {
	t.Parallel()
	dir := repository(t, "main", "feature/a")
	refs, err := Branches(t.Context(), Remote{URL: dir, Environ: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"b-main": "", "b-main.worker": "", "b-feature-a-951d42dc02dc7431": "", "t-v1": "", "q-main": "", "local": "", "pr-1": "",
		"b-other": "the branch is gone", "t-v2": "the tag is gone", "q-other.k": "the branch of the merge queue is gone",
	} {
		if got := refs.Gone(scopeName(name)); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for remote, says := range map[string]string{
		repository(t):                   "has no branch",
		dir + "/nowhere":                "git ls-remote",
		"--upload-pack=touch /tmp/oops": "git ls-remote",
	} {
		if _, err := Branches(t.Context(), Remote{URL: remote, Environ: os.Environ()}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", remote, err, says)
		}
	}
}

// TestWithPulls: the servers' lists, of several pages. Stand-ins with the answers that the servers' documentation shows.
func TestWithPulls(t *testing.T) {
	t.Parallel()
	for kind, about := range map[string]struct{ path, header, field string }{
		"github": {"/repos/owner/app/pulls", "Authorization: Bearer canary-of-pulls", "number"},
		"gitlab": {"/projects/owner%2Fapp/merge_requests", "PRIVATE-TOKEN: canary-of-pulls", "iid"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			name, value, _ := strings.Cut(about.header, ": ")
			if r.URL.EscapedPath() != about.path || r.Header.Get(name) != value {
				http.Error(w, "no", http.StatusUnauthorized)
				return
			}
			page, _ := strconv.Atoi(r.URL.Query().Get("page"))
			var items []string
			for n := (page-1)*pageSize + 1; n <= min(page*pageSize, pageSize+3); n++ {
				items = append(items, fmt.Sprintf(`{"id": 9%d, %q: %[1]d}`, n, about.field))
			}
			fmt.Fprintf(w, "[%s]", strings.Join(items, ","))
		}))
		t.Cleanup(server.Close)
		name, value, _ := strings.Cut(about.header, ": ")
		api := List{server.URL + about.path + "?state=open", name, value}
		refs, err := Refs{}.WithPulls(t.Context(), api)
		if err != nil || refs.Gone("pr-1") != "" || refs.Gone("pr-53.worker") != "" || refs.Gone("pr-54") != "the pull request is closed" {
			t.Errorf("%s: %v, %d open", kind, err, len(refs.pulls))
		}
		api.Value = "canary-of-nobody"
		if refs, err := (Refs{}).WithPulls(t.Context(), api); err == nil || strings.Contains(err.Error(), "canary") || refs.Gone("pr-54") != "" {
			t.Errorf("%s: a refused token: %v", kind, err)
		}
	}
}
