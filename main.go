// Command warmlayer builds a container image with BuildKit and keeps its cache
// warm on every branch.
//
//	warmlayer [build] [flags] [CONTEXT]   build, read and write the caches of this branch
//	warmlayer plan [--json] [flags]       say what would be read and written; start nothing
//	warmlayer version
//
// It exits with 0 when all went well, 1 when the build failed, 2 for bad input
// (nothing was started), 3 when a cache failed and was not allowed to, and 130
// when it was cancelled.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/report"
	"github.com/warmlayer/warmlayer/internal/syntax"
	"github.com/warmlayer/warmlayer/scope"
)

const (
	exitOK        = 0
	exitBuild     = 1
	exitInput     = 2
	exitCache     = 3
	exitCancelled = 130
)

// memoryLimit keeps the heap small beside the builder and the build itself:
// transfers make garbage faster than a busy machine collects it by default. It is
// soft: what is in use may be more.
const memoryLimit = 96 << 20

func main() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole story: inputs, scope, caches, and then the command.
func run(ctx context.Context, args, environ []string, stdin, stdout, stderr *os.File) int {
	command, args := splitCommand(args)
	if code, done := simple(command, args, stdout, stderr); done {
		return code
	}
	if slices.Contains(hidden, command) {
		return contained(ctx, command, args, environ, stdin, stdout, stderr)
	}
	asJSON := false
	if command == "plan" {
		asJSON, args = cutFlag(args, "--json")
	}
	self := ownContainer(ctx, environ)
	in, problems := inputs.ParseContained(args, environ, ".", mounts(self))
	redactor := report.NewRedactor(in.Sensitive())
	s := step{inputs: in, env: environment(environ), self: self, redactor: redactor, stdout: stdout, stderr: stderr}

	facts := scope.Detect(s.env.get, os.ReadFile)
	s.inputs.BuiltBy(facts.URL)
	if problems = append(problems, s.derive(facts)...); len(problems) > 0 {
		return explain(redactor.Writer(stderr), problems)
	}
	if command == "plan" {
		return s.printPlan(redactor.Writer(stdout), asJSON)
	}
	return s.build(ctx)
}

// explain shows all that is wrong with the inputs.
func explain(w io.Writer, problems syntax.Problems) int {
	inputs.Sort(problems)
	for _, p := range problems {
		fmt.Fprintln(w, p)
	}
	return exitInput
}
