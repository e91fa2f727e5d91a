package backends_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/syntax"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

var pushed = cachespec.Environment{Images: []string{"ghcr.io/o/app:v1", "ghcr.io/o/app:latest"}}

// TestEntries compares the entries of lines with testdata/entries.golden.
func TestEntries(t *testing.T) {
	t.Parallel()
	plans := []struct {
		what string
		plan scope.Plan
	}{
		{"push to feature/a", scope.Plan{Write: "b-feature-a-951d42dc02dc7431", Read: []scope.Source{{Name: "b-feature-a-951d42dc02dc7431"}, {Name: "b-main"}}}},
		{"a fork's pull request", scope.Plan{Read: []scope.Source{{Name: "b-main"}}}},
	}
	options := cachespec.Environment{Images: pushed.Images, CacheDir: "/home/me/.cache/warmlayer/app"}
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
		caches, problems := testkit.Resolve(options, line)
		if len(problems) > 0 {
			t.Errorf("%s: %v", line, syntax.Problems(problems))
		}
		for _, c := range backends.Open(caches, nil) {
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
	if c := backend(t, cachespec.Environment{CacheDir: "/c"}, "auto"); c.String() != "local /c" {
		t.Errorf("auto is %s", c)
	}
}

func TestLineBeatsInput(t *testing.T) {
	t.Parallel()
	o := cachespec.Environment{Export: cachespec.Export{Mode: "min", Compression: "gzip", CompressionLevel: "3", ForceCompression: "true"}}
	c := backend(t, o, "type=local,dest=/c,compression=estargz,mode=max")
	const want = " compression=estargz compression-level=3 force-compression=true image-manifest=true mode=max oci-mediatypes=true"
	if got := attrsText(c.(backends.GatewayWritten).Options()); got != want {
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
		if through, ok := c.(backends.GatewayWritten); ok {
			through.Options()["mode"] = "canary"
			if through.Options()["mode"] != "max" {
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

func TestLocalDirs(t *testing.T) {
	t.Parallel()
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	c := backend(t, cachespec.Environment{}, "type=local,src=./a,dest=b/../c").(*backends.Local)
	if got := fmt.Sprint(c.Dirs()); got != fmt.Sprintf("[%s/a %s/c]", here, here) || c.InPlace() {
		t.Errorf("directories %s, in place: %t", got, c.InPlace())
	}
}
