package inputs

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
)

// Output is one place where the result goes, resolved as buildx does: type registry
// is an image that is pushed, a bare path a local directory, tags are names.
type Output struct {
	Line  int               // in its input, from 1; 0: from push
	Type  string            // image, local, oci, docker or tar
	Attrs map[string]string // for the exporter; never nil, without type and dest
	Dest  string            // path from the working directory; "-": standard output; "": none
}

// Pushes tells whether the output is an image that is pushed.
func (o Output) Pushes() bool { return o.Type == "image" && isTrue(o.Attrs["push"]) }

// isTrue reads a boolean attribute as BuildKit does.
func isTrue(text string) bool {
	b, err := strconv.ParseBool(text)
	return err == nil && b
}

// Attributes of the exporters of BuildKit v0.33.1: exporter/containerimage
// (opts.go, export.go), exporter/oci and exporter/local (fs.go). They take unknown
// ones without a word.
var (
	resultAttributes = []Field{{Name: "dest"}, {Name: "source-date-epoch", Kind: Int}}
	layerAttributes  = append(slices.Clone(resultAttributes), []Field{
		{Name: "name"},
		{Name: "compression", Choices: Compressions},
		{Name: "compression-level", Kind: Int},
		{Name: "force-compression", Kind: Bool},
		{Name: "oci-mediatypes", Kind: Bool},
		{Name: "oci-artifact", Kind: Bool},
		{Name: "attestation-inline", Kind: Bool},
		{Name: "prefer-nondist-layers", Kind: Bool},
		{Name: "rewrite-timestamp", Kind: Bool},
	}...)
	imageAttributes = append(slices.Clone(layerAttributes), []Field{
		{Name: "push", Kind: Bool},
		{Name: "push-by-digest", Kind: Bool},
		{Name: "registry.insecure", Kind: Bool},
		{Name: "unpack", Kind: Bool},
		{Name: "store", Kind: Bool},
		{Name: "dangling-name-prefix"},
		{Name: "danging-name-empty-only", Kind: Bool}, // BuildKit's spelling
		{Name: "name-canonical", Kind: Bool},
	}...)
	archiveAttributes = append(slices.Clone(layerAttributes), Field{Name: "tar", Kind: Bool})
	filesAttributes   = append(slices.Clone(resultAttributes),
		Field{Name: "attestation-prefix"}, Field{Name: "platform-split", Kind: Bool})
	outputAttributes = map[string][]Field{
		"image":     imageAttributes,
		"registry":  imageAttributes,
		"oci":       archiveAttributes,
		"docker":    archiveAttributes,
		"local":     append(slices.Clone(filesAttributes), Field{Name: "mode", Choices: []string{"copy", "delete"}}),
		"tar":       filesAttributes,
		"cacheonly": nil, // buildx's: no output, also where one is the default
	}
	outputTypes = []string{"image", "registry", "local", "oci", "docker", "tar", "cacheonly"}
)

// outputs reads the outputs and works push and the tags into them as buildx does
// (commands/build.go, build/opt.go): push makes every image pushed, or adds one;
// tags are the names of every image, and come before a name of the output's.
func (p *parser) outputs(push bool, tags []reference.Named, platforms []string) []Output {
	var all []Output
	before := len(p.problems)
	for _, it := range p.list("outputs") {
		if o, ok := p.output(it); ok {
			all = append(all, o)
		}
	}
	all = slices.DeleteFunc(all, func(o Output) bool { return o.Type == "cacheonly" })
	if push {
		all = pushed(all)
	}
	for i := range all {
		p.nameOutput(&all[i], tags)
		if all[i].Type == "docker" && len(platforms) > 1 {
			p.report("outputs", all[i].Line, "type docker holds one platform, and several are built", "use type=oci")
		}
	}
	_, tagsGiven := p.settings["tags"]
	if len(p.problems) == before && (len(tags) > 0 || !tagsGiven) {
		p.needNames(all)
	}
	return all
}

// needNames reports what is pushed and has no name. It is for names without problems
// of their own, or there would be two for one mistake.
func (p *parser) needNames(outputs []Output) {
	for _, o := range outputs {
		if !o.Pushes() || o.Attrs["name"] != "" {
			continue
		}
		input := "push"
		if o.Line > 0 {
			input = "outputs"
		}
		p.report(input, o.Line, "there is no name to push the image to", "set tags")
	}
}

// pushed sets push on every image, or adds one that is pushed.
func pushed(outputs []Output) []Output {
	found := false
	for _, o := range outputs {
		if o.Type == "image" {
			o.Attrs["push"] = "true"
			found = true
		}
	}
	if found {
		return outputs
	}
	return append(outputs, Output{Type: "image", Attrs: map[string]string{"push": "true"}})
}

// output reads one line of outputs.
func (p *parser) output(it item) (Output, bool) {
	if !strings.ContainsAny(it.text, `=,"`) {
		o := Output{Line: it.line, Type: "local", Attrs: map[string]string{}, Dest: it.text}
		if it.text == "-" {
			o.Type = "tar"
		}
		return o, p.destination(o)
	}
	e, ok := p.entry("outputs", it)
	if !ok {
		return Output{}, false
	}
	known, ok := outputAttributes[e.Type]
	if !ok {
		p.report("outputs", it.line, "type "+quoted(e.Type)+" is unknown", didYouMean(e.Type, outputTypes))
		return Output{}, false
	}
	before := len(p.problems)
	for _, key := range sortedKeys(e.Attrs) {
		p.outputAttribute(it.line, known, key, e.Attrs[key])
	}
	p.compression("outputs", it.line, e.Attrs)
	o := Output{Line: it.line, Type: e.Type, Attrs: e.Attrs, Dest: e.Attrs["dest"]}
	delete(o.Attrs, "dest")
	if o.Type == "registry" {
		o.Type = "image"
		if o.Attrs["push"] == "" {
			o.Attrs["push"] = "true"
		}
	}
	return o, p.destination(o) && len(p.problems) == before
}

// outputAttribute checks one attribute of an output, which may be an annotation.
func (p *parser) outputAttribute(line int, known []Field, key, value string) {
	if _, ok, err := exptypes.ParseAnnotationKey(key); ok {
		if err != nil || slices.IndexFunc(known, func(f Field) bool { return f.Name == "name" }) < 0 {
			p.report("outputs", line, "the annotation has no such place", "")
		}
		return
	}
	p.attribute("outputs", line, known, key, value)
}

// attribute checks one attribute of an entry against those that its type knows.
func (p *parser) attribute(input string, line int, known []Field, key, value string) {
	at := slices.IndexFunc(known, func(f Field) bool { return f.Name == key })
	if at < 0 {
		var all []string
		for _, f := range known {
			all = append(all, f.Name)
		}
		p.report(input, line, attributeName(key)+" is unknown", nearestHint(key, all))
		return
	}
	f := known[at]
	if _, err := strconv.ParseBool(value); f.Kind == Bool && err == nil {
		return // 1, t and the like too
	}
	if _, problem := f.check(value); problem != nil {
		p.report(input, line, f.Name+": "+problem.What, problem.Hint)
	}
}

// compression checks what BuildKit refuses only after the whole build
// (ImageCommitOpts.Validate in exporter/containerimage/opts.go; for caches
// cache/remotecache/export.go), or not at all.
func (p *parser) compression(input string, line int, attrs map[string]string) {
	kind := attrs["compression"]
	docker := attrs["oci-mediatypes"] != "" && !isTrue(attrs["oci-mediatypes"])
	if docker && (kind == "zstd" || kind == "estargz") {
		p.report(input, line, "compression "+kind+" needs OCI media types", "remove oci-mediatypes")
	}
	if docker && isTrue(attrs["oci-artifact"]) {
		p.report(input, line, "oci-artifact needs OCI media types", "remove oci-mediatypes")
	}
	if docker && isTrue(attrs["image-manifest"]) {
		p.report(input, line, "image-manifest needs OCI media types", "remove oci-mediatypes")
	}
	highest := 9
	if kind == "zstd" {
		highest = highestLevel
	}
	if level, err := strconv.Atoi(attrs["compression-level"]); err == nil && level > highest {
		p.report(input, line, "compression-level is more than "+strconv.Itoa(highest), "")
	}
}

// destination checks that an output has the dest that its type needs.
func (p *parser) destination(o Output) bool {
	archive := o.Attrs["tar"] == "" || isTrue(o.Attrs["tar"])
	directory := o.Type == "local" || !archive
	info, err := os.Stat(locate(p.dir, o.Dest))
	what, hint := "", ""
	switch {
	case o.Type == "image" || o.Type == "cacheonly":
		if o.Dest != "" {
			what, hint = "type "+o.Type+" has no dest", "use type=oci for a file"
		}
	case o.Dest == "" && o.Type == "docker":
		what, hint = "dest is missing", "an image cannot be loaded into an engine yet: write it to a file, and run docker load"
	case o.Dest == "" || o.Dest == "-" && directory:
		what, hint = "dest is missing", "add dest= and a path"
	case err == nil && info.IsDir() != directory && o.Dest != "-":
		what = "dest " + quoted(o.Dest) + " is a directory"
		if directory {
			what = "dest " + quoted(o.Dest) + " is not a directory"
		}
	}
	if what != "" {
		p.report("outputs", o.Line, what, hint)
	}
	return what == ""
}

// nameOutput names an image after the tags. To push by digest alone the name must
// have no tag (util/push in BuildKit).
func (p *parser) nameOutput(o *Output, tags []reference.Named) {
	if o.Type == "local" || o.Type == "tar" {
		return
	}
	names := tags
	if len(tags) == 0 && o.Attrs["name"] != "*" {
		names = p.outputNames(*o)
	}
	byDigest := isTrue(o.Attrs["push-by-digest"])
	texts := tagged(names)
	for i, n := range names {
		if byDigest {
			texts[i] = n.String()
		}
		if byDigest && !reference.IsNameOnly(n) {
			p.report("outputs", o.Line, "an image pushed by digest has a tag", "leave the tag out of its name")
		}
	}
	if len(names) > 0 {
		o.Attrs["name"] = strings.Join(texts, ",")
	}
}

// outputNames reads the names that an output gives itself, separated by commas.
func (p *parser) outputNames(o Output) []reference.Named {
	var names []reference.Named
	for text := range strings.SplitSeq(o.Attrs["name"], ",") {
		if text == "" {
			continue
		}
		named, problem := imageName(text)
		if problem != nil {
			p.report("outputs", o.Line, "name: "+problem.What, problem.Hint)
			continue
		}
		names = append(names, named)
	}
	return names
}
