package cachespec_test

import (
	"testing"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

func TestS3Refuses(t *testing.T) {
	t.Parallel()
	const s3 = "type=s3,bucket=b,region=r"
	const pair = ",access_key_id=canary-id,secret_access_key=canary-secret"
	remote := cachespec.Environment{Remote: true}
	refuses(t, "s3", []refusal{
		{line: "s3", want: `bucket is missing
hint: say where: type=s3,bucket=my-cache,region=eu-central-1, or set AWS_BUCKET
region is missing
hint: say which: region=eu-central-1, or set AWS_REGION; most servers other than Amazon's accept any`},
		{line: "type=s3,bucket=,region=", want: `bucket= is not valid
hint: give a value
region= is not valid
hint: give a value`},
		{line: s3 + ",buckt=c", want: `attribute "buckt" is unknown
hint: did you mean "bucket"?`},
		{line: s3 + ",endpoint=http://x", want: `attribute "endpoint" is unknown
hint: did you mean "endpoint_url"?`},
		{line: s3 + ",scope=main", want: `attribute "scope" is unknown
hint: the scope is derived from the branch; put an entry that is used unchanged into cache-from or cache-to`},
		{line: s3 + ",mode=most", want: `mode=most is not valid
hint: give one of min, max`},
		{line: s3 + ",name=a;b", want: `name=a;b is not valid
hint: give one name, such as app`},
		{line: s3 + ",name=../other", want: `name=../other is not valid
hint: give one name, such as app`},
		{line: s3 + ",name=", want: `name= is not valid
hint: give one name, such as app`},
		{line: s3 + ",touch_refresh=abc", want: `touch_refresh=abc is not valid
hint: give a time such as 24h or 90m`},
		{line: s3 + ",touch_refresh=-1h", want: `touch_refresh=-1h is not valid
hint: give a time such as 24h or 90m`},
		{line: s3 + ",upload_parallelism=0", want: `upload_parallelism=0 is not valid
hint: give a whole number from 1`},
		{line: s3 + ",retry_max_attempts=many", want: `retry_max_attempts=many is not valid
hint: give a whole number from 1`},
		{line: s3 + ",retry_mode=legacy", want: `retry_mode=legacy is not valid
hint: give one of standard, adaptive`},
		{line: s3 + ",disable_accept_encoding=no", want: `disable_accept_encoding=no is not valid
hint: give true or false`},
		{line: s3 + ",use_path_style=yes", want: `use_path_style=yes is not valid
hint: give true or false`},
		{line: s3 + ",use_path_style=true", want: `use_path_style=true does nothing without endpoint_url
hint: add endpoint_url, or leave it out`},
		{line: s3 + ",endpoint_url=minio:9000", want: `endpoint_url is not the URL of a server
hint: give scheme and host: endpoint_url=https://s3.example.com`},
		{line: s3 + ",endpoint_url=ftp://me:canary@host", want: `endpoint_url is not the URL of a server
hint: give scheme and host: endpoint_url=https://s3.example.com`},
		{line: s3 + ",endpoint_url=https://me:canary@host", want: `endpoint_url has a user name in it
hint: use access_key_id and secret_access_key`},
		{line: s3 + ",access_key_id=canary", want: `secret_access_key is missing
hint: give access_key_id and secret_access_key, or neither: then the environment, the profile or the machine's role is used`},
		{line: s3 + ",secret_access_key=canary,session_token=canary", want: `access_key_id is missing
hint: give access_key_id and secret_access_key, or neither: then the environment, the profile or the machine's role is used`},
		{line: s3 + ",compression=zstd,oci-mediatypes=false", want: `compression=zstd needs oci-mediatypes=true
hint: use compression=gzip, or oci-mediatypes=true`},

		{line: s3, o: remote},
		{line: s3 + ",compression=zstd,compression-level=19,force-compression=true", o: remote},
		{line: s3 + ",compression-level=19", o: remote, want: `compression-level=19 is out of range for gzip
hint: gzip goes from 0 to 9`},
		{line: s3, o: cachespec.Environment{Remote: true, Export: cachespec.Export{Mode: "min", ForceCompression: "true"}}},
		{line: s3 + ",oci-mediatypes=true", o: remote, want: `oci-mediatypes is not possible on a remote builder: BuildKit's s3 caches have no manifest
hint: leave it out, or use builder=embedded`},
		{line: s3 + pair, o: remote},
		{line: s3 + pair, o: cachespec.Environment{Remote: true}},
		{line: s3, o: cachespec.Environment{Remote: true, Plaintext: true}},
		{line: s3 + pair, o: cachespec.Environment{Remote: true}},
		{line: s3 + pair, o: cachespec.Environment{Remote: true, Plaintext: true}, want: `credentials would go to the builder over plain tcp://
hint: reach the builder through ssh:// or unix://, or over TLS (builder-cacert), or leave them out and give the builder its own credentials`},
	})
}

func TestS3Twice(t *testing.T) {
	t.Parallel()
	_, problems := testkit.Resolve(cachespec.Environment{}, "type=s3,bucket=b,region=r,prefix=app", "type=s3,bucket=b,region=q,prefix=app/,mode=min")
	if len(problems) != 1 || problems[0].What != "s3 b/app is given twice" {
		t.Errorf("problems %v", problems)
	}
}
