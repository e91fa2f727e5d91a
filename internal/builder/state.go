package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/moby/buildkit/client"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/internal/builderspec"
)

// kept is the directory of a [builderspec.State], which this process has locked: what the daemon stores stays there for the
// next run.
type kept struct {
	builderspec.State
	lock *flock.Flock
	used bool // a former run has left something

	removeAll func(path string) error
}

const (
	stateRoot  = "buildkit"        // the daemon's
	stateMaker = "warmlayer-state" // the program and the user that made it
	stateTrash = "buildkit-trash"  // a root that is not used any more
	stateLock  = "warmlayer.lock"

	daemonLock = "buildkitd.lock" // in the root (v0.34.2, cmd/buildkitd/main.go)

	// stateRetry is how often a run looks whether another one has left the state.
	stateRetry = 100 * time.Millisecond
	// stateGrace is how long a daemon may take to close what it keeps, and stateGC how long the removal of what exceeds
	// the size may take.
	stateGrace = 10 * time.Second
	stateGC    = time.Minute
)

// takeState locks a kept state, and empties it where another builder has made it. Where it cannot be used, the result is nil and
// says why: the builder starts empty then.
func takeState(ctx context.Context, s builderspec.State, maker string, removeAll func(path string) error) (_ *kept, why string) {
	k := &kept{State: s, lock: flock.New(filepath.Join(s.Dir, stateLock)), removeAll: removeAll}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, err.Error()
	}
	locked, err := k.lock.TryLock()
	if err == nil && !locked && s.Wait > 0 {
		waiting, cancel := context.WithTimeout(ctx, s.Wait)
		defer cancel()
		locked, err = k.lock.TryLockContext(waiting, stateRetry)
		if errors.Is(err, context.DeadlineExceeded) {
			err = nil
		}
	}
	switch {
	case err != nil:
		return nil, err.Error()
	case !locked:
		return nil, "another run uses " + s.Dir
	}
	if why, err = k.check(ctx, maker); err != nil {
		return nil, errors.Join(err, k.leave()).Error()
	}
	return k, why
}

// check looks whose state it is. What another builder has made is removed. What has no note of its maker is no builder's state, and
// is left as it is.
func (k *kept) check(ctx context.Context, maker string) (why string, err error) {
	if err := k.ended(ctx); err != nil {
		return "", err
	}
	before, err := os.ReadFile(k.join(stateMaker))
	switch {
	case os.IsNotExist(err):
		for _, name := range []string{stateRoot, stateTrash} {
			if _, err := os.Lstat(k.join(name)); !os.IsNotExist(err) {
				return "", fmt.Errorf("%s is not a builder's state: it has %s, and no %s", k.Dir, name, stateMaker)
			}
		}
	case err != nil:
		return "", err
	case string(before) != maker:
		why, err = "another buildkitd program or another user made it", k.discard()
		if err != nil {
			return "", err
		}
	default:
		_, err := os.Lstat(k.join(stateRoot))
		k.used = err == nil
	}
	return why, os.WriteFile(k.join(stateMaker), []byte(maker), 0o600)
}

// ended waits for the daemon of a run that was killed a moment ago: the kernel ends it, too.
func (k *kept) ended(ctx context.Context) error {
	path := filepath.Join(k.join(stateRoot), daemonLock)
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return nil //nolint:nilerr // nothing is kept
	}
	ctx, cancel := context.WithTimeout(ctx, killGrace)
	defer cancel()
	lock := flock.New(path)
	if _, err := lock.TryLockContext(ctx, stateRetry); err != nil {
		return fmt.Errorf("the builder of a former run has not ended: %w", err)
	}
	return lock.Unlock()
}

func (k *kept) join(name string) string { return filepath.Join(k.Dir, name) }

// discard removes what is kept. It is moved away first, so that a removal that fails does not leave a part of it.
func (k *kept) discard() error {
	trash := k.join(stateTrash)
	if err := k.removeAll(trash); err != nil {
		return err
	}
	if err := os.Rename(k.join(stateRoot), trash); err != nil && !os.IsNotExist(err) {
		return err
	}
	return k.removeAll(trash)
}

// collect removes what was used the longest ago, until the rest takes no more than the state's size.
func (k *kept) collect(address string) error {
	if k.Size == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), stateGC)
	defer cancel()
	c, err := client.New(ctx, address)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Prune(ctx, nil, client.PruneAll, client.WithKeepOpt(0, 0, k.Size, 0))
}

// leave lets other runs use the state.
func (k *kept) leave() error { return k.lock.Unlock() }

// maker names the program and the user that make a state: only they may use it again. The program is identified by its size and
// its time, since asking it for its version takes as long as a third of a start.
func (d *processDaemon) maker() (string, error) {
	info, err := os.Stat(d.found["buildkitd"])
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("1 %d %d rootless=%t uid=%d\n", info.Size(), info.ModTime().Unix(), d.rootless, os.Geteuid()), nil
}

// arguments are the daemon's, with the root that is kept.
func (d *processDaemon) arguments() []string {
	root := d.dir.join("state")
	if d.kept != nil {
		root = d.kept.join(stateRoot)
	}
	return arguments(d.options, d.dir.join, root, d.address())
}

// takeState gives the daemon the kept state that the options name, and notes what became of it.
func (d *processDaemon) takeState(ctx context.Context) {
	state := d.options.Managed.State
	if state.Dir == "" {
		return
	}
	maker, err := d.maker()
	why := ""
	if err != nil {
		why = err.Error()
	} else {
		d.kept, why = takeState(ctx, state, maker, d.removeAll)
	}
	switch {
	case d.kept == nil:
		d.state = nothingKept + why
	case why != "":
		d.state = "empty: " + why
	default:
		d.state = "kept in " + state.Dir
	}
	d.setCommand()
}

// nothingKept begins the reason why a builder does not use the state that the options name.
const nothingKept = "empty, and nothing is kept: "

// openKept starts a daemon with what it has kept. Where it does not start with that, but does without it, what was kept is
// removed.
func (d *processDaemon) openKept(ctx context.Context) (*client.Client, []ocispecs.Platform, error) {
	d.takeState(ctx)
	if d.kept == nil {
		return d.open(ctx)
	}
	c, platforms, err := d.start(ctx)
	if err == nil || ctx.Err() != nil {
		return c, platforms, err
	}
	k := d.kept
	d.kept = nil
	d.setCommand()
	if c, platforms, again := d.start(ctx); again == nil {
		d.state = nothingKept + "BuildKit did not start with what was kept"
		_ = k.discard()
		_ = k.leave()
		return c, platforms, nil
	}
	d.kept = k
	d.setCommand()
	return d.open(ctx)
}

// closeKept ends the daemon in order, and leaves the state to the next run. Errors of the state are ignored: the next run then
// starts empty.
func (d *processDaemon) closeKept() error {
	var err error
	switch {
	case d.forget:
		err = d.process.kill()
		_ = d.kept.discard()
	case d.hurry:
		err = d.process.stop(stopGrace)
	default:
		_ = d.kept.collect(d.address())
		err = d.process.stop(stateGrace)
	}
	_ = d.kept.leave()
	return errors.Join(err, d.remove())
}

// Forget makes Close remove the kept state. It has no effect on a builder without one.
func (b *Builder) Forget() { b.ofProcess(func(d *processDaemon) { d.forget = true }) }

// Hurry makes Close end the builder within about three seconds, whatever it keeps.
func (b *Builder) Hurry() { b.ofProcess(func(d *processDaemon) { d.hurry = true }) }

func (b *Builder) ofProcess(do func(*processDaemon)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d, ok := b.daemon.(*processDaemon); ok {
		do(d)
	}
}
