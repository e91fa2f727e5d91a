package inputs

import (
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// readCaches reads the inputs with cache lines, and those beside them. In cache the lines
// of cache-from and cache-to turn the default off.
func (p *parser) readCaches(v *Values) {
	set := p.settings.Given("cache")
	if set || !p.settings.Given("cache-from") && !p.settings.Given("cache-to") {
		v.Caches = p.caches(cachespec.Scoped)
	}
	if !set && len(v.Caches) > 0 {
		v.Caches[0].Line = 0
	}
	v.CacheFrom = p.caches(cachespec.From)
	v.CacheTo = p.caches(cachespec.To)
	p.problems = append(p.problems, cachespec.Overwriting(v.CacheTo, pushedNames(v.Outputs))...)
	if v.imageCache() {
		v.CacheTo = append(v.CacheTo, cachespec.ImageCache())
	}
	v.CacheKey = p.value("cache-key")
	v.CacheExport = p.cacheExport()
	v.Fallbacks = texts(p.list("cache-fallbacks"))
	v.CacheWrite = p.value("cache-write")
	v.CacheKeep = p.keep()
	v.CacheMounts = p.cacheMounts()
	v.CacheBudget = p.size("cache-budget")
	v.CacheStrict = p.bool("cache-strict")
	v.FailBelow = p.ratio("fail-below")
	v.ProbeTimeout = p.duration("probe-timeout")
	v.CacheTimeout = p.duration("cache-timeout")
}

// Keep is what a scope keeps of the builds before the last one.
type Keep struct {
	Age      time.Duration
	Variants int   // with the last build's
	Bytes    int64 // of layers that they add to the last build's; 0: Percent decides
	Percent  int   // of the layers of the scope's largest build
}

// keep reads the inputs cache-keep-….
func (p *parser) keep() Keep {
	k := Keep{Age: p.duration("cache-keep-age"), Variants: p.int("cache-keep-variants")}
	text := p.value("cache-keep-size")
	if percent, ok := strings.CutSuffix(text, "%"); ok {
		n, err := strconv.Atoi(percent)
		if err != nil || n < 0 || n > maxPercent {
			p.report("cache-keep-size", 0, syntax.Quoted(text)+" is not a percentage", "write it like 100%")
		}
		k.Percent = n
		return k
	}
	size, err := units.RAMInBytes(text)
	if err != nil || size < 0 {
		p.report("cache-keep-size", 0, syntax.Quoted(text)+" is not a size", "write it like 2g, or as a percentage of the scope's largest build, like 100%")
	}
	k.Bytes = size
	return k
}

// maxPercent is more than any scope needs, and bounds products with sizes.
const maxPercent = 100_000

// ratio reads a number from 0 to 1; 0 where it is unset.
func (p *parser) ratio(name string) float64 {
	text := p.value(name)
	if text == "" {
		return 0
	}
	ratio, err := strconv.ParseFloat(text, 64)
	if err != nil || !(ratio >= 0 && ratio <= 1) {
		p.report(name, 0, syntax.Quoted(text)+" is not a ratio", "write a number from 0 to 1, such as 0.8")
		return 0
	}
	return ratio
}

// caches reads the lines of one of the inputs.
func (p *parser) caches(in cachespec.Input) []cachespec.Cache {
	var all []cachespec.Cache
	for _, it := range p.list(in.String()) {
		c, ok, problems := cachespec.Parse(in, it, p.translate)
		p.problems = append(p.problems, problems...)
		if ok {
			all = append(all, c)
		}
	}
	return all
}

// cacheExport are the settings for all lines of cache, from separate inputs. Unset ones are "".
func (p *parser) cacheExport() cachespec.Export {
	e := cachespec.Export{
		Mode: p.value("cache-mode"), Compression: p.value("compression"), CompressionLevel: p.value("compression-level"),
		ForceCompression: p.value("force-compression"), OCIMediaTypes: p.value("oci-mediatypes"), ImageManifest: p.value("image-manifest"),
	}
	if level, err := strconv.Atoi(e.CompressionLevel); err == nil && level > cachespec.HighestLevel {
		p.report("compression-level", 0, "no compression has a level above "+strconv.Itoa(cachespec.HighestLevel), "")
		e.CompressionLevel = ""
	}
	return e
}

// entry reads one line of an input in BuildKit's CSV, with the paths of this process.
func (p *parser) entry(input string, it syntax.Item) (syntax.Entry, bool) {
	e, problems := syntax.ParseEntry(it)
	for _, problem := range problems {
		p.report(input, problem.Line, problem.What, problem.Hint)
	}
	p.containDest(input, it.Line, e.Type, e.Attrs)
	return e, e.Type != ""
}
