package backends_test

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// BuildKit reads these attributes from its environment; a remote builder gets them in its entries.
func TestAzblobEnvironment(t *testing.T) {
	t.Parallel()
	env := map[string]string{
		"BUILDKIT_AZURE_STORAGE_ACCOUNT_URL": "https://acme.blob.core.windows.net/", "BUILDKIT_AZURE_STORAGE_PREFIX": "team",
		"BUILDKIT_AZURE_STORAGE_CONTAINER": "cache",
	}
	getenv := func(name string) string { return env[name] }
	for line, want := range map[string]string{
		"azblob": " account_name=acme account_url=https://acme.blob.core.windows.net container=cache name=b-main prefix=team",
		"type=azblob,prefix=,container=other,account_name=a": " account_name=a account_url=https://acme.blob.core.windows.net container=other name=b-main prefix=",
	} {
		c := backend(t, cachespec.Environment{Getenv: getenv}, line)
		if got := attrsText(c.Imports(plan("b-main"))[0].Attrs); got != want {
			t.Errorf("%s: attributes%s, want%s", line, got, want)
		}
	}
}

// warmlayer writes blobs where BuildKit's joining of the native attributes looks for them (v0.34.2,
// cache/remotecache/azblob/utils.go, manifestKey and blobKey), with any prefixes.
func TestAzblobJoins(t *testing.T) {
	t.Parallel()
	server := testkit.StartAzblob(t)
	c := newCache(t, imageManifest, "one")
	for _, place := range []string{
		"", ",prefix=a", ",prefix=a//b/", ",prefix=/a", ",prefix=/", ",prefix=a b+c/ä%2e%2e", ",prefix=x?y#z&",
		",name=n/m", ",blobs_prefix=,manifests_prefix=", ",prefix=p,blobs_prefix=/b/,manifests_prefix=m//m",
	} {
		line := server.Line(place)
		store := objects(t, line)
		c.put(t, store)
		if err := store.PutManifest(t.Context(), "b-main", c.Manifest); err != nil {
			t.Fatal(err)
		}
		attrs := backend(t, cachespec.Environment{}, line).Imports(plan("b-main"))[0].Attrs
		join := func(folder, otherwise, name string) string {
			if v, ok := attrs[folder]; ok {
				otherwise = v
			}
			return filepath.Join(attrs["prefix"], otherwise, name)
		}
		for _, want := range []string{
			join("manifests_prefix", "manifests", attrs["name"]), join("blobs_prefix", "blobs", c.Layers[0].Digest.String()),
		} {
			found := false
			for _, o := range server.Objects(t, "") {
				name, _, _ := strings.Cut(o, " 0x")
				found = found || name == want
			}
			if !found {
				t.Errorf("%q: no %q among %q", place, want, server.Objects(t, ""))
				continue
			}
			server.Remove(t, want)
		}
	}
	if left := server.Objects(t, ""); len(left) > 0 {
		t.Errorf("%q is where BuildKit does not look", left)
	}
}

// For a reader a missing container is empty; a writer creates it.
func TestAzblobContainer(t *testing.T) {
	t.Parallel()
	server := testkit.StartAzblob(t)
	line := server.Elsewhere()
	store, d := objects(t, line), digest.FromString("layer")
	reads := map[string]func() error{
		"manifest": func() error { _, err := store.Manifest(t.Context(), "b-main"); return err },
		"open":     func() error { _, err := store.Open(t.Context(), d, 0); return err },
	}
	for what, read := range reads {
		if err := read(); !errors.Is(err, backends.ErrAbsent) || !strings.Contains(err.Error(), "there is no container other") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if sizes, err := store.Stat(t.Context(), []digest.Digest{d}); err != nil || len(sizes) != 0 {
		t.Errorf("sizes %v, error %v", sizes, err)
	}
	if _, err := server.Client.ServiceClient().NewContainerClient("other").GetProperties(t.Context(), nil); err == nil {
		t.Error("reading created a container")
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := store.Put(t.Context(), ocispecs.Descriptor{Digest: d, Size: 5}, strings.NewReader("layer")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := read(t, objects(t, line), d, 0); got != "layer" {
		t.Errorf("read %q", got)
	}
}

// Of two uploads of one blob, the one that ends first removes the other one's blocks.
func TestAzblobUploadedTwice(t *testing.T) {
	t.Parallel()
	store := objects(t, testkit.StartAzblob(t).Line(""))
	content := strings.Repeat("twelve bytes", 1<<20)
	desc := ocispecs.Descriptor{Digest: digest.FromString(content), Size: int64(len(content))}
	half := len(content) / 2
	second := readerFunc(func([]byte) (int, error) {
		if err := store.Put(t.Context(), desc, strings.NewReader(content)); err != nil {
			t.Error(err)
		}
		return 0, io.EOF
	})
	if err := store.Put(t.Context(), desc, io.MultiReader(strings.NewReader(content[:half]), second, strings.NewReader(content[half:]))); err != nil {
		t.Errorf("the upload that ended last: %v", err)
	}
	if read(t, store, desc.Digest, 0) != content {
		t.Error("the blob has other content")
	}
}

// On a machine without an identity the error comes soon, and names the places that were tried.
func TestAzblobNoIdentity(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("AZURE_TOKEN_CREDENTIALS", "AzureCLICredential")
	store := objects(t, "type=azblob,account_url=https://acme.blob.core.windows.net")
	_, err := store.Manifest(context.Background(), "b-main")
	if err == nil || errors.Is(err, backends.ErrAbsent) || strings.Contains(err.Error(), "\n") {
		t.Fatalf("error %v", err)
	}
	for _, want := range []string{"read https://acme.blob.core.windows.net/buildkit-cache/manifests/b-main", "secret_access_key", "AZURE_CLIENT_ID", "az login"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
}
