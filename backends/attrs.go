package backends

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// An attr is one attribute that a cache line may have.
type attr struct {
	name  string
	check func(string) (want string, ok bool) // want says what is accepted
}

// Attributes that every exporter of BuildKit with layers of its own understands
// (BuildKit v0.33.1, util/compression/attrs.go and cache/remotecache/registry).
var exportAttrs = []attr{
	{"mode", oneOf("min", "max")},
	{"compression", oneOf("gzip", "estargz", "zstd", "uncompressed")},
	{"compression-level", isLevel},
	{"force-compression", isBool},
	{"oci-mediatypes", isBool},
	{"image-manifest", isBool},
	{"ignore-error", isBool},
}

// kinds lists the attributes of each cache type.
var kinds = map[string][]attr{
	"registry": append([]attr{{"ref", notEmpty}, {"registry.insecure", isBool}}, exportAttrs...),
	"local":    append([]attr{{"src", notEmpty}, {"dest", notEmpty}, {"tag", notEmpty}, {"reset", isBool}}, exportAttrs...),
	"inline":   {{"ref", notEmpty}, {"registry.insecure", isBool}, {"mode", oneOf("min", "max")}, {"ignore-error", isBool}},
	"s3":       append(slices.Clone(s3Attrs), exportAttrs...),
	"azblob":   append(slices.Clone(azblobAttrs), exportAttrs...),
	"gha":      append(slices.Clone(ghaAttrs), exportAttrs...),
	"auto":     nil,
	"none":     nil,
}

// Options that hold unless a cache line or an input says otherwise. Cold layers
// decompress faster from zstd than from gzip, and take less room; BuildKit's own
// default is gzip with mode=min.
var exportDefaults = map[string]string{
	"mode":           "max",
	"compression":    "zstd",
	"oci-mediatypes": "true",
	"image-manifest": "true",
}

func oneOf(words ...string) func(string) (string, bool) {
	return func(v string) (string, bool) {
		return "one of " + strings.Join(words, ", "), slices.Contains(words, v)
	}
}

func notEmpty(v string) (string, bool) { return "a value", v != "" }

// isBool accepts what strconv does, as BuildKit itself; it is BuildKit that
// silently takes its default where this one complains.
func isBool(v string) (string, bool) {
	_, err := strconv.ParseBool(v)
	return "true or false", err == nil
}

func anything(string) (string, bool) { return "", true }

// isAge is a span of time in Go's form, which BuildKit's is.
func isAge(v string) (string, bool) {
	age, err := time.ParseDuration(v)
	return "a time such as 24h or 90m", err == nil && age >= 0
}

func isCount(v string) (string, bool) {
	n, err := strconv.Atoi(v)
	return "a whole number from 1", err == nil && n > 0
}

// isObjectName is one name, which leads nowhere else. BuildKit takes a list, split at
// semicolons, and reads its first entry only (v0.33.1, cache/remotecache/s3/s3.go).
func isObjectName(v string) (string, bool) {
	ok := v != "" && !strings.ContainsFunc(v, func(r rune) bool { return r == ';' || unicode.IsControl(r) })
	for part := range strings.SplitSeq(v, "/") {
		ok = ok && part != "" && part != "." && part != ".."
	}
	return "one name, such as app", ok
}

func isLevel(v string) (string, bool) {
	n, err := strconv.Atoi(v)
	return "a whole number from 0 to 22", err == nil && n >= 0 && n <= 22
}

// levels are the highest compression levels (BuildKit v0.33.1, util/compression;
// the numbers are zlib's and zstd's).
var levels = map[string]int{"gzip": 9, "estargz": 9, "zstd": 22, "uncompressed": 22}

// problems collects what is wrong with one cache line or with the inputs beside it.
type problems struct {
	input string
	line  int
	kind  string
	found []syntax.Problem
}

func (p *problems) add(hint, format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	if p.kind != "" {
		what = "type=" + p.kind + ": " + what
	}
	p.found = append(p.found, syntax.Problem{Input: p.input, Line: p.line, What: what, Hint: hint})
}

// checkAttrs reports unknown attributes and values out of range, in a steady order.
func checkAttrs(p *problems, kind string, attrs map[string]string) {
	known := kinds[kind]
	names := make([]string, len(known))
	for i, a := range known {
		names[i] = a.name
	}
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		i := slices.Index(names, name)
		if i < 0 {
			p.add(unknownHint(kind, name, names), "attribute %q is unknown", name)
			continue
		}
		if want, ok := known[i].check(attrs[name]); !ok {
			p.add("give "+want, "%s=%s is not valid", name, attrs[name])
		}
	}
}

func unknownHint(kind, name string, names []string) string {
	switch {
	case len(names) == 0:
		return "name the type to set it: type=registry,ref=…"
	case name == "digest" || name == "scope" || name == "name":
		return "the scope is derived from the branch; an entry that is to be used as it stands goes into cache-from or cache-to"
	case kind == "inline" && slices.ContainsFunc(exportAttrs, func(a attr) bool { return a.name == name }):
		return "inline caches are written as the image is: set it in outputs"
	}
	if near := syntax.Nearest(name, names); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return "known are " + strings.Join(names, ", ")
}

// exportOptions merges the defaults, the step's inputs and a line's own
// attributes, the last one winning, and reports combinations that BuildKit
// would refuse only after the whole build, or silently ignore.
func exportOptions(p *problems, line, input map[string]string) map[string]string {
	options := maps.Clone(exportDefaults)
	if syntax.IsFalse(pick("oci-mediatypes", line, input)) && pick("compression", line, input) == "" {
		options["compression"] = "gzip" // the only one with Docker media types
	}
	if syntax.IsFalse(pick("oci-mediatypes", line, input)) && pick("image-manifest", line, input) == "" {
		options["image-manifest"] = "false" // as BuildKit's own default does
	}
	for _, a := range exportAttrs {
		if v := pick(a.name, line, input); v != "" {
			options[a.name] = v
		}
	}
	delete(options, "ignore-error")
	checkOptions(p, options)
	return options
}

func checkOptions(p *problems, options map[string]string) {
	docker, compression := syntax.IsFalse(options["oci-mediatypes"]), options["compression"]
	if docker && syntax.IsTrue(options["image-manifest"]) {
		p.add("leave out one of them, or set image-manifest=false", "image-manifest=true needs oci-mediatypes=true")
	}
	if docker && (compression == "zstd" || compression == "estargz") {
		p.add("use compression=gzip, or oci-mediatypes=true", "compression=%s needs oci-mediatypes=true", compression)
	}
	level, err := strconv.Atoi(options["compression-level"])
	if highest, known := levels[compression]; known && err == nil && level > highest && level <= 22 {
		p.add(fmt.Sprintf("%s goes from 0 to %d", compression, highest), "compression-level=%d is out of range for %s", level, compression)
	}
}

func pick(name string, maps ...map[string]string) string {
	for _, m := range maps {
		if m[name] != "" {
			return m[name]
		}
	}
	return ""
}
