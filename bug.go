package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync/atomic"

	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/report"
	"github.com/warmlayer/warmlayer/internal/step"
)

// issues is where faults of the program are reported.
const issues = "https://github.com/warmlayer/warmlayer/issues"

// bug says what to report when the program panics, and ends it. The builder of the run ends with it,
// and what else it leaves the next run removes, as after a SIGKILL.
type bug struct {
	command  string
	redactor atomic.Pointer[report.Redactor] // of the run; nil: no secret is known yet
}

// end is for [crash.Handle].
func (b *bug) end(p crash.Panic) {
	defer os.Exit(step.ExitBuild) // also when the text cannot be written
	b.write(os.Stderr, p)
}

// write writes the text to report. Before the secrets are known it leaves out the panic's value,
// unless the runtime made it.
func (b *bug) write(w io.Writer, p crash.Panic) {
	defer func() { _ = recover() }() // what panicked may be needed here
	value := fmt.Sprint(p.Value)
	redactor := b.redactor.Load()
	if err, ok := p.Value.(error); redactor == nil && (!ok || !errors.As(err, new(runtime.Error))) {
		value = fmt.Sprintf("a value of type %T", p.Value)
	}
	if redactor == nil {
		redactor = report.NewRedactor(nil)
	}
	log := redactor.Log(w)
	fmt.Fprintf(log, `
warmlayer ended by a fault of its own, not of the build. Please report this text at
%s

  panic    %s
  version  %s (%s %s/%s)
  command  %s

Secrets that warmlayer knows are replaced by ***. Look through the text before you publish it.

%s`, issues, value, version(), runtime.Version(), runtime.GOOS, runtime.GOARCH, b.command, p.Stack)
	_ = log.Close() // there is no other place for the error
}
