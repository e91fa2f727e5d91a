package conformance

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// objectStore is a prefix in a bucket or container, and a repository for the images.
func objectStore(server testkit.ObjectServer, registry testkit.Registry, key, prefix string) store {
	return store{
		line: server.Line(",prefix=" + prefix + ",name=web"), image: registry.Repository(), key: key,
		names: func(t testing.TB) []string { return server.Objects(t, "team/app/") },
	}
}

// objectBuild is a build of main with caches, on an empty builder.
func objectBuild(app, image string, caches ...string) testkit.Invocation {
	return testkit.Invocation{Dir: app, Branch: "main", Args: []string{
		"--cache", strings.Join(caches, "\n"), "--tags", image + ":v1", "--push",
	}}
}

// onEachServer runs a test for each type of object store, with a new server, a name for images and
// an app.
func onEachServer(t *testing.T, test func(t *testing.T, server testkit.ObjectServer, app, image string)) {
	t.Parallel()
	for kind, start := range testkit.ObjectServers {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			test(t, start(t), twoStages(t), testkit.StartRegistry(t).Host+"/app")
		})
	}
}

// checkSecrets looks for credentials, all of which begin with canary, also encoded in Base64.
func checkSecrets(t *testing.T, out testkit.Output) {
	t.Helper()
	for _, secret := range []string{"canary", base64.StdEncoding.EncodeToString([]byte("canary"))} {
		if strings.Contains(out.Text+out.Files, secret) {
			t.Errorf("a credential is in the output:\n%s", out.Text+out.Files)
		}
	}
}

// A fault of a store leads to a warning; the image is built.
func TestObjectFaults(t *testing.T) { onEachServer(t, objectFaults) }

func objectFaults(t *testing.T, server testkit.ObjectServer, app, image string) {
	type fault struct{ line, state, export, says string }
	faults := map[string]fault{
		"wrong credentials": {server.Denied(), "failed", "failed", "SignatureDoesNotMatch"},
		"no listener":       {server.At("127.0.0.1:1"), "failed", "failed", "connection refused"},
		"an empty prefix":   {server.Line(",prefix=empty"), "absent", "written", ""},
		"no such bucket":    {server.Elsewhere(), "failed", "failed", "NoSuchBucket"},
	}
	if _, ok := server.(testkit.Azblob); ok {
		faults["wrong credentials"] = fault{server.Denied(), "failed", "failed", "AuthorizationFailure"}
		faults["no such bucket"] = fault{server.Elsewhere(), "absent", "written", ""}
		faults["no identity"] = fault{
			strings.Replace(server.WithoutCredentials(), "http:", "https:", 1), "failed", "failed", "no secret_access_key in the line, and no identity",
		}
	}
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			build := objectBuild(app, image, f.line)
			build.Env = map[string]string{"AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential"} // hides the developer's identity
			out := build.Start(t)
			if out.Code != 0 || out.Report.Digest == "" {
				t.Fatalf("exit code %d, image %q:\n%s", out.Code, out.Report.Digest, out.Text)
			}
			if out.Report.Source("b-main") != f.state || out.Report.Outcome(t) != f.export {
				t.Errorf("sources %v, exports %v", out.Report.Sources, out.Report.Exports)
			}
			if !strings.Contains(out.Text, f.says) {
				t.Errorf("the output does not mention %s:\n%s", f.says, out.Text)
			}
			checkSecrets(t, out)
		})
	}
}

// The same with BuildKit's own client of the store.
func TestObjectFaultsNative(t *testing.T) { onEachServer(t, objectFaultsNative) }

func objectFaultsNative(t *testing.T, server testkit.ObjectServer, app, image string) {
	native := func(line string) testkit.Invocation {
		build := objectBuild(app, image, line)
		build.Args = append(build.Args, "--builder", testkit.StartBuildkitd(t))
		return build
	}
	cold := native(server.Line("")).Build(t)
	key, _, _ := strings.Cut(server.Objects(t, "blobs/")[0], " ")
	server.Remove(t, key)
	elsewhere := "failed"
	if _, ok := server.(testkit.Azblob); ok {
		elsewhere = "absent"
	}
	for what, fault := range map[string]struct{ line, state string }{
		"a blob is gone":    {server.Line(""), "failed"},
		"wrong credentials": {server.Denied(), "failed"},
		"no such bucket":    {server.Elsewhere(), elsewhere},
	} {
		out := native(fault.line).Start(t)
		if out.Code != 0 || out.Report.Digest == "" || len(out.Report.Steps) != len(cold.Steps) {
			t.Errorf("%s: exit code %d, image %q:\n%s", what, out.Code, out.Report.Digest, out.Text)
		}
		if out.Report.Source("b-main") != fault.state {
			t.Errorf("%s: sources %v", what, out.Report.Sources)
		}
		checkSecrets(t, out)
	}
}

// The results that need a missing blob are not imported, and the export repairs the cache.
func TestObjectBlobGone(t *testing.T) { onEachServer(t, objectBlobGone) }

func objectBlobGone(t *testing.T, server testkit.ObjectServer, app, image string) {
	cold := objectBuild(app, image, server.Line("")).Build(t)
	key, _, _ := strings.Cut(server.Objects(t, "blobs/")[0], " ")
	server.Remove(t, key)
	again := objectBuild(app, image, server.Line("")).Build(t)
	if s := again.Sources[0]; !strings.Contains(s.Error, "1 of ") || !strings.Contains(s.Error, "blobs are gone") || again.Outcome(t) != "written" || len(again.Steps) != len(cold.Steps) {
		t.Errorf("sources %v, exports %v", again.Sources, again.Exports)
	}
	warm := objectBuild(app, image, server.Line("")).Build(t)
	if warm.Source("b-main") != "loaded" || warm.Cached() != len(warm.Steps) {
		t.Errorf("%d of %d steps cached, sources %v", warm.Cached(), len(warm.Steps), warm.Sources)
	}
}

// Several caches are read and written at once, and a fault of one does not affect the others.
func TestObjectsBesideOthers(t *testing.T) {
	t.Parallel()
	app, image := twoStages(t), testkit.StartRegistry(t).Host+"/app"
	s3, azblob := testkit.StartS3(t), testkit.StartAzblob(t)
	caches := []string{
		"type=registry,ref=" + image, s3.Line(""), s3.Line(",prefix=second"), azblob.Line(",prefix=second"), s3.Denied() + ",prefix=third",
		azblob.Denied() + ",prefix=third",
	}
	want := []string{
		"registry " + image + " written", "s3 cache written", "s3 cache/second written", "azblob account/cache/second written",
		"s3 cache/third failed", "azblob account/cache/third failed",
	}
	r := objectBuild(app, image, caches...).Build(t)
	for _, e := range want {
		found := false
		for _, got := range r.Exports {
			found = found || got.Cache+" "+got.Outcome == e
		}
		if !found {
			t.Errorf("no %q among %v", e, r.Exports)
		}
	}
	for _, line := range caches[:4] {
		if r := objectBuild(app, image, line).Build(t); r.Cached() != len(r.Steps) || r.Source("b-main") != "loaded" {
			t.Errorf("%s: %d of %d steps cached", line[:12], r.Cached(), len(r.Steps))
		}
	}
}

// Credentials in the environment work as well as those in the line.
func TestObjectDefaultChains(t *testing.T) {
	t.Parallel()
	s3 := testkit.StartS3(t)
	azblob, identity := testkit.StartAzblobWithIdentity(t)
	for _, c := range []struct {
		line string
		env  map[string]string
	}{
		{s3.WithoutCredentials(), map[string]string{"AWS_ACCESS_KEY_ID": s3.Key, "AWS_SECRET_ACCESS_KEY": s3.Secret}},
		{azblob.WithoutCredentials(), identity},
	} {
		app, image := twoStages(t), testkit.StartRegistry(t).Host+"/app"
		build := objectBuild(app, image, c.line)
		build.Env = c.env
		if r := build.Build(t); r.Outcome(t) != "written" {
			t.Errorf("exports %v", r.Exports)
		}
		out := build.Start(t)
		if r := out.Report; r.Cached() != len(r.Steps) || r.Outcome(t) != "unchanged" {
			t.Errorf("%d of %d steps cached, exports %v, sources %v", r.Cached(), len(r.Steps), r.Exports, r.Sources)
		}
		checkSecrets(t, out)
	}
}
