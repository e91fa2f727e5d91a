package backends_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/syntax"
	"github.com/warmlayer/warmlayer/scope"
)

var pushed = backends.Options{Images: []string{"ghcr.io/o/app:v1", "ghcr.io/o/app:latest"}}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	with := func(attrs ...string) backends.Options {
		o := backends.Options{Images: pushed.Images, Attrs: map[string]string{}}
		for _, a := range attrs {
			k, v, _ := strings.Cut(a, "=")
			o.Attrs[k] = v
		}
		return o
	}
	const registry = "type=registry,ref=ghcr.io/o/cache"
	tests := []struct {
		lines []string
		o     backends.Options
		want  string
	}{
		{lines: []string{"type=registri,ref=ghcr.io/o/app"}, want: `cache: line 1: type "registri" is unknown
hint: did you mean "registry"?`},
		{lines: []string{"type=Registry,ref=ghcr.io/o/app"}, want: `cache: line 1: type "Registry" is unknown
hint: did you mean "registry"?`},
		{lines: []string{"regstry"}, want: `cache: line 1: type "regstry" is unknown
hint: did you mean "registry"?`},
		{lines: []string{"locale"}, want: `cache: line 1: type "locale" is unknown
hint: did you mean "local"?`},
		{lines: []string{"inlined"}, want: `cache: line 1: type "inlined" is unknown
hint: did you mean "inline"?`},
		{lines: []string{"nonne"}, want: `cache: line 1: type "nonne" is unknown
hint: did you mean "none"?`},
		{lines: []string{"tape"}, want: `cache: line 1: type "tape" is unknown
hint: known are auto, azblob, gha, inline, local, none, registry, s3`},

		{lines: []string{registry + ",mod=max"}, want: `cache: line 1: type=registry: attribute "mod" is unknown
hint: did you mean "mode"?`},
		{lines: []string{registry + ",compresion=gzip,imagemanifest=true"}, want: `cache: line 1: type=registry: attribute "compresion" is unknown
hint: did you mean "compression"?
cache: line 1: type=registry: attribute "imagemanifest" is unknown
hint: did you mean "image-manifest"?`},
		{lines: []string{registry + ",insecure=true"}, want: `cache: line 1: type=registry: attribute "insecure" is unknown
hint: known are ref, registry.insecure, mode, compression, compression-level, force-compression, oci-mediatypes, image-manifest, ignore-error`},
		{lines: []string{registry + ",wibble=1"}, want: `cache: line 1: type=registry: attribute "wibble" is unknown
hint: known are ref, registry.insecure, mode, compression, compression-level, force-compression, oci-mediatypes, image-manifest, ignore-error`},
		{lines: []string{"type=local,destination=/c"}, want: `cache: line 1: type=local: attribute "destination" is unknown
hint: known are src, dest, tag, reset, mode, compression, compression-level, force-compression, oci-mediatypes, image-manifest, ignore-error
cache: line 1: type=local: dest is missing, and there is no HOME to find a default in
hint: say where: type=local,dest=/path/to/cache`},
		{lines: []string{"type=local,dest=/c,scope=main"}, want: `cache: line 1: type=local: attribute "scope" is unknown
hint: the scope is derived from the branch; an entry that is to be used as it stands goes into cache-from or cache-to`},
		{lines: []string{registry + ",digest=sha256:00"}, want: `cache: line 1: type=registry: attribute "digest" is unknown
hint: the scope is derived from the branch; an entry that is to be used as it stands goes into cache-from or cache-to`},
		{lines: []string{"type=inline,compression=zstd"}, o: pushed, want: `cache: line 1: type=inline: attribute "compression" is unknown
hint: inline caches are written as the image is: set it in outputs`},
		{lines: []string{"type=auto,mode=min"}, o: pushed, want: `cache: line 1: type=auto: attribute "mode" is unknown
hint: name the type to set it: type=registry,ref=…`},
		{lines: []string{"type=none,mode=min"}, want: `cache: line 1: type=none: attribute "mode" is unknown
hint: name the type to set it: type=registry,ref=…`},

		{lines: []string{registry + ",mode=foo"}, want: `cache: line 1: type=registry: mode=foo is not valid
hint: give one of min, max`},
		{lines: []string{registry + ",ignore-error=yes"}, want: `cache: line 1: type=registry: ignore-error=yes is not valid
hint: give true or false`},
		{lines: []string{registry + ",registry.insecure=on"}, want: `cache: line 1: type=registry: registry.insecure=on is not valid
hint: give true or false`},
		{lines: []string{"type=local,dest=/c,reset=perhaps"}, want: `cache: line 1: type=local: reset=perhaps is not valid
hint: give true or false`},
		{lines: []string{registry + ",compression=lz4"}, want: `cache: line 1: type=registry: compression=lz4 is not valid
hint: give one of gzip, estargz, zstd, uncompressed`},
		{lines: []string{registry + ",compression=lz4,compression-level=5"}, want: `cache: line 1: type=registry: compression=lz4 is not valid
hint: give one of gzip, estargz, zstd, uncompressed`},

		{lines: []string{registry + ",compression=gzip,compression-level=10"}, want: `cache: line 1: type=registry: compression-level=10 is out of range for gzip
hint: gzip goes from 0 to 9`},
		{lines: []string{registry + ",compression=estargz,compression-level=10"}, want: `cache: line 1: type=registry: compression-level=10 is out of range for estargz
hint: estargz goes from 0 to 9`},
		{lines: []string{registry + ",compression=zstd,compression-level=23"}, want: `cache: line 1: type=registry: compression-level=23 is not valid
hint: give a whole number from 0 to 22`},
		{lines: []string{registry + ",compression=uncompressed,compression-level=-1"}, want: `cache: line 1: type=registry: compression-level=-1 is not valid
hint: give a whole number from 0 to 22`},
		{lines: []string{registry + ",compression-level=fast"}, want: `cache: line 1: type=registry: compression-level=fast is not valid
hint: give a whole number from 0 to 22`},
		{lines: []string{registry + ",compression=gzip"}, o: with("compression-level=19"), want: `cache: line 1: type=registry: compression-level=19 is out of range for gzip
hint: gzip goes from 0 to 9`},

		{lines: []string{registry + ",image-manifest=true,oci-mediatypes=false"}, want: `cache: line 1: type=registry: image-manifest=true needs oci-mediatypes=true
hint: leave out one of them, or set image-manifest=false`},
		{lines: []string{registry + ",image-manifest=true"}, o: with("oci-mediatypes=false"), want: `cache: line 1: type=registry: image-manifest=true needs oci-mediatypes=true
hint: leave out one of them, or set image-manifest=false`},
		{lines: []string{registry + ",compression=zstd,oci-mediatypes=false"}, want: `cache: line 1: type=registry: compression=zstd needs oci-mediatypes=true
hint: use compression=gzip, or oci-mediatypes=true`},
		{lines: []string{registry + ",oci-mediatypes=false"}, o: with("compression=estargz"), want: `cache: line 1: type=registry: compression=estargz needs oci-mediatypes=true
hint: use compression=gzip, or oci-mediatypes=true`},

		{lines: []string{"type=inline,mode=max"}, o: pushed, want: `cache: line 1: type=inline: mode=max is not possible: the cache holds the image's own layers only
hint: use a registry cache, or set cache-mode to min`},
		{lines: []string{"inline"}, o: with("mode=max"), want: `cache: line 1: type=inline: mode=max is not possible: the cache holds the image's own layers only
hint: use a registry cache, or set cache-mode to min`},
		{lines: []string{"inline"}, want: `cache: line 1: type=inline: needs an image that is pushed
hint: set push: true and tags, or use another cache`},

		{lines: []string{"type=registry,ref=ghcr.io/o/app:v1"}, o: pushed, want: `cache: line 1: type=registry: ref=ghcr.io/o/app:v1 is where the image ghcr.io/o/app:v1 is pushed
hint: give the cache another tag, or none`},
		{lines: []string{"type=inline,ref=ghcr.io/o/app:latest"}, o: pushed, want: `cache: line 1: type=inline: ref=ghcr.io/o/app:latest is where the image ghcr.io/o/app:latest is pushed
hint: give the cache another tag, or none`},
		{lines: []string{"type=registry,ref=library/app:v1"}, o: backends.Options{Images: []string{"docker.io/library/app:v1"}}, want: `cache: line 1: type=registry: ref=library/app:v1 is where the image docker.io/library/app:v1 is pushed
hint: give the cache another tag, or none`},
		{lines: []string{"type=registry,ref=ghcr.io/o/app:v"}, o: backends.Options{Images: []string{"ghcr.io/o/app:v-b-main"}}, want: `cache: line 1: type=registry: ref=ghcr.io/o/app:v is where the image ghcr.io/o/app:v-b-main is pushed
hint: give the cache another tag, or none`},

		{lines: []string{registry, registry}, want: `cache: registry ghcr.io/o/cache is there twice
hint: leave one of the lines out: the second would overwrite what the first wrote`},
		{lines: []string{"type=registry,ref=docker.io/library/app", "type=registry,ref=app,mode=min"}, want: `cache: registry docker.io/library/app is there twice
hint: leave one of the lines out: the second would overwrite what the first wrote`},
		{lines: []string{"type=registry,ref=ghcr.io/o/app:cache", "type=registry,ref=ghcr.io/o/app"}, want: `cache: registry ghcr.io/o/app is there twice
hint: leave one of the lines out: the second would overwrite what the first wrote`},
		{lines: []string{"type=registry,ref=ghcr.io/o/app", "inline"}, o: pushed, want: `cache: inline ghcr.io/o/app is there twice
hint: leave one of the lines out: the second would overwrite what the first wrote`},
		{lines: []string{"type=local,dest=/var/cache/app", "type=local,src=/var/cache/./app/"}, want: `cache: local /var/cache/app is there twice
hint: leave one of the lines out: the second would overwrite what the first wrote`},
		{lines: []string{"type=local,src=/a,dest=/c", "type=local,src=/b,dest=/x/../c"}, want: `cache: local /b → /c is there twice
hint: leave one of the lines out: the second would overwrite what the first wrote`},

		{lines: []string{"type=registry,ref=ghcr.io/O/App"}, want: `cache: line 1: type=registry: ref=ghcr.io/O/App is not a repository
hint: repositories are lower-case: ref=ghcr.io/o/app`},
		{lines: []string{"type=registry,ref=Owner/app"}, want: `cache: line 1: type=registry: ref=Owner/app is not a repository
hint: repositories are lower-case: ref=owner/app`},
		{lines: []string{"type=registry,ref=ghcr.io/o/app@sha256:" + strings.Repeat("0", 64)}, want: `cache: line 1: type=registry: ref has a digest
hint: leave the digest out: a cache is written under a tag for each branch`},
		{lines: []string{"type=registry,ref=https://ghcr.io/o/app"}, want: `cache: line 1: type=registry: ref is a URL
hint: leave out the scheme: ref=ghcr.io/owner/app`},
		{lines: []string{"type=registry,ref=https://me:canary@ghcr.io/o/app"}, want: `cache: line 1: type=registry: ref is a URL
hint: leave out the scheme: ref=ghcr.io/owner/app`},
		{lines: []string{"type=registry,ref=ghcr.io/o//app"}, want: `cache: line 1: type=registry: ref=ghcr.io/o//app is not a repository
hint: write it as host/repository, like ghcr.io/owner/app`},
		{lines: []string{"type=registry,ref=ghcr.io/o/-app"}, want: `cache: line 1: type=registry: ref=ghcr.io/o/-app is not a repository
hint: write it as host/repository, like ghcr.io/owner/app`},
		{lines: []string{"type=registry,ref=a b"}, want: `cache: line 1: type=registry: ref=a b is not a repository
hint: write it as host/repository, like ghcr.io/owner/app`},
		{lines: []string{"type=registry,ref=ghcr.io/o/app:"}, want: `cache: line 1: type=registry: ref=ghcr.io/o/app: is not a repository
hint: write it as host/repository, like ghcr.io/owner/app`},
		{lines: []string{"type=registry,ref=ghcr.io/o/app:cache-of-my-build"}, want: `cache: line 1: type=registry: tag "cache-of-my-build" is too long
hint: give one of at most 16 characters: the branch's name follows it`},
		{lines: []string{"type=local,dest=/c,tag=cache-of-my-build"}, want: `cache: line 1: type=local: tag "cache-of-my-build" is too long
hint: give one of at most 16 characters: the branch's name follows it`},

		{lines: []string{"registry"}, want: `cache: line 1: type=registry: ref is missing
hint: say where: type=registry,ref=ghcr.io/owner/app`},
		{lines: []string{"type=registry,ref="}, want: `cache: line 1: type=registry: ref= is not valid
hint: give a value`},
		{lines: []string{"type=local,dest="}, o: backends.Options{CacheDir: "/home/me/.cache/warmlayer/app"}, want: `cache: line 1: type=local: dest= is not valid
hint: give a value`},
		{lines: []string{"type=local,src=,dest=/c"}, want: `cache: line 1: type=local: src= is not valid
hint: give a value`},
		{lines: []string{"type=local,dest=/c,tag="}, want: `cache: line 1: type=local: tag= is not valid
hint: give a value`},
		{lines: []string{"type=inline,ref="}, o: pushed, want: `cache: line 1: type=inline: ref= is not valid
hint: give a value`},
		{lines: []string{"local"}, want: `cache: line 1: type=local: dest is missing, and there is no HOME to find a default in
hint: say where: type=local,dest=/path/to/cache`},
		{lines: []string{"auto"}, want: `cache: line 1: type=auto: dest is missing, and there is no HOME to find a default in
hint: say where: type=local,dest=/path/to/cache`},

		{lines: []string{"none", registry}, want: `cache: none stands beside other caches
hint: leave out none, or all others`},
		{lines: []string{"none", "none"}, want: `cache: none stands beside other caches
hint: leave out none, or all others`},
		{lines: []string{"type=registry,ref=ghcr.io/O/x,mode=foo", "gha", registry + ",mod=1"}, want: `cache: line 1: type=registry: mode=foo is not valid
hint: give one of min, max
cache: line 1: type=registry: ref=ghcr.io/O/x is not a repository
hint: repositories are lower-case: ref=ghcr.io/o/x
cache: line 2: type=gha: there is no token
hint: this cache is there for jobs on runners of GitHub, Gitea and Forgejo; elsewhere use type=registry or another
cache: line 3: type=registry: attribute "mod" is unknown
hint: did you mean "mode"?`},
	}
	for _, test := range tests {
		t.Run(strings.Join(test.lines, " "), func(t *testing.T) {
			t.Parallel()
			_, problems := backends.New(lines(test.lines...), test.o)
			if got := syntax.Problems(problems).Error(); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

// TestEntries holds the entries that lines give to testdata/entries.golden.
func TestEntries(t *testing.T) {
	t.Parallel()
	plans := []struct {
		what string
		plan scope.Plan
	}{
		{"push to feature/a", scope.Plan{Write: "b-feature-a-1d2e7cf1b6", Read: []scope.Source{{Name: "b-feature-a-1d2e7cf1b6"}, {Name: "b-main"}}}},
		{"a fork's pull request", scope.Plan{Read: []scope.Source{{Name: "b-main"}}}},
	}
	options := backends.Options{Images: pushed.Images, CacheDir: "/home/me/.cache/warmlayer/app"}
	var got bytes.Buffer
	for _, line := range []string{
		"auto",
		"type=registry,ref=app",
		"type=registry,ref=localhost:5000/o/app:buildcache",
		"type=registry,ref=ghcr.io/o/cache,mode=min,compression=gzip,compression-level=9,force-compression=true,ignore-error=true",
		"type=registry,ref=ghcr.io/o/cache,registry.insecure=1",
		"type=registry,ref=ghcr.io/o/cache,oci-mediatypes=false",
		"type=registry,ref=ghcr.io/o/cache,image-manifest=false",
		"inline",
		"type=inline,ref=registry.example/o/cache:inline,mode=min",
		"local",
		"type=local,dest=/var/cache/app",
		"type=local,src=/var/cache/old,dest=/var/cache/new,tag=web,reset=true",
		"type=s3,bucket=b,region=r",
		"type=s3,bucket=b,region=r,prefix=team/app,blobs_prefix=,manifests_prefix=m,name=web,mode=min,compression=gzip",
		"type=s3,bucket=b,region=r,endpoint_url=http://127.0.0.1:9000,use_path_style=true,touch_refresh=2h,upload_parallelism=8," +
			"retry_mode=adaptive,retry_max_attempts=5,disable_accept_encoding=1,access_key_id=k,secret_access_key=s,session_token=t",
		"none",
	} {
		fmt.Fprintf(&got, "%s\n", line)
		caches, problems := backends.New(lines(line), options)
		if len(problems) > 0 {
			t.Errorf("%s: %v", line, syntax.Problems(problems))
		}
		for _, c := range caches {
			fmt.Fprintf(&got, "  %s\n", c)
			for _, p := range plans {
				fmt.Fprintf(&got, "    %s\n", p.what)
				for _, e := range c.Imports(p.plan) {
					fmt.Fprintf(&got, "      import %s%s\n", e.Type, attrsText(e.Attrs))
				}
				for _, e := range c.Exports(p.plan) {
					fmt.Fprintf(&got, "      export %s%s\n", e.Type, attrsText(e.Attrs))
				}
			}
		}
	}
	golden(t, "entries.golden", got.Bytes())
}

func TestAutoWithoutImage(t *testing.T) {
	t.Parallel()
	if c := backend(t, backends.Options{CacheDir: "/c"}, "auto"); c.String() != "local /c" {
		t.Errorf("auto is %s", c)
	}
}

func TestLineBeatsInput(t *testing.T) {
	t.Parallel()
	o := backends.Options{Attrs: map[string]string{"mode": "min", "compression": "gzip", "compression-level": "3", "force-compression": "true"}}
	c := backend(t, o, "type=local,dest=/c,compression=estargz,mode=max")
	const want = " compression=estargz compression-level=3 force-compression=true image-manifest=true mode=max oci-mediatypes=true"
	if got := attrsText(c.(backends.Gated).Options()); got != want {
		t.Errorf("options%s\nwant   %s", got, want)
	}
}

func TestFreshAttributes(t *testing.T) {
	t.Parallel()
	plan := scope.Plan{Write: "b-main", Read: []scope.Source{{Name: "b-main"}}}
	for _, line := range []string{"type=registry,ref=ghcr.io/o/cache", "inline", "type=local,dest=/c", "type=s3,bucket=b,region=r", "type=gha,token=t,url=https://cache.example"} {
		c := backend(t, pushed, line)
		for range 2 {
			for _, e := range append(c.Imports(plan), c.Exports(plan)...) {
				if e.Attrs["canary"] != "" {
					t.Errorf("%s: an entry shares its attributes with another", line)
				}
				e.Attrs["canary"] = "tweet"
			}
		}
		if gated, ok := c.(backends.Gated); ok {
			gated.Options()["mode"] = "canary"
			if gated.Options()["mode"] != "max" {
				t.Errorf("%s: options are shared", line)
			}
		}
	}
}

func TestStrict(t *testing.T) {
	t.Parallel()
	for attr, want := range map[string]bool{"": false, ",ignore-error=true": false, ",ignore-error=false": true, ",ignore-error=0": true} {
		for _, line := range []string{"type=registry,ref=ghcr.io/o/cache", "type=inline,ref=ghcr.io/o/app", "type=local,dest=/c", "type=s3,bucket=b,region=r", "type=gha,token=t,url=https://cache.example"} {
			if got := backend(t, pushed, line+attr).Strict(); got != want {
				t.Errorf("%s%s: strict is %t", line, attr, got)
			}
		}
	}
}

// One place, written twice in different words, is no problem when the tags differ.
func TestSamePlaceOtherTag(t *testing.T) {
	t.Parallel()
	_, problems := backends.New(lines(
		"type=registry,ref=ghcr.io/o/app", "type=registry,ref=ghcr.io/o/app:web",
		"type=local,dest=/c", "type=local,dest=/c,tag=web",
		"type=s3,bucket=b,region=r", "type=s3,bucket=b,region=r,name=web", "type=s3,bucket=b,region=r,prefix=app",
	), backends.Options{})
	if len(problems) != 0 {
		t.Error(syntax.Problems(problems))
	}
}

func TestLocalDirs(t *testing.T) {
	t.Parallel()
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	c := backend(t, backends.Options{}, "type=local,src=./a,dest=b/../c").(*backends.Local)
	if got := fmt.Sprint(c.Dirs()); got != fmt.Sprintf("[%s/a %s/c]", here, here) || c.InPlace() {
		t.Errorf("directories %s, in place: %t", got, c.InPlace())
	}
}

func TestVerbatim(t *testing.T) {
	t.Parallel()
	imports, exports, inline := backends.Verbatim(
		lines("type=registry,ref=ghcr.io/o/app:main", "type=gha,scope=x,token=canary"),
		lines("type=s3,bucket=b,secret_access_key=canary,ignore-error=false", "inline", "type=local,dest=/c,ignore-error=true"),
		backends.Options{},
	)
	if !inline {
		t.Error("the inline cache is not seen")
	}
	var got bytes.Buffer
	for _, e := range imports {
		fmt.Fprintf(&got, "%s: %s%s\n", backends.Label(e), e.Type, attrsText(e.Attrs))
	}
	for _, e := range exports {
		fmt.Fprintf(&got, "%s %t: %s%s\n", backends.Label(e.Entry), e.Strict, e.Entry.Type, attrsText(e.Entry.Attrs))
	}
	const want = `registry ghcr.io/o/app:main: registry ref=ghcr.io/o/app:main
gha x: gha scope=x token=canary
s3 b true: s3 bucket=b secret_access_key=canary
local /c false: local dest=/c
`
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
}
