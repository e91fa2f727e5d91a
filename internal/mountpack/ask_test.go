package mountpack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// program is the program in the builder: it serves on the other ends of what ask gets.
func program(t *testing.T, args []string, ask func(stdin io.WriteCloser, stdout io.Reader)) {
	t.Helper()
	in, stdin := io.Pipe()
	stdout, out := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = Serve(context.Background(), args, in, out) // its error is in the answer
		_ = in.Close()
		_ = out.Close()
	}()
	ask(stdin, stdout)
	_ = stdout.Close()
	<-done
}

// asked saves a directory through the program.
func asked(t *testing.T, dir string, r SaveRequest, previous []byte) (saved *Saved, pack []byte, err error) {
	t.Helper()
	var to bytes.Buffer
	program(t, []string{"save", dir}, func(stdin io.WriteCloser, stdout io.Reader) {
		saved, err = AskSave(stdin, stdout, r, previous, &to)
	})
	return saved, to.Bytes(), err
}

// askedBack restores a directory through the program.
func askedBack(t *testing.T, dir string, r RestoreRequest, index []byte, open func(context.Context, Pack) (io.ReadCloser, error)) (stats RestoreStats, err error) {
	t.Helper()
	program(t, []string{"restore", dir}, func(stdin io.WriteCloser, stdout io.Reader) {
		stats, err = AskRestore(t.Context(), stdin, stdout, r, index, open)
	})
	return stats, err
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func opener(pack []byte) func(context.Context, Pack) (io.ReadCloser, error) {
	return func(context.Context, Pack) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(pack)), nil }
}

func TestAsk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "a", strings.Repeat("many bytes ", 100_000))
	write(t, dir, "b", "few bytes")
	saved, pack, err := asked(t, dir, SaveRequest{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	target := t.TempDir()
	restored, err := askedBack(t, target, RestoreRequest{}, saved.Index, opener(pack))
	if err != nil {
		t.Fatal(err)
	}
	requireEqual(t, target, dir)

	again, nothing, err := asked(t, target, SaveRequest{Since: restored.Clock}, saved.Index)
	if err != nil || !again.Stats.Same || len(nothing) > 0 || again.Stats.Read > 0 || !bytes.Equal(again.Index, saved.Index) {
		t.Errorf("an unchanged mount: %+v, %v", again, err)
	}
	kept, err := askedBack(t, target, RestoreRequest{}, saved.Index, opener(nil))
	if err != nil || !kept.Kept {
		t.Errorf("a mount with files: %+v, %v", kept, err)
	}
	write(t, target, "c", "to be replaced")
	if _, err := askedBack(t, target, RestoreRequest{Replace: true}, saved.Index, opener(pack)); err != nil {
		t.Fatal(err)
	}
	requireEqual(t, target, dir)
}

// Whatever goes wrong is an error, and the mount stays empty.
func TestAskFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "a", strings.Repeat("many bytes ", 100_000))
	saved, pack, err := asked(t, dir, SaveRequest{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := asked(t, dir, SaveRequest{MaxBytes: 1 << 20}, nil); !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "limit of 1 MB") {
		t.Errorf("a mount beyond the limit: %v", err)
	}
	if _, _, err := asked(t, dir+"/none", SaveRequest{}, nil); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no mount: %v", err)
	}
	if _, _, err := asked(t, dir, SaveRequest{}, saved.Index[1:]); !errors.Is(err, ErrDamaged) {
		t.Errorf("a damaged previous index: %v", err)
	}
	lost := errors.New("the pack was lost")
	broken := func(after []byte, err error) func(context.Context, Pack) (io.ReadCloser, error) {
		return func(context.Context, Pack) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(after), failing{err})), nil
		}
	}
	target := t.TempDir()
	for what, c := range map[string]struct {
		request RestoreRequest
		index   []byte
		open    func(context.Context, Pack) (io.ReadCloser, error)
		want    error
	}{
		"beyond the limit": {RestoreRequest{MaxBytes: 100}, saved.Index, opener(pack), ErrTooLarge},
		"damaged index":    {RestoreRequest{}, saved.Index[1:], opener(pack), ErrDamaged},
		"damaged pack":     {RestoreRequest{}, saved.Index, opener(append(slices.Clone(pack[:len(pack)-1]), 'x')), ErrDamaged},
		"cut pack":         {RestoreRequest{}, saved.Index, opener(pack[:len(pack)/2]), ErrDamaged},
		"no pack": {RestoreRequest{}, saved.Index, func(context.Context, Pack) (io.ReadCloser, error) {
			return nil, lost
		}, lost},
		"lost at once":       {RestoreRequest{}, saved.Index, broken(nil, lost), lost},
		"lost in the middle": {RestoreRequest{}, saved.Index, broken(pack[:len(pack)/2], lost), lost},
	} {
		if _, err := askedBack(t, target, c.request, c.index, c.open); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
		if names, err := os.ReadDir(target); err != nil || len(names) > 0 {
			t.Errorf("%s: the mount has %v, %v", what, names, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// A stream that is cut or changed anywhere is never taken for whole.
func TestStreamDamage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "a", "some bytes")
	var asking, answer bytes.Buffer
	if err := writeSave(nopCloser{&asking}, SaveRequest{}, nil); err != nil {
		t.Fatal(err)
	}
	if err := Serve(t.Context(), []string{"save", dir}, &asking, &answer); err != nil {
		t.Fatal(err)
	}
	whole := answer.Bytes()
	if _, err := readSaved(bytes.NewReader(whole), io.Discard); err != nil {
		t.Fatal(err)
	}
	want, _ := readSaved(bytes.NewReader(whole), io.Discard)
	for i := range whole {
		if _, err := readSaved(bytes.NewReader(whole[:i]), io.Discard); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut at %d of %d: %v", i, len(whole), err)
		}
		changed := slices.Clone(whole)
		changed[i] ^= 4
		// The statistics have no checksum; what they count is not what the store keeps.
		got, err := readSaved(bytes.NewReader(changed), io.Discard)
		if err == nil && !bytes.Equal(got.Index, want.Index) {
			t.Fatalf("byte %d of %d changed, and nothing noticed", i, len(whole))
		}
	}
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func TestServeArguments(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"save"}, {"load", "/"}, {"save", "/", "/"}} {
		if err := Serve(t.Context(), args, bytes.NewReader(nil), io.Discard); err == nil || !strings.Contains(err.Error(), "save|restore") {
			t.Errorf("%q: %v", args, err)
		}
	}
	if err := Serve(t.Context(), []string{"save", "/"}, strings.NewReader("hello"), io.Discard); !errors.Is(err, ErrDamaged) {
		t.Errorf("no stream: %v", err)
	}
}

// A restore that is killed leaves the mount empty, or is finished by the next one.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir, packs := t.TempDir(), shelf{}
	write(t, dir, "a", "a")
	write(t, dir, "b", "b")
	x, _ := packs.save(t, dir, nil, SaveRequest{})
	for what, c := range map[string]struct {
		left, moved []string
		kept        bool
	}{
		"while it writes":   {left: []string{stagingPrefix + "77/a", stagingPrefix + "77/c"}},
		"before it moves":   {left: []string{readyName + "/a", readyName + "/b"}, kept: true},
		"between its moves": {left: []string{readyName + "/b"}, moved: []string{"a"}, kept: true},
		"after its moves":   {left: []string{readyName + "/"}, moved: []string{"a", "b"}, kept: true},
	} {
		target := t.TempDir()
		for _, name := range slices.Concat(c.left, c.moved) {
			path := filepath.Join(target, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(name, "/") {
				write(t, target, name, filepath.Base(name))
			} else if err := os.MkdirAll(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		before, _, err := Save(t.Context(), target, nil, SaveRequest{}, io.Discard)
		if err != nil || len(before.Entries) != 1+len(c.moved) {
			t.Errorf("%s: a save has %d entries, %v", what, len(before.Entries), err)
		}
		stats, err := Restore(t.Context(), target, x, RestoreRequest{}, packs.open)
		if err != nil || stats.Kept != c.kept {
			t.Errorf("%s: %+v, %v", what, stats, err)
		}
		names, err := filepath.Glob(filepath.Join(target, "*"))
		hidden, _ := filepath.Glob(filepath.Join(target, ".*"))
		if err != nil || len(names) != 2 || len(hidden) > 0 {
			t.Errorf("%s: the mount has %q and %q, %v", what, names, hidden, err)
		}
	}
}
