package backends

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// S3 is a cache in a bucket, in the objects that BuildKit keeps there (v0.33.1,
// cache/remotecache/s3/s3.go): <prefix>blobs/<digest>, and <prefix>manifests/<name>
// with an annotated cache config. The scope N has the name N, or <name>-N.
type S3 struct {
	objectCache
	bucket, region             string
	prefix                     string // "" or with a slash at its end
	endpoint                   string // "" for Amazon's
	pathStyle, noAcceptEncoded bool
	touchRefresh               time.Duration // age from which an object that is used is copied onto itself
	slots                      chan struct{} // a slot for each concurrent upload request
	retryMode                  aws.RetryMode // "": the SDK's default
	retries                    int           // attempts for each request; 0: the SDK's default

	client func() (*s3.Client, error) // made on first use
}

// s3Attrs are those of BuildKit's s3 cache, beside the ones of every export.
var s3Attrs = []attr{
	{"bucket", notEmpty}, {"region", notEmpty},
	{"prefix", anything}, {"blobs_prefix", anything}, {"manifests_prefix", anything}, {"name", isObjectName},
	{"endpoint_url", notEmpty}, {"use_path_style", isBool}, {"disable_accept_encoding", isBool},
	{"touch_refresh", isAge}, {"upload_parallelism", isCount},
	{"retry_mode", oneOf("standard", "adaptive")}, {"retry_max_attempts", isCount},
	{"access_key_id", notEmpty}, {"secret_access_key", notEmpty}, {"session_token", notEmpty},
}

func newS3(p *problems, attrs map[string]string, o Options) Backend {
	c := &S3{
		objectCache: objectCache{
			kind: "s3", credentials: keyPair(p, attrs),
			strict: syntax.IsFalse(attrs["ignore-error"]), options: exportOptions(p, attrs, o.Attrs),
		},
		bucket: pick("bucket", attrs), region: pick("region", attrs), prefix: folder(attrs["prefix"]),
		endpoint: attrs["endpoint_url"], pathStyle: syntax.IsTrue(attrs["use_path_style"]),
		noAcceptEncoded: syntax.IsTrue(attrs["disable_accept_encoding"]),
		touchRefresh:    24 * time.Hour, slots: make(chan struct{}, 4*partsAtOnce), retryMode: aws.RetryMode(attrs["retry_mode"]),
	}
	if c.bucket == "" {
		c.bucket = o.Getenv("AWS_BUCKET") // as BuildKit does
	}
	if c.region == "" {
		c.region = o.Getenv("AWS_REGION")
	}
	if v := attrs["name"]; v != "" {
		c.name = v + "-"
	}
	if age, err := time.ParseDuration(attrs["touch_refresh"]); err == nil {
		c.touchRefresh = age
	}
	if n, err := strconv.Atoi(attrs["upload_parallelism"]); err == nil && n > 0 {
		c.slots = make(chan struct{}, n*partsAtOnce)
	}
	c.retries, _ = strconv.Atoi(attrs["retry_max_attempts"]) // 0 when it is not given
	c.checkPlace(p, attrs)
	c.nativeOnly(p, attrs, o)
	c.given = c.entry(attrs)
	c.client = sync.OnceValues(c.newClient)
	c.source, c.destination = c.objects(attrs, false), c.objects(attrs, true)
	return c
}

// objects is the bucket as a store. Prefixes get a final slash; BuildKit, which only
// concatenates, leaves it to the user.
func (c *S3) objects(attrs map[string]string, writes bool) *objects {
	blobs, manifests := "blobs/", "manifests/"
	if v, ok := attrs["blobs_prefix"]; ok {
		blobs = folder(v)
	}
	if v, ok := attrs["manifests_prefix"]; ok {
		manifests = folder(v)
	}
	return &objects{
		service: &bucket{c, writes},
		blobs:   c.prefix + blobs, manifests: c.prefix + manifests + c.name,
	}
}

func (c *S3) checkPlace(p *problems, attrs map[string]string) {
	if _, given := attrs["bucket"]; c.bucket == "" && !given {
		p.add("say where: type=s3,bucket=my-cache,region=eu-central-1, or set AWS_BUCKET", "bucket is missing")
	}
	if _, given := attrs["region"]; c.region == "" && !given {
		p.add("say which: region=eu-central-1, or set AWS_REGION; a server other than Amazon's mostly takes any", "region is missing")
	}
	// The value may contain a password, so it is not shown.
	u, err := url.Parse(c.endpoint)
	if c.endpoint != "" && (err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https")) {
		p.add("give scheme and host: endpoint_url=https://s3.example.com", "endpoint_url is no URL of a server")
	} else if err == nil && u.User != nil {
		p.add("use access_key_id and secret_access_key", "endpoint_url has a user name in it")
	}
	if c.pathStyle && c.endpoint == "" {
		p.add("add endpoint_url, or leave it out", "use_path_style=true does nothing without endpoint_url")
	}
}

// keyPair are the credentials in a line. BuildKit silently ignores half a pair.
func keyPair(p *problems, attrs map[string]string) map[string]string {
	given := map[string]string{}
	for _, name := range []string{"access_key_id", "secret_access_key", "session_token"} {
		if v := attrs[name]; v != "" {
			given[name] = v
		}
	}
	for _, name := range []string{"access_key_id", "secret_access_key"} {
		if len(given) > 0 && given[name] == "" {
			p.add("give access_key_id and secret_access_key, or neither: then the environment, the profile or the machine's role is used", "%s is missing", name)
		}
	}
	return given
}

// entry holds the attributes of native entries: those of the line, the ones taken from this
// machine's environment, and prefixes with their slash.
func (c *S3) entry(attrs map[string]string) map[string]string {
	entry := map[string]string{"bucket": c.bucket, "region": c.region, "prefix": c.prefix}
	for _, a := range s3Attrs {
		if v := attrs[a.name]; v != "" && entry[a.name] == "" && a.name != "name" && c.credentials[a.name] == "" {
			entry[a.name] = v
		}
	}
	for _, name := range []string{"blobs_prefix", "manifests_prefix"} {
		if v, ok := attrs[name]; ok {
			entry[name] = folder(v)
		}
	}
	maps.DeleteFunc(entry, func(name, v string) bool { return name == "prefix" && v == "" })
	return entry
}

func (c *S3) String() string {
	return "s3 " + c.bucket + strings.TrimSuffix("/"+c.prefix, "/")
}

// newClient follows BuildKit's newS3Client (v0.33.1, cache/remotecache/s3/s3.go), so that one
// line means the same in both. Without credentials in the line the SDK's default chain is
// used: environment, profile, web identity, container, instance.
func (c *S3) newClient() (*s3.Client, error) {
	transport := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost = statObjects // keeps a batch's connections for the next one
	})
	cfg, err := config.LoadDefaultConfig(context.Background(),
		config.WithRegion(c.region),
		config.WithHTTPClient(transport),
		config.WithLogger(logging.Nop{}), // failures are returned as errors
		// warmlayer checks digests itself; servers other than Amazon's do not know all checksums.
		config.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
		config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired),
	)
	if err != nil {
		return nil, fmt.Errorf("load the AWS configuration: %w", err)
	}
	if len(c.credentials) == 0 {
		// Retrieved once here: on a machine without credentials the SDK would search again for every object.
		ctx, cancel := context.WithTimeout(context.Background(), credentialsTimeout)
		defer cancel()
		if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
			return nil, fmt.Errorf("no credentials in the line, the environment (AWS_ACCESS_KEY_ID), a profile or the machine's role: %w", err)
		}
	}
	return s3.NewFromConfig(cfg, func(o *s3.Options) {
		if id := c.credentials["access_key_id"]; id != "" {
			o.Credentials = credentials.NewStaticCredentialsProvider(id, c.credentials["secret_access_key"], c.credentials["session_token"])
		}
		if c.endpoint != "" {
			o.BaseEndpoint, o.UsePathStyle = &c.endpoint, c.pathStyle
		}
		if c.retryMode != "" {
			o.RetryMode = c.retryMode
		}
		if c.retries > 0 {
			o.RetryMaxAttempts = c.retries
		}
		if c.noAcceptEncoded {
			o.APIOptions = append(o.APIOptions, unsignedEncoding)
		}
	}), nil
}

// unsignedEncoding leaves Accept-Encoding out of the signature, for servers behind a
// proxy that rewrites it (moby/buildkit#3749).
func unsignedEncoding(stack *middleware.Stack) error {
	_, _ = stack.Finalize.Remove("DisableAcceptEncodingGzip") // absent from some operations
	return nil
}
