package inputs

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Output is one destination of the result, resolved as in buildx: type registry becomes an
// image that is pushed, a bare path becomes a local directory, and tags become names.
type Output struct {
	Line  int               // in its input, from 1; 0: from push or load
	Type  string            // image, local, oci, docker or tar; docker without a Dest is loaded into the engine
	Attrs map[string]string // for the exporter; never nil, without type and dest
	Dest  string            // path from the working directory; "-": standard output; "": none
}

// Pushes tells whether the output is an image that is pushed.
func (o Output) Pushes() bool { return o.Type == "image" && syntax.IsTrue(o.Attrs["push"]) }

// archives reports files of type docker that cannot hold the result. Whether an engine can
// load the image is known only when the engine answers.
func (p *parser) archives(v Values, attested bool) {
	for _, o := range v.Outputs {
		switch {
		case o.Type != "docker" || o.Dest == "":
		case len(v.Platforms) > 1:
			p.report("outputs", o.Line, "type docker holds one platform, and several are built", "use type=oci")
		case attested:
			p.report("outputs", o.Line, "type docker holds no attestations", "use type=oci, or leave provenance, sbom and attests out")
		}
	}
}

// deletions reports local outputs that would delete files outside of the working directory
// without the entitlement for that: buildx's rule (build/opt.go).
func (p *parser) deletions(v Values) {
	for _, o := range v.Outputs {
		if o.Type != "local" || o.Attrs["mode"] != "delete" || v.deletes {
			continue
		}
		if rel := relative(resolved(p.dir), resolved(locate(p.dir, o.Dest))); rel == "" || !filepath.IsLocal(rel) {
			p.report("outputs", o.Line, "mode=delete would delete files that are not below the working directory", "set allow to "+localDelete+" if they may be deleted")
		}
	}
}

// outputs resolves the outputs with push, load and the tags as buildx does
// (commands/build.go, build/opt.go): push applies to every image, or adds one; load adds an
// output for the engine; tags name every image, and replace a name in the output.
func (p *parser) outputs(v Values, tags []reference.Named) []Output {
	var all []Output
	before := len(p.problems)
	for _, it := range p.list("outputs") {
		if o, ok := p.output(it); ok {
			all = append(all, o)
		}
	}
	all = slices.DeleteFunc(all, func(o Output) bool { return o.Type == "cacheonly" })
	if v.Push {
		all = pushed(all)
	}
	loads := func(o Output) bool { return o.Type == "docker" && o.Dest == "" }
	if v.Load && !slices.ContainsFunc(all, loads) {
		all = append(all, Output{Type: "docker", Attrs: map[string]string{}})
	}
	all = p.finished(all, tags)
	if len(p.problems) == before && (len(tags) > 0 || !p.settings.Given("tags")) {
		p.needNames(all)
	}
	return all
}

// finished gives outputs the names and the attributes that other inputs say.
func (p *parser) finished(all []Output, tags []reference.Named) []Output {
	artifacts := !p.envBool("BUILDX_NO_DEFAULT_OCI_ARTIFACT", false)
	compressed := p.imageCompression()
	for i := range all {
		p.nameOutput(&all[i], tags)
		p.compress(all[i], compressed)
		if o := all[i]; !artifacts && (o.Type == "image" || o.Type == "oci") && o.Attrs["oci-artifact"] == "" {
			o.Attrs["oci-artifact"] = "false"
		}
	}
	return all
}

// imageCompression are the attributes of an output that the input image-compression stands for.
func (p *parser) imageCompression() map[string]string {
	const input = "image-compression"
	text := p.value(input)
	if text == "" {
		return nil
	}
	name, level, leveled := strings.Cut(text, ":")
	attrs := map[string]string{"compression": name}
	if leveled {
		attrs["compression-level"] = level
	}
	if !slices.Contains(cachespec.Compressions, name) {
		p.report(input, 0, syntax.Quoted(name)+" is unknown", syntax.DidYouMean(name, cachespec.Compressions))
		return nil
	}
	if n, err := strconv.Atoi(level); leveled && (err != nil || n < 0) {
		p.report(input, 0, "level "+syntax.Quoted(level)+" is not a number from 0", "use "+name+", or "+name+":3")
		return nil
	}
	before := len(p.problems)
	if p.compression(input, 0, attrs); len(p.problems) > before {
		return nil
	}
	return attrs
}

// compress gives an image the compression, unless the output has its own.
func (p *parser) compress(o Output, attrs map[string]string) {
	if attrs == nil || o.Type != "image" && o.Type != "oci" || o.Attrs["compression"]+o.Attrs["compression-level"] != "" {
		return
	}
	maps.Copy(o.Attrs, attrs)
	p.compression("outputs", o.Line, o.Attrs)
}

// needNames reports images that are pushed and have no name. Call it only if no other problem
// was found with names: one mistake is one problem.
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
func (p *parser) output(it syntax.Item) (Output, bool) {
	if !strings.ContainsAny(it.Text, `=,"`) {
		o := Output{Line: it.Line, Type: "local", Attrs: map[string]string{}, Dest: it.Text}
		if it.Text == "-" {
			o.Type = "tar"
		}
		o.Dest, _ = p.contained("outputs", it.Line, o.Dest)
		return o, p.destination(o)
	}
	e, ok := p.entry("outputs", it)
	if !ok {
		return Output{}, false
	}
	known, ok := outputAttributes[e.Type]
	if !ok {
		p.report("outputs", it.Line, "type "+syntax.Quoted(e.Type)+" is unknown", syntax.DidYouMean(e.Type, outputTypes))
		return Output{}, false
	}
	before := len(p.problems)
	for _, key := range sortedKeys(e.Attrs) {
		p.outputAttribute(it.Line, known, key, e.Attrs[key])
	}
	if src, ok := e.Attrs["src"]; ok && src == "" {
		p.report("outputs", it.Line, "src is empty", "name a directory of the result, or leave it out for all of it")
	}
	p.compression("outputs", it.Line, e.Attrs)
	o := Output{Line: it.Line, Type: e.Type, Attrs: e.Attrs, Dest: e.Attrs["dest"]}
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
			p.report("outputs", line, "this output cannot have that annotation", "")
		}
		return
	}
	p.attribute("outputs", line, known, key, value)
}

// destination checks that an output has the dest that its type needs.
func (p *parser) destination(o Output) bool {
	archive := o.Attrs["tar"] == "" || syntax.IsTrue(o.Attrs["tar"])
	directory := o.Type == "local" || !archive
	info, err := os.Stat(locate(p.dir, o.Dest))
	what, hint := "", ""
	switch {
	case o.Type == "image" || o.Type == "cacheonly":
		if o.Dest != "" {
			what, hint = "type "+o.Type+" has no dest", "use type=oci for a file"
		}
	case o.Dest == "" && o.Type == "docker" && archive:
	case o.Dest == "" || o.Dest == "-" && directory:
		what, hint = "dest is missing", "add dest= and a path"
	case err == nil && info.IsDir() != directory && o.Dest != "-":
		what = "dest " + syntax.Quoted(o.Dest) + " is a directory"
		if directory {
			what = "dest " + syntax.Quoted(o.Dest) + " is not a directory"
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
	byDigest := syntax.IsTrue(o.Attrs["push-by-digest"])
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
		named, problem := syntax.ImageName(text)
		if problem != nil {
			p.report("outputs", o.Line, "name: "+problem.What, problem.Hint)
			continue
		}
		names = append(names, named)
	}
	return names
}
