package step

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"

	"github.com/warmlayer/warmlayer/internal/engineapi"
	"github.com/warmlayer/warmlayer/scope"
)

// Environment is the process's environment, in the form of os.Environ. The last of several
// assignments to one variable holds.
type Environment []string

// Get is the value of a variable, "" where it is unset.
func (e Environment) Get(name string) string {
	for _, variable := range slices.Backward(e) {
		if value, ok := strings.CutPrefix(variable, name+"="); ok {
			return value
		}
	}
	return ""
}

// Engine is the container engine that the docker program would use. The argument is the context
// that the Docker config names; "": none.
func (e Environment) Engine(configured string) engineapi.Place {
	found := engineapi.Place{
		Host: e.Get("DOCKER_HOST"), Context: cmp.Or(e.Get("DOCKER_CONTEXT"), configured), ConfigDir: e.dockerDir(),
		Verify: e.Get("DOCKER_TLS_VERIFY") != "",
	}
	if found.Verify || e.Get("DOCKER_TLS") != "" {
		found.CertDir = cmp.Or(e.Get("DOCKER_CERT_PATH"), found.ConfigDir)
	}
	return found
}

// dockerDir is the directory of the docker program's config.
func (e Environment) dockerDir() string {
	return cmp.Or(e.Get("DOCKER_CONFIG"), filepath.Join(e.Get("HOME"), ".docker"))
}

// cacheDir is the directory for local caches of one repository, below the user's cache directory.
// Repositories are kept apart because their branches have the same names. It is "" when the user
// has no home directory.
//
// A repository is known by its name, else by the root of the context's checkout, else by the
// working directory.
func (e Environment) cacheDir(repo, checkout string) string {
	root := e.Get("XDG_CACHE_HOME")
	if root == "" && e.Get("HOME") != "" {
		root = filepath.Join(e.Get("HOME"), ".cache")
	}
	repo = cmp.Or(repo, checkout)
	if abs, err := filepath.Abs("."); repo == "" && err == nil {
		repo = abs
	}
	if root == "" || repo == "" {
		return ""
	}
	return filepath.Join(root, "warmlayer", scope.Slug(repo))
}
