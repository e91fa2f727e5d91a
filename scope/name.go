package scope

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Name is a scope's name in every store: a registry tag, a file, a part of an object's key.
// It matches [a-z0-9_][a-z0-9._-]{0,109}; two refs, or two keys, never share one.
//
//	b-<branch>  pr-<number>  t-<tag>      for an image without a key
//	b-<branch>.<key>         ...          for one of several images in a store
//
// A ref or key stands as it is when it is 1 to 40 characters of [a-z0-9_]. Any other becomes
// a slug, a hyphen and ten hexadecimal digits of its SHA-256, 51 characters at most:
// feature/a is b-feature-a-951d42dc02, and 🎉, which leaves no slug, b--6146299cd5.
// The hyphen keeps the two forms apart. testdata/names.golden fixes the mapping.
type Name string

const (
	plainLength = 40 // of a ref that stands as it is, and of a slug
	hashLength  = 10 // hexadecimal digits after a slug
)

// RefName is the name, for an image without a key, of a full Git ref: refs/heads/main is
// b-main, refs/pull/7/merge pr-7 and refs/tags/v1 t-v1. Of any other ref it is "".
func RefName(ref string) Name {
	if branch, ok := strings.CutPrefix(ref, "refs/heads/"); ok && branch != "" {
		return branchName(branch, "")
	}
	if tag, ok := strings.CutPrefix(ref, "refs/tags/"); ok && tag != "" {
		return tagName(tag, "")
	}
	pull, _ := strings.CutPrefix(ref, "refs/pull/")
	if number, ok := strings.CutSuffix(pull, "/merge"); ok {
		if n, err := strconv.Atoi(number); err == nil && n > 0 {
			return pullRequestName(n, "")
		}
	}
	return ""
}

// Cut separates the ref's part of a name from the key's, which is "" without one:
// b-main.worker is b-main and worker.
func (n Name) Cut() (ref Name, key string) {
	before, key, _ := strings.Cut(string(n), ".")
	return Name(before), key
}

func branchName(branch, key string) Name { return newName("b-", Slug(branch), key) }

func tagName(tag, key string) Name { return newName("t-", Slug(tag), key) }

func pullRequestName(n int, key string) Name { return newName("pr-", strconv.Itoa(n), key) }

func newName(namespace, ref, key string) Name {
	if key != "" {
		ref += "." + Slug(key)
	}
	return Name(namespace + ref)
}

// Slug is one part of a name: a ref or key that is plain stands as it is, any other becomes
// a readable piece and a hash. It is injective but for collisions of 40 bits of SHA-256, and
// never holds a dot. It works
// on bytes, so that no version of Unicode changes a name and no invalid UTF-8 breaks one.
func Slug(s string) string {
	var b strings.Builder
	plain, gap := s != "" && len(s) <= plainLength, false
	for _, c := range []byte(s) {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
			plain = false
		}
		if !isPlain(c) {
			plain, gap = false, true
			continue
		}
		if gap && b.Len() > 0 {
			b.WriteByte('-')
		}
		gap = false
		b.WriteByte(c)
	}
	if plain {
		return s
	}
	cut := b.String()
	if len(cut) > plainLength {
		cut = cut[:plainLength]
	}
	sum := sha256.Sum256([]byte(s))
	return cut + "-" + hex.EncodeToString(sum[:])[:hashLength]
}

func isPlain(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_'
}

// Key derives an image's identity, for Options.Key, from how it is built:
//
//	file=docker/web.Dockerfile
//	context=services/web
//	target=release
//	platform=linux/arm64
//
// one line for each part that is not the default, "" when none is. The file is relative to
// the same directory as subdir, with slashes; "" and <subdir>/Dockerfile are the default, as
// are subdir "" and ".". The platforms are those built for, in normal form, in any order: the
// builder's own when none were asked for, and none counts as linux/amd64 alone. So runners of
// two architectures do not overwrite each other's cache. Different parts give different keys.
func Key(file, subdir, target string, platforms []string) string {
	var lines []string
	// An escaped value spans one line, so the parts of a key cannot be mistaken for each other.
	escape := strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	part := func(name, value string) { lines = append(lines, name+"="+escape.Replace(value)) }

	subdir = path.Clean(subdir)
	if file != "" && path.Clean(file) != path.Join(subdir, "Dockerfile") {
		part("file", path.Clean(file))
	}
	if subdir != "." {
		part("context", subdir)
	}
	if target != "" {
		part("target", target)
	}
	platforms = slices.Compact(slices.Sorted(slices.Values(platforms)))
	if len(platforms) != 1 || platforms[0] != "linux/amd64" {
		for _, p := range platforms {
			part("platform", p)
		}
	}
	return strings.Join(lines, "\n")
}
