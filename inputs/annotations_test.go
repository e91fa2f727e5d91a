package inputs

import (
	"reflect"
	"testing"
)

func TestAnnotations(t *testing.T) {
	t.Parallel()
	type attrs = map[string]string
	image := []string{"INPUT_OUTPUTS=type=image"}
	max := []string{"INPUT_OUTPUTS=type=image", "INPUT_PROVENANCE=mode=max"}
	both := []string{"INPUT_OUTPUTS=type=image", "INPUT_PLATFORMS=linux/amd64,linux/arm64"}
	docker := []string{"INPUT_OUTPUTS=type=image,oci-mediatypes=false", "INPUT_SBOM=true"}
	for _, tt := range []struct {
		annotations string
		environ     []string
		want        attrs // of the last output
		problems    string
	}{
		{annotations: "a.b=c=d", environ: image, want: attrs{"annotation.a.b": "c=d"}},
		{annotations: "manifest:a=b", environ: image, want: attrs{"annotation-manifest.a": "b"}},
		{annotations: "index,manifest-descriptor:a=b\nindex-descriptor:c=", environ: max,
			want: attrs{"annotation-index.a": "b", "annotation-manifest-descriptor.a": "b", "annotation-index-descriptor.c": ""}},
		{annotations: "manifest[linux/amd64],manifest[linux/arm64/v8]:a=b", environ: both, want: attrs{"annotation-manifest[linux/amd64].a": "b", "annotation-manifest[linux/arm64].a": "b"}},
		{annotations: "index:a=b", environ: []string{"INPUT_OUTPUTS=type=oci,dest=x", "INPUT_BUILD-ARGS=BUILDKIT_MULTI_PLATFORM=1"}, want: attrs{"annotation-index.a": "b"}},
		{annotations: "index:a=b", environ: []string{"INPUT_OUTPUTS=type=oci,dest=x,attestation-inline=1"}, want: attrs{"attestation-inline": "1", "annotation-index.a": "b"}},
		{annotations: "a=b", environ: []string{"INPUT_OUTPUTS=out\ntype=docker"}, want: attrs{"annotation.a": "b"}},
		{annotations: "a=b", environ: []string{"INPUT_OUTPUTS=type=image,annotation.a=c"}, want: attrs{"annotation.a": "b"}},
		{annotations: "a=b\nmanifest:c=d", environ: docker, want: attrs{"oci-mediatypes": "false", "annotation.a": "b", "annotation-manifest.c": "d"}},
		{annotations: "index:a=b", environ: image, want: attrs{"annotation-index.a": "b"}},
		{annotations: "index:a=b"}, // as for a pull request, which pushes nothing

		{annotations: "a=b", environ: []string{"INPUT_OUTPUTS=out"}, problems: "annotations: no output is an image that can have annotations\nhint: add an output of type image or oci"},
		{annotations: "index:a=b", environ: []string{"INPUT_OUTPUTS=type=oci,dest=x"}, problems: "annotations: line 1: an image of one platform has no index\nhint: leave index out, or keep the default provenance, which adds one"},
		{annotations: "index:a=b", environ: append(image, "INPUT_PROVENANCE=false"), problems: "annotations: line 1: an image of one platform has no index\nhint: leave index out, or keep the default provenance, which adds one"},
		{annotations: "a=b\nmanifest-descriptor:a=b", environ: docker, problems: "annotations: line 2: manifest-descriptor needs OCI media types\nhint: remove oci-mediatypes from outputs"},
		{annotations: "a", environ: image, problems: "annotations: line 1: expected key=value\nhint: write it like key=value or index,manifest:key=value"},
		{annotations: "a b=c", environ: image, problems: "annotations: line 1: expected key=value\nhint: write it like key=value or index,manifest:key=value"},
		{annotations: "manifest:=c", environ: image, problems: "annotations: line 1: expected key=value\nhint: write it like key=value or index,manifest:key=value"},
		{annotations: "manifets:a=c", environ: image, problems: "annotations: line 1: \"manifets\" is not a level of an image\nhint: did you mean \"manifest\"?"},
		{annotations: "manifest[linux/x y]:a=c", environ: image, problems: "annotations: line 1: \"manifest[linux/x y]\" is not a level of an image\nhint: use one of manifest, index, manifest-descriptor, index-descriptor"},
		{annotations: "manifest[linus]:a=c", environ: image, problems: "annotations: line 1: \"linus\" is not a platform\nhint: write it like linux/amd64 or linux/arm/v7"},
		{annotations: "manifest[linux/s390x]:a=c", environ: both, problems: "annotations: line 1: platform \"linux/s390x\" is not built\nhint: add it to platforms"},
	} {
		t.Run(tt.annotations, func(t *testing.T) {
			t.Parallel()
			v, problems := Parse(nil, append(tt.environ, "INPUT_ANNOTATIONS="+tt.annotations), checkout(t))
			if got := problems.Error(); got != tt.problems {
				t.Fatalf("got:\n%s\nwant:\n%s", got, tt.problems)
			}
			if tt.problems != "" || tt.want == nil {
				return
			}
			if got := v.Outputs[len(v.Outputs)-1].Attrs; !reflect.DeepEqual(got, tt.want) {
				t.Errorf("attributes are %v, want %v", got, tt.want)
			}
		})
	}
}
