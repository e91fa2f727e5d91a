package refusal

import "regexp"

// Answer is a kind of answer of a server, known by the words of many products.
type Answer struct{ words *regexp.Regexp }

// In reports whether the text of an error has this answer.
func (a *Answer) In(text string) bool { return a.words.MatchString(text) }

func answer(pattern string) *Answer { return &Answer{regexp.MustCompile(`(?i)` + pattern)} }

// status matches the status of a response, and not the port in an address.
func status(code string) string { return `|(^|[\s(=])` + code + `\b` }

// The answers that registries, stores, and the proxies in front of them share. Of a registry's
// answer containerd shows the message, and the code only of UNAUTHORIZED, DENIED, UNAVAILABLE and
// TOOMANYREQUESTS (v2, core/remotes/docker/errcode.go); go-containerregistry shows both.
var (
	// UnknownAuthority, Expired and PlainHTTP: crypto/x509, net/http.
	UnknownAuthority = answer(`certificate signed by unknown authority`)
	Expired          = answer(`x509: certificate has expired or is not yet valid`)
	PlainHTTP        = answer(`server gave HTTP response to HTTPS client`)
	// Immutable tags. ECR: TAG_INVALID. Harbor: PRECONDITION, 412. Docker Hub and GitLab: DENIED.
	// (moby/buildkit#3776, goharbor/harbor#9427, docker/hub-feedback#2466)
	Immutable = answer(`immutable`)
	// FullDisk of a directory, or of a registry: ENOSPC, EDQUOT (errno(3)).
	FullDisk = answer(`no space left on device|disk quota exceeded`)
	// Quota. Artifactory and Quay: DENIED. Harbor: 412. S3 servers: QuotaExceeded.
	Quota = answer(`quota|storage limit|insufficient storage`)
	// RateLimit. Docker Hub, GitHub, Quay and every proxy: 429 (RFC 6585). S3: SlowDown.
	RateLimit = answer(`TOOMANYREQUESTS|too many requests|rate limit|SlowDown` + status("429"))
	// TooLarge is nginx's, with client_max_body_size.
	TooLarge = answer(`request entity too large` + status("413"))
	// Denied. Artifactory, Quay, Harbor, ECR: DENIED, 403. "permission denied" alone is a file system's.
	Denied = answer(`(^|[^n\s]\s+|[a-z_'"])denied|forbidden|does not have permission` + status("403"))
	// Unauthorized. Quay also for repositories that are missing: 401. Docker Hub, for these and for
	// private ones: insufficient_scope.
	Unauthorized = answer(`insufficient_scope|unauthorized|authentication required|no basic auth credentials|incorrect username or password|not authorized|may require authorization` + status("401"))
)
