package cachegraph

import (
	"errors"
	"slices"

	digest "github.com/opencontainers/go-digest"
)

// matchKey finds the records that may be one: it is a record's digest, with one key of its
// first input; without a key for a record that has no inputs.
type matchKey struct {
	digest digest.Digest
	first  link
}

// unite makes one of all records that a build cannot tell apart: records of one digest that
// have a key in common for each input. The united record has the keys of both and may match
// further records by them, so unite repeats until nothing changes. A few rounds are enough,
// since records follow their inputs. The error is an [ErrTooLarge] or an [ErrContradicts].
func unite(all []*record, b *budget) ([]*record, error) {
	if err := consistent(all); err != nil {
		return nil, err
	}
	for united := true; united; {
		united = false
		by := map[matchKey][]*record{}
		for _, r := range all {
			for _, k := range r.matchKeys() {
				did, err := uniteMatching(by, k, r, b)
				if err != nil {
					return nil, err
				}
				united = united || did
			}
		}
		all = slices.DeleteFunc(all, func(r *record) bool { return r.unitedInto != nil })
	}
	return all, nil
}

// uniteMatching unites a record with those that were found by the same key before, and adds
// it to them.
func uniteMatching(by map[matchKey][]*record, k matchKey, r *record, b *budget) (united bool, err error) {
	known := false
	for _, other := range by[k] {
		into, from := other.current(), r.current()
		if err := b.spend(1); err != nil {
			return false, err
		}
		if into == from {
			known = true
			continue
		}
		if err := b.spend(into.links() + from.links()); err != nil {
			return false, err
		}
		if into.absorb(from) {
			united, known = true, true
		}
	}
	if !known {
		by[k] = append(by[k], r)
	}
	return united, b.spend(r.links())
}

// links is the number of a record's links, and 1 more.
func (r *record) links() int {
	n := 1
	for _, input := range r.inputs {
		n += len(input)
	}
	return n
}

// matchKeys resolves the record's links, and returns all keys that lead to it.
func (r *record) matchKeys() []matchKey {
	if len(r.inputs) == 0 {
		return []matchKey{{digest: r.digest}}
	}
	r.resolve()
	var all []matchKey
	for _, first := range r.inputs[0] {
		all = append(all, matchKey{r.digest, first})
	}
	return all
}

// current is the record that this one was united into, or this one.
func (r *record) current() *record {
	for r.unitedInto != nil {
		if next := r.unitedInto.unitedInto; next != nil {
			r.unitedInto = next
		}
		r = r.unitedInto
	}
	return r
}

// resolve makes the links lead to current records, each once.
func (r *record) resolve() {
	for i, input := range r.inputs {
		var links []link
		seen := make(map[link]bool, len(input))
		for _, l := range input {
			if l.from = l.from.current(); !seen[l] {
				seen[l] = true
				links = append(links, l)
			}
		}
		r.inputs[i] = links
	}
}

// absorb unites the other record into this one if the two match, and reports whether they do.
func (r *record) absorb(other *record) bool {
	if r == other || len(r.inputs) != len(other.inputs) {
		return false
	}
	for i, input := range r.inputs {
		if !common(input, other.inputs[i]) {
			return false
		}
	}
	for i, input := range other.inputs {
		r.inputs[i] = append(r.inputs[i], input...)
	}
	r.result, r.uses, other.unitedInto = r.result.newer(other.result), r.uses|other.uses, r
	r.resolve()
	return true
}

// common reports whether two lists have a link in common.
func common(a, b []link) bool {
	if len(a) == 1 {
		return slices.Contains(b, a[0])
	}
	in := make(map[link]bool, len(a))
	for _, l := range a {
		in[l] = true
	}
	return slices.ContainsFunc(b, func(l link) bool { return in[l] })
}

// order puts each record after its inputs. The links of several caches together may lead
// round in a circle, and then a record drops those that lead back. One of the records always
// keeps a link for each input, since the links of a single cache never form a circle.
func order(all []*record, b *budget) ([]*record, error) {
	waits := map[*record]int{} // the number of links to records that are not ordered yet
	users := map[*record][]*record{}
	var ready []*record
	for _, r := range all {
		for _, input := range r.inputs {
			waits[r] += len(input)
			for _, l := range input {
				users[l.from] = append(users[l.from], r)
			}
		}
		if waits[r] == 0 {
			ready = append(ready, r)
		}
	}
	var ordered []*record
	done := map[*record]bool{}
	for len(ordered) < len(all) {
		if len(ready) == 0 {
			if err := b.spend(len(all)); err != nil {
				return nil, err
			}
			i := slices.IndexFunc(all, func(r *record) bool { return !done[r] && r.keepOnly(done) })
			if i < 0 {
				return nil, errors.New("the links of its records form a circle")
			}
			ready = append(ready, all[i])
		}
		r := ready[0]
		ready = ready[1:]
		ordered, done[r] = append(ordered, r), true
		for _, user := range users[r] {
			if waits[user]--; waits[user] == 0 && !done[user] {
				ready = append(ready, user)
			}
		}
	}
	return ordered, nil
}

// keepOnly drops the links to records outside of a set, and reports whether it did: it
// leaves the record alone unless a link remains for each input.
func (r *record) keepOnly(set map[*record]bool) bool {
	within := func(l link) bool { return set[l.from] }
	for _, input := range r.inputs {
		if !slices.ContainsFunc(input, within) {
			return false
		}
	}
	for i, input := range r.inputs {
		r.inputs[i] = slices.DeleteFunc(input, func(l link) bool { return !within(l) })
	}
	return true
}
