package explain

import (
	"bytes"
	"regexp"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// instruction is one of a Dockerfile.
type instruction struct {
	name          string   // in upper case: "COPY"
	text          string   // all of it, in one line
	flags         []string // "--from=build"
	args          []string
	line, endLine int // from 1
}

// String is the instruction, cut to a readable length.
func (i *instruction) String() string { return syntax.Short(i.text, longestInstruction) }

// flag is the value of a flag, "" where it is not given.
func (i *instruction) flag(name string) string {
	for _, flag := range i.flags {
		if value, ok := strings.CutPrefix(flag, "--"+name+"="); ok {
			return value
		}
	}
	return ""
}

// dockerfile is a Dockerfile's instructions, as far as they can be parsed.
type dockerfile []*instruction

func parse(text []byte) dockerfile {
	parsed, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil
	}
	var all dockerfile
	for _, node := range parsed.AST.Children {
		i := &instruction{
			name: strings.ToUpper(node.Value), text: syntax.Line(node.Original), flags: node.Flags,
			line: node.StartLine, endLine: node.EndLine,
		}
		for arg := node.Next; arg != nil; arg = arg.Next {
			i.args = append(i.args, arg.Value)
		}
		all = append(all, i)
	}
	return all
}

// at is the instruction at a line, nil for none.
func (d dockerfile) at(line int) *instruction {
	for _, i := range d {
		if i.line <= line && line <= i.endLine {
			return i
		}
	}
	return nil
}

// stepName separates the position of a step from its instruction in a vertex's name.
var stepName = regexp.MustCompile(`^\[[^\]]*\d+/\d+\] `)

// failed is the instruction that failed: the one at the line that BuildKit names or, where it
// names none, the one that the vertex is called after. BuildKit names no line when a source of ADD
// fails.
func (d dockerfile) failed(f Failure) *instruction {
	if f.Line > 0 {
		return d.at(f.Line)
	}
	name := syntax.Line(stepName.ReplaceAllString(f.Vertex, ""))
	return d.first(func(i *instruction) bool { return name != "" && i.text == name })
}

// first is the first instruction of which is says so, nil for none.
func (d dockerfile) first(is func(*instruction) bool) *instruction {
	for _, i := range d {
		if is(i) {
			return i
		}
	}
	return nil
}

// stages are the names of all stages, as FROM … AS gives them.
func (d dockerfile) stages() []string {
	var names []string
	for _, i := range d {
		if n := len(i.args); i.name == "FROM" && n == 3 && strings.EqualFold(i.args[1], "as") {
			names = append(names, i.args[2])
		}
	}
	return names
}

// source is the stage, image or context that the instruction reads: that of FROM, or of COPY
// --from and of a mount's from; "" for the build's own context.
func (i *instruction) source() string {
	if i.name == "FROM" && len(i.args) > 0 {
		return i.args[0]
	}
	for field := range strings.SplitSeq(i.flag("mount"), ",") {
		if from, ok := strings.CutPrefix(field, "from="); ok {
			return from
		}
	}
	return i.flag("from")
}

// variables are the names of the build arguments in a text: "$TAG" and "${TAG:-x}" name TAG.
func variables(text string) []string {
	var names []string
	for _, found := range variable.FindAllStringSubmatch(text, -1) {
		names = append(names, found[1])
	}
	return names
}

var variable = regexp.MustCompile(`\$\{?([A-Za-z_][A-Za-z0-9_]*)`)

// dockerfileError explains what BuildKit says about the Dockerfile's text.
func dockerfileError(f failure) Explanation {
	switch {
	case strings.Contains(f.text, "no build stage in current context"):
		return Explanation{What: "no FROM precedes it", Next: "begin the Dockerfile with FROM; only ARG may come before"}
	case strings.Contains(f.text, "file with no instructions"):
		return Explanation{What: "the Dockerfile has no instruction", Next: "begin it with FROM, or set file to another Dockerfile"}
	}
	if found := f.find(blankBase); found != nil {
		return blank(found[1], "the name of the base image is empty")
	}
	if found := f.find(blankPlatform); found != nil {
		return blank(found[1], "the platform is empty")
	}
	if found := f.find(badName); found != nil {
		e := Explanation{What: syntax.Quoted(found[1]) + " is not the name of an image (" + found[2] + ")", Next: "write it like ghcr.io/owner/app:1.2"}
		if f.at != nil && len(variables(f.at.text)) > 0 {
			e = blank(f.at.text, e.What)
		}
		return e
	}
	if found := f.find(unknownTarget); found != nil {
		return Explanation{
			What: "target: no stage is called " + syntax.Quoted(found[1]),
			Next: f.dockerfile.didYouMean(found[1]),
		}
	}
	return Explanation{}
}

var (
	blankBase     = regexp.MustCompile(`base name \((.*)\) should not be blank`)
	blankPlatform = regexp.MustCompile(`empty platform value from expression (.*)`)
	badName       = regexp.MustCompile(`failed to parse stage name "(.*)": (invalid reference format.*)`)
	unknownTarget = regexp.MustCompile(`target stage "(.*)" could not be found`)
)

// blank explains a text that is empty, or malformed, since a build argument has no value.
func blank(expression, what string) Explanation {
	names := variables(expression)
	if len(names) == 0 {
		return Explanation{What: what, Next: "write a name"}
	}
	name := names[len(names)-1]
	return Explanation{
		What: what + "; it has the build argument " + name,
		Next: "set " + name + " in build-args, or give it a default before the first FROM: ARG " + name + "=value",
	}
}

// didYouMean is a hint for the name of a stage.
func (d dockerfile) didYouMean(name string) string {
	if stages := d.stages(); len(stages) > 0 {
		return syntax.DidYouMean(name, stages)
	}
	return "name the stage in the Dockerfile: FROM … AS " + name
}
