package cachespec

import (
	"maps"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// common is what the configs of all types have.
type common struct {
	Export                        // as in the line; complete after Resolve
	ignoreError string            // a boolean
	attrs       map[string]string // of the line, as written
}

func (c *common) line() *common { return c }

// check implements config. In lines of cache conflicts are known only after other inputs are
// merged into them.
func (c *common) check(p *problems, in Input) {
	if in != Scoped {
		p.conflicts(c.Export)
	}
}

// complete merges other inputs and the defaults into the line's export.
func (c *common) complete(p *problems, env Environment) {
	c.Export = c.over(env.Export).withDefaults()
	p.conflicts(c.Export)
}

func (p *problems) conflicts(e Export) {
	for _, conflict := range e.Conflicts() {
		p.add(conflict.Hint, "%s", conflict.What)
	}
}

// has reports whether the line has an attribute, which may be empty.
func (c *common) has(name string) bool { _, ok := c.attrs[name]; return ok }

// Strict implements [Config].
func (c *common) Strict() bool { return syntax.IsFalse(c.ignoreError) }

// Options implements [Config].
func (c *common) Options() map[string]string { return c.Attrs() }

func (c *common) unknown(string) string { return "" }

// Dirs implements [Config].
func (c *common) Dirs() []string { return nil }

// Credentials implements [Config].
func (c *common) Credentials() bool { return false }

// InImage implements [Config].
func (c *common) InImage() bool { return false }

// NativeOCI implements [Config].
func (c *common) NativeOCI() bool { return false }

// Native implements [Config].
func (c *common) Native(Environment) map[string]string {
	attrs := map[string]string{}
	maps.Copy(attrs, c.attrs)
	return attrs
}

// export are the attributes of caches with layers of their own.
func (c *common) export() []attribute {
	return append([]attribute{c.mode()}, append(c.layers(), c.ignoring())...)
}

// objectExport are the attributes of caches in object stores. BuildKit itself knows the mode,
// and with compresses those of compressions; the others are for lines of cache, which warmlayer
// writes.
func (c *common) objectExport(compresses bool) []attribute {
	own := c.layers()
	for i, a := range own {
		if !compresses || a.name == "oci-mediatypes" || a.name == "image-manifest" {
			own[i].in = Scoped
		}
	}
	return append([]attribute{c.mode()}, append(own, c.ignoring())...)
}

func (c *common) mode() attribute { return text("mode", &c.Mode, oneOf("min", "max")) }

// layers are all but the mode.
func (c *common) layers() []attribute {
	return []attribute{
		text("compression", &c.Compression, oneOf(Compressions...)),
		text("compression-level", &c.CompressionLevel, isLevel),
		text("force-compression", &c.ForceCompression, isBool),
		text("oci-mediatypes", &c.OCIMediaTypes, isBool),
		text("image-manifest", &c.ImageManifest, isBool),
	}
}

// ignoring is last in each table.
func (c *common) ignoring() attribute { return text("ignore-error", &c.ignoreError, isBool) }
