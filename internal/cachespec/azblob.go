package cachespec

import (
	"encoding/base64"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"time"
	"unicode"
)

// Azblob is a cache in a container of Azure Blob Storage (BuildKit v0.34.2,
// cache/remotecache/azblob/utils.go). The fields of a line of cache are those of the line,
// else of BUILDKIT_AZURE_STORAGE_*, else BuildKit's defaults.
type Azblob struct {
	common
	AccountURL      string // "https://account.blob.core.windows.net"
	AccountName     string // else the first part of the URL's host
	Container       string
	Prefix          string        // as it is written; BuildKit joins it as a path
	BlobsPrefix     string        // "blobs" unless it is given
	ManifestsPrefix string        // "manifests" unless it is given
	Name            string        // precedes a scope's name with a hyphen; "": nothing does
	SecretAccessKey string        // a key of the account, in Base64; "": an identity
	TouchRefresh    time.Duration // age from which a blob that is used is touched; BuildKit itself has no such attribute
}

var azblobKind = kind{
	config: func() config {
		return &Azblob{BlobsPrefix: "blobs", ManifestsPrefix: "manifests", TouchRefresh: 24 * time.Hour}
	},
	inputs:    anywhere,
	variables: []string{"AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PASSWORD", "AZURE_PASSWORD", "IDENTITY_HEADER", "MSI_SECRET"},
}

// azblobVariables are the variables that BuildKit reads for attributes that the line lacks.
var azblobVariables = map[string]string{
	"account_url":  "BUILDKIT_AZURE_STORAGE_ACCOUNT_URL",
	"account_name": "BUILDKIT_AZURE_STORAGE_ACCOUNT_NAME",
	"container":    "BUILDKIT_AZURE_STORAGE_CONTAINER",
	"prefix":       "BUILDKIT_AZURE_STORAGE_PREFIX",
}

// Type implements [Config].
func (*Azblob) Type() string { return "azblob" }

func (c Azblob) clone() config { return &c }

func (c *Azblob) attributes() []attribute {
	return append([]attribute{
		place("account_url", &c.AccountURL, notEmpty), place("account_name", &c.AccountName, notEmpty), place("container", &c.Container, isContainer),
		place("prefix", &c.Prefix, isBlobFolder), place("blobs_prefix", &c.BlobsPrefix, isBlobFolder), place("manifests_prefix", &c.ManifestsPrefix, isBlobFolder),
		place("name", &c.Name, isBlobName), place("secret_access_key", &c.SecretAccessKey, notEmpty),
		duration("touch_refresh", &c.TouchRefresh, isAge).only(Scoped),
	}, c.objectExport(false)...)
}

// String implements [Config]. It contains the account, because containers of two accounts may
// have the same name.
func (c *Azblob) String() string {
	return strings.TrimSpace("azblob " + path.Join(c.AccountName, c.Container, c.Prefix))
}

// Identity implements [Config].
func (c *Azblob) Identity() string {
	return strings.Join([]string{"azblob", c.AccountURL, c.Container, c.Manifests()}, " ")
}

// Blobs is the prefix of blobs' names, before the digest; it ends with a slash.
func (c *Azblob) Blobs() string { return folder(path.Join(c.Prefix, c.BlobsPrefix)) }

// Manifests is the prefix of manifests' names, before the scope's name.
func (c *Azblob) Manifests() string {
	return c.ManifestFolder() + beforeScope(c.Name)
}

// ManifestFolder is the prefix of all manifests, whatever their name.
func (c *Azblob) ManifestFolder() string { return folder(path.Join(c.Prefix, c.ManifestsPrefix)) }

// SharedBlobs says why manifests in another folder may name the blobs; "" where they do not.
func (c *Azblob) SharedBlobs() string { return c.sharedBlobs() }

// Credentials implements [Config].
func (c *Azblob) Credentials() bool { return c.SecretAccessKey != "" }

// Place holds the attributes of native entries, without credentials and name. It has empty
// ones too: a builder's own environment would replace them. The map is fresh.
func (c *Azblob) Place() map[string]string {
	attrs := map[string]string{"account_url": c.AccountURL, "account_name": c.AccountName, "container": c.Container, "prefix": c.Prefix}
	for _, name := range []string{"blobs_prefix", "manifests_prefix"} {
		if v, ok := c.attrs[name]; ok {
			attrs[name] = v
		}
	}
	return attrs
}

func (c *Azblob) resolve(p *problems, env Environment) config {
	c.fromEnvironment(p, env)
	c.AccountURL = strings.TrimRight(c.AccountURL, "/")
	c.objects(p, env, false)
	c.checkPlace(p)
	inTheOpen(p, env, c.Credentials())
	return c
}

// fromEnvironment adds what BuildKit takes from the environment, and its default container.
func (c *Azblob) fromEnvironment(p *problems, env Environment) {
	for _, a := range c.attributes() {
		variable := azblobVariables[a.name]
		if variable == "" || c.has(a.name) {
			continue
		}
		v := env.variable(variable)
		if v == "" {
			continue
		}
		a.set(v)
		if want, ok := a.check(v); !ok {
			p.add("give "+want, "%s is not valid", shown(variable, v))
		}
	}
	if c.Container == "" {
		c.Container = "buildkit-cache"
	}
}

// checkPlace also finds the account's name in its URL where it is not given, as BuildKit does.
func (c *Azblob) checkPlace(p *problems) {
	secret := c.SecretAccessKey
	if _, err := base64.StdEncoding.DecodeString(secret); err != nil {
		p.add("give one of the account's two keys as it is, in Base64", "secret_access_key is not the key of an account")
	}
	if c.AccountURL == "" {
		if !c.has("account_url") {
			p.add("say where: type=azblob,account_url=https://account.blob.core.windows.net,container=my-cache, or set BUILDKIT_AZURE_STORAGE_ACCOUNT_URL", "account_url is missing")
		}
		return
	}
	// The value is not shown, since a signature or a password may stand in it.
	u, err := url.Parse(c.AccountURL)
	switch {
	case err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https"):
		p.add("give scheme and host: account_url=https://account.blob.core.windows.net", "account_url is not the URL of an account")
		return
	case u.User != nil:
		p.add("use secret_access_key", "account_url has a user name in it")
	case strings.ContainsAny(c.AccountURL, "?#"):
		p.add("BuildKit does not support shared access signatures: use secret_access_key, or an identity (AZURE_CLIENT_ID, az login)", "account_url has more than an address in it")
	case u.Scheme == "http" && secret == "":
		p.add("use https, or secret_access_key, which signs and is not sent", "account_url is plain http, over which no identity's token is sent")
	}
	if c.AccountName != "" {
		return
	}
	c.AccountName, _, _ = strings.Cut(u.Hostname(), ".")
	if _, err := netip.ParseAddr(u.Hostname()); secret != "" && (err == nil || c.AccountName == u.Hostname()) {
		p.add("add account_name=", "account_name is missing, and account_url's host does not begin with it")
	}
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
