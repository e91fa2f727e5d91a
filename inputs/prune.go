package inputs

import (
	"cmp"
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

// command is what the program is called with, or else what the input says.
func (p *parser) command() string { return cmp.Or(p.subcommand, p.value("command")) }

// upkeep reports whether the command builds nothing.
func (p *parser) upkeep() bool { return p.command() != "build" }

func (p *parser) prune() Prune {
	return Prune{
		Gone: p.bool("gone"), OlderThan: p.duration("older-than"), KeepStorage: p.size("keep-storage"),
		Scopes: p.patterns("scopes"), Keep: p.patterns("keep"), Grace: p.duration("grace"),
		Repository: p.value("repository"), Foreign: p.bool("foreign"), Dry: p.bool("dry-run"),
	}
}

// scopeArgument takes the argument of a command that looks after caches. It would be the context.
func (p *parser) scopeArgument() string {
	if p.subcommand == "" || p.subcommand == commandMerge || !p.settings.IsArgument("context") {
		return ""
	}
	text := p.settings.Text("context")
	p.settings = p.settings.Without("context")
	return text
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
