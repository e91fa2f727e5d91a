package cachespec_test

import (
	"testing"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

func TestAzblobRefuses(t *testing.T) {
	t.Parallel()
	const azblob = "type=azblob,account_url=https://acme.blob.core.windows.net"
	const key = ",secret_access_key=Y2FuYXJ5"
	remote := cachespec.Environment{Remote: true}
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
secret_access_key is empty
hint: give a value, or leave it out; a secret that is not set is empty`},
		{line: azblob + ",account=acme", want: `attribute "account" is unknown
hint: did you mean "account_url"?`},
		{line: azblob + ",contaner=c", want: `attribute "contaner" is unknown
hint: did you mean "container"?`},
		{line: azblob + ",scope=main", want: `attribute "scope" is unknown
hint: the scope is derived from the branch; put an entry that is used unchanged into cache-from or cache-to`},
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
		{line: azblob, o: cachespec.Environment{Getenv: func(name string) string { return variables[name] }},
			want: "BUILDKIT_AZURE_STORAGE_CONTAINER=a/../b is not valid\nhint: " + containerHint +
				"\nBUILDKIT_AZURE_STORAGE_PREFIX=.. is not valid\nhint: " + folderHint},
		{line: "type=azblob,account_url=acme.blob.core.windows.net", want: "account_url is not the URL of an account\nhint: " + schemeHint},
		{line: "type=azblob,account_url=ftp://me:canary@host", want: "account_url is not the URL of an account\nhint: " + schemeHint},
		{line: "type=azblob,account_url=https://", want: "account_url is not the URL of an account\nhint: " + schemeHint},
		{line: "type=azblob,account_url=https://me:canary@acme.blob.core.windows.net", want: `account_url has a user name in it
hint: use secret_access_key`},
		{line: azblob + "?sv=2024&sig=canary", want: `account_url has more than an address in it
hint: BuildKit does not support shared access signatures: use secret_access_key, or an identity (AZURE_CLIENT_ID, az login)`},
		{line: azblob + ",secret_access_key=canary!", want: `secret_access_key is not the key of an account
hint: give one of the account's two keys as it is, in Base64`},
		{line: "type=azblob,account_url=http://acme.example", want: `account_url is plain http, over which no identity's token is sent
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
		{line: azblob, o: cachespec.Environment{Remote: true, Plaintext: true}},
		{line: azblob + key, o: cachespec.Environment{Remote: true}},
		{line: azblob + key, o: cachespec.Environment{Remote: true, Plaintext: true}, want: `credentials would go to the builder over plain tcp://
hint: reach the builder through ssh:// or unix://, or over TLS (builder-cacert), or leave them out and give the builder its own credentials`},
	})
}

func TestAzblobTwice(t *testing.T) {
	t.Parallel()
	const azblob = "type=azblob,account_url=https://acme.blob.core.windows.net"
	_, problems := testkit.Resolve(cachespec.Environment{}, azblob+",prefix=team/app", azblob+"/,prefix=team//,manifests_prefix=app/manifests")
	if len(problems) != 1 || problems[0].What != "azblob acme/buildkit-cache/team is given twice" {
		t.Errorf("problems %v", problems)
	}
}
