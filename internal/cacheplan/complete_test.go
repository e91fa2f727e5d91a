package cacheplan_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// claimed is a cache in a store in which a build takes a blob's key before it sends the blob.
type claimed struct{ *memoryCache }

func (c claimed) Scopes() backends.Scopes     { return claimedStore{c.Store} }
func (c claimed) Destination() backends.Store { return claimedStore{c.Store} }

type claimedStore struct{ *testkit.Store }

func (claimedStore) Claims() string { return "a build took its key" }

// blobsOf gives blobs, as a builder does.
type blobsOf map[digest.Digest][]byte

// ReaderAt implements [content.Provider].
func (b blobsOf) ReaderAt(_ context.Context, d ocispecs.Descriptor) (content.ReaderAt, error) {
	raw, ok := b[d.Digest]
	if !ok {
		return nil, errors.New("not found")
	}
	return blobReader{bytes.NewReader(raw)}, nil
}

type blobReader struct{ *bytes.Reader }

func (blobReader) Close() error { return nil }

// A layer that BuildKit took for sent and that is not there is sent by the program, where the builder has
// it. Else it costs the results that need it, and no more. Layers that a scope had when it was read are not
// looked up.
func TestUnsentLayers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, unsent string // the steps whose layers are not there
		builder      string // has the layer of this step
		read         bool   // the scope had base and app when it was read
		asked        int    // the layers that are looked up
		layers       int    // of the cache that is written
		says         string
	}{
		{name: "all are there", asked: 4, layers: 4},
		{name: "all that were not read are there", read: true, asked: 2, layers: 4},
		{name: "the builder has it", unsent: "app", builder: "app", asked: 4, layers: 4},
		{name: "nobody has it", unsent: "app", asked: 4, layers: 3, says: "1 of 4 results were left out: blob " + layerOf("app").String() +
			" is not there: a build took its key: the builder does not give it: not found"},
		{name: "the builder has one of two", unsent: "docs deps", builder: "deps", read: true, asked: 2, layers: 3, says: "1 of 4 results were left out: blob " + layerOf("docs").String()},
		{name: "nobody has any", unsent: "base deps app docs", asked: 4, says: "the former cache is kept: blob "},
	} {
		c := claimed{newMemoryCache("shelf")}
		m, _, blobs := steps.Cache(t, "b-main")
		from := blobsOf{}
		for d, raw := range blobs {
			c.Set(d, raw)
		}
		for step := range strings.FieldsSeq(test.unsent) {
			c.Set(layerOf(step), nil)
		}
		if test.builder != "" {
			from[layerOf(test.builder)] = blobs[layerOf(test.builder)]
		}
		var readings []backends.Reading
		if test.read {
			readings = append(readings, reading(t, app, c, "b-main"))
		}
		if err := c.PutManifest(t.Context(), "b-main", m); err != nil {
			t.Fatal(err)
		}
		d := cacheplan.New(cacheplan.Request{
			Caches: []backends.Backend{c}, Await: found(readings), Scopes: writeMain, Record: record, Keep: keeps,
		}).Destinations()[0]
		err := outcomes(d.Commit(t.Context(), cacheplan.Exported{Content: "sha256:00", Blobs: from}))[0]
		if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.says)
		}
		written, err := c.Manifest(t.Context(), "b-main")
		if err != nil {
			t.Fatal(err)
		}
		if test.layers > 0 && len(written.Layers) != test.layers {
			t.Errorf("%s: %d layers, want %d", test.name, len(written.Layers), test.layers)
		}
		if got := len(c.Asked()[0]); got != test.asked {
			t.Errorf("%s: %d layers were looked up, want %d", test.name, got, test.asked)
		}
	}
}

// A store that cannot be asked keeps what BuildKit wrote there, and the export has failed.
func TestUnsentUnknown(t *testing.T) {
	t.Parallel()
	c := claimed{newMemoryCache("shelf")}
	m, _, _ := app.Cache(t, "b-main")
	if err := c.PutManifest(t.Context(), "b-main", m); err != nil {
		t.Fatal(err)
	}
	c.StatFault = errors.New("no answer")
	err := outcomes(destinations(nil, nil, c)[0].Commit(t.Context(), cacheplan.Exported{}))[0]
	if got := fmt.Sprint(err); got != "attach the scope's record: no answer" {
		t.Error(got)
	}
	if written, err := c.Manifest(t.Context(), scope.Name("b-main")); err != nil || len(written.Layers) != 2 {
		t.Errorf("%d layers, %v", len(written.Layers), err)
	}
}

// A cache that BuildKit wrote into a store of objects, as one document, gets its record also where nothing is
// kept of former builds.
func TestDocumentKeepsNothing(t *testing.T) {
	t.Parallel()
	cache := real(t, nil, testkit.StartS3(t).Line("")).(backends.GatewayWritten)
	m, blobs := sent(t, app)
	for _, desc := range m.Blobs() {
		if err := cache.Destination().Put(t.Context(), desc, bytes.NewReader(blobs[desc.Digest])); err != nil {
			t.Fatal(err)
		}
	}
	if err := cache.Destination().PutManifest(t.Context(), "b-main", m); err != nil {
		t.Fatal(err)
	}
	if errs := outcomes(destinations(nil, nil, cache)[0].Commit(t.Context(), cacheplan.Exported{Content: "sha256:00"})); errs[0] != nil {
		t.Error(errs)
	}
	if written, err := cache.Scopes().Manifest(t.Context(), "b-main"); err != nil || written.Record.Branch != "main" || len(written.Layers) != 2 {
		t.Errorf("%+v, %v", written, err)
	}
}
