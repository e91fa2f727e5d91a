package report

import (
	"cmp"
	"slices"
)

// stream is a text that is scanned for secrets piece by piece, each byte once. All positions are
// those in the text that it holds; those of text that was passed on are negative.
type stream struct {
	automaton *automaton
	age       int32 // of the automaton, when it led to the state
	state     int32
	held      []byte
	spans     []span // to hide: disjoint, in order, none over a line's end
	breaks    []span // line ends, with the white space after them, within the current match
	floor     int    // what is before it is not held back for the current match
	covered   int    // bytes of held that belong to a mask that was already passed on
	values    [len(valueKinds)]value
	open      int          // how many of values have begun
	before    [recent]byte // the end of what was passed on, for the beginnings of patterns
	hops      int          // transitions and comparisons so far, for tests
}

// span is a part of a text: the bytes from from up to, not including, to.
type span struct{ from, to int }

// Kinds of bytes that need more than a transition: line ends, and the last byte of a pattern's
// beginning, whose other bits tell which.
const lineEnd = 1

var kinds, allows = func() (kinds, allows [256]byte) {
	kinds['\n'], kinds['\r'] = lineEnd, lineEnd
	bit := byte(lineEnd)
	for last, all := range patternsBy {
		if len(all) == 0 {
			continue
		}
		bit <<= 1 // there are few
		kinds[last] = bit
		for _, p := range all {
			before := p.begin[len(p.begin)-2]
			allows[before] |= bit
			if 'a' <= before && before <= 'z' {
				allows[before-'a'+'A'] |= bit
			}
		}
	}
	return kinds, allows
}()

// scan appends text to what is held, and finds what must be hidden in it.
func (s *stream) scan(text []byte) {
	i := len(s.held)
	s.held = append(s.held, text...)
	for i < len(s.held) {
		var quiet int
		if i, quiet = s.follow(i); i < len(s.held) {
			i = s.skim(i, quiet)
		}
	}
}

// follow takes the bytes from i on one by one. It ends where, by its first bytes, no text is in progress
// that could become a form, and returns the place, and where the text begins that the state follows from.
func (s *stream) follow(i int) (end, quiet int) {
	a, state, held := s.automaton, s.state, s.held
	for ; i < len(held); i++ {
		c := held[i]
		kind := kinds[c]
		if kind == lineEnd {
			s.endValues()
			if state = s.lineEnd(state, i); state == 0 {
				s.state = 0
				return i + 1, i + 1
			}
			continue
		}
		if len(s.breaks) > 0 && s.indents(c, i) {
			continue
		}
		if row := a.nodes[state].row; row >= 0 && a.rows[row][c] != unknown {
			state = a.rows[row][c]
		} else {
			state = a.step(state, c)
		}
		n := &a.nodes[state]
		if n.match > 0 {
			s.found(s.begins(i, int(n.match)), i+1)
		}
		if s.open > 0 {
			s.extend(c, i)
		}
		if kind != 0 && kind&allows[s.byteAt(i-1)] != 0 {
			s.beginValues(i)
		}
		if n.depth < firstBytes && s.open == 0 && s.dead(i, int(n.depth)) {
			s.state, s.breaks = state, s.breaks[:0]
			return i + 1, i + 1 - int(n.depth)
		}
	}
	s.state = state
	return i, i
}

// dead tells whether the first bytes of what begins in the n bytes up to the one at i, on this line
// and in what is held, are not those of a form.
func (s *stream) dead(i, n int) bool {
	from := i + 1 - n
	if from < 0 || len(s.breaks) > 0 && from < s.breaks[len(s.breaks)-1].to || n > 0 && i+firstBytes > len(s.held) {
		return false
	}
	s.hops += n
	for ; from <= i; from++ {
		if s.automaton.begins.has(s.held[from:]) {
			return false
		}
	}
	return true
}

// skim passes over bytes from i on with which no form begins, and returns where it ended: at the end
// of a line, where a form could begin, where a pattern began, or near the end of what is held. No text
// that begins before quiet is in progress.
func (s *stream) skim(i, quiet int) int {
	begins, held := &s.automaton.begins, s.held
	for ; i+firstBytes <= len(held); i++ {
		if begins.has(held[i:]) {
			break
		}
		kind := kinds[held[i]]
		if kind == 0 {
			continue
		}
		if kind == lineEnd {
			break
		}
		if kind&allows[s.byteAt(i-1)] == 0 {
			continue
		}
		if s.beginValues(i); s.open > 0 {
			i++
			break
		}
	}
	// What begins here or before is shorter than the first bytes of a form.
	s.state = 0
	for at := max(quiet, i-firstBytes+1); at < i; at++ {
		s.state = s.automaton.step(s.state, held[at])
		s.hops++
	}
	return i
}

// indents tells whether c is white space at the beginning of a line on which a match goes on.
func (s *stream) indents(c byte, i int) bool {
	if s.breaks[len(s.breaks)-1].to != i || c != ' ' && c != '\t' {
		return false
	}
	s.skip(i)
	return true
}

// skip adds the byte at i to the last of breaks.
func (s *stream) skip(i int) {
	s.breaks[len(s.breaks)-1].to++
	if s.floor == i {
		s.floor++
	}
}

// shortestLine is the length in bytes of the shortest line between two others over which a match
// may go. It bounds the work for a match.
const shortestLine = 16

// lineEnd is the state after a line's end at i: the match may go on in the next line.
func (s *stream) lineEnd(state int32, i int) int32 {
	n := len(s.breaks)
	if state == 0 {
		s.breaks = s.breaks[:0]
		return 0
	}
	if n > 0 && s.breaks[n-1].to == i {
		if s.held[i] == '\n' && s.byteAt(i-1) == '\r' {
			s.skip(i)
			return state
		}
		s.breaks = s.breaks[:0] // an empty line
		return 0
	}
	wrap := s.automaton.nodes[state].wrap
	begins := s.begins(i-1, int(s.automaton.nodes[wrap].depth))
	if wrap == 0 || n > 0 && begins < s.breaks[n-1].from && i-s.breaks[n-1].to < shortestLine {
		s.breaks = s.breaks[:0]
		return 0
	}
	s.breaks = slices.DeleteFunc(s.breaks, func(b span) bool { return b.to <= begins })
	s.breaks = append(s.breaks, span{i, i + 1})
	if !s.automaton.nodes[wrap].holds {
		s.floor = i + 1
	}
	return wrap
}

// begins is where a match of n bytes begins that ends with the byte at i.
func (s *stream) begins(i, n int) int {
	from := i + 1 - n
	for k := len(s.breaks) - 1; k >= 0 && from < s.breaks[k].to; k-- {
		from -= s.breaks[k].to - s.breaks[k].from
		s.hops++
	}
	return from
}

// found hides a match, the part on each line by itself.
func (s *stream) found(from, to int) {
	from = max(from, s.floor)
	if len(s.breaks) == 0 || from >= s.breaks[len(s.breaks)-1].to {
		s.hide(from, to)
		return
	}
	// The text between the parts may have spans of its own: all are put in order again.
	for _, b := range s.breaks {
		if b.to > from {
			s.spans = append(s.spans, span{from, b.from})
			from = b.to
		}
	}
	s.spans = append(s.spans, span{from, to})
	s.order()
}

// order makes spans disjoint, puts them in order, and drops what was passed on already.
func (s *stream) order() {
	s.hops += len(s.spans)
	slices.SortFunc(s.spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	all := s.spans
	s.spans = nil
	for _, one := range all {
		if one.to > 0 {
			s.hide(one.from, one.to)
		}
	}
}

// hide adds a span. No span so far ends after it, or it is in order.
func (s *stream) hide(from, to int) {
	n := len(s.spans)
	for ; n > 0 && s.spans[n-1].to > from; n-- {
		from, to = min(from, s.spans[n-1].from), max(to, s.spans[n-1].to)
		s.hops++
	}
	s.spans = append(s.spans[:n], span{from, to})
}

// openFrom is where the text begins that may become a secret with what follows.
func (s *stream) openFrom() int {
	from := len(s.held)
	if n := s.automaton.nodes[s.state].open; n > 0 {
		from = max(s.floor, s.begins(len(s.held)-1, int(n)))
	}
	for k, v := range s.values {
		if v.on {
			from = min(from, v.openFrom(valueKinds[k], len(s.held)))
		}
	}
	return max(0, min(from, len(s.held)))
}

// pass appends what is held up to end to out, with a mask in place of each span, and forgets it.
func (s *stream) pass(out []byte, end int) []byte {
	shown := s.covered
	for _, one := range s.spans {
		if one.from >= end {
			break
		}
		if one.from >= shown {
			out = append(out, s.held[shown:one.from]...)
			out = append(out, mask...)
		}
		shown = max(shown, one.to)
	}
	if shown < end {
		out = append(out, s.held[shown:end]...)
	}
	s.covered = max(shown, end) - end
	s.remember(end)
	s.move(end)
	return out
}

// remember keeps the end of what is passed on.
func (s *stream) remember(end int) {
	if end >= recent {
		copy(s.before[:], s.held[end-recent:end])
		return
	}
	copy(s.before[:], s.before[end:])
	copy(s.before[recent-end:], s.held[:end])
}

// move drops the first bytes of what is held.
func (s *stream) move(n int) {
	if n == 0 {
		return
	}
	s.held = append(s.held[:0], s.held[n:]...)
	s.hops += len(s.held)
	kept := s.spans[:0]
	for _, one := range s.spans {
		if one.from >= n {
			kept = append(kept, span{one.from - n, one.to - n})
		}
	}
	s.spans = kept
	for i := range s.breaks {
		s.breaks[i] = span{s.breaks[i].from - n, s.breaks[i].to - n}
	}
	for i := range s.values {
		s.values[i].from -= n
		s.values[i].last -= n
	}
	s.floor -= n
}

// restart forgets the text so far, of which nothing may be held.
func (s *stream) restart() { *s = stream{held: s.held[:0]} }

// byteAt is a byte of what is held, or of the end of what was passed on.
func (s *stream) byteAt(i int) byte {
	if i < 0 {
		return s.before[recent+i]
	}
	return s.held[i]
}

// use continues with an automaton, which may know more secrets now.
func (s *stream) use(a *automaton) {
	a.begin()
	if a == s.automaton && a.age == s.age {
		return
	}
	old := stream{automaton: a, age: a.age, state: a.complete(0)}
	old.scan(s.held)
	s.automaton, s.age, s.state, s.breaks, s.floor = a, a.age, old.state, old.breaks, old.floor
	s.spans = append(s.spans, old.spans...)
	s.order()
}
