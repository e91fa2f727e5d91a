package solve_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// attested is the environment of a build with the default provenance.
var attested = map[string]string{"BUILDX_NO_DEFAULT_ATTESTATIONS": "0"}

// TestUnknownSubject: GitLab's registry refuses the attestation of an image that it does not
// have yet. The image is pushed all the same, with its provenance, and the next build too.
func TestUnknownSubject(t *testing.T) {
	t.Parallel()
	registry := testkit.StartRegistry(t).Host
	s := testkit.StartStandIn(t, registry, testkit.UnknownSubject())
	app := testkit.App(t)
	for _, want := range []string{"first", "second"} {
		change(t, app)
		testkit.Write(t, app+"/site/which.txt", want)
		r := build(app, "--tags", s.Host+"/image:v1", "--push", "--cache", "type=registry,ref="+s.Host+"/cache")
		r.Env = attested
		out := r.Start(t)
		if out.Code != 0 || out.Report.Retried != "" || out.Report.Outcome(t) != "written" {
			t.Fatalf("exit code %d, retried %q, exports %v:\n%s", out.Code, out.Report.Retried, out.Report.Exports, out.Text)
		}
		if out.Report.Cached() == len(out.Report.Steps) {
			t.Error("the steps that ran count as cached")
		}
		const warning = "refuses attestations as OCI artifacts"
		if n := strings.Count(strings.Join(out.Report.Warnings, "\n"), warning); n != 1 {
			t.Errorf("warnings %q", out.Report.Warnings)
		}
		var index ocispecs.Index
		p := &proxy{Host: registry}
		if err := json.Unmarshal([]byte(p.get(t, "/v2/image/manifests/"+out.Report.Digest)), &index); err != nil || len(index.Manifests) != 2 {
			t.Fatalf("%d manifests, %v", len(index.Manifests), err)
		}
		if p.get(t, "/v2/image/manifests/v1") != p.get(t, "/v2/image/manifests/"+out.Report.Digest) {
			t.Error("the tag is another image")
		}
	}
}

// TestArtifactsAskedFor: attestations as OCI artifacts that the user asks for are not replaced.
func TestArtifactsAskedFor(t *testing.T) {
	t.Parallel()
	registry := testkit.StartRegistry(t).Host
	s := testkit.StartStandIn(t, registry, testkit.UnknownSubject())
	for attribute, code := range map[string]int{"true": 1, "false": 0} {
		r := build(testkit.App(t), "--outputs", "type=image,push=true,oci-artifact="+attribute+",name="+s.Host+"/image"+attribute+":v1", "--cache", "none")
		r.Env = attested
		if out := r.Start(t); out.Code != code || len(out.Report.Warnings) > 0 {
			t.Errorf("%s: exit code %d, warnings %q:\n%s", attribute, out.Code, out.Report.Warnings, out.Text)
		}
	}
}

// TestRefusals: registries that refuse a cache, each in its own words. The image is pushed, and the
// report says once what the cause is and what to set.
func TestRefusals(t *testing.T) {
	t.Parallel()
	const all, writes = "GET HEAD POST PATCH PUT", "POST PATCH PUT"
	refuse := func(methods string, status int, code, message string) testkit.Quirk {
		return testkit.Refuse(testkit.Refusal(status, code, message, ""), "/v2/cache/", strings.Fields(methods)...)
	}
	answer := testkit.Refusal
	for _, tt := range []struct {
		name        string
		quirk       testkit.Quirk
		line        string // attributes
		source      string // the state of the scope
		cause, cure string
	}{
		{"ECR, immutable tags", testkit.ImmutableTags(answer(400, "TAG_INVALID", "The image tag 'cache-b-main' already exists in the 'cache' repository and cannot be overwritten because the tag is immutable.", ""), "cache-"),
			"", "loaded", "immutable tags", "exempt the tags of caches"},
		{"Harbor, immutable tags", testkit.ImmutableTags(answer(412, "PRECONDITION", "Failed to process request due to 'cache:cache-b-main' configured as immutable.", ""), "cache-"),
			"", "loaded", "immutable tags", "exempt the tags of caches"},
		{"ECR, no repository", refuse(all, 404, "NAME_UNKNOWN", "The repository with name 'cache' does not exist in the registry with id '123456789012'"),
			"", "absent", "no such repository", "create it"},
		{"Nexus", testkit.Nexus(), "", "absent", "lost an upload", "set cache to"},
		{"Harbor, an index", testkit.ImagesOnly(answer(404, "NOT_FOUND", "artifact cache@sha256:00 not found", "")), ",image-manifest=false", "absent", "of this form", "leave image-manifest=false out"},
		{"an old registry, an index", testkit.ImagesOnly(answer(400, "MANIFEST_INVALID", "manifest invalid", "")), ",image-manifest=false", "absent", "of this form", "leave image-manifest=false out"},
		{"Quay, no permission", refuse(all, 401, "UNAUTHORIZED", "access to the requested resource is not authorized"), "", "failed", "credentials are missing", "set registry-auth"},
		{"Quay, quota", refuse(writes, 403, "DENIED", "Quota has been exceeded on namespace"), "", "absent", "or its quota is;", "delete caches"},
		{"Artifactory, no permission", refuse(writes, 403, "DENIED", "The client does not have permission to push to the repository."), "", "absent", "credentials do not permit it", "set others (registry-auth"},
		{"a limit", refuse(all, 429, "TOOMANYREQUESTS", "rate limit exceeded"), "", "failed", "limits requests", "log in with registry-auth"},
		{"a proxy's limit", testkit.Refuse(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusRequestEntityTooLarge) }, "/v2/cache/", "PUT"),
			"", "absent", "size of requests", "client_max_body_size"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			registry := testkit.StartRegistry(t).Host
			s := testkit.StartStandIn(t, registry, tt.quirk)
			app := testkit.App(t)
			r := build(app, "--tags", s.Host+"/image:v1", "--push", "--cache", "type=registry,ref="+s.Host+"/cache"+tt.line)
			if tt.source == "loaded" { // the first build is not refused
				r.Build(t)
				change(t, app)
			}
			out := r.Start(t)
			pushed := (&proxy{Host: registry}).get(t, "/v2/image/manifests/v1")
			if out.Code != 0 || out.Report.Retried != "" || digest.FromString(pushed).String() != out.Report.Digest {
				t.Errorf("exit code %d, retried %q, image %s:\n%s", out.Code, out.Report.Retried, out.Report.Digest, out.Text)
			}
			if out.Report.Source("b-main") != tt.source || out.Report.Outcome(t) != "failed" {
				t.Errorf("sources %v, exports %v", out.Report.Sources, out.Report.Exports)
			}
			rows := 1
			if tt.source == "failed" {
				rows = 2 // one for reading, one for writing
			}
			for _, words := range []string{tt.cause, tt.cure} {
				if n := strings.Count(out.Text, words); n != rows {
					t.Errorf("%q is there %d times:\n%s", words, n, out.Text)
				}
			}
		})
	}
}

// TestBusy: a registry that limits requests for a moment, with and without saying for how long, is
// asked again.
func TestBusy(t *testing.T) {
	t.Parallel()
	for _, retryAfter := range []string{"", "1"} {
		t.Run("Retry-After "+retryAfter, func(t *testing.T) {
			t.Parallel()
			registry, app := testkit.StartRegistry(t).Host, testkit.App(t)
			run := func() testkit.Output {
				s := testkit.StartStandIn(t, registry, testkit.Busy(1, retryAfter, "/v2/cache/manifests/", http.MethodGet), testkit.Busy(2, retryAfter, "/v2/cache/blobs/uploads/", http.MethodPost))
				return build(app, "--tags", s.Host+"/image:v1", "--push", "--cache", "type=registry,ref="+s.Host+"/cache").Start(t)
			}
			if out := run(); out.Code != 0 || out.Report.Source("b-main") != "absent" || out.Report.Outcome(t) != "written" {
				t.Errorf("exit code %d, sources %v, exports %v:\n%s", out.Code, out.Report.Sources, out.Report.Exports, out.Text)
			}
			change(t, app)
			out := run()
			if out.Code != 0 || out.Report.Source("b-main") != "loaded" || out.Report.Outcome(t) != "written" || out.Report.Cached() == 0 {
				t.Errorf("exit code %d, sources %v, exports %v:\n%s", out.Code, out.Report.Sources, out.Report.Exports, out.Text)
			}
		})
	}
}
