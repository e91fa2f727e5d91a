package backends

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/builderspec"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Options are what the cache lines depend on besides themselves.
type Options struct {
	Attrs    map[string]string   // mode, compression, … as the step's inputs set them; only the set ones
	Images   []string            // references that the build pushes, fully qualified
	Keychain authn.Keychain      // credentials of registries; nil for none
	Getenv   func(string) string // the environment, for what BuildKit takes from it; nil for an empty one
	Builder  builderspec.Node    // the builder that builds; the zero value is a managed one
	CacheDir string              // this project's own directory in the user's cache, for auto; "" when there is none
}

// New turns the lines of the cache input into backends and reports everything
// that is wrong with them, before anything is started. "none" gives no backend;
// "auto" gives a registry cache beside the first image when there is one, else GitHub's
// own in a job that has it, else a local one.
func New(lines []inputs.Cache, o Options) ([]Backend, []syntax.Problem) {
	if o.Keychain == nil {
		o.Keychain = authn.NewMultiKeychain()
	}
	if o.Getenv == nil {
		o.Getenv = func(string) string { return "" }
	}
	var caches []Backend
	var found []syntax.Problem
	for _, line := range lines {
		p := &problems{input: "cache", line: line.Line, kind: line.Type}
		if c := newBackend(p, line, o); c != nil && len(p.found) == 0 {
			caches = append(caches, c)
		}
		found = append(found, p.found...)
	}
	if slices.ContainsFunc(lines, func(l inputs.Cache) bool { return l.Type == "none" }) && len(lines) > 1 {
		found = append(found, syntax.Problem{Input: "cache", What: "none stands beside other caches", Hint: "leave out none, or all others"})
	}
	return caches, append(found, twice(caches)...)
}

func newBackend(p *problems, line inputs.Cache, o Options) Backend {
	if _, ok := kinds[line.Type]; !ok {
		known := slices.Sorted(maps.Keys(kinds))
		hint := "known are " + strings.Join(known, ", ")
		if near := syntax.Nearest(line.Type, known); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		p.kind = ""
		p.add(hint, "type %q is unknown", line.Type)
		return nil
	}
	checkAttrs(p, line.Type, line.Attrs)
	kind, attrs := line.Type, line.Attrs
	if kind == "auto" {
		kind, attrs = automatic(o)
	}
	switch kind {
	case "none":
		return nil
	case "registry":
		return newRegistry(p, attrs, o)
	case "inline":
		return newInline(p, attrs, o)
	case "s3":
		return newS3(p, attrs, o)
	case "azblob":
		return newAzblob(p, attrs, o)
	case "gha":
		return newGHA(p, attrs, o)
	default:
		return newLocal(p, attrs, o)
	}
}

// automatic picks the cache that needs no further set-up.
func automatic(o Options) (string, map[string]string) {
	if len(o.Images) > 0 {
		if tag, err := name.NewTag(o.Images[0]); err == nil {
			return "registry", map[string]string{"ref": tag.Context().Name()}
		}
	}
	if ghaRunner(nil, o.Getenv).usable(o) {
		return "gha", nil
	}
	return "local", nil // in o.CacheDir
}

func newRegistry(p *problems, attrs map[string]string, o Options) Backend {
	options := exportOptions(p, attrs, o.Attrs)
	ref, given := attrs["ref"]
	if !given {
		p.add("say where: type=registry,ref=ghcr.io/owner/app", "ref is missing")
	}
	if ref == "" {
		return nil
	}
	r := &Registry{insecure: syntax.IsTrue(attrs["registry.insecure"]), strict: syntax.IsFalse(attrs["ignore-error"]), options: options, keychain: o.Keychain}
	r.repo, r.prefix = parseRepo(p, ref, r.insecure)
	checkImages(p, r, ref, o.Images)
	return r
}

// checkImages refuses a cache ref that an image is pushed to. Scopes have tags of
// their own, so this is a ref that was meant for the image, or an image whose tag
// a scope could take.
func checkImages(p *problems, r *Registry, ref string, images []string) {
	for _, image := range images {
		tag, err := name.NewTag(image)
		if err != nil || tag.Context().Name() != r.repo.Name() {
			continue
		}
		if ownTag(ref) == tag.TagStr() || strings.HasPrefix(tag.TagStr(), r.prefix) {
			p.add("give the cache another tag, or none", "ref=%s is where the image %s is pushed", ref, image)
			return
		}
	}
}

func newInline(p *problems, attrs map[string]string, o Options) Backend {
	if pick("mode", attrs, o.Attrs) == "max" {
		p.add("use a registry cache, or set cache-mode to min", "mode=max is not possible: the cache holds the image's own layers only")
	}
	if len(o.Images) == 0 {
		p.add("set push: true and tags, or use another cache", "needs an image that is pushed")
		return nil
	}
	image, err := name.NewTag(o.Images[0], insecureOption(attrs)...)
	if err != nil {
		return nil // the problem is the tag's, and reported there
	}
	ref := attrs["ref"]
	if ref == "" {
		ref = image.Context().Name()
	}
	r := Registry{insecure: syntax.IsTrue(attrs["registry.insecure"]), strict: syntax.IsFalse(attrs["ignore-error"]), keychain: o.Keychain}
	r.repo, r.prefix = parseRepo(p, ref, r.insecure)
	checkImages(p, &r, ref, o.Images)
	return &Inline{tags: r, image: image}
}

func insecureOption(attrs map[string]string) []name.Option {
	if syntax.IsTrue(attrs["registry.insecure"]) {
		return []name.Option{name.Insecure}
	}
	return nil
}

func newLocal(p *problems, attrs map[string]string, o Options) Backend {
	options := exportOptions(p, attrs, o.Attrs)
	src, dest := pick("src", attrs), pick("dest", attrs)
	if src == "" && dest == "" {
		src = o.CacheDir
	}
	if src == "" && dest == "" {
		p.add("say where: type=local,dest=/path/to/cache", "dest is missing, and there is no HOME to find a default in")
		return nil
	}
	if src == "" {
		src = dest
	}
	if dest == "" {
		dest = src
	}
	l := &Local{reset: syntax.IsTrue(attrs["reset"]), strict: syntax.IsFalse(attrs["ignore-error"]), options: options}
	var err1, err2 error
	l.src, err1 = filepath.Abs(src)
	l.dest, err2 = filepath.Abs(dest)
	if err1 != nil || err2 != nil {
		p.add("give an absolute path", "the current directory is not known")
	}
	if tag := attrs["tag"]; tag != "" {
		l.prefix = tag + "-"
		if len(l.prefix) > maxPrefix {
			p.add(fmt.Sprintf("give one of at most %d characters: the branch's name follows it", maxPrefix-1), "tag %q is too long", tag)
		}
	}
	return l
}

// twice finds the same place spelled in two lines: the second export would
// overwrite the first one.
func twice(caches []Backend) []syntax.Problem {
	seen := map[string]bool{}
	var found []syntax.Problem
	for _, c := range caches {
		place := c.String()
		switch c := c.(type) {
		case *Registry:
			place += " " + c.prefix
		case *Inline:
			place = "registry " + c.tags.repo.Name() + " " + c.tags.prefix
		case *Local:
			place = "local " + c.dest + " " + c.prefix
		case *S3:
			place = strings.Join([]string{"s3", c.endpoint, c.bucket, c.source.manifests}, " ")
		case *Azblob:
			place = strings.Join([]string{"azblob", c.url, c.container, c.source.manifests}, " ")
		case *GHA:
			place = strings.Join([]string{"gha", c.url, c.base}, " ")
		}
		if seen[place] {
			found = append(found, syntax.Problem{Input: "cache", What: fmt.Sprintf("%s is there twice", c), Hint: "leave one of the lines out: the second would overwrite what the first wrote"})
		}
		seen[place] = true
	}
	return found
}
