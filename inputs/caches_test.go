package inputs

import (
	"strings"
	"testing"
	"time"
)

func TestVerbatimCaches(t *testing.T) {
	t.Parallel()
	pushed := []string{"INPUT_PUSH=true", "INPUT_TAGS=r.example/o/app:v1"}
	for input, want := range map[string]string{
		"INPUT_CACHE-FROM=o/app:cache":                                                            "",
		"INPUT_CACHE-FROM=type=registry,ref=r.example/o/app:v1":                                   "",
		"INPUT_CACHE-FROM=type=gha,scope=x,mode=max":                                              "",
		"INPUT_CACHE-FROM=type=inline":                                                            "cache-from: line 1: type inline is read as the image that holds it\nhint: write type=registry,ref= and the image",
		"INPUT_CACHE-FROM=type=local,dest=c":                                                      "cache-from: line 1: type=local: src is missing\nhint: say where: type=local,src=/path/to/cache",
		"INPUT_CACHE-FROM=type=gha,timeout=-5m":                                                   "cache-from: line 1: type=gha: timeout=-5m is not valid\nhint: give a time such as 30s or 10m",
		"INPUT_CACHE-TO=type=inline":                                                              "",
		"INPUT_CACHE-TO=type=registry,ref=r.example/o/app:cache":                                  "",
		"INPUT_CACHE-TO=type=s3,bucket=b,region=r,mode=max,touch_refresh=24h":                     "",
		"INPUT_CACHE-TO=type=azblob,account_url=https://a.example,container=c,name=n":             "",
		"INPUT_CACHE-TO=type=registy,ref=o/a":                                                     "cache-to: line 1: type \"registy\" is unknown\nhint: did you mean \"registry\"?",
		"INPUT_CACHE-TO=type=registry,ref=o/a,mod=max":                                            "cache-to: line 1: type=registry: attribute \"mod\" is unknown\nhint: did you mean \"mode\"?",
		"INPUT_CACHE-TO=type=registry,ref=o/a,mode=foo":                                           "cache-to: line 1: type=registry: mode=foo is not valid\nhint: give one of min, max",
		"INPUT_CACHE-TO=type=registry,ref=o/a,ignore-error=yes":                                   "cache-to: line 1: type=registry: ignore-error=yes is not valid\nhint: give true or false",
		"INPUT_CACHE-TO=type=registry,ref=o/a,compression-level=10":                               "cache-to: line 1: type=registry: compression-level=10 is out of range for gzip\nhint: gzip goes from 0 to 9",
		"INPUT_CACHE-TO=type=registry,ref=o/a,oci-mediatypes=0,image-manifest=1":                  "cache-to: line 1: type=registry: image-manifest=true needs oci-mediatypes=true\nhint: leave out one of them, or set image-manifest=false",
		"INPUT_CACHE-TO=type=registry":                                                            "cache-to: line 1: type=registry: ref is missing\nhint: say which: type=registry,ref=ghcr.io/owner/app:cache",
		"INPUT_CACHE-TO=r.example/O/a":                                                            "cache-to: line 1: type=registry: ref: \"r.example/O/a\" has upper-case letters in its repository\nhint: write \"r.example/o/a\"",
		"INPUT_CACHE-TO=Hunter2":                                                                  "cache-to: line 1: type=registry: ref is not the name of an image\nhint: write it like ghcr.io/owner/app:cache",
		"INPUT_CACHE-TO=r.example/o/app:v1":                                                       "cache-to: line 1: type=registry: ref=r.example/o/app:v1 is where the image r.example/o/app:v1 is pushed\nhint: give the cache another tag",
		"INPUT_CACHE-TO=type=s3,bucket=b,use_path_style=maybe":                                    "cache-to: line 1: type=s3: use_path_style=maybe is not valid\nhint: give true or false",
		"INPUT_CACHE-TO=type=registry,ref=o/a,compression=uncompressed,compression-level=22":      "",
		"INPUT_CACHE-TO=type=s3,bucket=b,region=r,touch_refresh=0":                                "",
		"INPUT_CACHE-TO=type=s3,bucket=b,region=r,upload_parallelism=0":                           "cache-to: line 1: type=s3: upload_parallelism=0 is not valid\nhint: give a whole number from 1",
		"INPUT_CACHE-TO=type=inline,mode=max":                                                     "cache-to: line 1: type=inline: mode=max is not possible: the cache holds the image's own layers only\nhint: use a registry cache, or set cache-mode to min",
		"INPUT_CACHE-TO=type=auto":                                                                "cache-to: line 1: type \"auto\" is unknown\nhint: known are azblob, gha, inline, local, registry, s3",
		"INPUT_CACHE-TO=type=azblob,account_url=https://a.blob.core.windows.net,compression=zstd": "cache-to: line 1: type=azblob: attribute \"compression\" is unknown\nhint: only lines of cache may have it: BuildKit itself does not know it for this type",
	} {
		t.Run(input, func(t *testing.T) {
			t.Parallel()
			_, problems := Parse(nil, append(pushed, input), checkout(t))
			if got := problems.Error(); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestKeep(t *testing.T) {
	t.Parallel()
	v := mustParse(t, nil)
	if want := (Keep{Age: 14 * 24 * time.Hour, Variants: 16, Percent: 100}); v.CacheKeep != want {
		t.Errorf("by default %+v", v.CacheKeep)
	}
	v = mustParse(t, nil, "INPUT_CACHE-KEEP-AGE=24h", "INPUT_CACHE-KEEP-VARIANTS=3", "INPUT_CACHE-KEEP-SIZE=2g", "INPUT_FAIL-BELOW=0.8")
	if want := (Keep{Age: 24 * time.Hour, Variants: 3, Bytes: 2 << 30}); v.CacheKeep != want || v.FailBelow != 0.8 {
		t.Errorf("%+v, fail below %g", v.CacheKeep, v.FailBelow)
	}
	if v = mustParse(t, nil, "INPUT_CACHE-KEEP-SIZE=0"); v.CacheKeep.Bytes != 0 || v.CacheKeep.Percent != 0 {
		t.Errorf("nothing: %+v", v.CacheKeep)
	}
	if v = mustParse(t, nil, "INPUT_CACHE-KEEP-VARIANTS=0"); v.CacheKeep.Variants != 0 {
		t.Errorf("nothing: %+v", v.CacheKeep)
	}
	for text, want := range map[string]string{
		"INPUT_CACHE-KEEP-VARIANTS=-1":  `cache-keep-variants: "-1" is not a whole number of zero or more`,
		"INPUT_CACHE-KEEP-AGE=-1h":      `cache-keep-age: "-1h" is not more than zero`,
		"INPUT_CACHE-KEEP-AGE=0s":       `cache-keep-age: "0s" is not more than zero`,
		"INPUT_CACHE-KEEP-SIZE=-5%":     `cache-keep-size: "-5%" is not a percentage`,
		"INPUT_CACHE-KEEP-SIZE=much":    `cache-keep-size: "much" is not a size`,
		"INPUT_CACHE-KEEP-SIZE=-1":      `cache-keep-size: "-1" is not a size`,
		"INPUT_CACHE-KEEP-SIZE=x%":      `cache-keep-size: "x%" is not a percentage`,
		"INPUT_CACHE-KEEP-SIZE=200000%": `cache-keep-size: "200000%" is not a percentage`,
		"INPUT_FAIL-BELOW=80%":          `fail-below: "80%" is not a ratio`,
		"INPUT_FAIL-BELOW=NaN":          `fail-below: "NaN" is not a ratio`,
		"INPUT_FAIL-BELOW=1.1":          `fail-below: "1.1" is not a ratio`,
	} {
		if _, problems := Parse(nil, []string{text}, checkout(t)); len(problems) != 1 || !strings.Contains(problems.Error(), want) {
			t.Errorf("%s: %v", text, problems)
		}
	}
}
