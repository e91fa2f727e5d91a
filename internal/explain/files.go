package explain

import (
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Directory is a context on this machine.
type Directory struct {
	Name   string // as messages call it: "e/"
	Files  fs.FS
	Ignore string // as messages call its .dockerignore: "e/.dockerignore"
	Rules  string // the text of that file; "": there is none
}

// BuildKit says that a file is missing in two ways: while it computes what a step reads, and
// while the step copies.
var missing = []*regexp.Regexp{
	regexp.MustCompile(`failed to calculate checksum of ref \S+: "/?(.*)": not found`),
	regexp.MustCompile(`(?:lstat|stat|open) /?(\S+): no such file or directory`),
}

// missingFile explains why a file that COPY, ADD or a mount names is not there.
func missingFile(f failure) Explanation {
	if f.at == nil {
		return missingDockerfile(f)
	}
	var name string
	for _, pattern := range missing {
		if found := f.find(pattern); found != nil && name == "" {
			name = found[1]
		}
	}
	if name == "" {
		return Explanation{}
	}
	from := f.at.source()
	shown := f.at.shown(name)
	say := func(what, next string) Explanation {
		e := f.at.explained(what, next)
		e.What = shown + ": " + what
		return e
	}
	var dir Directory
	open := false
	if f.Open != nil {
		dir, open = f.Open(from)
	}
	switch {
	case !open && from == "":
		return say("not in the context", "check the path; it starts from the context's root")
	case !open:
		return say("not in "+from, "check the path, and whether an earlier step of "+from+" makes the file")
	case f.at.leaves(name):
		return say("paths cannot leave the context ("+dir.Name+")", "set context to a directory that holds the file, or name its directory in build-contexts")
	}
	where := "not in the context (" + dir.Name + ")"
	if from != "" {
		where = "not in the build context " + from + " (" + dir.Name + ")"
	}
	if line := dir.excludes(name); line > 0 {
		return say(where+"; excluded by "+dir.Ignore+" line "+strconv.Itoa(line),
			"remove the pattern from "+dir.Ignore+", or add a line !"+name+" after it")
	}
	if near := dir.near(name); len(near) > 0 {
		return say(where, "did you mean "+strings.Join(near, " or ")+"?")
	}
	return say(where, "check the path, which starts from "+dir.Name+", and whether a step of the job has made the file")
}

// missingDockerfile explains a context, fetched by BuildKit, in which the Dockerfile is missing.
func missingDockerfile(f failure) Explanation {
	found := f.find(noDockerfile)
	if found == nil {
		return Explanation{}
	}
	return Explanation{What: "the context has no " + found[1], Next: "set file to the Dockerfile's path in the context"}
}

var noDockerfile = regexp.MustCompile(`failed to read dockerfile: open (\S+): no such file or directory`)

// shown is the instruction with the one file that is missing: "COPY nofile", and for others the
// whole instruction.
func (i *instruction) shown(name string) string {
	if i.name != "COPY" && i.name != "ADD" {
		return i.String()
	}
	for _, arg := range i.args[:max(0, len(i.args)-1)] {
		if strings.TrimPrefix(path.Clean("/"+arg), "/") == name {
			name = arg
		}
	}
	shown := i.name + " "
	if from := i.flag("from"); from != "" {
		shown += "--from=" + from + " "
	}
	return syntax.Short(shown+name, longestInstruction)
}

// leaves tells whether the instruction writes the path of a file with a way out of the context.
func (i *instruction) leaves(name string) bool {
	return slices.ContainsFunc(i.args, func(arg string) bool {
		return strings.HasPrefix(path.Clean(arg), "../") && strings.TrimPrefix(path.Clean("/"+arg), "/") == name
	})
}

// excludes is the line of .dockerignore that leaves a file out, 0 for none. The last pattern that
// matches decides, as in moby/patternmatcher.
func (d Directory) excludes(name string) int {
	name = path.Clean(name)
	excluded, number := 0, 0
	for line := range strings.Lines(d.Rules) {
		number++
		patterns, err := ignorefile.ReadAll(strings.NewReader(line))
		if err != nil || len(patterns) == 0 {
			continue
		}
		pattern, kept := strings.CutPrefix(patterns[0], "!")
		matcher, err := patternmatcher.New([]string{pattern})
		if err != nil {
			continue
		}
		if matches, err := matcher.MatchesOrParentMatches(name); err == nil && matches {
			if excluded = number; kept {
				excluded = 0
			}
		}
	}
	return excluded
}

// The number of files that a search looks at, and of those that a hint names.
const (
	mostFiles = 20_000
	mostNear  = 3
)

// near are the files that may be meant by a name: those of the same name elsewhere in the
// context, or else the one in the same directory whose name is nearest.
func (d Directory) near(name string) []string {
	if d.Files == nil {
		return nil
	}
	var same, beside []string
	seen := 0
	_ = fs.WalkDir(d.Files, ".", func(file string, entry fs.DirEntry, err error) error {
		seen++
		switch {
		case seen > mostFiles:
			return fs.SkipAll
		case err != nil || file == "." || entry.Name() == ".git":
			if entry != nil && entry.IsDir() && file != "." {
				return fs.SkipDir
			}
			return nil
		}
		if strings.EqualFold(path.Base(file), path.Base(name)) && len(same) < mostNear {
			same = append(same, file)
		}
		if path.Dir(file) == path.Dir(name) {
			beside = append(beside, file)
		}
		return nil
	})
	there := func(files []string) []string {
		return slices.DeleteFunc(files, func(file string) bool { return d.excludes(file) > 0 })
	}
	if same = there(same); len(same) > 0 {
		return same
	}
	if near := syntax.Nearest(name, there(beside)); near != "" {
		return []string{near}
	}
	return nil
}
