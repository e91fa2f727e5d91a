package upkeep

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/warmlayer/warmlayer/scope"
)

// Rules say which caches go. The zero value names none. A cache goes when one of Gone, OlderThan and KeepStorage names it or, where there is
// none of these, when Scopes does. It stays where Scopes is given and does not name it, where Keep names it, when it is the default
// branch's, when another program wrote it, and when it is younger than Grace, unless it is a closed pull request's.
type Rules struct {
	Gone        bool          // its branch or tag does not exist any more, or its pull request is closed
	OlderThan   time.Duration // it was exported last before that time; 0: the age does not matter
	KeepStorage int64         // bytes that may stay, those used last first; 0: the size does not matter
	// Scopes and Keep are valid patterns as of package path: "pr-*". One without a dot is about all images of a ref: pr-7 is also
	// pr-7.worker. A scope that Scopes names without a pattern goes whatever its age is, and if it is the default branch's.
	Scopes, Keep []string
	Foreign      bool // those of other programs, too
	Grace        time.Duration
	Dry          bool       // nothing is removed
	Default      scope.Name // of the default branch, without a key; "": none is known
}

// Any reports whether there is a rule.
func (r Rules) Any() bool {
	return r.Gone || r.OlderThan > 0 || r.KeepStorage > 0 || len(r.Scopes) > 0
}

// Chosen is a cache that goes.
type Chosen struct {
	Scope
	Why string `json:"why"` // "the branch is gone", "not used for 31 days"
}

// Choose names the caches that go, in the order of their names, and says why. Cache mounts go with their scope.
func (r Rules) Choose(stock Stock, refs Refs, now time.Time) []Chosen {
	why := map[scope.Name]string{}
	for _, s := range stock.Scopes {
		if s.mounts == "" && r.may(s) {
			why[s.Name] = r.why(s, refs, now)
		}
	}
	if r.KeepStorage > 0 {
		r.shrink(stock, why, now)
	}
	var chosen []Chosen
	for _, s := range stock.Scopes {
		if w := why[cmp.Or(s.mounts, s.Name)]; w != "" {
			chosen = append(chosen, Chosen{s, w})
		}
	}
	return chosen
}

// may reports whether the rules leave a cache to chance, whatever its age is.
func (r Rules) may(s Scope) bool {
	ref, _ := s.Name.Cut()
	switch {
	case s.Foreign && !r.Foreign, matches(r.Keep, s.Name):
		return false
	case len(r.Scopes) > 0 && !matches(r.Scopes, s.Name):
		return false
	}
	return ref != r.Default || r.inFull(s.Name)
}

// young reports whether a cache stays since builds may rely on it.
func (r Rules) young(s Scope, now time.Time) bool {
	return now.Sub(s.Used) < r.Grace && !r.inFull(s.Name)
}

// inFull reports whether Scopes has a name, with or without its key.
func (r Rules) inFull(n scope.Name) bool {
	ref, _ := n.Cut()
	return slices.Contains(r.Scopes, string(n)) || slices.Contains(r.Scopes, string(ref))
}

func matches(patterns []string, n scope.Name) bool {
	ref, _ := n.Cut()
	return slices.ContainsFunc(patterns, func(p string) bool {
		subject := string(ref)
		if strings.Contains(p, ".") || p == string(n) {
			subject = string(n)
		}
		ok, _ := path.Match(p, subject) // all patterns are valid
		return ok
	})
}

// why is why a cache goes, whatever the others are; "": it does not.
func (r Rules) why(s Scope, refs Refs, now time.Time) string {
	age := now.Sub(s.Used)
	gone := ""
	if r.Gone && !s.Foreign {
		gone = refs.Gone(s.Name)
	}
	switch {
	case gone == closed: // for sure, where a branch may be one that was not pushed yet
		return gone
	case r.young(s, now):
		return ""
	case gone != "":
		return gone
	case r.OlderThan > 0 && !s.Used.IsZero() && age >= r.OlderThan:
		return "not used for " + strings.ToLower(units.HumanDuration(age))
	case !r.Gone && r.OlderThan == 0 && r.KeepStorage == 0 && len(r.Scopes) > 0:
		return "named by scopes"
	}
	return ""
}

// shrink adds the caches that were used the longest ago until the others take no more than KeepStorage.
func (r Rules) shrink(stock Stock, why map[scope.Name]string, now time.Time) {
	uses, bytes := slices.Clone(stock.uses), stock.Bytes
	together := map[scope.Name][]Scope{} // a scope and its cache mounts
	for _, s := range stock.Scopes {
		owner := cmp.Or(s.mounts, s.Name)
		together[owner] = append(together[owner], s)
	}
	drop := func(n scope.Name) {
		for _, s := range together[n] {
			for _, b := range s.blobs {
				if uses[b]--; uses[b] == 0 {
					bytes -= stock.sizes[b]
				}
			}
		}
	}
	var left []Scope
	for _, s := range stock.Scopes {
		switch {
		case why[s.Name] != "":
			drop(s.Name)
		case s.mounts == "" && r.may(s) && !r.young(s, now):
			left = append(left, s)
		}
	}
	slices.SortStableFunc(left, func(a, b Scope) int { return a.Used.Compare(b.Used) })
	for _, s := range left {
		if bytes <= r.KeepStorage {
			return
		}
		why[s.Name] = fmt.Sprintf("the caches take %s, and %s are to stay", units.BytesSize(float64(stock.Bytes)), units.BytesSize(float64(r.KeepStorage)))
		drop(s.Name)
	}
}
