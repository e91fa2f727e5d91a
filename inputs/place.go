package inputs

import (
	"os"
	"path"
	"path/filepath"
	"strings"
)

// place is the slash-separated path of a directory within its own repository, wherever that lies on
// the machine: "" for the repository's root, and for a directory that is in none.
func place(dir string) string {
	dir = followed(dir)
	root := repositoryRoot(dir)
	if root == "" {
		return ""
	}
	return relative(root, dir)
}

// dockerfilePlace is the slash-separated path of a Dockerfile from where the context's Subdir starts:
// within its own repository or else within the context. A file outside of both is one of the
// context's, since no path of the machine says which image it is. It is "" for the context's default
// Dockerfile.
func dockerfilePlace(c Context, file string) string {
	file = followed(file)
	at := path.Join(c.Subdir, filepath.Base(file))
	if root := repositoryRoot(filepath.Dir(file)); root != "" {
		at = relative(root, file)
	} else if inside := relative(followed(c.Dir), file); c.Dir != "" && !strings.HasPrefix(inside, "../") {
		at = path.Join(c.Subdir, inside)
	}
	if strings.EqualFold(at, path.Join(c.Subdir, defaultDockerfile)) {
		return ""
	}
	return at
}

// Checkout is the root of the repository that a Directory is in, without symbolic links; "": none.
func (c Context) Checkout() string {
	if c.Dir == "" {
		return ""
	}
	return repositoryRoot(followed(c.Dir))
}

// followed is a path without symbolic links.
func followed(name string) string {
	if target, err := filepath.EvalSymlinks(name); err == nil {
		return target
	}
	return name
}

// repositoryRoot is the root of the Git checkout around an absolute directory, "" where there is none. In
// a worktree or a submodule .git is a file.
func repositoryRoot(dir string) string {
	for {
		if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			return ""
		}
		dir = up
	}
}
