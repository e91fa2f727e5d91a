// Package crash ends the program when one of its goroutines panics, in the way that main decides:
// the runtime's own message would show the panic's value to the log, where it may hold a secret, and
// its exit code means something else here.
//
// Each goroutine begins with a deferred Catch:
//
//	crash.Handle(func(p crash.Panic) { print(p); os.Exit(1) }) // in main
//	defer crash.Catch()
//	go func() {
//		defer crash.Catch()
//		work()
//	}()
package crash

import (
	"errors"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
)

// Panic is what a goroutine panicked with.
type Panic struct {
	Value any
	Stack string // of the goroutine, as debug.Stack formats it
}

// handling is what Handle was called with.
type handling struct {
	end      func(Panic)
	harmless []error
}

var (
	handler atomic.Pointer[handling]
	first   sync.Mutex
)

// Handle says what happens with a panic. end must not return. Panics with a harmless error are left to
// those who expect them. Without Handle, as in the tests of the other rooms, the runtime ends the program.
func Handle(end func(Panic), harmless ...error) { handler.Store(&handling{end, harmless}) }

// Catch is deferred at the beginning of each goroutine, and of what a library calls in one of its
// own. It never returns after a panic, so that nothing goes on with what the goroutine left
// unfinished.
func Catch() {
	v := recover()
	if v == nil {
		return
	}
	h := handler.Load()
	err, ok := v.(error)
	if h == nil || ok && slices.ContainsFunc(h.harmless, func(harmless error) bool { return errors.Is(err, harmless) }) {
		panic(v)
	}
	first.Lock() // for ever: another panic waits here for the end
	h.end(Panic{v, string(debug.Stack())})
}
