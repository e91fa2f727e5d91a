package inputs

import (
	"strconv"
	"strings"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Cache is one cache as the user wrote it: type=registry,ref=ghcr.io/o/app has Type
// registry and the attribute ref. Attrs is never nil.
type Cache struct {
	Line  int // in its input, from 1; 0: the default
	Type  string
	Attrs map[string]string
}

// caches reads the input cache. With raw caches its default is off.
func (p *parser) caches() []Cache {
	_, set := p.settings["cache"]
	_, from := p.settings["cache-from"]
	_, to := p.settings["cache-to"]
	if !set && (from || to) {
		return nil
	}
	caches := p.entries("cache")
	if !set {
		caches[0].Line = 0
	}
	return caches
}

// entries reads a list of caches.
func (p *parser) entries(input string) []Cache {
	var all []Cache
	for _, it := range p.list(input) {
		if c, ok := p.entry(input, it); ok {
			all = append(all, c)
		}
	}
	return all
}

// entry reads one entry of an input: CSV with a type; or one word, which is the type;
// or for cache-from and cache-to a reference, as in buildx's util/buildflags.
func (p *parser) entry(input string, it syntax.Item) (Cache, bool) {
	e := Cache{Line: it.Line, Attrs: map[string]string{}}
	if !strings.ContainsAny(it.Text, `=,"`) {
		raw := input == "cache-from" || input == "cache-to"
		switch {
		case raw:
			e.Type, e.Attrs["ref"] = "registry", it.Text
		case syntax.IsName(it.Text):
			e.Type = it.Text
		default:
			p.report(input, it.Line, "expected type=…", "a repository is written type=registry,ref=…")
			return e, false
		}
		return e, true
	}
	pairs, err := syntax.ParseCSV(it.Text)
	if err != nil {
		p.report(input, it.Line, err.Error(), `put quotes around a whole field: type=local,"dest=a,b"`)
		return e, false
	}
	seen := map[string]bool{}
	for _, pair := range pairs {
		if seen[pair.Key] {
			p.report(input, it.Line, syntax.AttributeName(pair.Key)+" is given twice", "")
		}
		seen[pair.Key] = true
		e.Attrs[pair.Key] = pair.Value
	}
	e.Type = e.Attrs["type"]
	delete(e.Attrs, "type")
	if e.Type == "" {
		p.report(input, it.Line, "the type is missing", "begin with type=")
	}
	p.placed(input, it.Line, e.Type, e.Attrs)
	return e, e.Type != ""
}

const highestLevel = 22 // of any compression: zstd's

// cacheAttrs are the attributes that inputs of their own set for every cache, under
// BuildKit's names. What was not set is absent.
func (p *parser) cacheAttrs() map[string]string {
	attrs := map[string]string{}
	for _, name := range []string{"cache-mode", "compression", "compression-level", "force-compression", "oci-mediatypes", "image-manifest"} {
		if value := p.value(name); value != "" {
			attrs[strings.TrimPrefix(name, "cache-")] = value
		}
	}
	if level, err := strconv.Atoi(attrs["compression-level"]); err == nil && level > highestLevel {
		p.report("compression-level", 0, "no compression has a level above "+strconv.Itoa(highestLevel), "")
		delete(attrs, "compression-level")
	}
	return attrs
}
