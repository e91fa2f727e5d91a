package testkit

import (
	"io/fs"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	actionscache "github.com/tonistiigi/go-actions-cache"
)

// GHA is version 2 of the GitHub Actions cache, as github.com has it: a server in the
// test's own process, whose contents lie in Azurite.
type GHA struct {
	*ActionsCache
	URL string // "http://127.0.0.1:8080"
}

// StartGHA starts a server and stops it at the test's end.
func StartGHA(t testing.TB) GHA {
	t.Helper()
	return StartGHAOn(t, StartAzblob(t))
}

// StartGHAOn starts a server whose contents lie in a container that runs already.
func StartGHAOn(t testing.TB, storage Azblob) GHA {
	t.Helper()
	return startGHA(t, storage, func(url string) string { return url })
}

// StartGHABehind starts a server whose clients reach it, and its storage, by other
// addresses than its own: those of a proxy.
func StartGHABehind(t testing.TB, proxy func(url string) string) GHA {
	t.Helper()
	return startGHA(t, StartAzblob(t), proxy)
}

func startGHA(t testing.TB, storage Azblob, proxy func(url string) string) GHA {
	t.Helper()
	credential, err := container.NewSharedKeyCredential(storage.Account, storage.Secret)
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := container.NewClientWithSharedKeyCredential(proxy(storage.Service)+"/"+storage.Container, credential, nil)
	if err != nil {
		t.Fatal(err)
	}
	g := GHA{ActionsCache: NewActionsCache(blobs)}
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	g.URL = proxy(server.URL)
	return g
}

// Env is what a runner of github.com passes to a container action, as far as it matters.
func (g GHA) Env(token string) map[string]string {
	return map[string]string{
		"GITHUB_SERVER_URL": "https://github.com", "GITHUB_API_URL": g.URL, "GITHUB_REPOSITORY": Repository,
		"ACTIONS_RESULTS_URL": g.URL + "/", "ACTIONS_CACHE_URL": "http://127.0.0.1:1/", "ACTIONS_RUNTIME_TOKEN": token,
	}
}

// Lose deletes the contents of the entries that begin so, and leaves the entries.
func (g GHA) Lose(t testing.TB, prefix string) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.entries {
		if !strings.HasPrefix(e.key, prefix) {
			continue
		}
		if _, err := g.blobs.NewBlobClient(e.blob).Delete(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
}

// Expired is a token of yesterday's.
func (g GHA) Expired(write string) string { return g.tokenUntil(time.Now().Add(-time.Hour), write) }

// GHA1 is version 1, as act has it, which Gitea's and Forgejo's runners took over.
type GHA1 struct {
	URL string // "http://127.0.0.1:8080/6d5f…/"
	Dir string // where it keeps its files
}

// StartGHA1 starts a server and stops it at the test's end.
func StartGHA1(t testing.TB) GHA1 {
	t.Helper()
	program, err := exec.LookPath("ghacache")
	Need(t, "gha", err)
	address, dir := freeAddress(t), Temp(t)
	said, err := os.Create(filepath.Join(t.TempDir(), "url"))
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	g, cmd := GHA1{Dir: dir}, exec.Command(program, address, dir)
	cmd.Stdout = said
	start(t, cmd, func() bool {
		text, err := os.ReadFile(said.Name())
		url, whole := strings.CutSuffix(string(text), "\n")
		g.URL = url
		return err == nil && whole
	})
	return g
}

// Env is what such a runner passes on. Its token knows no Git refs (nektos/act v0.2.89,
// pkg/common/auth.go).
func (g GHA1) Env() map[string]string {
	return map[string]string{
		"GITHUB_SERVER_URL": "https://git.example",
		"ACTIONS_CACHE_URL": g.URL, "ACTIONS_RUNTIME_TOKEN": g.Token(),
	}
}

// Token is one that nobody checks.
func (g GHA1) Token() string {
	return sign([]byte(g.Dir), time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC), []actionscache.Scope{{Permission: actionscache.PermissionWrite}})
}

// Files are the contents that it keeps.
func (g GHA1) Files(t testing.TB) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(filepath.Join(g.Dir, "cache"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
