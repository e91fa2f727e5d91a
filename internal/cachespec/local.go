package cachespec

import "path/filepath"

// Local is a cache in a directory: an OCI layout whose index has one tag for each scope
// (BuildKit v0.34.2, client/solve.go, cache/remotecache/local).
type Local struct {
	common
	Src, Dest string // directories that are read and written; after Resolve absolute, and equal unless both are in the line
	Tag       string // "": none
	Digest    string // of the manifest, in lines of cache-from
	Reset     bool   // after an export, blobs that nothing in the index names are removed

	TagPrefix string // Resolve: precedes a scope's name: "", or Tag and a hyphen
}

var localKind = kind{config: func() config { return &Local{} }, inputs: anywhere}

// Type implements [Config].
func (*Local) Type() string { return "local" }

// NativeOCI implements [Config].
func (*Local) NativeOCI() bool { return true }

func (c Local) clone() config { return &c }

func (c *Local) attributes() []attribute {
	return append([]attribute{
		directory("src", &c.Src), directory("dest", &c.Dest), place("tag", &c.Tag, notEmpty),
		place("digest", &c.Digest, anything).only(verbatim), boolean("reset", &c.Reset),
	}, c.export()...)
}

// String implements [Config].
func (c *Local) String() string {
	switch {
	case c.Src == c.Dest, c.Src == "":
		return "local " + c.Dest
	case c.Dest == "":
		return "local " + c.Src
	}
	return "local " + c.Src + " → " + c.Dest
}

// Identity implements [Config].
func (c *Local) Identity() string { return "local " + c.Dest + " " + c.TagPrefix }

// Dirs implements [Config].
func (c *Local) Dirs() []string { return []string{c.Src, c.Dest} }

func (c *Local) check(p *problems, in Input) {
	c.common.check(p, in)
	for _, needed := range []struct {
		in          Input
		name, value string
	}{{From, "src", c.Src}, {To, "dest", c.Dest}} {
		if in == needed.in && needed.value == "" {
			p.add("say where: type=local,"+needed.name+"=/path/to/cache", "%s is missing", needed.name)
		}
	}
}

func (c *Local) resolve(p *problems, env Environment) config {
	c.complete(p, env)
	if c.Src == "" && c.Dest == "" {
		c.Src = env.CacheDir
	}
	if c.Src == "" && c.Dest == "" {
		p.add("say where: type=local,dest=/path/to/cache", "dest is missing, and there is no HOME to find a default in")
		return c
	}
	if c.Src == "" {
		c.Src = c.Dest
	}
	if c.Dest == "" {
		c.Dest = c.Src
	}
	var err1, err2 error
	c.Src, err1 = filepath.Abs(c.Src)
	c.Dest, err2 = filepath.Abs(c.Dest)
	if err1 != nil || err2 != nil {
		p.add("give an absolute path", "the current directory is not known")
	}
	if c.Tag != "" {
		c.TagPrefix = p.prefix(c.Tag)
	}
	return c
}
