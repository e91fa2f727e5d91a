package solve

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/builderspec"
	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// request is a build of a directory on a daemon, without outputs and caches. Tests change it.
func request(t *testing.T, daemon, dir string) Request {
	t.Helper()
	address, problem := builderspec.ParseAddress(daemon)
	if problem != nil {
		t.Fatal(problem)
	}
	b, err := builder.Open(t.Context(), builder.Options{Address: address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return Request{
		Inputs: inputs.Values{
			Dir: dir, Context: inputs.Context{Dir: dir}, Dockerfile: inputs.Dockerfile{Path: filepath.Join(dir, "Dockerfile"), Name: "Dockerfile"},
			Progress: "plain", CacheTimeout: time.Minute, MetadataProvenance: "disabled",
		},
		Builder:  b,
		Caches:   cacheplan.New(cacheplan.Request{}),
		Progress: io.Discard,
	}
}

// must builds, and fails the test when the build fails.
func (r Request) must(t *testing.T) Result {
	t.Helper()
	result, err := Run(t.Context(), r)
	if err != nil {
		t.Fatalf("%v, warnings %v", err, result.Warnings)
	}
	return result
}

// fails builds, and fails the test unless the build fails with an error that contains the words.
func (r Request) fails(t *testing.T, words ...string) Result {
	t.Helper()
	result, err := Run(t.Context(), r)
	for _, word := range words {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("error %v, want one with %q", err, word)
		}
	}
	return result
}

// file is the content of a file of the result of a build.
func (r Request) file(t *testing.T, name string) string {
	t.Helper()
	dest := t.TempDir()
	r.Inputs.Outputs = []inputs.Output{{Type: "local", Attrs: map[string]string{}, Dest: dest}}
	r.must(t)
	content, err := os.ReadFile(filepath.Join(dest, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// pushes makes the build push an image, with more attributes.
func (r *Request) pushes(image string, attrs ...string) {
	o := inputs.Output{Type: "image", Attrs: map[string]string{"name": image, "push": "true"}}
	for i := 0; i < len(attrs); i += 2 {
		o.Attrs[attrs[i]] = attrs[i+1]
	}
	r.Inputs.Outputs = append(r.Inputs.Outputs, o)
}

// caches makes the build read and write the scope b-main in a repository.
func (r *Request) caches(t *testing.T, repository string) {
	t.Helper()
	caches := []backends.Backend{testkit.Backend(t, cachespec.Environment{Remote: true}, "type=registry,ref="+repository)}
	plan := scope.Plan{Write: "b-main", Read: []scope.Source{{Name: "b-main", Why: "own branch"}}}
	r.Caches = cacheplan.New(cacheplan.Request{
		Caches: caches, Scopes: plan, Record: backends.Record{Branch: "main"},
		Await: func() cacheplan.Found {
			return cacheplan.Found{Readings: backends.Read(t.Context(), caches, plan, time.Minute)}
		},
	})
}

// outcome is the outcome of the only export.
func (r Result) outcome(t *testing.T) Outcome {
	t.Helper()
	if len(r.Exports) != 1 {
		t.Fatalf("%d exports", len(r.Exports))
	}
	if err := r.Exports[0].Err; err != nil {
		t.Logf("export: %v", err)
	}
	return r.Exports[0].Outcome
}

// app is a directory with the files of a base image as rootfs.tar and a Dockerfile: the given text
// after "FROM scratch AS base" and "ADD rootfs.tar /".
func app(t *testing.T, dockerfile string) string {
	t.Helper()
	dir := testkit.App(t)
	testkit.Write(t, filepath.Join(dir, "Dockerfile"), "FROM scratch AS base\nADD rootfs.tar /\n"+dockerfile)
	return dir
}

// index is an image index in a registry.
func index(t *testing.T, image string) *v1.IndexManifest {
	t.Helper()
	ref, err := name.ParseReference(image)
	if err != nil {
		t.Fatal(err)
	}
	found, err := remote.Index(ref)
	if err != nil {
		t.Fatal(err)
	}
	m, err := found.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// value decodes a value of the metadata.
func value[T any](t *testing.T, r Result, key string) T {
	t.Helper()
	var v T
	text, err := base64.StdEncoding.DecodeString(r.Metadata[key])
	if err == nil {
		err = json.Unmarshal(text, &v)
	}
	if err != nil {
		t.Fatalf("%s is %q: %v", key, r.Metadata[key], err)
	}
	return v
}
