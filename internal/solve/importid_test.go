package solve

import (
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/moby/buildkit/client"
	"github.com/tonistiigi/fsutil"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// TestImportID: a daemon shows every import under the expected name.
func TestImportID(t *testing.T) {
	t.Parallel()
	c, err := client.New(t.Context(), testkit.StartBuildkitd(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	app := testkit.App(t)
	dir := filepath.Join(testkit.Temp(t), "cache")
	testkit.Invocation{Dir: app, Branch: "main", Args: []string{"--cache", "type=local,dest=" + dir}}.Build(t)
	fs, err := fsutil.NewFS(app)
	if err != nil {
		t.Fatal(err)
	}
	entries := []client.CacheOptionsEntry{
		{Type: "registry", Attrs: map[string]string{"ref": "127.0.0.1:1/app:cache"}},
		{Type: "local", Attrs: map[string]string{"src": dir, "tag": "b-main"}},
		{Type: "gha", Attrs: map[string]string{"scope": "a", "url": "http://127.0.0.1:1/", "token": "x"}},
		{Type: "s3", Attrs: map[string]string{"bucket": "b", "region": "r", "name": "n", "endpoint_url": "http://127.0.0.1:1", "access_key_id": "a", "secret_access_key": "s"}},
		{Type: "azblob", Attrs: map[string]string{"account_url": "http://127.0.0.1:1", "name": "n"}},
	}
	statuses := make(chan *client.SolveStatus)
	shown := map[string]bool{}
	var wg sync.WaitGroup
	wg.Go(func() {
		for s := range statuses {
			for _, v := range s.Vertexes {
				shown[v.Name] = true
			}
		}
	})
	_, err = c.Solve(t.Context(), nil, client.SolveOpt{
		Frontend: "dockerfile.v0", FrontendAttrs: map[string]string{"target": "base"}, CacheImports: entries,
		LocalMounts: map[string]fsutil.FS{"context": fs, "dockerfile": fs},
	}, statuses)
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !shown[importing+importID(e)] {
			t.Errorf("%s: no vertex %q among %v", e.Type, importing+importID(e), slices.Sorted(maps.Keys(shown)))
		}
	}
}
