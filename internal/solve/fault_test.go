package solve

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moby/buildkit/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tonistiigi/fsutil"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/gateway"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

var blobA, blobB, blobC = digest.FromString("a"), digest.FromString("b"), digest.FromString("c")

// TestBlobsIn: texts of BuildKit v0.33.1, as they came from faulty registries.
func TestBlobsIn(t *testing.T) {
	t.Parallel()
	off := []digest.Digest{blobB}
	tests := []struct {
		text string
		want []digest.Digest
	}{
		{"failed to copy: httpReadSeeker: failed open: could not fetch content descriptor %s (application/vnd.oci.image.layer.v1.tar+gzip) from remote: not found", []digest.Digest{blobA}},
		{"failed to copy: httpReadSeeker: failed open: unexpected status from GET request to http://example.org/v2/app/blobs/%s: 500 Internal Server Error", []digest.Digest{blobA}},
		{`failed to do request: Get "http://example.org/v2/app/blobs/%s": dial tcp: connection refused`, []digest.Digest{blobA}},
		{"short read: expected 9 bytes but got 8: unexpected EOF", off},
		{"failed to copy: read tcp 127.0.0.1:1->127.0.0.1:2: connection reset by peer", off},
		{"failed to push example.org/app:v1: unexpected status from HEAD request to http://example.org/v2/app/blobs/%s: 403 Forbidden", nil},
		{`failed to push example.org/app:v1: failed to do request: Put "http://example.org/v2/app/blobs/uploads/1?digest=%s": EOF`, nil},
		{`failed to calculate checksum of ref abc::def: "/nothing": not found`, nil},
	}
	for _, test := range tests {
		text := strings.ReplaceAll(test.text, "%s", blobA.String())
		if got := slices.Collect(maps.Keys(blobsIn(errors.New(text), off))); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", text, got, test.want)
		}
	}
	if got := blobsIn(fmt.Errorf("%w: no byte", errStalls), off); !got[blobB] {
		t.Errorf("a stall is about %v", got)
	}
}

func TestGuilty(t *testing.T) {
	t.Parallel()
	lost := fmt.Errorf("could not fetch content descriptor %s", blobA)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	// Three imports: two scopes as one, another scope, and an entry of the user's own.
	sources := func() []*backends.Source {
		return []*backends.Source{holding("own", blobA), holding("main", blobA, blobB), holding("other", blobC), {State: backends.Loaded, Entry: client.CacheOptionsEntry{Type: "verbatim"}}}
	}
	tests := []struct {
		name      string
		ctx       context.Context
		err       error
		lost      []digest.Digest // by the gateway
		brokenOff []digest.Digest
		open      []int // imports that have not ended
		joint     bool  // the first import's scopes
		want      string
	}{
		{name: "no error", lost: []digest.Digest{blobA}},
		{name: "a command", err: fmt.Errorf("%w: %w", &gwpb.ExitError{ExitCode: 1}, lost)},
		{name: "a cancel", ctx: cancelled, err: lost},
		{name: "the user's own mistake", err: errors.New(`"/nothing": not found`), brokenOff: []digest.Digest{blobA}},
		{name: "a blob of two", err: lost, want: "own main"},
		{name: "a blob of one", err: errors.New(blobC.String()), want: "other"},
		{name: "a blob that nobody has named", err: errors.New(digest.FromString("d").String()), want: "verbatim"},
		{name: "a blob of one of two that BuildKit reads together", err: errors.New(blobB.String()), joint: true, want: "main own"},
		{name: "a blob of neither", err: errors.New(blobC.String()), joint: true, want: "other"},
		{name: "the gateway's loss", err: errors.New("unexpected EOF"), lost: []digest.Digest{blobB}, want: "main"},
		{name: "a transfer that broke off", err: errors.New("unexpected EOF"), brokenOff: []digest.Digest{blobB}, want: "main"},
		{name: "a stall", err: errStalls, brokenOff: []digest.Digest{blobC}, want: "other"},
		{name: "an import that hangs", err: errHangs, open: []int{1}, want: "other"},
		{name: "an import that hung until now", err: errHangs, want: "own main other verbatim"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := sources()
			imports := []gateway.Import{{Sources: s[:2], Joint: test.joint}, {Sources: s[2:3]}, {Sources: s[3:]}}
			var open []gateway.Import
			for _, i := range test.open {
				open = append(open, imports[i])
			}
			b := &run{Request: Request{Lost: func() []digest.Digest { return test.lost }}}
			ctx := test.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			var got []string
			for _, f := range b.guilty(ctx, test.err, imports, open, test.brokenOff) {
				got = append(got, strings.TrimSpace(string(f.source.Name)+" "+f.source.Entry.Type))
				if !errors.Is(f.err, test.err) {
					t.Errorf("blamed for %v", f.err)
				}
			}
			if strings.Join(got, " ") != test.want {
				t.Errorf("guilty: %v, want %s", got, test.want)
			}
		})
	}
}

// holding is a source that was loaded and names blobs.
func holding(name string, blobs ...digest.Digest) *backends.Source {
	s := &backends.Source{State: backends.Loaded, Manifest: backends.Manifest{Raw: []byte("{}")}}
	s.Name = scope.Name(name)
	for _, d := range blobs {
		s.Manifest.Layers = append(s.Manifest.Layers, ocispecs.Descriptor{Digest: d})
	}
	return s
}

// TestImportID: a daemon shows every import under the name that we expect.
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
