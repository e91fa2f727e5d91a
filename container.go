package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/builder"
)

// hidden are the commands that a container of ours is run with, or that a CI runs after a
// job; nobody types them.
//
//	warmlayer dial-stdio SOCKET    connect standard streams to a daemon's socket
//	warmlayer forward HOST:PORT    listen there, and hand connections on through standard streams
//	warmlayer post                 remove the builders that this job's steps have shared
var hidden = []string{"dial-stdio", "forward", "post"}

// contained runs a hidden command.
func contained(ctx context.Context, command string, args, environ []string, stdin io.ReadCloser, stdout, stderr io.Writer) int {
	var err error
	env := environment(environ)
	switch {
	case command == "post":
		if job, _ := env.job(); job != "" {
			err = builder.RemoveJob(ctx, env.engine(""), job)
		}
	case len(args) != 1:
		err = fmt.Errorf("%d arguments, not one", len(args))
	case command == "forward":
		err = builder.Forward(ctx, args[0], stdin, stdout)
	default:
		err = builder.DialStdio(ctx, args[0], stdin, stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, command+":", err)
		return exitBuild
	}
	return exitOK
}

// selfTimeout bounds the question which container this is. An engine that hangs is
// reported by whoever needs it.
const selfTimeout = 5 * time.Second

// ownContainer is the container that this process runs in, as far as it can be known.
func ownContainer(ctx context.Context, environ []string) builder.Self {
	if !builder.Contained() {
		return builder.Self{}
	}
	c, _, err := environment(environ).engine("").Client("")
	if err != nil {
		return builder.Self{}
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, selfTimeout)
	defer cancel()
	self, _ := builder.FindSelf(ctx, c) // the zero value without an engine
	return self
}

// mounts are the container's, for the inputs.
func mounts(self builder.Self) inputs.Mounts {
	m := inputs.Mounts{Alone: self.Alone}
	for _, one := range self.Mounts {
		m.List = append(m.List, inputs.Mount{Source: one.Source, Target: one.Target})
	}
	return m
}

// job is one run of a job on GitHub, or on what resembles it, and who runs it; "" on other
// CIs, where nothing is run after a job.
func (e environment) job() (job, runner string) {
	if e.get("GITHUB_ACTIONS") == "" || e.get("GITHUB_RUN_ID") == "" {
		return "", ""
	}
	var parts []string
	for _, name := range []string{"GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT", "GITHUB_JOB", "RUNNER_NAME"} {
		parts = append(parts, e.get(name))
	}
	return strings.Join(parts, " "), e.get("RUNNER_NAME")
}

// engine is where the docker program finds the container engine; configured is the
// context that its config names.
func (e environment) engine(configured string) builder.Engine {
	found := builder.Engine{
		Host: e.get("DOCKER_HOST"), Context: cmp.Or(e.get("DOCKER_CONTEXT"), configured), ConfigDir: e.dockerDir(),
		Verify: e.get("DOCKER_TLS_VERIFY") != "",
	}
	if found.Verify || e.get("DOCKER_TLS") != "" {
		found.CertDir = cmp.Or(e.get("DOCKER_CERT_PATH"), found.ConfigDir)
	}
	return found
}

// dockerDir is where the docker program keeps its config.
func (e environment) dockerDir() string {
	return cmp.Or(e.get("DOCKER_CONFIG"), filepath.Join(e.get("HOME"), ".docker"))
}
