package inputs

import (
	"cmp"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

// resolved is a path with the symbolic links resolved in the part of it that exists.
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

// Sensitive are the values to hide: secrets, passwords, keys, and the credentials in URLs and
// in attributes of caches. Register them for redaction before anything is printed. Package
// login registers the passwords of registry-auth.
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
	for _, t := range v.Targets {
		all = append(all, t.Sensitive()...)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}

// urlCredentials are the password and the signature in a URL and, over HTTP without a password,
// the user: Git hosts accept a token there.
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
