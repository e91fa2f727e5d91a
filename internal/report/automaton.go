package report

// automaton finds all forms of all secrets in a text in one pass, by the algorithm of Aho and
// Corasick ("Efficient string matching", 1975): a state is the longest end of the text so far that
// a form begins with. The work for a text is linear in its length, whatever the number of forms.
// A built automaton is immutable.
type automaton struct {
	nodes []node       // by state; the first is the state of no match
	rows  [][256]int32 // complete transitions of the states that most bytes lead to
	quiet [256]bool    // the bytes that begin no form, and need no other look
}

// node is one state.
type node struct {
	fail    int32 // the longest proper end of this state that is a state too
	child   int32 // the first of the states that are one byte longer; 0: none
	sibling int32 // the next state with the same beginning; 0: none
	row     int32 // its complete transitions in rows; -1: none
	depth   int32 // its length in bytes
	match   int32 // the length of the longest form that ends here; 0: none does
	open    int32 // the length of its longest end, or all of it, that a longer form begins with
	wrap    int32 // the longest such end after which a line may break
	last    byte  // its last byte
	wraps   bool  // a line may break here
	holds   bool  // it is long enough to be held back at the end of a line
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

// newAutomaton builds an automaton.
func newAutomaton(forms []form) *automaton {
	a := &automaton{nodes: []node{{row: -1}}}
	for _, f := range forms {
		a.insert(f)
	}
	queue := make([]int32, 1, len(a.nodes)) // by depth, so that shorter states are complete
	for i := 0; i < len(queue); i++ {
		queue = a.complete(queue, queue[i])
	}
	for c := range a.quiet {
		a.quiet[c] = a.rows[0][c] == 0 && kinds[c] == 0
	}
	return a
}

// insert adds the states of a form.
func (a *automaton) insert(f form) {
	state := int32(0)
	for i := range len(f.text) {
		next := a.childOf(state, f.text[i])
		if next == 0 {
			next = int32(len(a.nodes))
			a.nodes = append(a.nodes, node{
				row: -1, depth: int32(i + 1), last: f.text[i], sibling: a.nodes[state].child,
			})
			a.nodes[state].child = next
		}
		state = next
		n := &a.nodes[state]
		n.wraps = n.wraps || f.held > 0
		n.holds = n.holds || f.held > 0 && i+1 >= f.held
	}
	a.nodes[state].match = a.nodes[state].depth
}

func (a *automaton) childOf(state int32, c byte) int32 {
	child := a.nodes[state].child
	for child != 0 && a.nodes[child].last != c {
		child = a.nodes[child].sibling
	}
	return child
}

// complete computes what the children of a state fail to, and its row. It appends the children to
// the queue.
func (a *automaton) complete(queue []int32, state int32) []int32 {
	n, begin := a.nodes[state], len(queue)
	for child := n.child; child != 0; child = a.nodes[child].sibling {
		queue = append(queue, child)
		c := &a.nodes[child]
		if state != 0 {
			c.fail = a.step(n.fail, c.last)
		}
		if c.match == 0 {
			c.match = a.nodes[c.fail].match
		}
		c.open, c.wrap = a.nodes[c.fail].open, a.nodes[c.fail].wrap
		if c.child != 0 {
			c.open = c.depth
		}
		if c.child != 0 && c.wraps {
			c.wrap = child
		}
	}
	children := queue[begin:]
	if n.depth > 1 && len(children) < manyChildren {
		return queue
	}
	var row [256]int32
	if state != 0 {
		for c := range row {
			row[c] = a.step(n.fail, byte(c))
		}
	}
	for _, child := range children {
		row[a.nodes[child].last] = child
	}
	a.nodes[state].row = int32(len(a.rows))
	a.rows = append(a.rows, row)
	return queue
}

// step is the state after one more byte.
func (a *automaton) step(state int32, c byte) int32 {
	for {
		if row := a.nodes[state].row; row >= 0 {
			return a.rows[row][c]
		}
		if next := a.childOf(state, c); next != 0 {
			return next
		}
		state = a.nodes[state].fail
	}
}
