package testkit_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// Each backend by each way that BuildKit reaches it.
func TestConformance(t *testing.T) {
	ways := []struct {
		name    string
		harness testkit.Harness
	}{
		{"registry", testkit.Harness{New: registryPlace("registry")}},
		{"registry on a remote builder", testkit.Harness{New: registryPlace("registry"), Remote: true}},
		{"inline", testkit.Harness{New: registryPlace("inline"), Inline: true}},
		{"inline on a remote builder", testkit.Harness{New: registryPlace("inline"), Inline: true, Remote: true}},
		{"local", testkit.Harness{New: localPlace}},
		{"local on a remote builder", testkit.Harness{New: localPlace, Remote: true, Eager: true}},
		{"s3", testkit.Harness{New: s3Place, Object: true}},
		{"s3 on a remote builder", testkit.Harness{New: s3Place, Object: true, Gzip: true, Remote: true}},
		{"azblob", testkit.Harness{New: azblobPlace, Object: true}},
		{"azblob on a remote builder", testkit.Harness{New: azblobPlace, Object: true, Gzip: true, Remote: true}},
		{"gha v1", testkit.Harness{New: gha1Place, Object: true}},
		{"gha v1 on a remote builder", testkit.Harness{New: gha1Place, Object: true, Gzip: true, Remote: true}},
		{"gha v2", testkit.Harness{New: ghaPlace, Object: true}},
		{"gha v2 on a remote builder", testkit.Harness{New: ghaPlace, Object: true, Gzip: true, Remote: true}},
	}
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) { testkit.Run(t, way.harness) })
	}
}

// registryPlace is a repository of a registry of its own.
func registryPlace(kind string) func(*testing.T) testkit.Place {
	return func(t *testing.T) testkit.Place {
		image := testkit.StartRegistry(t).Host + "/app"
		return testkit.Place{
			Line: "type=" + kind + ",ref=" + image, Image: image,
			Names: func(t testing.TB) []string {
				repo, err := name.NewRepository(image)
				if err != nil {
					t.Fatal(err)
				}
				tags, err := remote.List(repo)
				if err != nil {
					t.Fatal(err)
				}
				return tags
			},
		}
	}
}

// localPlace is a directory, and a registry for the images.
func localPlace(t *testing.T) testkit.Place {
	dir := filepath.Join(testkit.Temp(t), "cache")
	return testkit.Place{
		Line: "type=local,dest=" + dir, Image: testkit.StartRegistry(t).Host + "/app",
		Names: func(t testing.TB) []string {
			index, err := os.ReadFile(filepath.Join(dir, "index.json"))
			if err != nil {
				t.Fatal(err)
			}
			return []string{string(index)}
		},
	}
}

// objectPlace is a bucket or container of a server of its own, with a prefix, and a registry
// for the images.
func objectPlace(t *testing.T, server testkit.ObjectServer, key, prefix string) testkit.Place {
	return testkit.Place{
		Line: server.Line(",prefix=" + prefix + ",name=web"), Image: testkit.StartRegistry(t).Host + "/app", Key: key,
		Names: func(t testing.TB) []string { return server.Objects(t, "team/app/") },
	}
}

func s3Place(t *testing.T) testkit.Place {
	server := testkit.StartS3(t)
	return objectPlace(t, server, server.Secret, "team/app")
}

// azblobPlace has a prefix that BuildKit, which joins paths, writes as team/app.
func azblobPlace(t *testing.T) testkit.Place {
	server := testkit.StartAzblob(t)
	return objectPlace(t, server, server.Secret, "team//app/")
}

// ghaPlace is a repository on a github.com of its own. The token of a branch's build writes
// the branch, and reads it and main.
func ghaPlace(t *testing.T) testkit.Place {
	server := testkit.StartGHA(t)
	refs := []string{"refs/heads/main"}
	tokens := map[string]string{"main": server.Token(refs[0])}
	env := func(branch string) map[string]string {
		if branch == "" {
			return server.Env(server.Token(refs[0], refs[1:]...))
		}
		if tokens[branch] == "" {
			refs = append(refs, "refs/heads/"+branch)
			tokens[branch] = server.Token("refs/heads/"+branch, refs[0])
		}
		return server.Env(tokens[branch])
	}
	return testkit.Place{
		Line: "type=gha", Image: testkit.StartRegistry(t).Host + "/app", Key: tokens["main"], Env: env,
		Names: func(testing.TB) []string { return server.Entries("") },
	}
}

// gha1Place is a runner's own cache, which knows no branches.
func gha1Place(t *testing.T) testkit.Place {
	server := testkit.StartGHA1(t)
	return testkit.Place{
		Line: "type=gha,scope=team", Image: testkit.StartRegistry(t).Host + "/app", Key: server.Token(),
		Env:   func(string) map[string]string { return server.Env() },
		Names: server.Files,
	}
}
