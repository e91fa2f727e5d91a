package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/ci"
	"github.com/warmlayer/warmlayer/internal/mountpack"
	"github.com/warmlayer/warmlayer/internal/step"
	"github.com/warmlayer/warmlayer/internal/stepnet"
)

// hidden are internal commands, which help does not list. The first two run in the container of
// a managed builder; the third runs after a job, as the action's post step; the fourth is run by
// a managed builder in a process; the last one runs in a container that has a cache mount.
//
//	warmlayer dial-stdio SOCKET    connect standard streams to a daemon's socket
//	warmlayer forward HOST:PORT    listen there, and forward connections through standard streams
//	warmlayer post                 remove the builders that this job's steps have shared
//	warmlayer attach-step          give a step's namespace a network (CNI)
//	warmlayer mount-pack save|restore DIRECTORY    answer mountpack.AskSave, AskRestore
var hidden = []string{"dial-stdio", "forward", "post", stepnet.Command, mountpack.Command}

// contained runs a hidden command.
func contained(ctx context.Context, command string, args, environ []string, stdin io.ReadCloser, stdout, stderr io.Writer) int {
	var err error
	env := step.Environment(environ)
	switch {
	case command == stepnet.Command:
		err = stepnet.Attach(env.Get, stdin, stdout)
	case command == mountpack.Command:
		err = mountpack.Serve(ctx, args, stdin, stdout)
	case command == "post":
		dialect, _ := ci.Detect(ci.Machine{Environ: environ, ReadFile: os.ReadFile})
		if job, _ := dialect.Job(ownContainer(ctx, environ).Source); job != "" {
			err = builder.RemoveJob(ctx, env.Engine(""), job)
		}
	case len(args) != 1:
		err = fmt.Errorf("one argument is expected, not %d", len(args))
	case command == "forward":
		err = builder.Forward(ctx, args[0], stdin, stdout)
	default:
		err = builder.DialStdio(ctx, args[0], stdin, stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, command+":", err)
		return step.ExitBuild
	}
	return step.ExitOK
}

// selfTimeout bounds the search for the container of this process. An engine that hangs is
// reported later, by the code that needs it.
const selfTimeout = 5 * time.Second

// ownContainer is the container that this process runs in, or the zero value when it runs in
// none or the engine cannot tell.
func ownContainer(ctx context.Context, environ []string) builder.Self {
	if !builder.Contained() {
		return builder.Self{}
	}
	c, _, err := step.Environment(environ).Engine("").Client("")
	if err != nil {
		return builder.Self{}
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, selfTimeout)
	defer cancel()
	self, _ := builder.FindSelf(ctx, c) // after an error the zero value
	return self
}

// mounts are the mounts of the container, in the form that the inputs take.
func mounts(self builder.Self) inputs.Mounts {
	m := inputs.Mounts{Ephemeral: self.Ephemeral}
	for _, one := range self.Mounts {
		m.List = append(m.List, inputs.Mount{Source: one.Source, Target: one.Target})
	}
	return m
}
