package cachespec_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/syntax"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// credential is a value that nothing may show.
const credential = "c4n4ryc4n4ry"

// FuzzParse reads a line with a credential in it, as a line of each input. Nothing that people
// read shows the credential, the line is known by it, and what the line says depends on the
// attributes alone, not on how they are written.
func FuzzParse(f *testing.F) {
	for _, line := range []string{
		"type=s3,bucket=b,region=r,access_key_id=k", "type=azblob,account_url=https://a.example,container=ccc",
		"type=gha,url=https://h,version=1", "type=gha,token=t,repository=o/r,ghtoken=x", "type=registry,ref=ghcr.io/o/app:tag", "type=local,dest=x,mode=max",
		"inline", "none", "ghcr.io/o/app", `"type=s3`, "type=s3,bucket=b,region=r,prefix=a/b/,name=n,touch_refresh=1h,compression=zstd",
		"type=registry,ref=o/app,compression=gzip,compression-level=9,force-compression=true,oci-mediatypes=false",
	} {
		f.Add(line, "secret_access_key", "")
		f.Add(line, "ghtoken", ",mode=max")
	}
	f.Add("type=s3,endpoint_url=https://u:x@h", "session_token", ",access_key_id=")
	f.Fuzz(func(t *testing.T, line, name, rest string) {
		text := strings.TrimSpace(line + "," + name + "=" + credential + rest)
		for _, in := range []cachespec.Input{cachespec.Scoped, cachespec.From, cachespec.To} {
			c, ok, problems := cachespec.Parse(in, syntax.Item{Line: 1, Text: text}, nil)
			checkHidden(t, c, problems)
			if !ok {
				if len(problems) == 0 {
					t.Errorf("%q is no line, and no problem is reported", text)
				}
				continue
			}
			again, _, _ := cachespec.Parse(in, syntax.Item{Line: 1, Text: written(c)}, nil)
			if !reflect.DeepEqual(again.Entry, c.Entry) || len(problems) == 0 && again.String() != c.String() {
				t.Errorf("%q is %+v, and written as %q it is %+v", text, c, written(c), again)
			}
			if in == cachespec.Scoped && len(problems) == 0 {
				checkResolved(t, c)
			}
		}
	})
}

// written is a line that says what a cache says.
func written(c cachespec.Cache) string {
	pairs := []syntax.Pair{{Key: "type", Value: c.Type}}
	for key, value := range c.Attrs {
		pairs = append(pairs, syntax.Pair{Key: key, Value: value})
	}
	return syntax.FormatEntry(pairs)
}

// checkHidden checks that what people read of a line has no value of an attribute with a credential.
func checkHidden(t *testing.T, c cachespec.Cache, problems syntax.Problems) {
	t.Helper()
	for name, value := range c.Attrs {
		if !strings.Contains(value, credential) || !slices.ContainsFunc([]string{"secret", "token", "password", "access_key"}, func(part string) bool { return strings.Contains(name, part) }) {
			continue
		}
		if !slices.Contains(c.Secrets(), value) {
			t.Errorf("%s=%q is not among the secrets %q", name, value, c.Secrets())
		}
		if name == "type" || strings.Count(strings.Join(c.Secrets(), ""), credential) != strings.Count(strings.Join(values(c), ""), credential) {
			return // it also stands elsewhere
		}
		if shown := c.String() + problems.Error(); strings.Contains(shown, credential) {
			t.Errorf("%+v shows its credential: %s", c, shown)
		}
	}
}

func values(c cachespec.Cache) []string {
	all := []string{c.Type}
	for key, value := range c.Attrs {
		all = append(all, key, value)
	}
	return all
}

// checkResolved resolves a line in several runs: the line stays as it is, the answer is the same
// each time, and one with problems gives no cache.
func checkResolved(t *testing.T, c cachespec.Cache) {
	t.Helper()
	before := written(c)
	for _, env := range []cachespec.Environment{
		{CacheDir: "/c"},
		{Getenv: testkit.OnRunner("t"), Images: []string{"ghcr.io/o/app:v1"}, Remote: true},
		{Plaintext: true, Remote: true, Export: cachespec.Export{Mode: "min", Compression: "zstd"}},
	} {
		one, problems := cachespec.Resolve([]cachespec.Cache{c}, env)
		two, again := cachespec.Resolve([]cachespec.Cache{c}, env)
		if !reflect.DeepEqual(problems, again) || len(one) != len(two) || len(one) == 1 && one[0].Config.Identity() != two[0].Config.Identity() {
			t.Errorf("%q resolves to %v, %v and to %v, %v", before, one, problems, two, again)
		}
		if len(one) > 0 && len(problems) > 0 {
			t.Errorf("%q is a cache in spite of %v", before, problems)
		}
		checkHidden(t, c, problems)
		for _, r := range one {
			checkHidden(t, r, nil)
			if strings.Contains(r.Config.String(), "\n") {
				t.Errorf("%q is called %q", before, r.Config)
			}
		}
	}
	if slices.Compare(strings.Split(written(c), ",")[:1], strings.Split(before, ",")[:1]) != 0 || len(written(c)) != len(before) {
		t.Errorf("%q became %q", before, written(c))
	}
}
