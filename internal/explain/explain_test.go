package explain

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"
)

// TestNear: a hint names what is in the context, and nothing that is left out of it.
func TestNear(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{}
	for _, name := range []string{"go.mod", "src/main.go", "src/Main_test.go", "vendor/x/config.yml", "deploy/config.yml", ".git/config.yml", "notes.txt"} {
		files[name] = &fstest.MapFile{}
	}
	d := Directory{Name: "e/", Files: files, Ignore: "e/.dockerignore", Rules: "# comment\nvendor\n\n  *.txt  \n!kept.txt\n/src/*_test.go\n"}
	near := map[string]string{
		"go.mdo": "go.mod", "src/mian.go": "src/main.go", "src/main_test.go": "src/main.go", "config.yml": "deploy/config.yml",
		"notes.tx": "", "nothing/like/it": "", "src/GO.MOD": "go.mod",
	}
	for name, want := range near {
		if got := strings.Join(d.near(name), " "); got != want {
			t.Errorf("near %s: %q, want %q", name, got, want)
		}
	}
	for name, want := range map[string]int{"notes.txt": 4, "kept.txt": 0, "vendor/x/config.yml": 2, "src/a_test.go": 6, "src/main.go": 0, "a/notes.txt": 0} {
		if got := d.excludes(name); got != want {
			t.Errorf("%s is excluded by line %d, want %d", name, got, want)
		}
	}
}

// TestReasons: the words that registries and networks use, each with its kind. The messages are
// those of the programs that are named.
func TestReasons(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text string // of an error
		kind Kind
		what string
	}{
		// A disk is full, whatever the registry calls it.
		{"error writing layer blob: denied: write /cache/blobs/sha256/x: no space left on device", Unclear, "the disk of registry.example is full"},
		{"unknown: filesystem: write /var/lib/registry/x: no space left on device", Unclear, "the disk of registry.example is full"},
		{"denied: The image tag 'v1' cannot be overwritten because the tag is immutable.", Unclear, "registry.example takes each tag once (immutable tags)"},
		{"denied: Quota has been exceeded on namespace", Unclear, "the storage of registry.example is full, or its quota is"},
		{"unexpected status from PUT request to https://registry.example/v2/: 413 Request Entity Too Large", Unclear, "a proxy in front of registry.example limits the size of requests"},
		// Docker Hub, GHCR, GitLab, Quay, Harbor, Amazon, Google.
		{"toomanyrequests: You have reached your unauthenticated pull rate limit", Unclear, "registry.example limits the number of requests (429)"},
		{"denied: permission_denied: write_package", Denied, "registry.example refuses access (403)"},
		{"denied: requested access to the resource is denied", Denied, "registry.example refuses access (403)"},
		{"unauthorized: access to the requested resource is not authorized", Denied, "registry.example does not accept the login (401), or there is no such repository"},
		{"GET https://gitlab.example/jwt/auth: unexpected status code 403 Forbidden: DENIED: access forbidden", Denied, "registry.example refuses access (403)"},
		{"POST https://registry.example/v2/app/blobs/uploads/: unexpected status code 401 Unauthorized", Denied, "registry.example does not accept the login (401), or there is no such repository"},
		{"name unknown: The repository with name 'app' does not exist in the registry with id '1'", Unclear, "registry.example does not have it"},
		// The network.
		{"dial tcp: lookup registry.example on 10.0.0.1:53: no such host", Unreachable, "there is no host registry.example"},
		{"dial tcp: lookup other.example: no such host", Unreachable, "there is no host other.example"},
		{"dial tcp: lookup registry.example on 10.0.0.1:53: server misbehaving", Unclear, ""},
		{"dial tcp 10.0.0.7:443: connect: connection refused", Unreachable, "nothing listens at 10.0.0.7:443 (connection refused)"},
		{"dial tcp 10.0.0.7:443: i/o timeout", Unclear, "registry.example does not answer in time"},
		{"net/http: TLS handshake timeout", Unclear, "registry.example does not answer in time"},
		{"context deadline exceeded", Unclear, "registry.example does not answer in time"},
		{"dial tcp 10.0.0.7:443: connect: no route to host", Unclear, "registry.example cannot be reached"},
		{"read tcp 10.0.0.1:1->10.0.0.7:443: read: connection reset by peer", Unclear, "registry.example broke the connection off"},
		{"tls: failed to verify certificate: x509: certificate has expired or is not yet valid", Unreachable, "the certificate of registry.example is not valid"},
		{"tls: failed to verify certificate: x509: certificate is valid for other.example, not registry.example", Unreachable, "the certificate of registry.example is not valid"},
		{"tls: failed to verify certificate: x509: certificate signed by unknown authority", Unreachable, "the certificate of registry.example is not trusted"},
		{"unexpected status from POST request to https://registry.example/v2/: 503 Service Unavailable", Unclear, "registry.example has a fault of its own (5xx)"},
		{"unexpected status code 502 Bad Gateway", Unclear, "registry.example has a fault of its own (5xx)"},
		{"something else", Unclear, ""},
	}
	for _, test := range tests {
		e, kind := Refusal("registry.example/app", Login{}, errors.New(test.text))
		want := test.what
		if want != "" {
			want = "pushing registry.example/app: " + want
		}
		if e.What != want || kind != test.kind {
			t.Errorf("%s\n%d %s\nwant %d %s", test.text, kind, e.What, test.kind, want)
		}
	}
}

// TestRefusalNext: what to do follows from who was logged in.
func TestRefusalNext(t *testing.T) {
	t.Parallel()
	tests := []struct {
		repository string
		login      Login
		next       string
	}{
		{"docker.io/o/app", Login{}, "log in with the inputs registry, username and password, or registry-auth; no login for Docker Hub was found"},
		{"ghcr.io/o/app", Login{"bob", "the Docker config c.json"}, "may push to ghcr.io/o/app; on GitHub give the job permissions: packages: write; the user was bob, from the Docker config c.json"},
		{"r.example:5000/app", Login{"", "the identity of the machine"}, "may push to r.example:5000/app; the login came from the identity of the machine"},
	}
	for _, test := range tests {
		if e, _ := Refusal(test.repository, test.login, errors.New("denied: no")); !strings.HasSuffix(e.Next, test.next) {
			t.Errorf("%s: %s\nwant …%s", test.repository, e.Next, test.next)
		}
	}
}

// TestCut: an instruction that is cut shows no part of a secret.
func TestCut(t *testing.T) {
	t.Parallel()
	const secret = "correct horse battery staple"
	text := "FROM a\nRUN " + strings.Repeat("x", longestInstruction-16) + " " + secret + "\n"
	f := Failure{Err: errors.New("boom " + secret), Line: 2, Dockerfile: []byte(text), Redact: func(s string) string { return strings.ReplaceAll(s, secret, "***") }}
	if e := Build(f); strings.Contains(e.What, "horse") || !strings.HasSuffix(e.What, "***: boom ***") {
		t.Errorf("%+v", e)
	}
	// Neither a cancelled build nor one of which nothing is known is explained.
	for _, err := range []error{nil, errors.New("rpc error: context canceled"), errors.New("what")} {
		if e := Build(Failure{Err: err}); e != (Explanation{}) {
			t.Errorf("%v: %+v", err, e)
		}
	}
}
