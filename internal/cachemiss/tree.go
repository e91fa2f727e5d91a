package cachemiss

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/patternmatcher"
)

// Tree are the files that a directory sends, sorted by path.
type Tree []Entry

// Entry is a file, a directory, or a directory with all that is in it.
type Entry struct {
	Path string      // with slashes; one that ends with a slash stands for all that is below it, too
	Mode fs.FileMode // as os.Lstat gives it
	Hash string      // of a regular file's content, or of a link's target; "": not known
}

// whole tells whether an entry stands for all that is below it.
func (e Entry) whole() bool { return strings.HasSuffix(e.Path, "/") }

// MarshalJSON writes a line for each entry: mode in octal, hash, path.
func (t Tree) MarshalJSON() ([]byte, error) {
	var b strings.Builder
	for _, e := range t {
		fmt.Fprintf(&b, "%o %s %s\n", uint32(e.Mode), e.Hash, strings.ReplaceAll(e.Path, "\n", "?"))
	}
	return json.Marshal(b.String())
}

// UnmarshalJSON implements the reverse.
func (t *Tree) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return err
	}
	for line := range strings.Lines(text) {
		mode, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		hash, name, ok := strings.Cut(rest, " ")
		bits, err := strconv.ParseUint(mode, 8, 32)
		if err != nil || !ok || name == "" {
			return errors.New("parse files: a line is not MODE HASH PATH")
		}
		*t = append(*t, Entry{Path: name, Mode: fs.FileMode(bits), Hash: hash})
	}
	return nil
}

// above is the directory of a path at a depth: "a/b/c" at 1 is "a/"; "": the path is not below one.
func above(name string, depth int) string {
	at := 0
	for range depth {
		n := strings.IndexByte(name[at:], '/')
		if n < 0 || at+n+1 == len(name) {
			return ""
		}
		at += n + 1
	}
	return name[:at]
}

// upTo is the tree with one entry for each directory at a depth, in place of all that is below it; 0: of the root.
func (t Tree) upTo(depth int) Tree {
	return t.gathered(func(name string) string {
		if depth == 0 {
			return "/"
		}
		return above(name, depth)
	})
}

// like is the tree with the directories that another one has as a whole.
func (t Tree) like(other Tree) Tree {
	dirs := map[string]bool{}
	for _, e := range other {
		if e.whole() {
			dirs[e.Path] = true
		}
	}
	if len(dirs) == 0 {
		return t
	}
	return t.gathered(func(name string) string {
		if dirs["/"] {
			return "/"
		}
		for i, c := range name {
			if c == '/' && dirs[name[:i+1]] {
				return name[:i+1]
			}
		}
		return ""
	})
}

// gathered puts the entries for which in names a directory into one for that directory.
func (t Tree) gathered(in func(string) string) Tree {
	var out Tree
	texts := map[string]*strings.Builder{}
	for _, e := range t {
		dir := in(e.Path)
		if dir == "" {
			out = append(out, e)
			continue
		}
		if texts[dir] == nil {
			texts[dir] = &strings.Builder{}
		}
		fmt.Fprintf(texts[dir], "%o %s %s\n", uint32(e.Mode), e.Hash, e.Path)
	}
	for _, dir := range slices.Sorted(maps.Keys(texts)) {
		// The directory's own entry, if it has one, is told by its parent's mode.
		out = append(out, Entry{Path: dir, Mode: fs.ModeDir, Hash: Hash(texts[dir].String())})
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// selected are the entries that a use reads, by path.
func (u Use) selected(t Tree) map[string]Entry {
	out := map[string]Entry{}
	include, exclude := matcher(u.Include), matcher(u.Exclude)
	for _, e := range t {
		rel, ok := u.within(e)
		if !ok || exclude(rel) && !e.whole() || len(u.Include) > 0 && !include(rel) && !e.whole() {
			continue
		}
		out[e.Path] = e
	}
	return out
}

// within is an entry's path below the source of a use; false: it is not there.
func (u Use) within(e Entry) (string, bool) {
	src, name := strings.Trim(path.Clean("/"+u.Src), "/"), strings.Trim(e.Path, "/")
	if src == "" {
		return name, true
	}
	if !u.Wildcard {
		rest, inside := strings.CutPrefix(name+"/", src+"/")
		return strings.TrimSuffix(rest, "/"), inside || e.whole() && strings.HasPrefix(src+"/", e.Path) || e.Path == "/"
	}
	want, have := strings.Split(src, "/"), strings.Split(name, "/")
	for i, part := range want {
		if i == len(have) || name == "" {
			return "", e.whole() // the source is within a directory that is known as a whole
		}
		same := part == have[i]
		if u.Wildcard && !same {
			same, _ = path.Match(part, have[i])
		}
		if !same {
			return "", false
		}
	}
	return strings.Join(have[len(want):], "/"), true
}

// matcher matches patterns as BuildKit's copy does (v0.34.2, cache/contenthash/checksum.go).
func matcher(patterns []string) func(string) bool {
	m, err := patternmatcher.New(patterns)
	if err != nil || len(patterns) == 0 {
		return func(string) bool { return false }
	}
	return func(name string) bool {
		ok, err := m.MatchesOrParentMatches(name)
		return err == nil && ok && name != ""
	}
}
