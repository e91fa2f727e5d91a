package cacheplan

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/scope"
)

var blobA, blobB, blobC = digest.FromString("a"), digest.FromString("b"), digest.FromString("c")

// TestBlobsIn: the texts are errors of BuildKit v0.34.2 with faulty registries.
func TestBlobsIn(t *testing.T) {
	t.Parallel()
	partial := []digest.Digest{blobB}
	tests := []struct {
		text string
		want []digest.Digest
	}{
		{"failed to copy: httpReadSeeker: failed open: could not fetch content descriptor %s (application/vnd.oci.image.layer.v1.tar+gzip) from remote: not found", []digest.Digest{blobA}},
		{"failed to copy: httpReadSeeker: failed open: unexpected status from GET request to http://example.org/v2/app/blobs/%s: 500 Internal Server Error", []digest.Digest{blobA}},
		{`failed to do request: Get "http://example.org/v2/app/blobs/%s": dial tcp: connection refused`, []digest.Digest{blobA}},
		{"short read: expected 9 bytes but got 8: unexpected EOF", partial},
		{"failed to copy: read tcp 127.0.0.1:1->127.0.0.1:2: connection reset by peer", partial},
		{"failed to push example.org/app:v1: unexpected status from HEAD request to http://example.org/v2/app/blobs/%s: 403 Forbidden", nil},
		{`failed to push example.org/app:v1: failed to do request: Put "http://example.org/v2/app/blobs/uploads/1?digest=%s": EOF`, nil},
		{`failed to calculate checksum of ref abc::def: "/nothing": not found`, nil},
	}
	for _, test := range tests {
		text := strings.ReplaceAll(test.text, "%s", blobA.String())
		if got := slices.Collect(maps.Keys(blobsIn(errors.New(text), partial))); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", text, got, test.want)
		}
	}
	if got := blobsIn(fmt.Errorf("%w: no byte", ErrStalled), partial); !got[blobB] {
		t.Errorf("a stall is about %v", got)
	}
}

// TestRecovered: a source that lost a blob, which BuildKit did without, is loaded, and says so.
func TestRecovered(t *testing.T) {
	t.Parallel()
	with := func(d digest.Digest) *source {
		m := backends.Manifest{Layers: []ocispecs.Descriptor{{Digest: d}}}
		return &source{state: Loaded, reading: backends.Reading{Manifest: m}}
	}
	lost, whole := with(blobA), with(blobB)
	r := &Reads{imports: []imports{{sources: []*source{lost, whole}}}}
	r.Observe(Attempt{Recovered: []string{"exit code: 1", fmt.Sprintf("failed commit on ref %q: unexpected commit digest", "layer-"+blobA)}})
	if lost.state != Loaded || lost.err == nil || !strings.Contains(lost.err.Error(), "blob "+blobA.String()+" was lost: failed commit") {
		t.Errorf("%s, %v", lost.state, lost.err)
	}
	if whole.err != nil {
		t.Error(whole.err)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	lost := fmt.Errorf("could not fetch content descriptor %s", blobA)
	tests := []struct {
		name         string
		attempt      Attempt
		open         []int // imports that have not ended
		allOrNothing bool  // the first import's scopes
		want         string
	}{
		{name: "no error", attempt: Attempt{Lost: []digest.Digest{blobA}}},
		{name: "a command", attempt: Attempt{Err: fmt.Errorf("%w: %w", &gwpb.ExitError{ExitCode: 1}, lost)}},
		{name: "a cancel", attempt: Attempt{Err: lost, Cancelled: true}},
		{name: "the user's own mistake", attempt: Attempt{Err: errors.New(`"/nothing": not found`), Partial: []digest.Digest{blobA}}},
		{name: "a blob of two", attempt: Attempt{Err: lost}, want: "own main"},
		{name: "a blob of one", attempt: Attempt{Err: errors.New(blobC.String())}, want: "other"},
		{name: "a blob that no source names", attempt: Attempt{Err: errors.New(digest.FromString("d").String())}, want: "verbatim"},
		{name: "a blob of one of two that BuildKit reads together", attempt: Attempt{Err: errors.New(blobB.String())}, allOrNothing: true, want: "main own"},
		{name: "a blob of neither", attempt: Attempt{Err: errors.New(blobC.String())}, allOrNothing: true, want: "other"},
		{name: "a blob that the gateway lost", attempt: Attempt{Err: errors.New("unexpected EOF"), Lost: []digest.Digest{blobB}}, want: "main"},
		{name: "a blob that the gateway lost, beside a cancelled one", attempt: Attempt{Err: errors.New("unexpected EOF"), Lost: []digest.Digest{blobB}, Partial: []digest.Digest{blobB, blobC}}, want: "main"},
		{name: "a transfer that was interrupted", attempt: Attempt{Err: errors.New("unexpected EOF"), Partial: []digest.Digest{blobB}}, want: "main"},
		{name: "a stall", attempt: Attempt{Err: ErrStalled, Partial: []digest.Digest{blobC}}, want: "other"},
		{name: "an import that hangs", attempt: Attempt{Err: ErrImportHangs}, open: []int{1}, want: "other"},
		{name: "an import that hung and ended", attempt: Attempt{Err: ErrImportHangs}, want: "own main other verbatim"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			// Three imports: two scopes in one, another scope, and an entry of cache-from.
			all := []imports{
				{sources: []*source{holding("own", blobA), holding("main", blobA, blobB)}, allOrNothing: test.allOrNothing},
				{sources: []*source{holding("other", blobC)}},
				{sources: []*source{{state: Loaded, own: true, entry: client.CacheOptionsEntry{Type: "verbatim"}}}},
			}
			for n := range all {
				test.attempt.Imports = append(test.attempt.Imports, ImportEnd{Began: true, Ended: !slices.Contains(test.open, n)})
			}
			var got []string
			for _, f := range faults(test.attempt, all) {
				got = append(got, strings.TrimSpace(string(f.source.reading.Name)+" "+f.source.entry.Type))
				if !errors.Is(f.Err, test.attempt.Err) {
					t.Errorf("they are at fault for %v", f.Err)
				}
			}
			if strings.Join(got, " ") != test.want {
				t.Errorf("at fault: %v, want %s", got, test.want)
			}
		})
	}
}

// holding is a source that was loaded and contains blobs.
func holding(name string, blobs ...digest.Digest) *source {
	s := &source{state: Loaded, reading: backends.Reading{Source: scope.Source{Name: scope.Name(name)}, Manifest: backends.Manifest{Raw: []byte("{}")}}}
	for _, d := range blobs {
		s.reading.Manifest.Layers = append(s.reading.Manifest.Layers, ocispecs.Descriptor{Digest: d})
	}
	return s
}
