package backends

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Azblob is a cache in a container of Azure Blob Storage, in the blobs that BuildKit
// keeps there (v0.33.1, cache/remotecache/azblob/utils.go): <prefix>/blobs/<digest>, and
// <prefix>/manifests/<name> with an annotated cache config, each joined as a path. The
// scope N has the name N, or <name>-N.
type Azblob struct {
	objectCache
	account   string
	url       string // of the account: "https://account.blob.core.windows.net"
	container string
	prefix    string // as in the line or the environment

	client func() (*container.Client, error) // made on first use
	exists atomic.Bool                       // the container is known to exist
}

// azblobAttrs are those of BuildKit's azblob cache, beside the ones of every export.
var azblobAttrs = []attr{
	{"account_url", notEmpty}, {"account_name", notEmpty}, {"container", isContainer},
	{"prefix", isBlobFolder}, {"blobs_prefix", isBlobFolder}, {"manifests_prefix", isBlobFolder}, {"name", isBlobName},
	{"secret_access_key", notEmpty},
}

// azblobVariables are those that BuildKit takes attributes from which are not in the line.
var azblobVariables = map[string]string{
	"account_url":  "BUILDKIT_AZURE_STORAGE_ACCOUNT_URL",
	"account_name": "BUILDKIT_AZURE_STORAGE_ACCOUNT_NAME",
	"container":    "BUILDKIT_AZURE_STORAGE_CONTAINER",
	"prefix":       "BUILDKIT_AZURE_STORAGE_PREFIX",
}

// isContainer checks a container's name by Microsoft's rules ("Naming and referencing
// containers, blobs, and metadata"). Names that begin with $ are refused: these containers
// have no folders.
func isContainer(v string) (string, bool) {
	ok := len(v) >= 3 && len(v) <= 63
	for word := range strings.SplitSeq(v, "-") {
		ok = ok && word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
	}
	return "3 to 63 lower-case letters, digits and single hyphens", ok
}

// isBlobFolder checks that a joined path stays below this folder, in BuildKit and in the
// service, which drops dots at the end of a segment and reads \ as / (source as isContainer).
func isBlobFolder(v string) (string, bool) {
	ok := !strings.ContainsFunc(v, func(r rune) bool { return r == '\\' || unicode.IsControl(r) })
	for part := range strings.SplitSeq(v, "/") {
		ok = ok && !strings.HasSuffix(part, ".")
	}
	return `a folder, such as team/app, without \ or segments that end with a dot`, ok
}

func isBlobName(v string) (string, bool) {
	want, ok := isObjectName(v)
	_, stays := isBlobFolder(v)
	return want, ok && stays
}

func newAzblob(p *problems, line map[string]string, o Options) Backend {
	attrs := azblobDefaults(p, line, o.Getenv)
	c := &Azblob{
		objectCache: objectCache{
			kind: "azblob", credentials: map[string]string{},
			strict: syntax.IsFalse(attrs["ignore-error"]), options: exportOptions(p, attrs, o.Attrs),
		},
		account: attrs["account_name"], url: strings.TrimRight(attrs["account_url"], "/"),
		container: attrs["container"], prefix: attrs["prefix"],
	}
	if v := attrs["name"]; v != "" {
		c.name = v + "-"
	}
	if v := attrs["secret_access_key"]; v != "" {
		c.credentials["secret_access_key"] = v
	}
	c.checkPlace(p, line)
	c.nativeOnly(p, attrs, o)
	c.given = map[string]string{
		// Also what is empty, for which a builder's own environment would stand in.
		"account_url": c.url, "account_name": c.account, "container": c.container, "prefix": c.prefix,
	}
	for _, name := range []string{"blobs_prefix", "manifests_prefix"} {
		if v, ok := line[name]; ok {
			c.given[name] = v
		}
	}
	c.client = sync.OnceValues(c.newClient)
	c.source = &objects{
		service:   &blobContainer{c},
		blobs:     folder(path.Join(c.prefix, attrs["blobs_prefix"])),
		manifests: folder(path.Join(c.prefix, attrs["manifests_prefix"])) + c.name,
	}
	c.destination = c.source
	return c
}

// azblobDefaults adds what BuildKit takes from the environment, or for granted.
func azblobDefaults(p *problems, line map[string]string, getenv func(string) string) map[string]string {
	attrs := map[string]string{"container": "buildkit-cache", "blobs_prefix": "blobs", "manifests_prefix": "manifests"}
	for _, a := range azblobAttrs {
		variable := azblobVariables[a.name]
		if v, ok := line[a.name]; ok {
			attrs[a.name] = v
		} else if v := getenv(variable); variable != "" && v != "" {
			attrs[a.name] = v
			if want, ok := a.check(v); !ok {
				p.add("give "+want, "%s=%s is not valid", variable, v)
			}
		}
	}
	for _, a := range exportAttrs {
		if v, ok := line[a.name]; ok {
			attrs[a.name] = v
		}
	}
	return attrs
}

// checkPlace also finds the account's name in its URL where it is not given, as BuildKit does.
func (c *Azblob) checkPlace(p *problems, line map[string]string) {
	secret := c.credentials["secret_access_key"]
	if _, err := base64.StdEncoding.DecodeString(secret); err != nil {
		p.add("give one of the account's two keys as it is, in Base64", "secret_access_key is no key of an account")
	}
	if _, given := line["account_url"]; c.url == "" {
		if !given {
			p.add("say where: type=azblob,account_url=https://account.blob.core.windows.net,container=my-cache, or set BUILDKIT_AZURE_STORAGE_ACCOUNT_URL", "account_url is missing")
		}
		return
	}
	// The value is not shown, since a signature or a password may stand in it.
	u, err := url.Parse(c.url)
	switch {
	case err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https"):
		p.add("give scheme and host: account_url=https://account.blob.core.windows.net", "account_url is no URL of an account")
		return
	case u.User != nil:
		p.add("use secret_access_key", "account_url has a user name in it")
	case strings.ContainsAny(c.url, "?#"):
		p.add("BuildKit takes no shared access signature: use secret_access_key, or an identity (AZURE_CLIENT_ID, az login)", "account_url has more than an address in it")
	case u.Scheme == "http" && secret == "":
		p.add("use https, or secret_access_key, which signs and is not sent", "account_url is plain http, where no identity's token is sent")
	}
	if c.account != "" {
		return
	}
	c.account, _, _ = strings.Cut(u.Hostname(), ".")
	if _, err := netip.ParseAddr(u.Hostname()); secret != "" && (err == nil || c.account == u.Hostname()) {
		p.add("add account_name=", "account_name is missing, and account_url's host does not begin with it")
	}
}

// String contains the account, because containers of two accounts may have the same name.
func (c *Azblob) String() string {
	return "azblob " + path.Join(c.account, c.container, c.prefix)
}

// retryDelay is the first pause of the SDK's three retries. It is so short that the last
// retry usually comes before probe-timeout.
const retryDelay = 200 * time.Millisecond

// newClient follows BuildKit's createContainerClient (v0.33.1,
// cache/remotecache/azblob/utils.go), so that one line means the same in both. Without a key
// in the line the SDK's default chain is used: environment, workload identity, managed
// identity, az and azd.
func (c *Azblob) newClient() (*container.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = statObjects // keeps a batch's connections for the next one
	options := &container.ClientOptions{ClientOptions: policy.ClientOptions{
		Transport: &http.Client{Transport: transport},
		Retry:     policy.RetryOptions{RetryDelay: retryDelay},
	}}
	place := c.url + "/" + c.container
	if secret := c.credentials["secret_access_key"]; secret != "" {
		key, err := container.NewSharedKeyCredential(c.account, secret)
		if err != nil {
			return nil, fmt.Errorf("use secret_access_key: %w", err)
		}
		return container.NewClientWithSharedKeyCredential(place, key, options)
	}
	identity, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return nil, fmt.Errorf("look for an identity: %w", err)
	}
	// Asked for once here: on a machine without an identity the SDK would search again for every blob.
	ctx, cancel := context.WithTimeout(context.Background(), credentialsTimeout)
	defer cancel()
	if _, err := identity.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{storageScope}}); err != nil {
		return nil, fmt.Errorf("no secret_access_key in the line, and no identity in the environment (AZURE_CLIENT_ID, …), of the workload, of the machine or from az login: %s", oneLine(err))
	}
	return container.NewClient(place, identity, options)
}

// storageScope is the scope of tokens for Blob Storage (azblob v1.5.0, internal/shared).
const storageScope = "https://storage.azure.com/.default"

// oneLine joins the lines of the SDK's error, which lists each identity that it tried, and
// drops its rulers of hyphens.
func oneLine(err error) string {
	var lines []string
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); strings.Trim(line, "-") != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}
