package main

import (
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/step"
	"github.com/warmlayer/warmlayer/internal/syntax"
	"github.com/warmlayer/warmlayer/internal/upkeep"
	"github.com/warmlayer/warmlayer/scope"
)

// splitCommand separates the command from its arguments. The default command is build.
func splitCommand(args []string) (string, []string) {
	if len(args) > 0 && slices.Contains(slices.Concat([]string{"build", "plan", "why", "ls", "prune", "merge", "version", "help"}, hidden), args[0]) {
		return args[0], args[1:]
	}
	return "build", args
}

// withoutDockerfile is a command that needs no Dockerfile, "" for every other one.
func withoutDockerfile(command string) string {
	if slices.Contains([]string{"ls", "prune", "merge"}, command) {
		return command
	}
	return ""
}

// cutFlag removes a flag from the arguments, and tells whether it was there.
func cutFlag(args []string, flag string) (bool, []string) {
	i := slices.Index(args, flag)
	if i < 0 {
		return false, args
	}
	return true, slices.Concat(args[:i], args[i+1:])
}

// cutValue removes a flag with a value from the arguments: "--scope b-main" or "--scope=b-main". The value is "" where
// the flag is absent.
func cutValue(args []string, flag string) (string, []string) {
	for i, arg := range args {
		if value, ok := strings.CutPrefix(arg, flag+"="); ok {
			return value, slices.Concat(args[:i], args[i+1:])
		}
		if arg == flag && i+1 < len(args) {
			return args[i+1], slices.Concat(args[:i], args[i+2:])
		}
	}
	return "", args
}

// options are the flags of the commands that ask something.
type options struct {
	json        bool
	scope       string // of why
	order, days string // of ls
}

// cutOptions takes a command's own flags out of its arguments.
func cutOptions(command string, args []string) (o options, rest []string) {
	switch command {
	case "why":
		o.scope, args = cutValue(args, "--scope")
	case "ls":
		o.order, args = cutValue(args, "--sort")
		o.days, args = cutValue(args, "--lifecycle")
	case "plan":
	default:
		return o, args
	}
	o.json, args = cutFlag(args, "--json")
	return o, args
}

// upkeepProblems are what is wrong with a call of ls or prune.
func upkeepProblems(command string, o options, run step.Run) (problems syntax.Problems) {
	named := run.Inputs.Scope
	switch command {
	case "ls":
		if o.order != "" && !slices.Contains(upkeep.Orders, o.order) {
			problems = append(problems, syntax.Problem{What: "--sort " + syntax.Quoted(o.order) + " is no order", Hint: "one of " + strings.Join(upkeep.Orders, ", ")})
		}
		if o.days != "" && !isNumber(o.days) {
			problems = append(problems, syntax.Problem{What: "--lifecycle " + syntax.Quoted(o.days) + " is no number of days", Hint: "such as 30"})
		}
		if named != "" && !scope.Name(named).Valid() {
			problems = append(problems, syntax.Problem{What: syntax.Quoted(named) + " is no scope", Hint: "warmlayer ls without it lists the scopes"})
		}
	case "prune":
		if named != "" {
			problems = append(problems, syntax.Problem{What: "prune takes no argument", Hint: "--scopes " + syntax.Quoted(named)})
		}
		problems = append(problems, run.Unprunable()...)
	}
	return problems
}

func isNumber(text string) bool {
	n, err := strconv.Atoi(text)
	return err == nil && n > 0
}

// simple executes help and version, which need no inputs, and tells whether the command was one
// of them.
func simple(command string, args []string, stdout, stderr io.Writer) (code int, done bool) {
	switch {
	case command == "help" || slices.Contains(args, "--help") || slices.Contains(args, "-h"):
		fmt.Fprint(stdout, usage, "\n", inputs.Usage())
	case command != "version":
		return step.ExitOK, false
	case len(args) > 0:
		fmt.Fprintln(stderr, syntax.Problem{What: "argument 1 is unexpected", Hint: "version takes no arguments"})
		return step.ExitInput, true
	default:
		fmt.Fprintln(stdout, version())
	}
	return step.ExitOK, true
}

const usage = `warmlayer builds a container image, and starts warm on every branch.

  warmlayer [build] [flags] [CONTEXT]   build, read and write the caches of this branch
  warmlayer plan [--json] [flags]       print what would be read and written; start nothing
  warmlayer why [--json] [--scope NAME] [flags] [CONTEXT]
                                        print which steps would not be cached, and why; build nothing
  warmlayer ls [--json] [--sort ORDER] [flags]
                                        print what is in the caches; ORDER: name, size, own, used, created
  warmlayer ls [--json] [flags] SCOPE   print the steps that made the layers of a scope, the largest first
  warmlayer ls --lifecycle DAYS [flags] print rules by which S3 or Azure removes what no build has used for so long
  warmlayer prune [flags]               remove the caches that gone, older-than, keep-storage or scopes name
  warmlayer merge [flags]               merge the images that several jobs have pushed into one image with the tags
  warmlayer version

Exit codes: 0 ok, 1 the build failed, 2 bad input, 3 a cache failed in strict mode, or ls or prune did not finish, 130 cancelled.
`

// release is the version in an image, set by its Dockerfile; "" in any other binary.
var release string

// version is the release or, without one, the module's version from the Go toolchain.
func version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}
