// Package refusal explains why a registry or a store refuses a request: what the cause is, and
// which setting cures it. It knows the words of many products and does no I/O.
//
//	err := errors.New("error writing manifest blob: unknown: The image tag 'cache-b-main' … is immutable.")
//	refusal.Explain(err) // the registry takes each tag once (immutable tags); exempt the caches' tags …: error writing …
package refusal

import "fmt"

// Refusal is the cause of a refused request, and its cure. Both are phrases without a period.
type Refusal struct {
	Cause string // "the registry takes each tag once (immutable tags)"
	Cure  string // "exempt the tags of caches from that rule, or …"
}

// Explain puts the cause and the cure in front of an error whose text names a known refusal. It
// returns every other error as it is, and nil for nil.
func Explain(err error) error {
	if err == nil {
		return nil
	}
	if r, known := Of(err.Error()); known {
		return fmt.Errorf("%s; %s: %w", r.Cause, r.Cure, err)
	}
	return err
}

// Of is the refusal that the text of an error names, and whether there is one.
func Of(text string) (Refusal, bool) {
	for _, rule := range rules {
		if rule.In(text) {
			return rule.Refusal, true
		}
	}
	return Refusal{}, false
}

type rule struct {
	*Answer
	Refusal
}

func words(pattern, cause, cure string) rule { return answered(answer(pattern), cause, cure) }

func answered(a *Answer, cause, cure string) rule { return rule{a, Refusal{cause, cure}} }

// rules are the known refusals; the first that matches counts.
var rules = []rule{
	// A proxy with its own authority, and any server with a private one (crypto/x509).
	answered(UnknownAuthority,
		"the certificate is of an authority that is not known", "set ca-certificates to the certificate of this authority"),
	answered(Expired,
		"the certificate has expired, or this machine's clock is wrong", "renew the certificate, or set the clock"),
	answered(PlainHTTP,
		"the server speaks plain HTTP", "add registry.insecure=true to the cache"),

	answered(Immutable,
		"the registry takes each tag once (immutable tags)", "exempt the tags of caches (cache-…) from that rule, or set ref to a repository without it"),
	// BuildKit waits six seconds for a build to begin (v0.34.2, solver/jobs.go, Get), and connects to some
	// stores before.
	words(`no such job`,
		"BuildKit did not begin in time, most likely because it could not reach the cache", "check the cache's address and network"),
	answered(FullDisk,
		"the disk is full", "free space there, or delete caches that are no longer needed"),
	answered(Quota,
		"the storage is full, or its quota is", "delete caches that are no longer needed (cache-…), or raise the quota"),
	// ECR's words for NAME_UNKNOWN; Artifactory's for a missing repository.
	words(`repository with name \S+ does not exist|NAME_UNKNOWN|repository name not known|repository \S+ (not found|does not exist)`,
		"the registry has no such repository, and makes none by itself", "create it (ECR: aws ecr create-repository), or set ref to one that exists"),
	answered(RateLimit,
		"the server limits requests", "log in with registry-auth if the limit is that of anonymous users, or raise the limit"),
	answered(TooLarge,
		"a proxy limits the size of requests", "raise its limit (nginx: client_max_body_size 0)"),
	// Nexus answers so while other uploads run (sonatype/nexus-public#967).
	words(`blob upload (invalid|unknown)|BLOB_UPLOAD_(INVALID|UNKNOWN)`,
		"the registry lost an upload, as Nexus does while several run", "set cache to the image's own repository, where most layers are already, or to another store"),

	// A directory: EACCES, EPERM, EROFS (errno(3)).
	words(`permission denied|operation not permitted|read-only file system`,
		"the file system does not permit it", "give the user of this process the right to read and write there"),
	// S3 and servers like it (Amazon S3 API, "Error responses").
	words(`RequestTimeTooSkewed`,
		"this machine's clock is wrong", "set the clock (NTP)"),
	words(`NoSuchBucket`,
		"there is no such bucket", "create it, or correct bucket, region and endpoint_url"),
	words(`InvalidAccessKeyId`,
		"the server does not know the access key", "correct access_key_id or, without it in the line, AWS_ACCESS_KEY_ID"),
	words(`SignatureDoesNotMatch`,
		"the server does not accept the signature", "correct secret_access_key and region; a proxy must not change headers"),
	words(`remove s3://\S+: (AccessDenied|Forbidden)`,
		"the credentials do not permit to remove a damaged blob", "give them s3:DeleteObject, or remove the blob"),
	words(`s3://\S+: (AccessDenied|Forbidden)`,
		"the credentials do not permit it, or there is none and they may not list the bucket", "give them s3:ListBucket, s3:GetObject and s3:PutObject"),
	// Azure Blob Storage (REST API, "Common error codes").
	words(`: (AuthenticationFailed|NoAuthenticationInformation|InvalidAuthenticationInfo)$`,
		"the server does not accept the key or the identity", "use a key or an identity of this account"),
	words(`: AuthorizationFailure$`,
		"the account does not permit it", "give the key or the identity that right, and admit this machine's network in the account's rules"),
	words(`AuthorizationPermissionMismatch`,
		"the identity lacks a role", "give it Storage Blob Data Contributor to write caches, Storage Blob Data Reader to read them"),
	answered(Denied,
		"the credentials do not permit it", "give them the right to read and write there, or set others (registry-auth for registries)"),
	answered(Unauthorized,
		"the credentials are missing, or not valid there", "set registry-auth or, for other stores, credentials in the cache's line"),
	// What was wrong follows these words; where it is a known cause, that counts.
	words(`failed to authorize`,
		"the credentials are missing, or not valid there", "set registry-auth or, for other stores, credentials in the cache's line"),

	// A cache as an index, which image-manifest=false asks for (goharbor/harbor#14774,
	// moby/buildkit#1143, #2251), or with a config that is not an image's.
	words(`error writing manifest blob: (unknown: .*(manifest|media ?type|index|not found|not supported)|unexpected status from .*\b4(00|04|05|15|22)\b)`,
		"the registry does not take a cache of this form", "leave image-manifest=false out, or use cache: inline or another store"),
}
