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
	"github.com/warmlayer/warmlayer/internal/testkit"
)

func TestAzblobRefuses(t *testing.T) {
	t.Parallel()
	const azblob = "type=azblob,account_url=https://acme.blob.core.windows.net"
	const key = ",secret_access_key=Y2FuYXJ5"
	remote := backends.Options{Builder: at("ssh://build.example")}
	folderHint := `give a folder, such as team/app, without \ or segments that end with a dot`
	containerHint := "give 3 to 63 lower-case letters, digits and single hyphens"
	schemeHint := "give scheme and host: account_url=https://account.blob.core.windows.net"
	variables := map[string]string{"BUILDKIT_AZURE_STORAGE_CONTAINER": "a/../b", "BUILDKIT_AZURE_STORAGE_PREFIX": ".."}
	refuses(t, "azblob", []refusal{
		{line: azblob},
		{line: azblob + key},
		{line: "azblob", want: `account_url is missing
hint: say where: type=azblob,account_url=https://account.blob.core.windows.net,container=my-cache, or set BUILDKIT_AZURE_STORAGE_ACCOUNT_URL`},
		{line: "type=azblob,account_url=,account_name=,secret_access_key=", want: `account_name= is not valid
hint: give a value
account_url= is not valid
hint: give a value
secret_access_key= is not valid
hint: give a value`},
		{line: azblob + ",account=acme", want: `attribute "account" is unknown
hint: did you mean "account_url"?`},
		{line: azblob + ",contaner=c", want: `attribute "contaner" is unknown
hint: did you mean "container"?`},
		{line: azblob + ",scope=main", want: `attribute "scope" is unknown
hint: the scope is derived from the branch; an entry that is to be used as it stands goes into cache-from or cache-to`},
		{line: azblob + ",mode=most,ignore-error=yes", want: `ignore-error=yes is not valid
hint: give true or false
mode=most is not valid
hint: give one of min, max`},
		{line: azblob + ",container=", want: "container= is not valid\nhint: " + containerHint},
		{line: azblob + ",container=Cache", want: "container=Cache is not valid\nhint: " + containerHint},
		{line: azblob + ",container=a--b", want: "container=a--b is not valid\nhint: " + containerHint},
		{line: azblob + ",container=cache/..", want: "container=cache/.. is not valid\nhint: " + containerHint},
		{line: azblob + ",container=$root", want: "container=$root is not valid\nhint: " + containerHint},
		{line: azblob + ",name=a;b", want: "name=a;b is not valid\nhint: give one name, such as app"},
		{line: azblob + ",name=../other", want: "name=../other is not valid\nhint: give one name, such as app"},
		{line: azblob + ",name=a//b", want: "name=a//b is not valid\nhint: give one name, such as app"},
		{line: azblob + `,name=..\other`, want: `name=..\other is not valid` + "\nhint: give one name, such as app"},
		{line: azblob + ",name=", want: "name= is not valid\nhint: give one name, such as app"},
		{line: azblob + ",prefix=..", want: "prefix=.. is not valid\nhint: " + folderHint},
		{line: azblob + ",prefix=team/../../other", want: "prefix=team/../../other is not valid\nhint: " + folderHint},
		{line: azblob + ",prefix=team.", want: "prefix=team. is not valid\nhint: " + folderHint},
		{line: azblob + `,prefix=a\b`, want: `prefix=a\b is not valid` + "\nhint: " + folderHint},
		{line: azblob + ",blobs_prefix=../blobs", want: "blobs_prefix=../blobs is not valid\nhint: " + folderHint},
		{line: azblob + ",manifests_prefix=a/./b", want: "manifests_prefix=a/./b is not valid\nhint: " + folderHint},
		{line: azblob, o: backends.Options{Getenv: func(name string) string { return variables[name] }},
			want: "BUILDKIT_AZURE_STORAGE_CONTAINER=a/../b is not valid\nhint: " + containerHint +
				"\nBUILDKIT_AZURE_STORAGE_PREFIX=.. is not valid\nhint: " + folderHint},
		{line: "type=azblob,account_url=acme.blob.core.windows.net", want: "account_url is no URL of an account\nhint: " + schemeHint},
		{line: "type=azblob,account_url=ftp://me:canary@host", want: "account_url is no URL of an account\nhint: " + schemeHint},
		{line: "type=azblob,account_url=https://", want: "account_url is no URL of an account\nhint: " + schemeHint},
		{line: "type=azblob,account_url=https://me:canary@acme.blob.core.windows.net", want: `account_url has a user name in it
hint: use secret_access_key`},
		{line: azblob + "?sv=2024&sig=canary", want: `account_url has more than an address in it
hint: BuildKit takes no shared access signature: use secret_access_key, or an identity (AZURE_CLIENT_ID, az login)`},
		{line: azblob + ",secret_access_key=canary!", want: `secret_access_key is no key of an account
hint: give one of the account's two keys as it is, in Base64`},
		{line: "type=azblob,account_url=http://acme.example", want: `account_url is plain http, where no identity's token is sent
hint: use https, or secret_access_key, which signs and is not sent`},
		{line: "type=azblob,account_url=http://127.0.0.1:10000/acme" + key, want: `account_name is missing, and account_url's host does not begin with it
hint: add account_name=`},
		{line: "type=azblob,account_url=http://127.0.0.1:10000/acme,account_name=acme" + key},
		{line: azblob + ",compression=zstd,oci-mediatypes=false", want: `compression=zstd needs oci-mediatypes=true
hint: use compression=gzip, or oci-mediatypes=true`},

		{line: azblob, o: remote},
		{line: azblob + key, o: remote},
		{line: azblob + ",compression=zstd", o: remote, want: `compression is not possible on a remote builder: BuildKit writes layers of azblob caches with gzip
hint: leave it out, or use builder=embedded`},
		{line: azblob, o: backends.Options{Builder: at("tcp://build.example:1234")}},
		{line: azblob + key, o: backends.Options{Builder: secured(at("tcp://build.example:1234"))}},
		{line: azblob + key, o: backends.Options{Builder: at("tcp://build.example:1234")}, want: `credentials would go to the builder over plain tcp://
hint: reach the builder through ssh:// or unix://, or over TLS (builder-cacert), or leave them out and give the builder credentials of its own`},
	})
}

func TestAzblobTwice(t *testing.T) {
	t.Parallel()
	const azblob = "type=azblob,account_url=https://acme.blob.core.windows.net"
	_, problems := backends.New(lines(azblob+",prefix=team/app", azblob+"/,prefix=team//,manifests_prefix=app/manifests"), backends.Options{})
	if len(problems) != 1 || problems[0].What != "azblob acme/buildkit-cache/team is there twice" {
		t.Errorf("problems %v", problems)
	}
}

// BuildKit takes these from the environment; a remote builder is told of them.
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
		c := backend(t, backends.Options{Getenv: getenv}, line)
		if got := attrsText(c.Imports(plan("b-main"))[0].Attrs); got != want {
			t.Errorf("%s: attributes%s, want%s", line, got, want)
		}
	}
}

// What we write lies where BuildKit's joining of the native attributes looks for it
// (v0.33.1, cache/remotecache/azblob/utils.go, manifestKey and blobKey), whatever
// prefixes are given.
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
		attrs := backend(t, backends.Options{}, line).Imports(plan("b-main"))[0].Attrs
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
		t.Errorf("%q lies where BuildKit does not look", left)
	}
}

// A container that is missing is empty for whoever reads, and made by whoever writes.
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
		t.Error("reading made a container")
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

// Of two uploads of one blob, the one that ends first takes the other one's blocks.
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
		t.Errorf("the one that ended last: %v", err)
	}
	if read(t, store, desc.Digest, 0) != content {
		t.Error("the blob is another")
	}
}

// A machine without an identity is told where one was looked for, and soon.
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
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}
