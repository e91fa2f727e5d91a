package cachemiss

import (
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"
)

// TestLayered: a step has the layers that its inputs lack, in every compression. A cached step without layers has those that a
// former build remembers of it; a step that ran has not.
func TestLayered(t *testing.T) {
	t.Parallel()
	of := func(text string) digest.Digest { return digest.FromString(text) }
	ids := func(texts ...string) string {
		var all []string
		for _, text := range texts {
			all = append(all, LayerID(of(text)))
		}
		return strings.Join(all, " ")
	}
	command := []Fact{{Key: "command", Hash: Hash("make")}}
	m := Memory{Steps: []Step{
		{Digest: of("base"), Name: "debian", Kind: Source},
		{Digest: of("run"), Name: "RUN make", Kind: Exec, Inputs: []int{0}, Facts: command},
		{Digest: of("copy"), Name: "COPY --from=build /out /", Kind: File, Inputs: []int{0, 1}},
		{Digest: of("cached"), Name: "RUN test", Kind: Exec, Inputs: []int{1}, Facts: command},
		{Digest: of("ran"), Name: "RUN lint", Kind: Exec, Inputs: []int{1}, Facts: command},
	}}
	chains := Chains{
		of("base"): {{of("b1"), of("b2")}},
		of("run"):  {{of("b1"), of("b2"), of("r.gzip")}, {of("b1"), of("b2"), of("r.zstd")}},
		of("copy"): {{of("b1"), of("b2"), of("c")}},
	}
	former := []Memory{
		{Steps: []Step{{Name: "RUN test", Kind: Exec, Facts: []Fact{{Key: "command", Hash: Hash("make -n")}}, Layers: []string{"another command"}}}},
		{Steps: []Step{
			{Name: "RUN test", Kind: Exec, Facts: command, Layers: []string{"t"}},
			{Name: "RUN lint", Kind: Exec, Facts: command, Layers: []string{"l"}},
			{Name: "RUN make", Kind: Exec, Facts: command, Layers: []string{"m"}},
		}},
	}
	got := m.Layered(chains, func(d digest.Digest) bool { return d == of("ran") }, former)
	for i, want := range []string{ids("b1", "b2"), ids("r.gzip", "r.zstd"), ids("c"), "t", ""} {
		if text := strings.Join(got.Steps[i].Layers, " "); text != want {
			t.Errorf("%s: %s, want %s", got.Steps[i].Name, text, want)
		}
	}
	if m.Steps[0].Layers != nil {
		t.Error("the former value changed")
	}
	parsed, err := Parse(got.Stored(MaxStored))
	if err != nil || strings.Join(parsed.Steps[1].Layers, " ") != ids("r.gzip", "r.zstd") {
		t.Errorf("stored: %v, %v", parsed.Steps, err)
	}
}
