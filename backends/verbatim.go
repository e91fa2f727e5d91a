package backends

import (
	"maps"

	"github.com/moby/buildkit/client"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Export is an entry of cache-to.
type Export struct {
	Entry  client.CacheOptionsEntry
	Strict bool // a failed export fails the step (ignore-error=false)
}

// Verbatim passes the caches of cache-from and cache-to on as they are: no branch is
// added, and BuildKit alone reads and writes them.
// GitHub's cache gets what is not given from the runner, as buildx does (v0.37.0,
// build/opt.go, addGithubToken), but for a builder that is reached over plain tcp://.
// An inline cache is a property of the build; inline reports whether there is one.
func Verbatim(from, to []inputs.Cache, o Options) (imports []client.CacheOptionsEntry, exports []Export, inline bool) {
	for _, c := range from {
		imports = append(imports, verbatim(c, o))
	}
	for _, c := range to {
		if c.Type == "inline" {
			inline = true
			continue
		}
		entry := verbatim(c, o)
		// BuildKit would swallow the error that the report is to show.
		delete(entry.Attrs, "ignore-error")
		exports = append(exports, Export{Entry: entry, Strict: syntax.IsFalse(c.Attrs["ignore-error"])})
	}
	return imports, exports, inline
}

func verbatim(c inputs.Cache, o Options) client.CacheOptionsEntry {
	attrs := maps.Clone(c.Attrs)
	if attrs == nil {
		attrs = map[string]string{}
	}
	if c.Type == "gha" && o.Getenv != nil && !o.Builder.Plaintext() {
		given := maps.Clone(attrs)
		maps.Copy(attrs, ghaRunner(attrs, o.Getenv).entry(attrs))
		maps.Copy(attrs, given)
		maps.DeleteFunc(attrs, func(_, v string) bool { return v == "" })
	}
	return client.CacheOptionsEntry{Type: c.Type, Attrs: attrs}
}

// Label names the place of an entry for people: "s3 bucket". It leaves out every
// attribute that may be a credential.
func Label(e client.CacheOptionsEntry) string {
	for _, place := range []string{"ref", "dest", "src", "bucket", "container", "scope"} {
		if v := e.Attrs[place]; v != "" {
			return e.Type + " " + v
		}
	}
	return e.Type
}
