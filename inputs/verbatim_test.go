package inputs

import "testing"

func TestVerbatimCaches(t *testing.T) {
	t.Parallel()
	pushed := []string{"INPUT_PUSH=true", "INPUT_TAGS=r.example/o/app:v1"}
	for input, want := range map[string]string{
		"INPUT_CACHE-FROM=o/app:cache":                                                "",
		"INPUT_CACHE-FROM=type=registry,ref=r.example/o/app:v1":                       "",
		"INPUT_CACHE-FROM=type=gha,scope=x,mode=max":                                  "",
		"INPUT_CACHE-FROM=type=inline":                                                "cache-from: line 1: type inline is read as the image that holds it\nhint: write type=registry,ref= and the image",
		"INPUT_CACHE-FROM=type=local,dest=c":                                          "cache-from: line 1: src is missing\nhint: add src= and its value",
		"INPUT_CACHE-FROM=type=gha,timeout=-5m":                                       "cache-from: line 1: timeout: \"-5m\" is not more than zero",
		"INPUT_CACHE-TO=type=inline":                                                  "",
		"INPUT_CACHE-TO=type=registry,ref=r.example/o/app:cache":                      "",
		"INPUT_CACHE-TO=type=s3,bucket=b,region=r,mode=max,touch_refresh=24h":         "",
		"INPUT_CACHE-TO=type=azblob,account_url=https://a.example,container=c,name=n": "",
		"INPUT_CACHE-TO=type=registy,ref=o/a":                                         "cache-to: line 1: type \"registy\" is unknown\nhint: did you mean \"registry\"?",
		"INPUT_CACHE-TO=type=registry,ref=o/a,mod=max":                                "cache-to: line 1: attribute \"mod\" is unknown\nhint: did you mean \"mode\"?",
		"INPUT_CACHE-TO=type=registry,ref=o/a,mode=foo":                               "cache-to: line 1: mode: \"foo\" is none of min, max",
		"INPUT_CACHE-TO=type=registry,ref=o/a,ignore-error=yes":                       "cache-to: line 1: ignore-error: \"yes\" is neither true nor false",
		"INPUT_CACHE-TO=type=registry,ref=o/a,compression-level=10":                   "cache-to: line 1: compression-level is more than 9",
		"INPUT_CACHE-TO=type=registry,ref=o/a,oci-mediatypes=0,image-manifest=1":      "cache-to: line 1: image-manifest needs OCI media types\nhint: remove oci-mediatypes",
		"INPUT_CACHE-TO=type=registry":                                                "cache-to: line 1: ref is missing\nhint: add ref= and its value",
		"INPUT_CACHE-TO=r.example/O/a":                                                "cache-to: line 1: ref: \"r.example/O/a\" has upper-case letters in its repository\nhint: write \"r.example/o/a\"",
		"INPUT_CACHE-TO=Hunter2":                                                      "cache-to: line 1: ref is not the name of an image\nhint: write it like ghcr.io/owner/app:cache",
		"INPUT_CACHE-TO=r.example/o/app:v1":                                           "cache-to: line 1: ref \"r.example/o/app:v1\" is where an image is pushed\nhint: give the cache another tag",
		"INPUT_CACHE-TO=type=s3,bucket=b,use_path_style=maybe":                        "cache-to: line 1: use_path_style: \"maybe\" is neither true nor false",
		"INPUT_CACHE-TO=type=s3,compression=zstd":                                     "cache-to: line 1: attribute \"compression\" is unknown",
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
