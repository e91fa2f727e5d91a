package cachespec_test

import (
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

var pushed = cachespec.Environment{Images: []string{"ghcr.io/o/app:v1", "ghcr.io/o/app:latest"}}

func TestRefuses(t *testing.T) {
	t.Parallel()
	with := func(e cachespec.Export) cachespec.Environment {
		return cachespec.Environment{Images: pushed.Images, Export: e}
	}
	const registry = "type=registry,ref=ghcr.io/o/cache"
	tests := []struct {
		lines []string
		o     cachespec.Environment
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
hint: the scope is derived from the branch; put an entry that is used unchanged into cache-from or cache-to`},
		{lines: []string{registry + ",digest=sha256:00"}, want: `cache: line 1: type=registry: attribute "digest" is unknown
hint: the scope is derived from the branch; put an entry that is used unchanged into cache-from or cache-to`},
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
		{lines: []string{registry + ",compression=gzip"}, o: with(cachespec.Export{CompressionLevel: "19"}), want: `cache: line 1: type=registry: compression-level=19 is out of range for gzip
hint: gzip goes from 0 to 9`},

		{lines: []string{registry + ",image-manifest=true,oci-mediatypes=false"}, want: `cache: line 1: type=registry: image-manifest=true needs oci-mediatypes=true
hint: leave out one of them, or set image-manifest=false`},
		{lines: []string{registry + ",image-manifest=true"}, o: with(cachespec.Export{OCIMediaTypes: "false"}), want: `cache: line 1: type=registry: image-manifest=true needs oci-mediatypes=true
hint: leave out one of them, or set image-manifest=false`},
		{lines: []string{registry + ",compression=zstd,oci-mediatypes=false"}, want: `cache: line 1: type=registry: compression=zstd needs oci-mediatypes=true
hint: use compression=gzip, or oci-mediatypes=true`},
		{lines: []string{registry + ",oci-mediatypes=false"}, o: with(cachespec.Export{Compression: "estargz"}), want: `cache: line 1: type=registry: compression=estargz needs oci-mediatypes=true
hint: use compression=gzip, or oci-mediatypes=true`},

		{lines: []string{"type=inline,mode=max"}, o: pushed, want: `cache: line 1: type=inline: mode=max is not possible: the cache holds the image's own layers only
hint: use a registry cache, or set cache-mode to min`},
		{lines: []string{"inline"}, o: with(cachespec.Export{Mode: "max"}), want: `cache: line 1: type=inline: mode=max is not possible: the cache holds the image's own layers only
hint: use a registry cache, or set cache-mode to min`},
		{lines: []string{"inline"}, want: `cache: line 1: type=inline: needs an image that is pushed
hint: set push: true and tags, or use another cache`},

		{lines: []string{"type=registry,ref=ghcr.io/o/app:v1"}, o: pushed, want: `cache: line 1: type=registry: ref=ghcr.io/o/app:v1 is where the image ghcr.io/o/app:v1 is pushed
hint: give the cache another tag, or none`},
		{lines: []string{"type=inline,ref=ghcr.io/o/app:latest"}, o: pushed, want: `cache: line 1: type=inline: ref=ghcr.io/o/app:latest is where the image ghcr.io/o/app:latest is pushed
hint: give the cache another tag, or none`},
		{lines: []string{"type=registry,ref=library/app:v1"}, o: cachespec.Environment{Images: []string{"docker.io/library/app:v1"}}, want: `cache: line 1: type=registry: ref=library/app:v1 is where the image docker.io/library/app:v1 is pushed
hint: give the cache another tag, or none`},
		{lines: []string{"type=registry,ref=ghcr.io/o/app:v"}, o: cachespec.Environment{Images: []string{"ghcr.io/o/app:v-b-main"}}, want: `cache: line 1: type=registry: ref=ghcr.io/o/app:v is where the image ghcr.io/o/app:v-b-main is pushed
hint: give the cache another tag, or none`},

		{lines: []string{registry, registry}, want: `cache: registry ghcr.io/o/cache is given twice
hint: leave one of the lines out: the second would overwrite what the first wrote`},
		{lines: []string{"type=registry,ref=docker.io/library/app", "type=registry,ref=app,mode=min"}, want: `cache: registry docker.io/library/app is given twice
hint: leave one of the lines out: the second would overwrite what the first wrote`},
		{lines: []string{"type=registry,ref=ghcr.io/o/app:cache", "type=registry,ref=ghcr.io/o/app"}, want: `cache: registry ghcr.io/o/app is given twice
hint: leave one of the lines out: the second would overwrite what the first wrote`},
		{lines: []string{"type=registry,ref=ghcr.io/o/app", "inline"}, o: pushed, want: `cache: inline ghcr.io/o/app is given twice
hint: leave one of the lines out: the second would overwrite what the first wrote`},
		{lines: []string{"type=local,dest=/var/cache/app", "type=local,src=/var/cache/./app/"}, want: `cache: local /var/cache/app is given twice
hint: leave one of the lines out: the second would overwrite what the first wrote`},
		{lines: []string{"type=local,src=/a,dest=/c", "type=local,src=/b,dest=/x/../c"}, want: `cache: local /b → /c is given twice
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
		{lines: []string{"type=local,dest="}, o: cachespec.Environment{CacheDir: "/home/me/.cache/warmlayer/app"}, want: `cache: line 1: type=local: dest= is not valid
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

		{lines: []string{"none", registry}, want: `cache: none cannot be combined with other caches
hint: leave out none, or all other lines`},
		{lines: []string{"none", "none"}, want: `cache: none cannot be combined with other caches
hint: leave out none, or all other lines`},
		{lines: []string{"type=registry,ref=ghcr.io/O/x,mode=foo", "gha", registry + ",mod=1"}, want: `cache: line 1: type=registry: mode=foo is not valid
hint: give one of min, max
cache: line 1: type=registry: ref=ghcr.io/O/x is not a repository
hint: repositories are lower-case: ref=ghcr.io/o/x
cache: line 2: type=gha: there is no token
hint: only jobs on runners of GitHub, Gitea and Forgejo have this cache; elsewhere use type=registry or another
cache: line 3: type=registry: attribute "mod" is unknown
hint: did you mean "mode"?`},
	}
	for _, test := range tests {
		t.Run(strings.Join(test.lines, " "), func(t *testing.T) {
			t.Parallel()
			_, problems := testkit.Resolve(test.o, test.lines...)
			if got := problems.Error(); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

// One location in two spellings is valid when the tags differ.
func TestSamePlaceOtherTag(t *testing.T) {
	t.Parallel()
	_, problems := testkit.Resolve(cachespec.Environment{},
		"type=registry,ref=ghcr.io/o/app", "type=registry,ref=ghcr.io/o/app:web",
		"type=local,dest=/c", "type=local,dest=/c,tag=web",
		"type=s3,bucket=b,region=r", "type=s3,bucket=b,region=r,name=web", "type=s3,bucket=b,region=r,prefix=app",
	)
	if len(problems) != 0 {
		t.Error(problems)
	}
}
