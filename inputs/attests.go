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

	// provenanceAttributes are those that BuildKit v0.33.1 reads
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

// attestation is one that is asked for or, disabled, is not to be made.
type attestation struct {
	kind     string // provenance or sbom
	disabled bool
	attrs    []syntax.Pair
}

// text is the attestation as the frontend takes it.
func (a attestation) text() string { return syntax.FormatCSV(a.attrs) }

// attests reads the attestations as docker/build-push-action does (src/context.ts):
// the inputs provenance and sbom come before attests. explicit tells whether the user asked for any.
func (p *parser) attests(outputs []Output) (all map[string]string, explicit bool) {
	all = map[string]string{}
	asked := p.asked()
	for _, a := range asked {
		if a.disabled {
			continue
		}
		all[a.kind] = a.text()
		explicit = true
	}
	noDefault := p.envBool("BUILDX_NO_DEFAULT_ATTESTATIONS", false)
	provenance := slices.ContainsFunc(asked, func(a attestation) bool { return a.kind == "provenance" })
	archive := slices.ContainsFunc(outputs, func(o Output) bool { return o.Type == "docker" })
	if !provenance && !noDefault && !archive {
		all["provenance"] = attestation{attrs: p.defaultProvenance()}.text()
	}
	return all, explicit
}

// defaultProvenance tells all about the build of a public repository. Elsewhere that
// could publish what is private, such as build arguments.
func (p *parser) defaultProvenance() []syntax.Pair {
	if p.onGitHub() && p.isPublic() {
		return []syntax.Pair{{Key: "mode", Value: "max"}}
	}
	return []syntax.Pair{{Key: "mode", Value: "min"}, {Key: "inline-only", Value: "true"}}
}

// BuiltBy makes the page of the run, "" for none, the builder-id of a provenance that names
// none, as docker/build-push-action does on GitHub (src/context.ts).
func (v *Values) BuiltBy(page string) {
	text, made := v.Attests["provenance"]
	if page == "" || !made {
		return
	}
	attrs, _ := csvvalue.Fields(text, nil) // what formatCSV has written
	if !slices.ContainsFunc(attrs, func(a string) bool { return strings.HasPrefix(a, "builder-id=") }) {
		v.Attests["provenance"] = strings.TrimPrefix(text+","+syntax.FormatCSV([]syntax.Pair{{Key: "builder-id", Value: page}}), ",")
	}
}

// asked reads the three inputs, one attestation of each type.
func (p *parser) asked() []attestation {
	var all []attestation
	for _, kind := range attestTypes {
		if text := p.value(kind); text != "" {
			all = append(all, p.attestation(kind, kind, 0, text))
		}
	}
	fromInputs := len(all)
	for _, it := range p.list("attests") {
		a := p.attestation("attests", "", it.Line, it.Text)
		before := slices.IndexFunc(all, func(b attestation) bool { return b.kind == a.kind })
		switch {
		case before < 0:
			all = append(all, a)
		case before >= fromInputs && a.kind != "":
			p.report("attests", it.Line, "type "+a.kind+" is given twice", "leave one of the lines out")
		}
	}
	return all
}

// attestation reads CSV such as type=provenance,mode=max, whose type may be known
// already. As in buildx's util/buildflags, true and false alone stand for disabled.
func (p *parser) attestation(input, kind string, line int, text string) attestation {
	a := attestation{kind: kind}
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
			a.kind = value
		case strings.EqualFold(key, "disabled"):
			a.disabled = p.attestBool(input, line, key, value)
		default:
			a.attrs = append(a.attrs, syntax.Pair{Key: key, Value: value})
		}
	}
	p.checkAttestation(input, line, a)
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

// checkAttestation checks the type and a provenance's attributes. Those of an SBOM are
// for its generator, whatever they are.
func (p *parser) checkAttestation(input string, line int, a attestation) {
	switch {
	case a.kind == "":
		p.report(input, line, "the type is missing", "begin with type=")
	case !slices.Contains(attestTypes, a.kind):
		p.report(input, line, "type "+syntax.Quoted(a.kind)+" is unknown", syntax.DidYouMean(a.kind, attestTypes))
	case a.kind == "provenance":
		for _, attr := range a.attrs {
			p.attribute(input, line, provenanceAttributes, attr.Key, attr.Value)
		}
	}
}
