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
// It matches [a-z0-9_][a-z0-9._-]{0,109}. Different refs, or different keys, have different names.
//
//	b-<branch>  pr-<number>  t-<tag>      for an image without a key
//	b-<branch>.<key>         ...          for one of several images in a store
//	q-<branch>           q-<branch>.<key> for the merge queue of a branch
//	local                local.<key>      for builds outside every CI and checkout
//
// No ref's name is local, since each begins with its namespace and a hyphen.
//
// A ref or key of 1 to 40 characters of [a-z0-9_] is used unchanged. Any other becomes
// a slug of at most 36 characters, a hyphen and 16 hexadecimal digits of its SHA-256:
// feature/a is b-feature-a-951d42dc02dc7431. The slug of 🎉 is empty: b--6146299cd54818a0.
// The hyphen keeps the two forms apart. testdata/names.golden fixes the mapping.
type Name string

const (
	plainLength = 40 // longest ref that is used unchanged
	slugLength  = 36 // longest slug before a hash
	hashLength  = 16 // hexadecimal digits after a slug
)

// RefName is the name of a full Git ref for an image without a key: refs/heads/main is
// b-main, refs/pull/7/merge is pr-7 and refs/tags/v1 is t-v1. For any other ref it is "".
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

// Cut splits a name into the ref's part and the key's slug, which is "" for a name
// without a key: b-main.worker gives b-main and worker.
func (n Name) Cut() (ref Name, key string) {
	before, key, _ := strings.Cut(string(n), ".")
	return Name(before), key
}

// Mounts is the name under which the cache mounts of a scope are kept beside its layers: another key of
// the same ref, so that a store which separates refs keeps them with that ref. No input is a key with a NUL, so it is
// the name of no scope.
func (n Name) Mounts() Name {
	ref, key := n.Cut()
	return Name(string(ref) + "." + Slug("cache mounts\x00"+key))
}

// Valid reports whether the name is one that a ref and a key may have. Names that people give look otherwise: main, latest.
func (n Name) Valid() bool {
	before, key, keyed := strings.Cut(string(n), ".")
	if keyed && !isSlug(key) {
		return false
	}
	if number, ok := strings.CutPrefix(before, "pr-"); ok {
		pr, err := strconv.Atoi(number)
		return err == nil && pr > 0 && strconv.Itoa(pr) == number
	}
	namespace, ref, _ := strings.Cut(before, "-")
	return Name(before) == localName("") || slices.Contains([]string{"b", "t", "q"}, namespace) && isSlug(ref)
}

// isSlug reports whether s has one of the two forms of a [Slug].
func isSlug(s string) bool {
	plain := func(s string) bool {
		return strings.IndexFunc(s, func(r rune) bool { return r > 127 || !isPlain(byte(r)) }) < 0
	}
	if s != "" && len(s) <= plainLength && plain(s) {
		return true
	}
	at := strings.LastIndex(s, "-")
	if at < 0 || at > slugLength || len(s)-at-1 != hashLength {
		return false
	}
	_, err := hex.DecodeString(s[at+1:])
	return err == nil && strings.ToLower(s[at+1:]) == s[at+1:] && plain(strings.ReplaceAll(s[:at], "-", "_"))
}

// BranchName is the name of a branch's scope for an image with a key; "" for none.
func BranchName(branch, key string) Name { return branchName(branch, key) }

// Ref says whose scope it is: "pr" and "7", or "b", "t", "q" and the slug of a branch, a tag or a queue's branch; "local" and "".
func (n Name) Ref() (kind, slug string) {
	ref, _ := n.Cut()
	kind, slug, _ = strings.Cut(string(ref), "-")
	return kind, slug
}

func branchName(branch, key string) Name { return newName("b-", Slug(branch), key) }

func queueName(base, key string) Name { return newName("q-", Slug(base), key) }

func tagName(tag, key string) Name { return newName("t-", Slug(tag), key) }

func pullRequestName(n int, key string) Name { return newName("pr-", strconv.Itoa(n), key) }

func localName(key string) Name { return newName("", "local", key) }

func newName(namespace, ref, key string) Name {
	if key != "" {
		ref += "." + Slug(key)
	}
	return Name(namespace + ref)
}

// Slug is one part of a [Name]: a plain ref or key is used unchanged, any other becomes
// a readable part and a hash. Different inputs have different slugs, up to collisions of
// 64 bits of SHA-256. A slug contains no dots. Slug works on bytes, so names do not depend
// on a version of Unicode, and invalid UTF-8 has a name too.
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
	if len(cut) > slugLength {
		cut = cut[:slugLength]
	}
	sum := sha256.Sum256([]byte(s))
	return cut + "-" + hex.EncodeToString(sum[:])[:hashLength]
}

func isPlain(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_'
}

// Key derives an image's identity, for [Options].Key, from how it is built:
//
//	file=docker/web.Dockerfile
//	context=services/web
//	platform=linux/arm64
//
// one line for each part that differs from its default. When all are defaults it is "".
// Different parts give different keys. What else tells builds apart is their [Variant].
//
//   - file is relative to the same directory as subdir, with slashes. The defaults are ""
//     and <subdir>/Dockerfile.
//   - The defaults of subdir are "" and ".".
//   - platforms are those of one of several builders, which write at the same time, and which
//     BuildKit itself may write for; there are none for a single builder, and for the one of
//     several that builds linux/amd64 alone.
func Key(file, subdir string, platforms []string) string {
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
	for _, p := range slices.Compact(slices.Sorted(slices.Values(platforms))) {
		part("platform", p)
	}
	return strings.Join(lines, "\n")
}

// BakeKey derives the identity of a target of a bake file, which its Dockerfile and its context do not say: several targets
// may have both in common.
//
//	context=services
//	bake=app
//
// subdir is the directory of the bake file, as for [Key].
func BakeKey(target, subdir string) string {
	name := "bake=" + target // which has letters, digits, _ and - only
	if key := Key("", subdir, nil); key != "" {
		return key + "\n" + name
	}
	return name
}
