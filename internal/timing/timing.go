// Package timing says where the time of a run went: which part began when, how long it took, and
// whether the run waited for it. It computes only.
//
//	var log timing.Log
//	end := log.Start("start builder")
//	...
//	end()
//	rows := timing.Table(began, log.Parts())
//	// rows[0] is {Name: "start builder", Start: 0.01, Seconds: 0.61, Critical: true}
package timing

import (
	"slices"
	"sync"
	"time"
)

// Kind is how a part is shown.
type Kind int

// Kinds of parts.
const (
	Phase Kind = iota // has a row
	Step              // of BuildKit: has a row where the run waited for it
	Sum               // has a row, and consists of the steps during it: it is critical where one of them is
)

// Part is a piece of the time of a run. Parts overlap.
type Part struct {
	Name       string // "start builder", "[build 2/4] RUN make"
	Kind       Kind
	Start, End time.Time
	Span       [8]byte  // of a trace, for what belongs to this part; zero: none
	ID         string   // "": no other part names it
	After      []string // the IDs of the parts that it waited for; empty: of any part that had ended
}

// Log collects parts. The zero value is empty. It may be used by several goroutines.
type Log struct {
	mu     sync.Mutex
	parts  []Part
	former int // parts that belong to attempts that failed
}

// Start begins a phase. The returned function ends it.
func (l *Log) Start(name string) (end func()) {
	began := time.Now()
	return func() { l.Add(Part{Name: name, Start: began, End: time.Now()}) }
}

// Add adds parts that have ended.
func (l *Log) Add(parts ...Part) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.parts = append(l.parts, parts...)
}

// Former puts a prefix before the names of the parts that were added since the last call. Parts that
// are added later do not wait for those by their IDs.
func (l *Log) Former(prefix string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	named(l.parts[l.former:], prefix)
	l.former = len(l.parts)
}

// Parts are all parts, in the order in which they were added.
func (l *Log) Parts() []Part {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.parts)
}

// Named are copies of the parts with a prefix before their names, so that those of several builds
// are told apart.
func Named(parts []Part, prefix string) []Part {
	parts = slices.Clone(parts)
	named(parts, prefix)
	return parts
}

func named(parts []Part, prefix string) {
	for i := range parts {
		p := &parts[i]
		p.Name = prefix + p.Name
		if p.ID != "" {
			p.ID = prefix + p.ID
		}
		after := make([]string, len(p.After))
		for n, id := range p.After {
			after[n] = prefix + id
		}
		p.After = after
	}
}
