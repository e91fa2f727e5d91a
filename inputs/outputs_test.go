package inputs

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

// TestInEngine: where no output is asked for, the BuildKit inside an engine makes an image in the engine.
func TestInEngine(t *testing.T) {
	t.Parallel()
	type attrs = map[string]string
	for _, tt := range []struct {
		environ []string
		want    []Output
	}{
		{nil, []Output{{0, "image", attrs{}, ""}}},
		{[]string{"INPUT_TAGS=o/app\no/b:1", "INPUT_PUSH=false", "INPUT_IMAGE_COMPRESSION=zstd", "BUILDX_NO_DEFAULT_OCI_ARTIFACT=1"},
			[]Output{{0, "image", attrs{"name": "docker.io/o/app:latest,docker.io/o/b:1", "compression": "zstd", "oci-artifact": "false"}, ""}}},
		{[]string{"INPUT_BUILDER=engine", "INPUT_ANNOTATIONS=a=b"}, []Output{{0, "image", attrs{"annotation.a": "b"}, ""}}},
		{[]string{"INPUT_ANNOTATIONS=a=b"}, []Output{{0, "image", attrs{}, ""}}},
		{[]string{"INPUT_LOAD=true"}, nil},
		{[]string{"INPUT_OUTPUTS=type=cacheonly"}, nil},
		{[]string{"INPUT_CALL=check"}, nil},
	} {
		if got := mustParse(t, nil, tt.environ...).InEngine; !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q: %+v, want %+v", tt.environ, got, tt.want)
		}
	}
}

func TestOutputs(t *testing.T) {
	t.Parallel()
	type attrs = map[string]string
	const app = "docker.io/o/app:latest"
	for _, tt := range []struct {
		name    string
		environ []string
		want    []Output
	}{
		{"push", []string{"INPUT_PUSH=true", "INPUT_TAGS=o/app"}, []Output{{0, "image", attrs{"push": "true", "name": app}, ""}}},
		{"registry", []string{"INPUT_OUTPUTS=type=registry,name=o/app"}, []Output{{1, "image", attrs{"push": "true", "name": app}, ""}}},
		{"push sets push", []string{"INPUT_PUSH=true", "INPUT_TAGS=o/app", "INPUT_OUTPUTS=type=image,push=false,compression=zstd"},
			[]Output{{1, "image", attrs{"push": "true", "name": app, "compression": "zstd"}, ""}}},
		{"push adds an image", []string{"INPUT_PUSH=true", "INPUT_TAGS=o/app", "INPUT_OUTPUTS=out"},
			[]Output{{1, "local", attrs{}, "out"}, {0, "image", attrs{"push": "true", "name": app}, ""}}},
		{"tags come before names", []string{"INPUT_TAGS=o/app", "INPUT_OUTPUTS=type=oci,name=x,dest=a.tar"},
			[]Output{{1, "oci", attrs{"name": app}, "a.tar"}}},
		{"several names", []string{`INPUT_OUTPUTS=type=image,"name=o/app,o/b:1"`}, []Output{{1, "image", attrs{"name": app + ",docker.io/o/b:1"}, ""}}},
		{"by digest", []string{"INPUT_TAGS=o/app", "INPUT_OUTPUTS=type=image,push-by-digest=true,push=true,name-canonical=1"},
			[]Output{{1, "image", attrs{"push": "true", "push-by-digest": "true", "name-canonical": "1", "name": "docker.io/o/app"}, ""}}},
		{"a part", []string{"INPUT_OUTPUTS=type=local,dest=out,src=/app/reports\ntype=tar,dest=-,src=app"},
			[]Output{{1, "local", attrs{"src": "/app/reports"}, "out"}, {2, "tar", attrs{"src": "app"}, "-"}}},
		{"files", []string{"INPUT_OUTPUTS=-\ntype=local,dest=out,mode=delete\ntype=docker,dest=-\ntype=oci,tar=false,dest=layout"},
			[]Output{{1, "tar", attrs{}, "-"}, {2, "local", attrs{"mode": "delete"}, "out"}, {3, "docker", attrs{}, "-"}, {4, "oci", attrs{"tar": "false"}, "layout"}}},
		{"annotations", []string{"INPUT_OUTPUTS=type=image,annotation-manifest[linux/amd64].a=b,annotation.c=d"},
			[]Output{{1, "image", attrs{"annotation-manifest[linux/amd64].a": "b", "annotation.c": "d"}, ""}}},
		{"no artifacts", []string{"BUILDX_NO_DEFAULT_OCI_ARTIFACT=1", "INPUT_TAGS=o/app", "INPUT_OUTPUTS=type=image\ntype=oci,dest=a.tar,oci-artifact=true\ntype=docker\nout"}, []Output{
			{1, "image", attrs{"name": app, "oci-artifact": "false"}, ""}, {2, "oci", attrs{"name": app, "oci-artifact": "true"}, "a.tar"},
			{3, "docker", attrs{"name": app}, ""}, {4, "local", attrs{}, "out"},
		}},
		{"compressed", []string{"INPUT_IMAGE_COMPRESSION=zstd:3", "INPUT_TAGS=o/app", "INPUT_PUSH=true", "INPUT_LOAD=true", "INPUT_OUTPUTS=type=oci,dest=a.tar\ntype=oci,dest=b.tar,compression=gzip\nout"}, []Output{
			{1, "oci", attrs{"name": app, "compression": "zstd", "compression-level": "3"}, "a.tar"}, {2, "oci", attrs{"name": app, "compression": "gzip"}, "b.tar"},
			{3, "local", attrs{}, "out"}, {0, "image", attrs{"push": "true", "name": app, "compression": "zstd", "compression-level": "3"}, ""},
			{0, "docker", attrs{"name": app}, ""},
		}},
		{"load", []string{"INPUT_LOAD=true", "INPUT_TAGS=o/app", "INPUT_PLATFORMS=linux/amd64,linux/arm64"}, []Output{{0, "docker", attrs{"name": app}, ""}}},
		{"load as an output", []string{"INPUT_LOAD=true", "INPUT_OUTPUTS=type=docker"}, []Output{{1, "docker", attrs{}, ""}}},
		{"load beside a file and push", []string{"INPUT_LOAD=true", "INPUT_PUSH=true", "INPUT_TAGS=o/app", "INPUT_OUTPUTS=type=docker,dest=a.tar"},
			[]Output{{1, "docker", attrs{"name": app}, "a.tar"}, {0, "image", attrs{"push": "true", "name": app}, ""}, {0, "docker", attrs{"name": app}, ""}}},
		{"call", []string{"INPUT_CALL=check", "INPUT_PUSH=true", "INPUT_TAGS=o/app"}, nil},
		{"cacheonly", []string{"INPUT_OUTPUTS=type=cacheonly"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := mustParse(t, nil, tt.environ...).Outputs
			if len(got)+len(tt.want) > 0 && !reflect.DeepEqual(got, tt.want) {
				t.Errorf("outputs are\n%v, want\n%v", got, tt.want)
			}
		})
	}
}

func TestPushed(t *testing.T) {
	t.Parallel()
	v := mustParse(t, nil, "INPUT_OUTPUTS=type=registry,\"name=o/a:1,o/b:1\"\ntype=image,name=o/c\ntype=image,push=1,name=o/a:1")
	if want := []string{"docker.io/o/a:1", "docker.io/o/b:1"}; !slices.Equal(v.Pushed(), want) {
		t.Errorf("pushed are %v, want %v", v.Pushed(), want)
	}
}

func TestOutputProblems(t *testing.T) {
	t.Parallel()
	const deleting = "outputs: line 1: mode=delete would delete files that are not below the working directory\nhint: set allow to buildx.local.delete if they may be deleted"
	dir := checkout(t)
	if err := os.Mkdir(filepath.Join(dir, "out"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(t.TempDir(), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		outputs string
		more    []string
		want    string
	}{
		{more: []string{"INPUT_PUSH=true"}, want: "push: there is no name to push the image to\nhint: set tags"},
		{more: []string{"INPUT_PUSH=true", "INPUT_TAGS=O/app"}, want: "tags: line 1: \"O/app\" has upper-case letters in its repository\nhint: write \"o/app\""},
		{outputs: "type=registry,name=O/app", want: "outputs: line 1: name: \"O/app\" has upper-case letters in its repository\nhint: write \"o/app\""},
		{outputs: "type=registry", want: "outputs: line 1: there is no name to push the image to\nhint: set tags"},
		{outputs: "type=imgae", want: "outputs: line 1: type \"imgae\" is unknown\nhint: did you mean \"image\"?"},
		{outputs: "type=image,psh=true", want: "outputs: line 1: attribute \"psh\" is unknown\nhint: did you mean \"push\"?"},
		{outputs: "type=image,hunter2/hunter2=x", want: "outputs: line 1: an attribute is unknown"},
		{outputs: "type=local,dest=out,src=", want: "outputs: line 1: src is empty\nhint: name a directory of the result, or leave it out for all of it"},
		{outputs: "type=oci,dest=out.tar,src=/app", want: "outputs: line 1: attribute \"src\" is unknown"},
		{outputs: "type=local,dest=out,push=true", want: "outputs: line 1: attribute \"push\" is unknown"},
		{outputs: "type=image,push=yes", want: "outputs: line 1: push: \"yes\" is neither true nor false"},
		{outputs: "type=image,compression=lz4", want: "outputs: line 1: compression: \"lz4\" is none of gzip, estargz, zstd, uncompressed"},
		{outputs: "type=image,compression=zstd,compression-level=23", want: "outputs: line 1: compression-level=23 is out of range for zstd\nhint: zstd goes from 0 to 22"},
		{outputs: "type=image,compression-level=10", want: "outputs: line 1: compression-level=10 is out of range for gzip\nhint: gzip goes from 0 to 9"},
		{outputs: "type=image,compression=estargz,oci-mediatypes=false", want: "outputs: line 1: compression=estargz needs oci-mediatypes=true\nhint: use compression=gzip, or oci-mediatypes=true"},
		{outputs: "type=image,oci-artifact=true,oci-mediatypes=0", want: "outputs: line 1: oci-artifact needs OCI media types\nhint: remove oci-mediatypes"},
		{outputs: "type=image", more: []string{"INPUT_IMAGE_COMPRESSION=zst"}, want: "image-compression: \"zst\" is unknown\nhint: did you mean \"zstd\"?"},
		{outputs: "type=image", more: []string{"INPUT_IMAGE_COMPRESSION=zstd:23"}, want: "image-compression: compression-level=23 is out of range for zstd\nhint: zstd goes from 0 to 22"},
		{outputs: "type=image", more: []string{"INPUT_IMAGE_COMPRESSION=gzip:best"}, want: "image-compression: level \"best\" is not a number from 0\nhint: use gzip, or gzip:3"},
		{outputs: "type=image,oci-mediatypes=false", more: []string{"INPUT_IMAGE_COMPRESSION=zstd"}, want: "outputs: line 1: compression=zstd needs oci-mediatypes=true\nhint: use compression=gzip, or oci-mediatypes=true"},
		{outputs: "type=image,annotation-layer.a=b", want: "outputs: line 1: this output cannot have that annotation"},
		{outputs: "type=image,name=O/App", want: "outputs: line 1: name: \"O/App\" has upper-case letters in its repository\nhint: write \"o/app\""},
		{outputs: "type=image,push-by-digest=true,name=o/app:1", want: "outputs: line 1: an image pushed by digest has a tag\nhint: leave the tag out of its name"},
		{outputs: "type=local", want: "outputs: line 1: dest is missing\nhint: add dest= and a path"},
		{outputs: "type=local,dest=Dockerfile", want: "outputs: line 1: dest \"Dockerfile\" is not a directory"},
		{outputs: "type=tar,dest=out", want: "outputs: line 1: dest \"out\" is a directory"},
		{outputs: "type=docker,tar=false", want: "outputs: line 1: dest is missing\nhint: add dest= and a path"},
		{outputs: "type=docker,dest=x.tar", more: []string{"INPUT_SBOM=true"}, want: "outputs: line 1: type docker holds no attestations\nhint: use type=oci, or leave provenance, sbom and attests out"},
		{outputs: "type=local,dest=.,mode=delete", want: deleting},
		{outputs: "type=local,dest=link/out,mode=delete", want: deleting},
		{outputs: "type=local,dest=..,mode=delete", want: deleting},
		{outputs: "type=local,dest=..,mode=delete", more: []string{"INPUT_ALLOW=buildx.local.delete"}},
		{outputs: "type=image,dest=x", want: "outputs: line 1: type image has no dest\nhint: use type=oci for a file"},
		{outputs: "type=docker,dest=x.tar", more: []string{"INPUT_PLATFORMS=linux/amd64,linux/arm64"}, want: "outputs: line 1: type docker holds one platform, and several are built\nhint: use type=oci"},
	} {
		t.Run(tt.outputs, func(t *testing.T) {
			t.Parallel()
			_, problems := Parse(nil, append(tt.more, "INPUT_OUTPUTS="+tt.outputs), dir)
			if got := problems.Error(); got != tt.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, tt.want)
			}
		})
	}
}
