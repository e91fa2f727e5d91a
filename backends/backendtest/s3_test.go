package backendtest_test

import (
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/backends/backendtest"
)

// s3Build is a build of main with caches, on a builder that knows nothing.
func s3Build(t *testing.T, app, image string, caches ...string) backendtest.Invocation {
	t.Helper()
	return backendtest.Invocation{Dir: app, Branch: "main", Args: []string{
		"--cache", strings.Join(caches, "\n"), "--tags", image + ":v1", "--push",
	}}
}

// What goes wrong with a bucket costs a warning, and never an image.
func TestS3Faults(t *testing.T) {
	t.Parallel()
	server, image, app := backendtest.StartS3(t), backendtest.StartRegistry(t).Host+"/app", backendtest.App(t)
	stolen := server.Place() + ",access_key_id=" + server.Key + ",secret_access_key=canary-of-nobody"
	tests := []struct {
		name, line    string
		state, export string
		says          string
	}{
		{"wrong credentials", stolen, "failed", "failed", "SignatureDoesNotMatch"},
		{"no such bucket", strings.Replace(server.Line(""), "bucket=cache", "bucket=other", 1), "failed", "failed", "NoSuchBucket"},
		{"nobody listens", strings.Replace(server.Line(",retry_max_attempts=1"), server.Endpoint, "http://127.0.0.1:1", 1), "failed", "failed", "connection refused"},
		{"nothing there yet", server.Line(",prefix=empty"), "absent", "written", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			out := s3Build(t, app, image, test.line).Start(t)
			if out.Code != 0 || out.Report.Digest == "" {
				t.Fatalf("exit code %d, image %q:\n%s", out.Code, out.Report.Digest, out.Text)
			}
			if out.Report.Source("b-main") != test.state || out.Report.Outcome(t) != test.export {
				t.Errorf("sources %v, exports %v", out.Report.Sources, out.Report.Exports)
			}
			if !strings.Contains(out.Text, test.says) {
				t.Errorf("nothing is said of %s:\n%s", test.says, out.Text)
			}
			if strings.Contains(out.Text+out.Files, "canary") {
				t.Errorf("a credential is in the output:\n%s", out.Text+out.Files)
			}
		})
	}
}

// The same holds where BuildKit itself reaches the bucket.
func TestS3FaultsNative(t *testing.T) {
	t.Parallel()
	server, image, app := backendtest.StartS3(t), backendtest.StartRegistry(t).Host+"/app", backendtest.App(t)
	native := func(line string) backendtest.Invocation {
		build := s3Build(t, app, image, line)
		build.Args = append(build.Args, "--builder", backendtest.StartBuildkitd(t))
		return build
	}
	cold := native(server.Line("")).Build(t)
	key, _, _ := strings.Cut(server.Objects(t, "blobs/")[0], " ")
	server.Remove(t, key)
	for what, line := range map[string]string{
		"a blob is gone":    server.Line(""),
		"wrong credentials": server.Place() + ",access_key_id=" + server.Key + ",secret_access_key=canary-of-nobody",
		"no such bucket":    strings.Replace(server.Line(""), "bucket=cache", "bucket=other", 1),
	} {
		out := native(line).Start(t)
		if out.Code != 0 || out.Report.Digest == "" || len(out.Report.Steps) != len(cold.Steps) {
			t.Errorf("%s: exit code %d, image %q:\n%s", what, out.Code, out.Report.Digest, out.Text)
		}
		if out.Report.Source("b-main") != "failed" {
			t.Errorf("%s: sources %v", what, out.Report.Sources)
		}
		if strings.Contains(out.Text+out.Files, "canary") {
			t.Errorf("%s: a credential is in the output:\n%s", what, out.Text)
		}
	}
}

// A cache with a blob that is gone is not imported, and is whole again afterwards.
func TestS3BlobGone(t *testing.T) {
	t.Parallel()
	server, image, app := backendtest.StartS3(t), backendtest.StartRegistry(t).Host+"/app", backendtest.App(t)
	cold := s3Build(t, app, image, server.Line("")).Build(t)
	key, _, _ := strings.Cut(server.Objects(t, "blobs/")[0], " ")
	server.Remove(t, key)
	again := s3Build(t, app, image, server.Line("")).Build(t)
	if again.Source("b-main") != "failed" || again.Outcome(t) != "written" || len(again.Steps) != len(cold.Steps) {
		t.Errorf("sources %v, exports %v", again.Sources, again.Exports)
	}
	warm := s3Build(t, app, image, server.Line("")).Build(t)
	if warm.Source("b-main") != "loaded" || warm.Cached() != len(warm.Steps) {
		t.Errorf("%d of %d steps cached, sources %v", warm.Cached(), len(warm.Steps), warm.Sources)
	}
}

// Several caches are read and written at once, and the one that fails fails alone.
func TestS3BesideOthers(t *testing.T) {
	t.Parallel()
	server, image, app := backendtest.StartS3(t), backendtest.StartRegistry(t).Host+"/app", backendtest.App(t)
	caches := []string{
		"type=registry,ref=" + image, server.Line(""), server.Line(",prefix=second"),
		server.Place() + ",prefix=third,access_key_id=nobody,secret_access_key=canary",
	}
	want := []string{"registry " + image + " written", "s3 cache written", "s3 cache/second written", "s3 cache/third failed"}
	r := s3Build(t, app, image, caches...).Build(t)
	for _, e := range want {
		found := false
		for _, got := range r.Exports {
			found = found || got.Cache+" "+got.Outcome == e
		}
		if !found {
			t.Errorf("no %q among %v", e, r.Exports)
		}
	}
	for _, line := range caches[:3] {
		if r := s3Build(t, app, image, line).Build(t); r.Cached() != len(r.Steps) || r.Source("b-main") != "loaded" {
			t.Errorf("%s: %d of %d steps cached", line[:12], r.Cached(), len(r.Steps))
		}
	}
}

// Credentials that the environment has serve as well as those in the line.
func TestS3DefaultChain(t *testing.T) {
	t.Parallel()
	server, image, app := backendtest.StartS3(t), backendtest.StartRegistry(t).Host+"/app", backendtest.App(t)
	build := s3Build(t, app, image, server.Place())
	build.Env = map[string]string{"AWS_ACCESS_KEY_ID": server.Key, "AWS_SECRET_ACCESS_KEY": server.Secret}
	if r := build.Build(t); r.Outcome(t) != "written" {
		t.Errorf("exports %v", r.Exports)
	}
	out := build.Start(t)
	if r := out.Report; r.Cached() != len(r.Steps) || r.Outcome(t) != "unchanged" {
		t.Errorf("%d of %d steps cached, exports %v", r.Cached(), len(r.Steps), r.Exports)
	}
	if strings.Contains(out.Text+out.Files, server.Secret) {
		t.Error("the secret is in the output")
	}
}
