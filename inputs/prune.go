package inputs

import (
	"path"
	"time"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Prune are the inputs of the command prune.
type Prune struct {
	Gone         bool
	OlderThan    time.Duration // 0: the age does not matter
	KeepStorage  int64         // bytes; 0: the size does not matter
	Scopes, Keep []string      // patterns as of package path, all of them valid
	Grace        time.Duration
	Repository   string // "": the checkout's, or the CI's
	Foreign, Dry bool
}

// upkeep reports whether the command looks after caches, and builds nothing.
func (p *parser) upkeep() bool { return p.keeping || p.value("command") != "build" }

func (p *parser) prune() Prune {
	return Prune{
		Gone: p.bool("gone"), OlderThan: p.duration("older-than"), KeepStorage: p.size("keep-storage"),
		Scopes: p.patterns("scopes"), Keep: p.patterns("keep"), Grace: p.duration("grace"),
		Repository: p.value("repository"), Foreign: p.bool("foreign"), Dry: p.bool("dry-run"),
	}
}

// patterns are the items of a list that package path can match.
func (p *parser) patterns(name string) []string {
	var all []string
	for _, it := range p.list(name) {
		if _, err := path.Match(it.Text, ""); err != nil {
			p.report(name, it.Line, syntax.Quoted(it.Text)+" is not a pattern", "close its brackets: pr-[0-9]*")
			continue
		}
		all = append(all, it.Text)
	}
	return all
}
