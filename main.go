// Command warmlayer builds a container image with BuildKit and keeps its cache
// warm on every branch.
//
//	warmlayer [build] [flags] [CONTEXT]   build, read and write the caches of this branch
//	warmlayer plan [--json] [flags]       print what would be read and written; start nothing
//	warmlayer why [--json] [--scope NAME]  print which steps would not be cached, and why; build nothing
//	warmlayer ls [--json] [--sort ORDER] [flags] [SCOPE]  print what is in the caches, or in one scope
//	warmlayer prune [flags]               remove the caches that the flags name
//	warmlayer merge [flags]               merge the images that several jobs have pushed into one
//	warmlayer version
//
// It exits with 0 for success, 1 when the build failed, 2 for bad input (nothing was started),
// 3 when a cache failed in strict mode or ls or prune did not finish, and 130 when it was cancelled.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"

	"github.com/containerd/console"
	containerdlog "github.com/containerd/log"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/bakefile"
	"github.com/warmlayer/warmlayer/internal/ci"
	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/report"
	"github.com/warmlayer/warmlayer/internal/step"
)

// memoryLimit keeps the heap small, in bytes, since the builder and the build need memory too:
// by default a busy machine collects garbage more slowly than transfers make it. The limit is
// soft: the heap in use may be larger.
const memoryLimit = 96 << 20

func main() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	command, args := splitCommand(os.Args[1:])
	// What BuildKit's and containerd's packages have to say about this run comes back as errors. They
	// also log to standard error, past redaction, that a file system lacks fs-verity for a local cache.
	containerdlog.L.Logger.SetOutput(io.Discard)
	bug := &bug{command: command}
	// With http.ErrAbortHandler a handler ends its connection.
	crash.Handle(bug.end, http.ErrAbortHandler)
	defer crash.Catch()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, bug, args, os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program: it parses the inputs, detects the facts, resolves both to a run, and
// executes the command. It returns the exit code.
func run(ctx context.Context, bug *bug, args, environ []string, stdin, stdout, stderr *os.File) int {
	command := bug.command
	if code, done := simple(command, args, stdout, stderr); done {
		return code
	}
	if slices.Contains(hidden, command) {
		return contained(ctx, command, args, environ, stdin, stdout, stderr)
	}
	asked, args := cutOptions(command, args)
	self := ownContainer(ctx, environ)
	dialect, facts := ci.Detect(ci.Machine{Environ: environ, ReadFile: os.ReadFile, Terminal: isTerminal(stdin) || isTerminal(stderr)})
	in, problems := inputs.ParseJob(args, environ, ".", inputs.Job{
		Mounts: mounts(self), Repository: inputs.Repository(dialect.Repository()), Stdin: stdin, Command: withoutDockerfile(command),
		Bake: func(r bakefile.Request) (bakefile.Definition, error) { return bakefile.Read(ctx, r) },
	})
	dialect, facts = dialect.Around(in.Context.Checkout(), facts)
	problems = append(problems, trust(in.Managed.Authorities)...)
	redactor := report.NewRedactor(in.Sensitive())
	bug.redactor.Store(redactor)
	program, _ := os.Executable() // without it steps have no network of their own, and the report says so
	host := step.Host{Program: program, Environ: environ, CI: dialect, Self: self, Redactor: redactor, Version: version(), Stdout: stdout, Stderr: stderr}
	resolved, found := step.Resolve(in, facts, host)
	if command == "build" {
		command = in.Command
	}
	problems = append(problems, upkeepProblems(command, asked, resolved)...)
	if problems = append(problems, found...); len(problems) > 0 {
		inputs.Sort(problems)
		log := redactor.Log(stderr)
		fmt.Fprintln(log, problems.Error())
		_ = log.Close() // there is no other place for the error
		return step.ExitInput
	}
	switch command {
	case "plan":
		return resolved.PrintPlan(asked.json)
	case "why":
		return resolved.Why(ctx, step.Question{Scope: asked.scope, JSON: asked.json})
	case "ls":
		if n, err := strconv.Atoi(asked.days); err == nil {
			return resolved.Lifecycle(n)
		}
		return resolved.List(ctx, asked.json, asked.order)
	case "prune":
		return resolved.Prune(ctx)
	case "merge":
		return resolved.Merge(ctx)
	}
	return resolved.Build(ctx)
}

// isTerminal tells whether a file is a terminal. A character device such as /dev/null is none.
func isTerminal(f *os.File) bool {
	_, err := console.ConsoleFromFile(f)
	return err == nil
}
