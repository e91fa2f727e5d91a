package inputs

import (
	"strings"

	"github.com/docker/go-units"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// CacheMounts are the cache mounts that are kept. The zero value: none.
type CacheMounts struct {
	Auto  bool             // all that steps of the build have used
	Sizes map[string]int64 // by their ids, the limits in bytes; 0: none of its own
	Total int64            // bytes of a scope's mounts in a cache
}

// On tells whether any are kept.
func (c CacheMounts) On() bool { return c.Auto || len(c.Sizes) > 0 }

// cacheMounts reads the inputs cache-mounts….
func (p *parser) cacheMounts() CacheMounts {
	const name = "cache-mounts"
	c := CacheMounts{Sizes: map[string]int64{}, Total: p.size(name + "-size")}
	for _, it := range p.list(name) {
		id, limit, limited := strings.Cut(it.Text, ",")
		id = strings.TrimSpace(id)
		size := int64(0)
		if limited {
			text, isMax := strings.CutPrefix(strings.TrimSpace(limit), "max=")
			var err error
			if size, err = units.RAMInBytes(text); !isMax || err != nil || size <= 0 {
				p.report(name, it.Line, syntax.Quoted(limit)+" is no limit", "write it like "+id+",max=2g")
			}
		}
		switch {
		case id == "":
			p.report(name, it.Line, "an id is missing before the limit", "write it like gomod,max=2g")
		case id == "auto" && limited:
			p.report(name, it.Line, "auto takes no limit", "set cache-mounts-size, or name the mounts")
		case id == "auto":
			c.Auto = true
		default:
			c.Sizes[id] = size
		}
	}
	return c
}
