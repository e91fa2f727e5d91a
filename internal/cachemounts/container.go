package cachemounts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/moby/buildkit/client/llb"
	gw "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"

	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/llbgraph"
	"github.com/warmlayer/warmlayer/internal/mountpack"
)

const (
	programPath = "/mount-pack"
	mountPath   = "/mount"
	programName = "[internal] program for cache mounts" // of its vertex, which is not shown
)

// maxProgram is the largest program in bytes that fits into a message of BuildKit's (16 MiB).
const maxProgram = 15 << 20

// root is a file system with the program alone.
func root(ctx context.Context, c gw.Client, program []byte) (gw.Reference, error) {
	if len(program) > maxProgram {
		return nil, errors.New("this warmlayer was built without the small program for the builder: use a released one, or run go generate ./internal/mountprogram before go build")
	}
	state := llb.Scratch().File(llb.Mkfile(programPath, 0o755, program), llb.WithCustomName(programName))
	def, err := state.Marshal(ctx)
	if err != nil {
		return nil, fmt.Errorf("send the program for cache mounts: %w", err)
	}
	r, err := c.Solve(ctx, gw.SolveRequest{Definition: def.ToPB()})
	if err != nil {
		return nil, fmt.Errorf("send the program for cache mounts: %w", err)
	}
	return r.SingleRef()
}

// container runs the program in the builder with a mount that steps use, and with talk at its standard streams. The
// mount is found by its id and by what it begins with, as for a step (v0.34.2, frontend/gateway/container).
func (m *Mounts) container(ctx context.Context, c gw.Client, root gw.Reference, use llbgraph.CacheMount, verb string, talk func(io.WriteCloser, io.Reader) error) error {
	mount := gw.Mount{
		Dest: mountPath, MountType: pb.MountType_CACHE, Selector: use.Selector,
		CacheOpt: &pb.CacheOpt{ID: use.ID, Sharing: use.Sharing},
	}
	if use.Base != (llbgraph.Output{}) {
		def, err := m.definition(use.Base)
		if err != nil {
			return err
		}
		r, err := c.Solve(ctx, gw.SolveRequest{Definition: def.ToPB()})
		if err != nil {
			return err
		}
		if mount.Ref, err = r.SingleRef(); err != nil {
			return err
		}
	}
	box, err := c.NewContainer(ctx, gw.NewContainerRequest{
		NetMode: pb.NetMode_NONE,
		Mounts:  []gw.Mount{{Dest: "/", MountType: pb.MountType_BIND, Ref: root}, mount},
	})
	if err != nil {
		return fmt.Errorf("open the mount: %w", err)
	}
	defer box.Release(context.WithoutCancel(ctx)) //nolint:errcheck // the answer counts
	return run(ctx, box, verb, talk)
}

func (m *Mounts) definition(o llbgraph.Output) (*llb.Definition, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.graph.Definition(o)
}

// run runs the program in a container to its end.
func run(ctx context.Context, box gw.Container, verb string, talk func(io.WriteCloser, io.Reader) error) error {
	stdin, toProgram := io.Pipe()
	fromProgram, stdout := io.Pipe()
	var said bytes.Buffer
	process, err := box.Start(ctx, gw.StartRequest{
		Args: []string{programPath, mountpack.Command, verb, mountPath}, Cwd: "/",
		Stdin: stdin, Stdout: stdout, Stderr: unclosed{&said},
	})
	if err != nil {
		return fmt.Errorf("start the program for cache mounts: %w", err)
	}
	exited := make(chan error, 1)
	go func() {
		defer crash.Catch()
		err := process.Wait()
		_ = stdout.Close()
		_ = stdin.Close()
		exited <- err
	}()
	talked := talk(toProgram, fromProgram)
	_ = fromProgram.Close()
	select {
	case err = <-exited:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	switch {
	case talked != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case talked != nil && err != nil && strings.TrimSpace(said.String()) != "":
		return fmt.Errorf("%w: %s", talked, strings.TrimSpace(said.String()))
	case talked != nil && err != nil:
		return fmt.Errorf("%w: %w", talked, err)
	}
	return talked
}

// unclosed is a writer that Close leaves open.
type unclosed struct{ io.Writer }

func (unclosed) Close() error { return nil }
