package inputs

import (
	"slices"
	"strconv"
	"strings"

	"github.com/warmlayer/warmlayer/internal/bakefile"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/settings"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// BakeReader reads bake files: [bakefile.Read], with a context.
type BakeReader func(bakefile.Request) (bakefile.Definition, error)

// Bake is what a target of a bake file has besides the values of a build.
type Bake struct {
	Target      string        // its name
	Description string        // "": none
	Subdir      string        // of the directory that paths of the bake files start from, as in [Context]
	Links       []syntax.Pair // named contexts that are other targets: the context's name, as the frontend looks for it, and the target's
}

// attributesOfTargets are the inputs for which a target has attributes, by these names.
var attributesOfTargets = []syntax.Pair{
	{Key: "file", Value: "dockerfile"}, {Key: "build-contexts", Value: "contexts.NAME"}, {Key: "target", Value: "target"},
	{Key: "build-args", Value: "args.NAME"}, {Key: "labels", Value: "labels.NAME"}, {Key: "annotations", Value: "annotations"},
	{Key: "tags", Value: "tags"}, {Key: "outputs", Value: "output"}, {Key: "platforms", Value: "platform"},
	{Key: "attests", Value: "attest"}, {Key: "no-cache-filters", Value: "no-cache-filter"}, {Key: "secrets", Value: "secrets"},
	{Key: "secret-envs", Value: "secrets"}, {Key: "secret-files", Value: "secrets"}, {Key: "ssh", Value: "ssh"},
	{Key: "add-hosts", Value: "extra-hosts.NAME"}, {Key: "network", Value: "network"}, {Key: "shm-size", Value: "shm-size"},
	{Key: "ulimit", Value: "ulimits"}, {Key: "cache-from", Value: "cache-from"}, {Key: "cache-to", Value: "cache-to"},
}

// forAllTargets are the inputs that docker buildx bake makes attributes of all targets (v0.37.0, commands/bake.go).
var forAllTargets = []string{"push", "load", "no-cache", "pull", "provenance", "sbom"}

// all are the values, with those of the targets of bake files.
func (p *parser) all(read BakeReader) Values {
	asked := slices.ContainsFunc([]string{"bake", "targets", "set", "vars"}, p.settings.Given)
	if !asked || p.upkeep() {
		return p.values()
	}
	common := p.common()
	v := common.values()
	p.problems = append(p.problems, common.problems...)
	request := p.bakeRequest(v)
	if read == nil {
		p.report("bake", 0, "bake files cannot be read here", "")
		return v
	}
	broken := len(p.problems) > 0
	d, err := read(request)
	if err != nil {
		p.report("bake", 0, err.Error(), "")
		return v
	}
	for _, entitlement := range d.Missing {
		p.report("allow", 0, "the bake files ask for "+syntax.Quoted(entitlement)+", which is not allowed", "add it to allow if they may have it")
	}
	if !broken && len(p.problems) == 0 { // else the problems of the inputs would be those of each target
		for _, t := range d.Targets {
			v.Targets = append(v.Targets, p.target(t, request.Dir))
		}
	}
	return v
}

// common reads the inputs that have nothing to do with a target. It reports those that the bake files should have.
func (p *parser) common() *parser {
	one := *p
	one.problems, one.bakes = nil, true
	for _, attribute := range attributesOfTargets {
		if p.settings.Given(attribute.Key) {
			one.report(attribute.Key, 0, "with bake files this is an attribute of each target", "write it there, or replace it with set: *."+attribute.Value+"=…")
		}
	}
	if p.settings.Given("part") {
		one.report("part", 0, "an image of several jobs has no bake file", "set outputs of the targets to type=image,push-by-digest=true, and digests in the merge")
	}
	if p.settings.Given("cache-mounts") {
		one.report("cache-mounts", 0, "cache mounts are not kept with bake files, whose targets would share them while they are restored", "build the images whose mounts matter in steps of their own")
	}
	one.settings = withoutTargets(one.settings).Without("part")
	return &one
}

// withoutTargets are settings without what targets have: their attributes, and what becomes attributes of all of them.
func withoutTargets(s settings.Set) settings.Set {
	for _, attribute := range attributesOfTargets {
		s = s.Without(attribute.Key)
	}
	return s.Without(forAllTargets...).Without("allow")
}

// bakeRequest is the question for the bake files. v are the values that all targets have in common.
func (p *parser) bakeRequest(v Values) bakefile.Request {
	r := bakefile.Request{
		Dir: v.Context.Dir, Files: p.bakeFiles(), Targets: texts(p.list("targets")), Set: texts(p.list("set")),
		Allow: texts(p.list("allow")), Vars: map[string]string{},
	}
	if v.Context.Remote() {
		p.report("context", 0, "bake files are read from a directory", "check the repository out before this step")
	}
	if len(v.Builders) > 1 {
		p.report("builder", 0, "the targets of bake files are built on one builder", "name one")
	}
	for _, name := range sortedKeys(p.env) {
		r.Environ = append(r.Environ, name+"="+p.env[name])
	}
	for _, it := range p.list("vars") {
		name, value, ok := strings.Cut(it.Text, "=")
		if !ok || name == "" {
			p.report("vars", it.Line, "expected NAME=value", "")
		}
		r.Vars[name] = value
	}
	for _, input := range forAllTargets {
		if !p.settings.Given(input) {
			continue
		}
		attribute, value := input+"=", p.value(input)
		if slices.Contains(attestTypes, input) {
			attribute = "attest=type=" + input + ","
			if on, err := strconv.ParseBool(value); err == nil { // as CanonicalizeAttest in util/buildflags/attests.go
				value = "disabled=" + strconv.FormatBool(!on)
			}
		}
		r.Set = append(r.Set, "*."+attribute+value)
	}
	if v.Call != "" {
		r.Set = append(r.Set, "*.call="+v.Call)
	}
	return r
}

// bakeFiles are the files as the reader gets them.
func (p *parser) bakeFiles() []string {
	var all []string
	for _, it := range p.list("bake") {
		if it.Text == standardInput {
			p.report("bake", it.Line, "a bake file cannot be standard input", "write it to a file first")
			continue
		}
		if file, ok := p.contained("bake", it.Line, it.Text); ok {
			all = append(all, file)
		}
	}
	return all
}

// target reads the values of a target. Its paths start from a directory.
func (p *parser) target(t bakefile.Target, dir string) Values {
	one := *p
	one.dir, one.problems, one.stdin = dir, nil, strings.NewReader(t.Dockerfile)
	one.settings = withoutTargets(one.settings).Without("bake", "targets", "set", "vars", "context")
	from := "target " + t.Name
	for _, input := range sortedKeys(t.Inputs) {
		if input == "call" && p.settings.Given(input) { // which has a format, too
			continue
		}
		one.settings = one.settings.With(input, from, t.Inputs[input]...)
	}
	v := one.values()
	if len(v.Pushed()) == 0 { // such as a target that only others use: an inline cache is for those that push
		v.Caches = slices.DeleteFunc(v.Caches, func(c cachespec.Cache) bool { return c.Config != nil && c.Config.InImage() })
	}
	v.CacheOnly = v.CacheOnly || p.settings.Given("push") && len(v.Outputs) == 0
	v.Bake = Bake{Target: t.Name, Description: t.Description, Subdir: place(dir)}
	if t.Dockerfile != "" {
		v.Dockerfile.Name = "dockerfile-inline of " + from
	}
	for _, link := range t.Links {
		name, problem := contextName(link.Key)
		if problem != nil {
			one.report("build-contexts", 0, problem.What, problem.Hint)
		}
		v.Bake.Links = append(v.Bake.Links, syntax.Pair{Key: name, Value: link.Value})
	}
	for _, problem := range one.problems {
		problem.Input = strings.TrimSuffix(from+": "+problem.Input, ": ")
		p.problems = append(p.problems, problem)
	}
	return v
}
