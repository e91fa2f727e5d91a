package cachegraph

import (
	"fmt"
	"testing"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// chainOf is a config of steps in a row, each with one layer on those before it, and the layer of step
// n found by two records.
func chainOf(t *testing.T, builds string, layers ...string) Cache {
	t.Helper()
	records, named, descriptors := "", "", []ocispecs.Descriptor{}
	for i, l := range layers {
		d := digest.FromString(l)
		descriptors = append(descriptors, ocispecs.Descriptor{Digest: d, Size: 1})
		named += fmt.Sprintf(`,{"blob":%q,"parent":%d}`, d, i-1)
		for _, key := range []string{"a", "b"} {
			records += fmt.Sprintf(`,{"digest":%q,"layers":[{"layer":%d,"createdAt":"2026-01-0%dT00:00:00Z"}]}`, digest.FromString(fmt.Sprint(key, i)), i, i+1)
		}
	}
	c, err := Parse([]byte(fmt.Sprintf(`{"layers":[%s],"records":[%s]%s}`, named[1:], records[1:], builds)), descriptors)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Results count once, for the build that used them, and only with all layers below.
func TestCommon(t *testing.T) {
	t.Parallel()
	// Each step has two records, so the bits of the first two steps are 1111.
	built := `,"builds":[{"variant":"v","result":"r","time":"2026-01-01T00:00:00Z","records":"Dw=="}]`
	main := chainOf(t, "", "one", "two", "three")
	for _, test := range []struct {
		c               Cache
		variant, result string
		other           Cache
		want            int
	}{
		{main, "", "", main, 3},
		{chainOf(t, "", "one", "two", "other"), "", "", main, 2},
		{chainOf(t, "", "other", "two", "three"), "", "", main, 0},
		{chainOf(t, built, "one", "two", "three"), "v", "r", main, 2},
		{chainOf(t, built, "one", "two", "three"), "v", "another", main, 3},
		{main, "", "", main.Without(map[digest.Digest]bool{digest.FromString("two"): true}), 1},
		{main, "", "", Cache{}, 0},
	} {
		if got, err := Common(test.c, test.variant, test.result, test.other); err != nil || got != test.want {
			t.Errorf("%+v %s %s: %d, %v; want %d", test.c.Config, test.variant, test.result, got, err, test.want)
		}
	}
}
