package testkit

import (
	"io/fs"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	actionscache "github.com/tonistiigi/go-actions-cache"
)

// GHA is version 2 of the GitHub Actions cache, as on github.com: a server in the test's process,
// with its contents in Azurite.
type GHA struct {
	*ActionsCache
	URL string // "http://127.0.0.1:8080"

	storage Azblob
}

// StartGHA starts a server that runs until the end of the test.
func StartGHA(t testing.TB) GHA {
	t.Helper()
	return StartGHAOn(t, StartAzblob(t))
}

// StartGHAOn starts a server whose contents are in a container that runs already.
func StartGHAOn(t testing.TB, storage Azblob) GHA {
	t.Helper()
	return startGHA(t, storage, func(url string) string { return url })
}

// StartGHABehind starts a server that tells its clients other addresses for itself and for its
// storage: those of a proxy.
func StartGHABehind(t testing.TB, proxy func(url string) string) GHA {
	t.Helper()
	return startGHA(t, StartAzblob(t), proxy)
}

func startGHA(t testing.TB, storage Azblob, proxy func(url string) string) GHA {
	t.Helper()
	g := GHA{ActionsCache: NewActionsCache(storage.contents(t, storage.Service)), storage: storage}
	return g.serve(t, proxy)
}

// contents is the container, at an address of the account.
func (a Azblob) contents(t testing.TB, service string) *container.Client {
	t.Helper()
	credential, err := container.NewSharedKeyCredential(a.Account, a.Secret)
	if err != nil {
		t.Fatal(err)
	}
	contents, err := container.NewClientWithSharedKeyCredential(service+"/"+a.Container, credential, nil)
	if err != nil {
		t.Fatal(err)
	}
	return contents
}

// serve starts the service. It tells its clients the addresses of a proxy, which itself it does not use.
func (g GHA) serve(t testing.TB, proxy func(url string) string) GHA {
	t.Helper()
	g.told = g.storage.contents(t, proxy(g.storage.Service))
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	g.URL = proxy(server.URL)
	return g
}

// Copy is another service with copies of all entries, which tells its clients the addresses of a proxy.
func (g GHA) Copy(t testing.TB, proxy func(url string) string) GHA {
	t.Helper()
	g.mu.Lock()
	entries := slices.Clone(g.entries)
	g.mu.Unlock()
	storage := g.storage.Copy(t)
	copied := GHA{ActionsCache: NewActionsCache(storage.contents(t, storage.Service)), storage: storage}
	copied.entries = entries
	return copied.serve(t, proxy)
}

// Key is the key of the entry with a content, by the content's name in the storage; "": there is none.
func (g GHA) Key(content string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.entries {
		if e.blob == content {
			return e.key
		}
	}
	return ""
}

// Env has the variables that a runner of github.com sets for a container action, as far as
// warmlayer reads them.
func (g GHA) Env(token string) map[string]string {
	return map[string]string{
		"GITHUB_SERVER_URL": "https://github.com", "GITHUB_API_URL": g.URL, "GITHUB_REPOSITORY": Repository,
		"ACTIONS_RESULTS_URL": g.URL + "/", "ACTIONS_CACHE_URL": "http://127.0.0.1:1/", "ACTIONS_RUNTIME_TOKEN": token,
	}
}

// Lose deletes the contents of the entries with the prefix, and keeps the entries.
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

// Expired is a token that expired yesterday.
func (g GHA) Expired(write string) string { return g.tokenUntil(time.Now().Add(-time.Hour), write) }

// GHA1 is version 1, with the server of act, which the runners of Gitea and Forgejo use too.
type GHA1 struct {
	URL string // "http://127.0.0.1:8080/6d5f…/"
	Dir string // with its files
}

// StartGHA1 starts a server that runs until the end of the test.
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

// Env has the variables that such a runner sets. Its token names no Git refs (nektos/act v0.2.89,
// pkg/common/auth.go).
func (g GHA1) Env() map[string]string {
	return map[string]string{
		"GITHUB_SERVER_URL": "https://git.example",
		"ACTIONS_CACHE_URL": g.URL, "ACTIONS_RUNTIME_TOKEN": g.Token(),
	}
}

// Token is a token that the server does not check.
func (g GHA1) Token() string {
	return sign([]byte(g.Dir), time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC), []actionscache.Scope{{Permission: actionscache.PermissionWrite}})
}

// Files are the contents that it has stored.
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
