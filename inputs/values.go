package inputs

import (
	"cmp"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

// resolved is a path without symbolic links, as far as it exists.
func resolved(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	rest := ""
	for {
		found, err := filepath.EvalSymlinks(path)
		if err == nil || filepath.Dir(path) == path {
			return filepath.Join(cmp.Or(found, path), rest)
		}
		path, rest = filepath.Dir(path), filepath.Join(filepath.Base(path), rest)
	}
}

// Pushed is the names of the images that are pushed, each once.
func (v Values) Pushed() []string { return pushedNames(v.Outputs) }

func pushedNames(outputs []Output) []string {
	var all []string
	for _, o := range outputs {
		if !o.Pushes() {
			continue
		}
		for name := range strings.SplitSeq(o.Attrs["name"], ",") {
			if !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
	}
	return all
}

// Sensitive is every value that must not be shown: secrets, credentials among the
// attributes of caches, those in URLs, passwords and keys. Register them before anything
// is printed. Those in registry-auth are known to package login.
func (v Values) Sensitive() []string {
	all := []string{v.GitHubToken, v.Credentials.Password}
	for _, b := range v.Builders {
		all = append(append(all, urlCredentials(b.Address.URL)...), b.TLS.Key)
	}
	for _, c := range v.contexts() {
		all = append(all, urlCredentials(c.Source)...)
	}
	for _, s := range v.Secrets {
		all = append(all, s.Value)
	}
	for _, e := range v.Managed.Env {
		_, value, _ := strings.Cut(e, "=")
		all = append(all, urlCredentials(value)...)
	}
	for _, c := range slices.Concat(v.Caches, v.CacheFrom, v.CacheTo) {
		all = append(all, c.Secrets()...)
		for _, value := range c.Attrs {
			all = append(all, urlCredentials(value)...)
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}

// urlCredentials are the password and the signature of a URL and, over HTTP, the
// user where there is no password: Git hosts take a token there.
func urlCredentials(text string) []string {
	u, err := url.Parse(text)
	if err != nil {
		return nil
	}
	found := []string{u.Query().Get("sig"), u.Query().Get("X-Amz-Signature")}
	if password, ok := u.User.Password(); ok {
		found = append(found, password)
	} else if httpURL.MatchString(text) {
		found = append(found, u.User.Username())
	}
	return found
}

func sortedKeys[V any](attrs map[string]V) []string {
	return slices.Sorted(maps.Keys(attrs))
}
