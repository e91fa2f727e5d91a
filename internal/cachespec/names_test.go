package cachespec_test

import (
	"strings"
	"testing"

	"github.com/distribution/reference"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/syntax"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// A repository may have every name that the grammar of references allows (distribution/reference
// v0.6.0, regexp.go): as a cache, as an image beside which auto keeps one, and for the requests of
// go-containerregistry, whose own grammar is narrower.
func TestNames(t *testing.T) {
	t.Parallel()
	long, hash := strings.Repeat("a", 255), strings.Repeat("0a", 32)
	for _, test := range []struct{ ref, repository, requested string }{
		{"localhost:5000/x", "localhost:5000/x", "localhost:5000/x"},
		{"localhost/x", "localhost/x", "localhost/x"},
		{"127.0.0.1:5000/x/y", "127.0.0.1:5000/x/y", "127.0.0.1:5000/x/y"},
		{"127.0.0.2:5000/x", "127.0.0.2:5000/x", "127.0.0.2:5000/x"},
		{"[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"},
		{"[2001:DB8::1]/o/app", "[2001:DB8::1]/o/app", "[2001:DB8::1]/o/app"},
		{"GHCR.io/x", "GHCR.io/x", "GHCR.io/x"},
		{"BUILDHOST:5000/0", "BUILDHOST:5000/0", "BUILDHOST:5000/0"},
		{"ghcr.io/a__b/c---d/e.f_g", "ghcr.io/a__b/c---d/e.f_g", "ghcr.io/a__b/c---d/e.f_g"},
		{"ghcr.io/" + long, "ghcr.io/" + long, "ghcr.io/" + long},
		{"ghcr.io/o/" + hash, "ghcr.io/o/" + hash, "ghcr.io/o/" + hash},
		{"x", "docker.io/library/x", "index.docker.io/library/x"},
		{"x/y", "docker.io/x/y", "index.docker.io/x/y"},
		{"docker.io/x", "docker.io/library/x", "index.docker.io/library/x"},
		{"index.docker.io/x", "docker.io/library/x", "index.docker.io/library/x"},
		{"localhost:5000", "docker.io/library/localhost", "index.docker.io/library/localhost"}, // 5000 is a tag
	} {
		line, problems := testkit.Resolve(cachespec.Environment{}, "type=registry,ref="+test.ref)
		checkName(t, test.ref, test.repository, test.requested, line, problems)
		named, err := reference.ParseNormalizedNamed(test.ref)
		if err != nil {
			t.Fatal(err)
		}
		tagged, err := reference.WithTag(reference.TrimNamed(named), strings.Repeat("T", 128))
		if err != nil {
			t.Fatal(err)
		}
		image := cachespec.Environment{Images: []string{tagged.String()}, CacheDir: "/c"}
		beside, problems := testkit.Resolve(image, "auto")
		checkName(t, "auto beside "+test.ref, test.repository, test.requested, beside, problems)
		inline, problems := testkit.Resolve(image, "inline")
		checkName(t, "inline in "+test.ref, test.repository, test.requested, inline, problems)
		if got, err := syntax.Tag(tagged, false); err != nil || got.Name() != test.requested+":"+tagged.Tag() {
			t.Errorf("%s: the tag is %s, %v", test.ref, got, err)
		}
	}
}

func checkName(t *testing.T, what, repository, requested string, got []cachespec.Cache, problems syntax.Problems) {
	t.Helper()
	if len(got) != 1 || len(problems) > 0 {
		t.Errorf("%s: %d caches, %v", what, len(got), problems)
		return
	}
	pushed := got[0].Config.(cachespec.Pushed)
	if to, _ := pushed.PushedTo(); to != repository {
		t.Errorf("%s: pushed to %s, want %s", what, to, repository)
	}
	var r cachespec.Registry
	switch c := got[0].Config.(type) {
	case *cachespec.Registry:
		r = *c
	case *cachespec.Inline:
		r = c.Registry
	}
	if name := r.Repository.Name(); name != requested {
		t.Errorf("%s: requests go to %s, want %s", what, name, requested)
	}
}

// What the grammar forbids is refused, with what to write where that is known.
func TestNoNames(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ ref, want string }{
		{"ghcr.io/a___b", "is not a repository"},
		{"ghcr.io/a..b", "is not a repository"},
		{"ghcr.io/-a", "is not a repository"},
		{"ghcr.io/a_", "is not a repository"},
		{"ghcr.io//a", "is not a repository"},
		{"ghcr.io/" + strings.Repeat("a", 256), "is not a repository"},
		{strings.Repeat("0a", 32), "is not a repository"},
		{"[fe80::1%25eth0]:5000/x", "is not a repository"},
		{"localhost:port/x", "is not a repository"},
		{"X/y", "repositories are lower-case: ref=x/y"},
		{"localhost:5000/X", "repositories are lower-case: ref=localhost:5000/x"},
		{"localhost:5000/x:" + strings.Repeat("t", 17), "is too long"},
		{"localhost:5000/x:" + strings.Repeat("t", 129), "is not a repository"},
		{"[::::]:5000/x", "is not a repository"},
	} {
		if _, problems := testkit.Resolve(cachespec.Environment{}, "type=registry,ref="+test.ref); !strings.Contains(problems.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.ref, problems, test.want)
		}
	}
}

// The machine's own registries may use plain HTTP, as they may for BuildKit.
func TestPlainHTTP(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"localhost": "http", "localhost:5000": "http", "127.0.0.1:5000": "http", "127.1.2.3": "http", "[::1]": "http", "[::1]:5000": "http",
		"ghcr.io": "https", "localhost.example:5000": "https", "[2001:db8::1]:5000": "https",
	} {
		named, err := reference.ParseNormalizedNamed(host + "/x")
		if err != nil {
			t.Fatal(err)
		}
		if r, err := syntax.Repository(named, false); err != nil || r.Scheme() != want {
			t.Errorf("%s: %s, %v, want %s", host, r.Scheme(), err, want)
		}
		if r, err := syntax.Repository(named, true); err != nil || r.Scheme() != "http" {
			t.Errorf("%s, insecure: %s, %v", host, r.Scheme(), err)
		}
	}
}
