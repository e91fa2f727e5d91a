package cachespec_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// The answers of a line to the questions of other rooms.
func TestAnswers(t *testing.T) {
	t.Parallel()
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	const pair = ",access_key_id=k,secret_access_key=s"
	for _, test := range []struct {
		line, label, identity, dirs string
		credentials, inImage, oci   bool
	}{
		{"type=registry,ref=app", "registry docker.io/library/app", "registry docker.io/library/app cache-", "[]", false, false, true},
		{"type=registry,ref=localhost:5000/o/app:web", "registry localhost:5000/o/app", "registry localhost:5000/o/app web-", "[]", false, false, true},
		{"inline", "inline ghcr.io/o/app", "registry ghcr.io/o/app cache-", "[]", false, true, false},
		{"type=local,src=./a,dest=b/../c,tag=t", "local " + here + "/a → " + here + "/c", "local " + here + "/c t-", "[" + here + "/a " + here + "/c]", false, false, true},
		{"type=s3,bucket=b,region=r,prefix=p,name=n", "s3 b/p", "s3  b p/manifests/n-", "[]", false, false, false},
		{"type=s3,bucket=b,region=r" + pair, "s3 b", "s3  b manifests/", "[]", true, false, false},
		{"type=azblob,account_url=https://acme.example", "azblob acme/buildkit-cache", "azblob https://acme.example buildkit-cache manifests/", "[]", false, false, false},
		{"type=azblob,account_url=https://acme.example,secret_access_key=Y2FuYXJ5", "azblob acme/buildkit-cache", "azblob https://acme.example buildkit-cache manifests/", "[]", true, false, false},
		{"type=gha,token=t,url=https://c.example", "gha buildkit", "gha https://c.example buildkit", "[]", true, false, false},
		{"auto", "registry ghcr.io/o/app", "registry ghcr.io/o/app cache-", "[]", false, false, true},
	} {
		caches, problems := testkit.Resolve(pushed, test.line)
		if len(caches) != 1 || len(problems) > 0 {
			t.Errorf("%s: %d caches, %v", test.line, len(caches), problems)
			continue
		}
		c := caches[0].Config
		if c.String() != test.label || c.Identity() != test.identity || fmt.Sprint(c.Dirs()) != test.dirs {
			t.Errorf("%s: %q, %q, %s", test.line, c, c.Identity(), c.Dirs())
		}
		if c.Credentials() != test.credentials || c.InImage() != test.inImage || c.NativeOCI() != test.oci {
			t.Errorf("%s: credentials %t, in the image %t, OCI %t", test.line, c.Credentials(), c.InImage(), c.NativeOCI())
		}
	}
}

// Credentials are found by the names of their attributes, in lines with mistakes too.
func TestSecrets(t *testing.T) {
	t.Parallel()
	lines, _ := testkit.Lines(cachespec.From,
		"type=s3,bucket=b,access_key_id=one,secret_access_key=two,sesion_token=three",
		"type=gha,token=four,ghtoken=five,scope=x", "type=tape,password=six",
	)
	var got []string
	for _, line := range lines {
		got = append(got, line.Secrets()...)
	}
	slices.Sort(got)
	if want := []string{"five", "four", "one", "six", "three", "two"}; !slices.Equal(got, want) {
		t.Errorf("secrets %q, want %q", got, want)
	}
}

// Resolve does not change its lines: several builders share them.
func TestResolveSharesNothing(t *testing.T) {
	t.Parallel()
	lines, problems := testkit.Lines(cachespec.Scoped, "type=registry,ref=ghcr.io/o/app", "type=s3,bucket=b,region=r", "type=gha,token=t,url=https://c.example", "local")
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	options := func(env cachespec.Environment) string {
		caches, problems := cachespec.Resolve(lines, env)
		if len(caches) != len(lines) || len(problems) > 0 {
			t.Fatal(problems)
		}
		return fmt.Sprint(caches[1].Config.Options(), caches[3].Config.Dirs())
	}
	managed := cachespec.Environment{CacheDir: "/c"}
	before := options(managed)
	if remote := options(cachespec.Environment{CacheDir: "/d", Remote: true, Export: cachespec.Export{Mode: "min"}}); remote == before {
		t.Errorf("a remote builder gets %s too", remote)
	}
	if after := options(managed); after != before {
		t.Errorf("after resolving for another builder: %s, before: %s", after, before)
	}
}
