package report

// automaton finds all forms of all secrets in a text in one pass, by the algorithm of Aho and
// Corasick ("Efficient string matching", 1975): a state is the longest end of the text so far that
// a form begins with. The work for a text is linear in its length, whatever the number of forms.
//
// Forms may be added at any time, which takes time for the form alone. What follows from all forms
// together, a state's failure and its transitions, is computed when a text first leads to the state,
// and again after a form was added. Secrets that become known one by one while text is written
// thus cost little more than those that are known before. The zero value has no forms. An automaton
// is for one goroutine.
type automaton struct {
	nodes []node       // by state; the first is the state of no match
	rows  [][256]int32 // complete transitions of the states that most bytes lead to; unknown: not computed yet
	age   int32        // the number of forms: what was computed at another age does not hold
	// begins has the first bytes of each form.
	begins firsts
}

const unknown = -1

// node is one state.
type node struct {
	parent  int32 // the state that is one byte shorter
	child   int32 // the first of the states that are one byte longer; 0: none
	sibling int32 // the next state with the same beginning; 0: none
	depth   int32 // its length in bytes
	last    byte  // its last byte
	ends    bool  // a form ends here
	wraps   bool  // a line may break here
	holds   bool  // it is long enough to be held back at the end of a line

	age   int32 // at which the following was computed; 0: never
	fail  int32 // the longest proper end of this state that is a state too
	row   int32 // its complete transitions in rows; -1: none
	match int32 // the length of the longest form that ends here; 0: none does
	open  int32 // the length of its longest end, or all of it, that a longer form begins with
	wrap  int32 // the longest such end after which a line may break
}

// form is a text in which a secret may appear.
type form struct {
	text string
	// held is the length in bytes from which on a beginning of the form is held back at the end
	// of a line, because the form may continue on the next one; 0: it does not go over lines.
	held int
}

// manyChildren is how many children make a state's transitions complete. Fewer are searched.
const manyChildren = 4

// begin makes the state of no match.
func (a *automaton) begin() {
	if len(a.nodes) == 0 {
		a.nodes = append(a.nodes, node{})
		a.age = 1
	}
}

// insert adds the states of a form.
func (a *automaton) insert(f form) {
	a.begin()
	a.age++
	a.rows = a.rows[:0]
	a.begins.add(f.text)
	state := int32(0)
	for i := range len(f.text) {
		next := a.childOf(state, f.text[i])
		if next == 0 {
			next = int32(len(a.nodes))
			a.nodes = append(a.nodes, node{parent: state, depth: int32(i + 1), last: f.text[i], sibling: a.nodes[state].child})
			a.nodes[state].child = next
		}
		state = next
		n := &a.nodes[state]
		n.wraps = n.wraps || f.held > 0
		n.holds = n.holds || f.held > 0 && i+1 >= f.held
	}
	a.nodes[state].ends = true
}

func (a *automaton) childOf(state int32, c byte) int32 {
	child := a.nodes[state].child
	for child != 0 && a.nodes[child].last != c {
		child = a.nodes[child].sibling
	}
	return child
}

// complete computes what follows for a state from all forms, if it is not known. It is called for
// the states that a text leads to, in their order, so that the parent is complete.
func (a *automaton) complete(state int32) int32 {
	n := &a.nodes[state]
	if n.age == a.age {
		return state
	}
	n.age = a.age
	n.fail, n.match, n.open, n.wrap = 0, 0, 0, 0
	if n.depth > 1 {
		n.fail = a.step(a.nodes[a.complete(n.parent)].fail, n.last)
	}
	if state != 0 {
		shorter := &a.nodes[a.complete(n.fail)]
		n.match, n.open, n.wrap = shorter.match, shorter.open, shorter.wrap
	}
	if n.ends {
		n.match = n.depth
	}
	if n.child != 0 {
		n.open = n.depth
	}
	if n.child != 0 && n.wraps {
		n.wrap = state
	}
	n.row = a.newRow(n)
	return state
}

// newRow is a row for a state, -1 for one that needs none.
func (a *automaton) newRow(n *node) int32 {
	children := 0
	for child := n.child; child != 0 && children < manyChildren; child = a.nodes[child].sibling {
		children++
	}
	if n.depth > 1 && children < manyChildren {
		return unknown
	}
	if len(a.rows) < cap(a.rows) {
		a.rows = a.rows[:len(a.rows)+1]
	} else {
		a.rows = append(a.rows, [256]int32{})
	}
	row := &a.rows[len(a.rows)-1]
	for c := range row {
		row[c] = unknown
	}
	return int32(len(a.rows) - 1)
}

// step is the state after one more byte. Both are complete.
func (a *automaton) step(state int32, c byte) int32 {
	for {
		n := &a.nodes[state]
		if n.row >= 0 {
			return a.lookUp(n, state, c)
		}
		if next := a.childOf(state, c); next != 0 {
			return a.complete(next)
		}
		state = n.fail
	}
}

// lookUp is step for a state with a row.
func (a *automaton) lookUp(n *node, state int32, c byte) int32 {
	if next := a.rows[n.row][c]; next != unknown {
		return next
	}
	next := a.childOf(state, c)
	switch {
	case next != 0:
		next = a.complete(next)
	case state != 0:
		next = a.step(n.fail, c)
	}
	a.rows[n.row][c] = next
	return next
}
