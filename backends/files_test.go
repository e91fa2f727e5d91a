package backends_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// uploaded is the blob that another process puts into a directory.
var uploaded = ocispecs.Descriptor{Digest: digest.FromString("two halves"), Size: 10}

// upload starts such a process, and sends it the first half.
func upload(t *testing.T, dir string) (*exec.Cmd, io.WriteCloser) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), "TEST_PUT_INTO="+dir)
	body, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	if _, err := io.WriteString(body, "two h"); err != nil {
		t.Fatal(err)
	}
	return cmd, body
}

// TestLayoutRemovesAbandoned: an export removes what a killed one has left, and spares an upload
// that is under way.
func TestLayoutRemovesAbandoned(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	killed, _ := upload(t, dir)
	testkit.Until(t, "the first upload", func() bool { return halves(t, dir) == 1 })
	lives, body := upload(t, dir)
	testkit.Until(t, "the second upload", func() bool { return halves(t, dir) == 2 })
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait() // it was killed

	store, c := local(t, dir, ""), newCache(t, imageManifest, "one")
	c.put(t, store)
	if err := store.PutManifest(t.Context(), "b-main", c.Manifest); err != nil {
		t.Fatal(err)
	}
	if left := files(t, dir, "ingest"); len(left) != 1 {
		t.Errorf("uploads %v", left)
	}
	_, err := io.WriteString(body, "alves")
	if err := errors.Join(err, body.Close(), lives.Wait()); err != nil {
		t.Fatal(err)
	}
	there(t, dir, "two halves")
	if left := files(t, dir, "ingest"); len(left) != 0 {
		t.Errorf("uploads %v", left)
	}
}

// halves counts the uploads that have received the first half.
func halves(t *testing.T, dir string) int {
	t.Helper()
	n := 0
	for _, name := range files(t, dir, "ingest") {
		if info, err := os.Stat(filepath.Join(dir, "ingest", name)); err == nil && info.Size() == 5 {
			n++
		}
	}
	return n
}

// soon is when an operation on a directory that does not answer is to end.
func soon(t *testing.T) (context.Context, error) {
	cause := errors.New("the time is over")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, cause)
	t.Cleanup(cancel)
	return ctx, cause
}

// TestLayoutGivesUp: on a file system that does not answer every operation ends with its context.
func TestLayoutGivesUp(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(testkit.DeadMount(t), "cache")
	c := newCache(t, imageManifest, "one")
	store := local(t, dir, "")
	for name, operation := range map[string]func(context.Context) error{
		"Manifest": func(ctx context.Context) error {
			_, err := store.Manifest(ctx, "b-main")
			return err
		},
		"Stat": func(ctx context.Context) error {
			_, err := store.Stat(ctx, digests(c))
			return err
		},
		"Open": func(ctx context.Context) error {
			_, err := store.Open(ctx, digests(c)[0], 0)
			return err
		},
		"Put": func(ctx context.Context) error {
			return store.Put(ctx, c.Descriptor(), strings.NewReader(string(c.Raw)))
		},
		"PutManifest": func(ctx context.Context) error { return store.PutManifest(ctx, "b-main", c.Manifest) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cause := soon(t)
			if err := operation(ctx); !errors.Is(err, cause) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestLayoutBodyGivesUp: the content of a blob ends with the context, and an upload that does
// leaves nothing.
func TestLayoutBodyGivesUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store := local(t, dir, "")
	ctx, cause := soon(t)
	body, send := io.Pipe()
	go func() {
		_, _ = io.WriteString(send, "two h") // the rest never comes
		<-ctx.Done()
		send.CloseWithError(cause)
	}()
	if err := store.Put(ctx, uploaded, body); !errors.Is(err, cause) {
		t.Errorf("put: %v", err)
	}
	if left := append(files(t, dir, "ingest"), files(t, dir, "blobs/sha256")...); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	large := strings.Repeat("large", 1<<20)
	desc := ocispecs.Descriptor{Digest: digest.FromString(large), Size: int64(len(large))}
	if err := store.Put(t.Context(), desc, strings.NewReader(large)); err != nil {
		t.Fatal(err)
	}
	reading, cancel := context.WithCancelCause(t.Context())
	blob, err := store.Open(reading, desc.Digest, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	if _, err := io.ReadFull(blob, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	cancel(cause)
	if _, err := io.Copy(io.Discard, blob); !errors.Is(err, cause) {
		t.Errorf("read: %v", err)
	}
}

// TestLayoutRefusesOtherFiles: a FIFO in place of a file is an error at once, without a writer.
func TestLayoutRefusesOtherFiles(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"index.json", "index.json.lock", "blob", "manifest"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			store, c := local(t, dir, ""), newCache(t, imageManifest, "one")
			c.put(t, store)
			if err := store.PutManifest(t.Context(), "b-main", c.Manifest); err != nil {
				t.Fatal(err)
			}
			path := map[string]string{"blob": blobPath(dir, digest.FromString("one")), "manifest": blobPath(dir, c.Descriptor().Digest)}[name]
			if path == "" {
				path = filepath.Join(dir, name)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Mkfifo(path, 0o644); err != nil {
				t.Fatal(err)
			}
			readCache := backend(t, cachespec.Environment{}, "type=local,dest="+dir)
			s := verified(t.Context(), []backends.Backend{readCache}, scope.Plan{Read: []scope.Source{{Name: "b-main"}}}, time.Minute)[0]
			if want := map[bool]string{true: loaded, false: failed}[name == "index.json.lock"]; outcome(s) != want {
				t.Errorf("%s: %v", outcome(s), s.Err)
			}
			if err := store.PutManifest(t.Context(), "b-main", c.Manifest); name != "manifest" && (err == nil || errors.Is(err, context.DeadlineExceeded)) {
				t.Errorf("written: %v", err)
			}
		})
	}
}
