package inputs

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestNodes(t *testing.T) {
	t.Parallel()
	amd, arm := "tcp://amd.example:1;platforms=linux/amd64,linux/386", "ssh://me@arm.example;platforms=linux/arm64"
	push := []string{"--push", "--tags", "ghcr.io/acme/shop:v1,ghcr.io/acme/shop:v2"}
	for name, test := range map[string]struct {
		args []string
		want string // the problems, or the nodes
	}{
		"two":              {append(push, "--builder", amd, "--builder", arm), "tcp://amd.example:1 [linux/amd64 linux/386], ssh://me@arm.example [linux/arm64]"},
		"of wanted ones":   {append(push, "--builder", amd, "--builder", arm, "--platforms", "linux/arm64,linux/amd64"), "tcp://amd.example:1 [linux/amd64], ssh://me@arm.example [linux/arm64]"},
		"one is left":      {append(push, "--builder", amd, "--builder", arm, "--platforms", "linux/arm64"), "ssh://me@arm.example [linux/arm64]"},
		"one":              {append(push, "--builder", "embedded;platforms=linux/arm64"), "embedded [linux/arm64]"},
		"one, plain":       {append(push, "--builder", "embedded"), "embedded []"},
		"no builder":       {append(push, "--builder", amd, "--builder", arm, "--platforms", "linux/s390x,linux/arm64"), "builder: no builder builds linux/s390x\nhint: add it to the platforms of one"},
		"the rest":         {append(push, "--builder", amd, "--builder", "embedded", "--platforms", "linux/amd64,linux/s390x,linux/arm64"), "tcp://amd.example:1 [linux/amd64], embedded [linux/s390x linux/arm64]"},
		"no rest":          {append(push, "--builder", amd, "--builder", "embedded", "--platforms", "linux/amd64"), "tcp://amd.example:1 [linux/amd64]"},
		"two for the rest": {append(push, "--builder", "unix:///b.sock", "--builder", amd, "--builder", "embedded", "--platforms", "linux/arm64"), "builder: line 3: there are several builders, and this one names no platforms\nhint: add ;platforms=linux/arm64, or --platform to a node of buildx's"},
		"no platforms":     {append(push, "--builder", amd, "--builder", "embedded"), "builder: line 2: there are several builders, and this one names no platforms\nhint: add ;platforms=linux/arm64, or --platform to a node of buildx's"},
		"both":             {append(push, "--builder", amd, "--builder", "embedded;platforms=linux/386"), "builder: line 2: another builder builds linux/386 too\nhint: give each platform to one builder"},
		"odd attribute":    {append(push, "--builder", "embedded;platform=linux/386"), "builder: only ;platforms= and a list may follow the address\nhint: write it like tcp://host:1234;platforms=linux/arm64"},
		"odd platform":     {append(push, "--builder", "embedded;platforms=linux/x"), "builder: \"linux/x\" is not a platform\nhint: write it like linux/amd64 or linux/arm/v7"},
		"no push":          {[]string{"--builder", amd, "--builder", arm}, "builder: several builders need an image to push\nhint: set push: true and tags"},
		"to a directory":   {[]string{"--builder", amd, "--builder", arm, "--outputs", "type=local,dest=out"}, "outputs: line 1: several builders can only push images, and this one is of type local\nhint: set push: true, or use one builder"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, problems := Parse(test.args, nil, checkout(t))
			got := problems.Error()
			if len(problems) == 0 {
				got = nodesText(v)
			}
			if got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}

func nodesText(v Values) string {
	var all []string
	for _, b := range v.Builders {
		all = append(all, b.Address.String()+" "+fmt.Sprint(b.Platforms))
	}
	return strings.Join(all, ", ")
}

// Each node pushes its part by digest. The annotations of the index are added when the parts are
// joined.
func TestBuilds(t *testing.T) {
	t.Parallel()
	v, problems := Parse([]string{
		"--builder", "embedded;platforms=linux/amd64", "--builder", "ssh://h;platforms=linux/arm64,linux/arm/v7", "--cache-key", "web",
		"--tags", "ghcr.io/acme/shop:v1,ghcr.io/acme/shop:v2,docker.io/acme/shop",
		"--outputs", "type=image,push=true,annotation-index.a=b,annotation-manifest.c=d",
	}, nil, checkout(t))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	parts := v.Builds()
	want := map[string]string{
		"push": "true", "push-by-digest": "true", "name": "ghcr.io/acme/shop,docker.io/acme/shop", "annotation-manifest.c": "d",
	}
	for _, part := range parts {
		if !reflect.DeepEqual(part.Outputs[0].Attrs, want) {
			t.Errorf("attributes %v", part.Outputs[0].Attrs)
		}
	}
	second := parts[1]
	if second.Builders[0].Address.URL != "ssh://h" || second.CacheKey != "web-linux-arm64-linux-arm-v7" || len(second.Platforms) != 2 || len(second.Builders) != 1 {
		t.Errorf("the second node: builders %v, key %q, platforms %v", second.Builders, second.CacheKey, second.Platforms)
	}
	if got := v.IndexAnnotations(); !reflect.DeepEqual(got, map[string]string{"a": "b"}) {
		t.Errorf("annotations of the index: %v", got)
	}
	if _, changed := v.Outputs[0].Attrs["push-by-digest"]; changed {
		t.Error("the values themselves were changed")
	}
}

// The secrets in a builder's address, key and variables are known, also when these have problems.
func TestBuilderSecrets(t *testing.T) {
	t.Parallel()
	key := "-----BEGIN PRIVATE KEY-----\ncanary-key"
	for _, environ := range [][]string{
		{"INPUT_BUILDER=tcp://me:canary-password@b.example:1", "INPUT_BUILDER-KEY=" + key},
		{"BUILDKIT_HOST=tcp://me:canary-password@b.example:1", "INPUT_BUILDER-KEY=" + key},
		{"INPUT_DRIVER-OPTS=env.HTTPS_PROXY=http://me:canary-password@proxy.example", "INPUT_BUILDER-KEY=" + key},
	} {
		values, problems := Parse(nil, environ, checkout(t))
		for _, secret := range []string{"canary-password", key} {
			if !slices.Contains(values.Sensitive(), secret) {
				t.Errorf("%q: %q is not among %q", environ, secret, values.Sensitive())
			}
		}
		if strings.Contains(problems.Error(), "canary") {
			t.Errorf("a secret is shown: %v", problems)
		}
	}
}
