package cachespec

import (
	"maps"
	"strings"
	"unicode"
)

// folder is a prefix with a slash at its end, unless it is empty.
func folder(prefix string) string {
	if prefix == "" || strings.HasSuffix(prefix, "/") {
		return prefix
	}
	return prefix + "/"
}

// beforeScope is the prefix of scopes' names for the attribute name.
func beforeScope(name string) string {
	if name == "" {
		return ""
	}
	return name + "-"
}

// sharedBlobs says why manifests outside of the cache's own folder may name its blobs.
func (c *common) sharedBlobs() string {
	if c.has("manifests_prefix") && !c.has("blobs_prefix") {
		return "manifests_prefix is set and blobs_prefix is not, so that other caches of this bucket may use the same blobs: set blobs_prefix, too"
	}
	return ""
}

// given are the attributes that have a value. The map is fresh.
func given(attrs map[string]string) map[string]string {
	found := maps.Clone(attrs)
	if found == nil {
		found = map[string]string{}
	}
	maps.DeleteFunc(found, func(_, value string) bool { return value == "" })
	return found
}

// isObjectName checks that a text is one name, whose path stays where it is joined. BuildKit
// splits it at semicolons and reads the first name only (v0.34.2, cache/remotecache/s3/s3.go).
func isObjectName(v string) (string, bool) {
	ok := v != "" && !strings.ContainsFunc(v, func(r rune) bool { return r == ';' || unicode.IsControl(r) })
	for part := range strings.SplitSeq(v, "/") {
		ok = ok && part != "" && part != "." && part != ".."
	}
	return "one name, such as app", ok
}
