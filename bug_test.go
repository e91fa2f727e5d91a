package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/gateway"
	"github.com/warmlayer/warmlayer/internal/report"
	"github.com/warmlayer/warmlayer/scope"
)

const panicSecret = "s3cret-s3cret"

func TestMain(m *testing.M) {
	if place := os.Getenv("TEST_PANIC"); place != "" {
		panicAt(place)
	}
	os.Exit(m.Run())
}

// panicAt is a program that panics at a place, which is a fake of something that the program
// calls.
func panicAt(place string) {
	b := &bug{command: "build"}
	if place != "before the inputs" {
		b.redactor.Store(report.NewRedactor([]string{panicSecret}))
	}
	crash.Handle(b.end, http.ErrAbortHandler)
	defer crash.Catch()
	switch place {
	case "the first goroutine", "before the inputs":
		panic("a value with " + panicSecret)
	case "the runtime":
		_ = os.Args[len(os.Args)]
	case "a value that panics":
		panic(broken{})
	case "two at once":
		for range 2 {
			go func() {
				defer crash.Catch()
				panic("one of two")
			}()
		}
	case "a request to the gateway":
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		g := gateway.Serve(listener)
		g.Offer(func(context.Context) (gateway.Cache, error) { panic(errors.New(panicSecret)) })
		r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+g.Host+"/v2/s0/manifests/scopes", nil)
		if err != nil {
			panic(err)
		}
		r.SetBasicAuth(g.Credentials())
		_, _ = http.DefaultClient.Do(r) //nolint:bodyclose // it does not return
	case "a library":
		time.AfterFunc(0, func() { handled(panicSecret, []byte(panicSecret), map[string]string{panicSecret: panicSecret}) }) // in a goroutine of package time
	case "a store":
		caches := []backends.Backend{store{}}
		backends.Read(context.Background(), caches, scope.Plan{Read: []scope.Source{{Name: "b-main"}}}, time.Minute)
	}
	select {} // until the other goroutine ends the program
}

// handled is a library's function that is wrong while it handles a secret.
//
//go:noinline
func handled(secret string, raw []byte, all map[string]string) {
	unmade[secret] = string(raw) + all[secret]
}

var unmade map[string]string

type broken struct{}

func (broken) String() string { panic("again") }

// store is a cache whose store panics.
type store struct{ backends.Backend }

func (store) Scopes() backends.Scopes { panic("a store with " + panicSecret) }

// The text that a panic prints, from each kind of goroutine: what to report and where, with the
// stack and without a secret, and exit code 1.
func TestPanics(t *testing.T) {
	t.Parallel()
	for place, want := range map[string]struct{ value, stack string }{
		"the first goroutine":      {"a value with ***", "panicAt"},
		"before the inputs":        {"a value of type string", "panicAt"},
		"the runtime":              {"runtime error: index out of range [2] with length 2", "panicAt"},
		"two at once":              {"one of two", "panicAt"},
		"a request to the gateway": {"***", "getManifest"},
		"a store":                  {"a store with ***", "backends.(*Reading).read"},
		"a value that panics":      {"%!v(PANIC=String method: again)", "panicAt"},
	} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=none")
			cmd.Env = append(os.Environ(), "TEST_PANIC="+place)
			var stderr bytes.Buffer
			cmd.Stderr, cmd.Stdout = &stderr, io.Discard
			err := cmd.Run()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 {
				t.Errorf("it ends with %v", err)
			}
			head, stack, _ := strings.Cut(stderr.String(), "\n\ngoroutine ")
			text := "\nwarmlayer ended by a fault of its own, not of the build. Please report this text at\n" +
				"https://github.com/warmlayer/warmlayer/issues\n\n  panic    " + want.value + "\n  version  " + version() +
				" (" + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH + ")\n  command  build\n\n" +
				"Secrets that warmlayer knows are replaced by ***. Look through the text before you publish it."
			if head != text {
				t.Errorf("%s\nwant\n%s", head, text)
			}
			if !strings.Contains(stack, want.stack) || !regexp.MustCompile(`^\d+ \[running\]:\n`).MatchString(stack) {
				t.Errorf("the stack is %s", stack)
			}
			if strings.Contains(stderr.String(), panicSecret) {
				t.Error("the secret is shown")
			}
			if strings.Count(stderr.String(), "panic    ") != 1 {
				t.Errorf("%s", stderr.String())
			}
		})
	}
}

// A panic in a goroutine of a library is beyond reach: the runtime ends the program. Whatever
// GOTRACEBACK says, it shows neither the environment nor the arguments of the program, and where the
// secrets of functions are, not what they are.
func TestPanicOfLibrary(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"", "none", "single", "all", "system", "crash"} {
		t.Run("GOTRACEBACK="+level, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `ulimit -c 0; exec "$0" "$@"`, os.Args[0], "-test.run=none", panicSecret)
			cmd.Env = append(os.Environ(), "TEST_PANIC=a library", "SECRET="+panicSecret, "GOTRACEBACK="+level)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || level != "crash" && exit.ExitCode() != 2 {
				t.Errorf("it ends with %v", err)
			}
			if !bytes.Contains(out, []byte("panic: assignment to entry in nil map\n")) || level != "none" && !bytes.Contains(out, []byte(".handled({0x")) {
				t.Errorf("it prints %s", out)
			}
			text := []byte(panicSecret)
			slices.Reverse(text[:8]) // as in a register, which is read from its highest byte
			for form, part := range map[string]string{"itself": panicSecret, "digits": hex.EncodeToString([]byte(panicSecret[:8])), "a register": hex.EncodeToString(text[:8])} {
				if bytes.Contains(out, []byte(part)) {
					t.Errorf("the secret is shown as %s:\n%s", form, out)
				}
			}
		})
	}
}
