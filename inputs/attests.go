package inputs

import (
	"slices"
	"strconv"
	"strings"

	"github.com/tonistiigi/go-csvvalue"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

var (
	attestTypes = []string{"provenance", "sbom"}

	// provenanceAttributes are those that BuildKit v0.34.2 reads
	// (solver/llbsolver/provenance.go and proc/provenance.go).
	provenanceAttributes = []Field{
		{Name: "mode", Choices: []string{"min", "max"}},
		{Name: "builder-id"},
		{Name: "version", Choices: []string{"v1", "v0.2"}},
		{Name: "inline-only", Kind: syntax.Bool},
		{Name: "reproducible", Kind: syntax.Bool},
		{Name: "capture-usage", Kind: syntax.Bool},
		{Name: "complete-materials", Kind: syntax.Bool},
		{Name: "filename"},
	}
)

// Attestation is one attestation of an image.
type Attestation struct {
	Type  string        // provenance or sbom
	Attrs []syntax.Pair // in order; of a provenance those of BuildKit, of an SBOM those of its generator
}

// String is the attributes as the frontend takes them: "mode=max,builder-id=…", or "".
func (a Attestation) String() string { return syntax.FormatCSV(a.Attrs) }

// InlineOnly tells whether the attestation is for results alone that keep attestations
// beside the image: for a registry, and not for a file.
func (a Attestation) InlineOnly() bool {
	return slices.ContainsFunc(a.Attrs, func(p syntax.Pair) bool { return p.Key == "inline-only" && syntax.IsTrue(p.Value) })
}

// Attestations are the attestations of an image, at most one of each type.
type Attestations []Attestation

// WithoutBuildArgs gives a provenance that has build arguments, in every mode but min, the mode min.
// changed tells whether there was one.
func (all Attestations) WithoutBuildArgs() (without Attestations, changed bool) {
	all = slices.Clone(all)
	minimal := syntax.Pair{Key: "mode", Value: "min"}
	for i, a := range all {
		if a.Type == "provenance" && !slices.Contains(a.Attrs, minimal) {
			others := slices.DeleteFunc(slices.Clone(a.Attrs), func(p syntax.Pair) bool { return p.Key == minimal.Key })
			all[i].Attrs, changed = append([]syntax.Pair{minimal}, others...), true
		}
	}
	return all, changed
}

// WithBuilderID gives the builder-id to a provenance that has none, as
// docker/build-push-action does on GitHub with the page of the run (src/context.ts). An
// empty id changes nothing.
func (all Attestations) WithBuilderID(id string) Attestations {
	all = slices.Clone(all)
	for i, a := range all {
		if id != "" && a.Type == "provenance" && !has(a.Attrs, "builder-id") {
			all[i].Attrs = append(slices.Clip(a.Attrs), syntax.Pair{Key: "builder-id", Value: id})
		}
	}
	return all
}

// request is an attestation that is asked for or, disabled, refused.
type request struct {
	Attestation
	disabled bool
}

// attests reads the attestations as docker/build-push-action does (src/context.ts): the
// inputs provenance and sbom come before attests. explicit tells whether the user asked for any.
func (p *parser) attests(outputs []Output) (all Attestations, explicit bool) {
	asked := p.asked()
	for _, a := range asked {
		if !a.disabled {
			all = append(all, a.Attestation)
		}
	}
	explicit = len(all) > 0
	noDefault := p.envBool("BUILDX_NO_DEFAULT_ATTESTATIONS", false)
	provenance := slices.ContainsFunc(asked, func(r request) bool { return r.Type == "provenance" })
	archive := slices.ContainsFunc(outputs, func(o Output) bool { return o.Type == "docker" })
	if !provenance && !noDefault && !archive {
		all = append(all, Attestation{Type: "provenance", Attrs: p.defaultProvenance()})
	}
	return all, explicit
}

// defaultProvenance describes the build of a public repository in full. Elsewhere that
// could publish private facts, such as build arguments.
func (p *parser) defaultProvenance() []syntax.Pair {
	if p.repository.Public {
		return []syntax.Pair{{Key: "mode", Value: "max"}}
	}
	return []syntax.Pair{{Key: "mode", Value: "min"}, {Key: "inline-only", Value: "true"}}
}

// asked reads the three inputs, one attestation of each type.
func (p *parser) asked() []request {
	var all []request
	for _, kind := range attestTypes {
		if text := p.value(kind); text != "" {
			all = append(all, p.attestation(kind, kind, 0, text))
		}
	}
	fromInputs := len(all)
	for _, it := range p.list("attests") {
		a := p.attestation("attests", "", it.Line, it.Text)
		before := slices.IndexFunc(all, func(b request) bool { return b.Type == a.Type })
		switch {
		case before < 0:
			all = append(all, a)
		case before >= fromInputs && a.Type != "":
			p.report("attests", it.Line, "type "+a.Type+" is given twice", "leave one of the lines out")
		}
	}
	return all
}

// attestation parses CSV such as type=provenance,mode=max. The type may be known already. As in
// buildx's util/buildflags, a single true or false sets disabled.
func (p *parser) attestation(input, kind string, line int, text string) request {
	a := request{Attestation: Attestation{Type: kind}}
	fields, err := csvvalue.Fields(text, nil)
	if err != nil {
		p.report(input, line, syntax.CSVError(err).Error(), `put quotes around a whole field: "builder-id=a,b"`)
		return a
	}
	for _, f := range fields {
		key, value, ok := strings.Cut(f, "=")
		switch b, err := strconv.ParseBool(f); {
		case err == nil:
			a.disabled = !b
		case !ok:
			p.report(input, line, "expected true, false or attributes", "write it like "+exampleAttests[input])
		case strings.EqualFold(key, "type") && kind == "":
			a.Type = value
		case strings.EqualFold(key, "disabled"):
			a.disabled = p.attestBool(input, line, key, value)
		default:
			a.Attrs = append(a.Attrs, syntax.Pair{Key: key, Value: value})
		}
	}
	p.checkAttestation(input, line, a.Attestation)
	return a
}

var exampleAttests = map[string]string{
	"provenance": "mode=max",
	"sbom":       "generator=docker/buildkit-syft-scanner",
	"attests":    "type=provenance,mode=max",
}

func (p *parser) attestBool(input string, line int, key, value string) bool {
	p.attribute(input, line, []Field{{Name: "disabled", Kind: syntax.Bool}}, strings.ToLower(key), value)
	return syntax.IsTrue(value)
}

// checkAttestation checks the type and a provenance's attributes. An SBOM's generator checks
// its own.
func (p *parser) checkAttestation(input string, line int, a Attestation) {
	switch {
	case a.Type == "":
		p.report(input, line, "the type is missing", "begin with type=")
	case !slices.Contains(attestTypes, a.Type):
		p.report(input, line, "type "+syntax.Quoted(a.Type)+" is unknown", syntax.DidYouMean(a.Type, attestTypes))
	case a.Type == "provenance":
		for _, attr := range a.Attrs {
			p.attribute(input, line, provenanceAttributes, attr.Key, attr.Value)
		}
	}
}
