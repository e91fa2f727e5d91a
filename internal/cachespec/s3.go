package cachespec

import (
	"net/url"
	"strings"
	"time"
)

// S3 is a cache in a bucket (BuildKit v0.34.2, cache/remotecache/s3/s3.go).
type S3 struct {
	common
	Bucket, Region        string // Resolve fills them from AWS_BUCKET and AWS_REGION
	Prefix                string // as it is written; BuildKit only concatenates
	BlobsPrefix           string // "blobs/" unless it is given
	ManifestsPrefix       string // "manifests/" unless it is given
	Name                  string // precedes a scope's name with a hyphen; "": nothing does
	EndpointURL           string // "": Amazon's
	UsePathStyle          bool
	DisableAcceptEncoding bool
	TouchRefresh          time.Duration // age from which an object that is used is copied onto itself
	UploadParallelism     int           // blobs that are uploaded concurrently
	RetryMode             string        // standard or adaptive; "": the SDK's
	RetryMaxAttempts      int           // 0: the SDK's
	AccessKeyID           string        // "" for all three: the SDK's default chain
	SecretAccessKey       string
	SessionToken          string
}

var s3Kind = kind{
	config: func() config {
		return &S3{BlobsPrefix: "blobs/", ManifestsPrefix: "manifests/", TouchRefresh: 24 * time.Hour, UploadParallelism: 4}
	},
	inputs:    anywhere,
	variables: []string{"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"},
}

// Type implements [Config].
func (*S3) Type() string { return "s3" }

func (c S3) clone() config { return &c }

func (c *S3) attributes() []attribute {
	return append([]attribute{
		place("bucket", &c.Bucket, notEmpty), place("region", &c.Region, notEmpty),
		place("prefix", &c.Prefix, anything), place("blobs_prefix", &c.BlobsPrefix, anything), place("manifests_prefix", &c.ManifestsPrefix, anything),
		place("name", &c.Name, isObjectName),
		place("endpoint_url", &c.EndpointURL, notEmpty), boolean("use_path_style", &c.UsePathStyle), boolean("disable_accept_encoding", &c.DisableAcceptEncoding),
		duration("touch_refresh", &c.TouchRefresh, isAge), count("upload_parallelism", &c.UploadParallelism),
		text("retry_mode", &c.RetryMode, oneOf("standard", "adaptive")), count("retry_max_attempts", &c.RetryMaxAttempts),
		place("access_key_id", &c.AccessKeyID, notEmpty), place("secret_access_key", &c.SecretAccessKey, notEmpty), place("session_token", &c.SessionToken, notEmpty),
	}, c.objectExport(true)...)
}

// String implements [Config].
func (c *S3) String() string {
	return strings.TrimSpace("s3 " + c.Bucket + strings.TrimSuffix("/"+folder(c.Prefix), "/"))
}

// Identity implements [Config].
func (c *S3) Identity() string {
	return strings.Join([]string{"s3", c.EndpointURL, c.Bucket, c.Manifests()}, " ")
}

// Blobs is the prefix of blobs' keys, before the digest. Each prefix ends with a slash, which
// BuildKit, as it only concatenates, leaves to the user.
func (c *S3) Blobs() string { return folder(c.Prefix) + folder(c.BlobsPrefix) }

// Manifests is the prefix of manifests' keys, before the scope's name.
func (c *S3) Manifests() string {
	return c.ManifestFolder() + beforeScope(c.Name)
}

// ManifestFolder is the prefix of all manifests, whatever their name.
func (c *S3) ManifestFolder() string { return folder(c.Prefix) + folder(c.ManifestsPrefix) }

// SharedBlobs says why manifests in another folder may name the blobs; "" where they do not.
func (c *S3) SharedBlobs() string { return c.sharedBlobs() }

// Credentials implements [Config].
func (c *S3) Credentials() bool { return len(c.KeyPair()) > 0 }

// KeyPair holds the credentials in the line, by attribute. The map is fresh, and empty where
// the SDK's default chain is used.
func (c *S3) KeyPair() map[string]string {
	return given(map[string]string{"access_key_id": c.AccessKeyID, "secret_access_key": c.SecretAccessKey, "session_token": c.SessionToken})
}

// Place holds the attributes of native entries, without credentials and name: those of the
// line, with those in full that depend on this machine's environment or on a slash. The map
// is fresh.
func (c *S3) Place() map[string]string {
	attrs := given(c.attrs)
	delete(attrs, "name")
	for name := range c.KeyPair() {
		delete(attrs, name)
	}
	for _, a := range c.export() {
		delete(attrs, a.name)
	}
	for _, name := range []string{"blobs_prefix", "manifests_prefix"} {
		if v, ok := c.attrs[name]; ok {
			attrs[name] = folder(v)
		}
	}
	attrs["bucket"], attrs["region"] = c.Bucket, c.Region
	if c.Prefix != "" {
		attrs["prefix"] = folder(c.Prefix)
	}
	return attrs
}

func (c *S3) resolve(p *problems, env Environment) config {
	c.checkKeyPair(p)
	if c.Bucket == "" {
		c.Bucket = env.variable("AWS_BUCKET") // as BuildKit does
	}
	if c.Region == "" {
		c.Region = env.variable("AWS_REGION")
	}
	c.objects(p, env, true)
	c.checkPlace(p)
	inTheOpen(p, env, c.Credentials())
	return c
}

func (c *S3) checkPlace(p *problems) {
	if c.Bucket == "" && !c.has("bucket") {
		p.add("say where: type=s3,bucket=my-cache,region=eu-central-1, or set AWS_BUCKET", "bucket is missing")
	}
	if c.Region == "" && !c.has("region") {
		p.add("say which: region=eu-central-1, or set AWS_REGION; most servers other than Amazon's accept any", "region is missing")
	}
	// The value is not shown, since a password may stand in it.
	u, err := url.Parse(c.EndpointURL)
	if c.EndpointURL != "" && (err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https")) {
		p.add("give scheme and host: endpoint_url=https://s3.example.com", "endpoint_url is not the URL of a server")
	} else if err == nil && u.User != nil {
		p.add("use access_key_id and secret_access_key", "endpoint_url has a user name in it")
	}
	if c.UsePathStyle && c.EndpointURL == "" {
		p.add("add endpoint_url, or leave it out", "use_path_style=true does nothing without endpoint_url")
	}
}

// checkKeyPair refuses half a pair, which BuildKit silently ignores.
func (c *S3) checkKeyPair(p *problems) {
	pair := c.KeyPair()
	for _, name := range []string{"access_key_id", "secret_access_key"} {
		if len(pair) > 0 && pair[name] == "" {
			p.add("give access_key_id and secret_access_key, or neither: then the environment, the profile or the machine's role is used", "%s is missing", name)
		}
	}
}
