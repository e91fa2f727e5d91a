package inputs

import (
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"

	"github.com/warmlayer/warmlayer/internal/builderspec"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

var (
	annotationLevels = []string{
		exptypes.AnnotationManifest, exptypes.AnnotationIndex,
		exptypes.AnnotationManifestDescriptor, exptypes.AnnotationIndexDescriptor,
	}
	annotationLevel = regexp.MustCompile(`^([a-z-]+)(?:\[([A-Za-z0-9_/-]+)\])?$`) // manifest[linux/amd64]
)

// An annotation is a key at one level of an image, and its value.
type annotation struct {
	line  int
	key   exptypes.AnnotationKey
	value string
}

// annotate gives every image among the outputs the annotations, under BuildKit's names
// (exporter/containerimage/exptypes). Without any output, as in a workflow that pushes
// nothing for pull requests, annotations are ignored.
func (p *parser) annotate(v Values) {
	images := slices.Clone(v.Outputs)
	if v.Builders[0].Address.Kind == builderspec.Engine {
		images = append(images, v.InEngine...)
	}
	images = slices.DeleteFunc(images, func(o Output) bool { return o.Type == "local" || o.Type == "tar" })
	all := p.annotations(v.Platforms)
	if len(all) > 0 && len(images) == 0 && len(v.Outputs) > 0 {
		p.report("annotations", 0, "no output is an image that can have annotations", "add an output of type image or oci")
	}
	for _, a := range all {
		for _, o := range images {
			if problem := v.cannotAnnotate(o, a.key); problem != nil {
				p.report("annotations", a.line, problem.What, problem.Hint)
				break
			}
			o.Attrs[a.key.String()] = a.value
		}
	}
}

// cannotAnnotate is why BuildKit would refuse an annotation after the whole build
// (exporter/containerimage/writer.go in v0.34.2), or nil.
func (v Values) cannotAnnotate(o Output, key exptypes.AnnotationKey) *syntax.Problem {
	docker := o.Attrs["oci-mediatypes"] != "" && !syntax.IsTrue(o.Attrs["oci-mediatypes"])
	index := key.Type == exptypes.AnnotationIndex || key.Type == exptypes.AnnotationIndexDescriptor
	switch {
	case index && !v.isIndex(o):
		return &syntax.Problem{What: "an image of one platform has no index", Hint: "leave " + key.Type + " out, or keep the default provenance, which adds one"}
	case docker && key.Type != "" && key.Type != exptypes.AnnotationManifest:
		return &syntax.Problem{What: key.Type + " needs OCI media types", Hint: "remove oci-mediatypes from outputs"}
	}
	return nil
}

// isIndex tells whether the image is an index: of several platforms, or of one platform and
// attestations. Attestations that are inline only are in pushed images, and in archives with
// attestation-inline (exporter/containerimage/export.go, exporter/oci).
func (v Values) isIndex(o Output) bool {
	if len(v.Platforms) > 1 || v.MultiPlatform || v.Command == commandMerge {
		return true
	}
	forced := o.Type == "image"
	if given := o.Attrs["attestation-inline"]; given != "" {
		forced = syntax.IsTrue(given)
	}
	return slices.ContainsFunc(v.Attests, func(a Attestation) bool { return forced || !a.InlineOnly() })
}

// annotations reads key=value, with levels before the key, such as index,manifest:key
// (util/buildflags/export.go in buildx).
func (p *parser) annotations(built []string) []annotation {
	var all []annotation
	for _, it := range p.list("annotations") {
		name, value, ok := strings.Cut(it.Text, "=")
		levels, key, leveled := strings.Cut(name, ":")
		if !leveled {
			levels, key = "", name
		}
		if !ok || key == "" || strings.ContainsAny(key, " \t\n") {
			p.report("annotations", it.Line, "expected key=value", "write it like key=value or index,manifest:key=value")
			continue
		}
		for level := range strings.SplitSeq(levels, ",") {
			k := exptypes.AnnotationKey{Key: key}
			if merges := p.command() == commandMerge; merges && !leveled {
				k.Type = exptypes.AnnotationIndex
			} else if merges && level != exptypes.AnnotationIndex {
				p.report("annotations", it.Line, "the images exist already", "give "+level+" annotations in the jobs that build them")
				continue
			} else if leveled {
				var problem *syntax.Problem
				if k.Type, k.Platform, problem = parseLevel(level, built); problem != nil {
					p.report("annotations", it.Line, problem.What, problem.Hint)
					continue
				}
			}
			all = append(all, annotation{it.Line, k, value})
		}
	}
	return all
}

// parseLevel reads a level such as manifest[linux/amd64]. The platform must be among those
// built, if these are known.
func parseLevel(text string, built []string) (string, *platforms.Platform, *syntax.Problem) {
	groups := annotationLevel.FindStringSubmatch(text)
	switch {
	case groups == nil || !slices.Contains(annotationLevels, groups[1]):
		return "", nil, &syntax.Problem{What: syntax.Quoted(text) + " is not a level of an image", Hint: syntax.DidYouMean(text, annotationLevels)}
	case groups[2] == "":
		return groups[1], nil, nil
	}
	name, ok := syntax.Platform(strings.ToLower(groups[2]))
	switch {
	case !ok:
		return "", nil, &syntax.Problem{What: syntax.Quoted(groups[2]) + " is not a platform", Hint: "write it like linux/amd64 or linux/arm/v7"}
	case len(built) > 0 && !slices.Contains(built, name):
		return "", nil, &syntax.Problem{What: "platform " + syntax.Quoted(groups[2]) + " is not built", Hint: "add it to platforms"}
	}
	parsed := platforms.MustParse(name)
	return groups[1], &parsed, nil
}
