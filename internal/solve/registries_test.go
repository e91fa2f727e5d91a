package solve_test

import (
	"encoding/json"
	"strings"
	"testing"

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
