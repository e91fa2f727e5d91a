package ci

import (
	"cmp"
	"errors"
	"io/fs"
	"iter"
	"path/filepath"
	"strings"

	"github.com/warmlayer/warmlayer/scope"
)

// git is a checkout outside a CI. A person at a terminal is trusted.
var git = Dialect{Name: "git", here: isCheckout, facts: gitFacts, shell: true}

func isCheckout(h host) bool {
	_, ok := findCheckout(h)
	return ok
}

func gitFacts(h host) scope.Facts {
	f, _ := readCheckout(h)
	judgeShell(&f, h)
	return f
}

// parents bounds how far up a checkout is looked for. The paths are relative, so the root of
// the file system does not show.
const parents = 64

// checkout is a git repository, read without git: gitrepository-layout(5).
type checkout struct {
	host
	dir    string // the worktree's own files, such as HEAD
	common string // refs, packed-refs and config, which all worktrees share
	head   string // what HEAD says: "ref: refs/heads/main", or a commit
}

// readCheckout reads the checkout around the working directory. Its second result is false without one.
//
// The default branch is what origin/HEAD points to, else init.defaultBranch. A tag is named
// only where no branch is checked out, and found only among the packed refs, where a clone
// puts it: loose ones would need a directory's listing.
func readCheckout(h host) (scope.Facts, bool) {
	c, ok := findCheckout(h)
	if !ok {
		return scope.Facts{}, false
	}
	f := scope.Facts{Default: c.defaultBranch(), Commit: c.head, Unreadable: unreadable(h)}
	if ref, ok := strings.CutPrefix(c.head, "ref: "); ok {
		f.Branch, _ = strings.CutPrefix(ref, "refs/heads/")
		if f.Branch == ref || f.Branch == ".invalid" { // HEAD has the latter in a repository with a reftable
			f.Branch = ""
		}
		f.Commit = c.commit(ref)
	} else {
		f.Tag = c.tag(c.head)
	}
	return f, true
}

func findCheckout(h host) (checkout, bool) {
	for dir := range h.upwards() {
		c := h.checkoutIn(dir)
		if !c.valid() {
			continue
		}
		c.common = c.dir
		if target := c.line(filepath.Join(c.dir, "commondir")); target != "" {
			c.common = relativeTo(c.dir, target)
		}
		return c, true
	}
	return checkout{}, false
}

// upwards are the directories that may hold a checkout, the nearest first.
func (h host) upwards() iter.Seq[string] {
	return func(yield func(string) bool) {
		dir := cmp.Or(h.dir, ".")
		for up := 0; up <= parents && yield(dir); up++ {
			next := filepath.Join(dir, "..")
			if next == dir {
				return
			}
			dir = next
		}
	}
}

// checkoutIn is the checkout whose root is a directory, if it is one.
func (h host) checkoutIn(root string) checkout {
	c := checkout{host: h, dir: filepath.Join(root, ".git")}
	// In a worktree or a submodule .git is a file that says where the directory is.
	if target, ok := strings.CutPrefix(c.line(c.dir), "gitdir: "); ok {
		c.dir = relativeTo(root, target)
	}
	c.head = c.line(filepath.Join(c.dir, "HEAD"))
	return c
}

func (c checkout) valid() bool { return strings.HasPrefix(c.head, "ref: ") || isHash(c.head) }

// unreadable says why a repository cannot be read that is nearer than the checkout of
// [findCheckout]: ".git/HEAD names neither a branch nor a commit". It is "" where there is none.
func unreadable(h host) string {
	for dir := range h.upwards() {
		c := h.checkoutIn(dir)
		if c.valid() {
			return ""
		}
		if _, err := h.readFile(filepath.Join(dir, ".git")); errors.Is(err, fs.ErrNotExist) && !c.has("HEAD") {
			continue
		}
		if _, err := h.readFile(filepath.Join(c.dir, "HEAD")); err != nil {
			return err.Error()
		}
		return filepath.Join(c.dir, "HEAD") + " names neither a branch nor a commit"
	}
	return ""
}

func (c checkout) has(file string) bool {
	_, err := c.readFile(filepath.Join(c.dir, file))
	return err == nil
}

func (c checkout) defaultBranch() string {
	const origin = "ref: refs/remotes/origin/"
	if branch, ok := strings.CutPrefix(c.line(filepath.Join(c.common, "refs/remotes/origin/HEAD")), origin); ok {
		return branch
	}
	for _, file := range c.configFiles() {
		if branch := configValue(c.text(file), "init", "defaultBranch"); branch != "" {
			return branch
		}
	}
	return ""
}

// configFiles are the files of git-config(1), the one that wins first.
func (c checkout) configFiles() []string {
	files := []string{filepath.Join(c.common, "config")}
	home, xdg := c.getenv("HOME"), c.getenv("XDG_CONFIG_HOME")
	if xdg == "" && home != "" {
		xdg = filepath.Join(home, ".config")
	}
	switch global := c.getenv("GIT_CONFIG_GLOBAL"); {
	case global != "":
		files = append(files, global)
	default:
		if home != "" {
			files = append(files, filepath.Join(home, ".gitconfig"))
		}
		if xdg != "" {
			files = append(files, filepath.Join(xdg, "git/config"))
		}
	}
	return append(files, "/etc/gitconfig")
}

// configValue returns the last value of section.key in a git configuration file, "" for none.
// It reads names in either case, quotes and comments; it does not follow includes.
func configValue(text, section, key string) string {
	value, inside := "", false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if header, ok := strings.CutPrefix(line, "["); ok {
			name, rest, _ := strings.Cut(header, "]")
			inside = strings.EqualFold(strings.TrimSpace(name), section)
			line = strings.TrimSpace(rest)
		}
		name, v, ok := strings.Cut(line, "=")
		if !ok || !inside || !strings.EqualFold(strings.TrimSpace(name), key) {
			continue
		}
		v = strings.TrimSpace(v)
		if quoted, ok := strings.CutPrefix(v, `"`); ok {
			v, _, _ = strings.Cut(quoted, `"`)
		} else if comment := strings.IndexAny(v, "#;"); comment >= 0 {
			v = strings.TrimSpace(v[:comment])
		}
		value = v
	}
	return value
}

// commit resolves a ref: a loose one is newer than a packed one.
func (c checkout) commit(ref string) string {
	if hash := c.line(filepath.Join(c.common, ref)); isHash(hash) {
		return hash
	}
	for hash, packed := range c.packed() {
		if packed == ref {
			return hash
		}
	}
	return ""
}

// tag returns the first tag of the commit.
func (c checkout) tag(commit string) string {
	for hash, ref := range c.packed() {
		if tag, ok := strings.CutPrefix(ref, "refs/tags/"); ok && hash == commit {
			return tag
		}
	}
	return ""
}

// packed yields hash and name of each ref in packed-refs, sorted by name: of an annotated tag
// both the tag object and, from the line that begins with ^, the commit.
func (c checkout) packed() iter.Seq2[string, string] {
	return func(yield func(hash, ref string) bool) {
		ref := ""
		for line := range strings.Lines(c.text(filepath.Join(c.common, "packed-refs"))) {
			hash, name, ok := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
			if peeled, is := strings.CutPrefix(hash, "^"); is {
				hash, name, ok = peeled, ref, ref != ""
			}
			if !ok || !isHash(hash) {
				continue
			}
			if ref = name; !yield(hash, ref) {
				return
			}
		}
	}
}

// text is a file's content, "" when it cannot be read.
func (c checkout) text(file string) string {
	text, err := c.readFile(file)
	if err != nil {
		return ""
	}
	return string(text)
}

// line is the content of a file that holds one line.
func (c checkout) line(file string) string { return strings.TrimRight(c.text(file), " \t\r\n") }

func relativeTo(dir, target string) string {
	if filepath.IsAbs(target) {
		return target
	}
	return filepath.Join(dir, target)
}

// isHash reports a full object name, of SHA-1 or SHA-256.
func isHash(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}
