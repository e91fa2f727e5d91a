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
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// Panic is what a goroutine panicked with.
type Panic struct {
	Value any
	Stack string // of the goroutine, as debug.Stack formats it
}

var (
	handler atomic.Pointer[func(Panic)]
	first   sync.Mutex
)

// Handle says what happens with a panic. end must not return. Without it, as in the tests of the
// other rooms, the runtime ends the program.
func Handle(end func(Panic)) { handler.Store(&end) }

// Catch is deferred at the beginning of each goroutine, and of what a library calls in one of its
// own. It never returns after a panic, so that nothing goes on with what the goroutine left
// unfinished. With [http.ErrAbortHandler] an HTTP handler ends its connection: that is no fault.
func Catch() {
	v := recover()
	if v == nil {
		return
	}
	end := handler.Load()
	if err, ok := v.(error); end == nil || ok && errors.Is(err, http.ErrAbortHandler) {
		panic(v)
	}
	first.Lock() // for ever: another panic waits here for the end
	(*end)(Panic{v, string(debug.Stack())})
}
