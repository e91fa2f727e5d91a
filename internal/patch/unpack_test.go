package main

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff/apply"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/containerd/v2/plugins/content/local"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// layer is a tar archive of entries: "dir/", "file", "link -> target", and ".wh.name" for what is removed. The content
// of a file is its number among the entries.
func layer(t *testing.T, entries ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i, entry := range entries {
		name, target, isLink := strings.Cut(entry, " -> ")
		body := string(rune('0' + i))
		header := &tar.Header{Name: name, Linkname: target, Mode: 0o755, Uid: os.Getuid(), Gid: os.Getgid(), Typeflag: tar.TypeReg, Size: 1}
		switch {
		case isLink:
			header.Typeflag, header.Size = tar.TypeSymlink, 0
		case strings.HasSuffix(name, "/"):
			header.Typeflag, header.Size = tar.TypeDir, 0
		}
		if header.Size == 0 {
			body = ""
		}
		if err := w.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// tree is what is below a directory: "dir/", "file=content", "link->target".
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, dir+"/")
		switch {
		case err != nil || path == dir:
			return err
		case e.IsDir():
			all = append(all, name+"/")
		case e.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			all = append(all, name+"->"+target)
			return err
		default:
			content, err := os.ReadFile(path)
			all = append(all, name+"="+string(content))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestUnpack: entries that follow each other in one directory are where containerd puts them, also when something of
// their path is removed or replaced between them, and never outside the root. It holds with and without the changes.
func TestUnpack(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		layers [][]string
		want   string
	}{
		{"one directory", [][]string{{"a/", "a/x", "a/y", "b/", "b/x", "z"}}, "a/ a/x=1 a/y=2 b/ b/x=4 z=5"},
		{"no parent", [][]string{{"a/b/x", "a/b/y", "c"}}, "a/ a/b/ a/b/x=0 a/b/y=1 c=2"},
		{"through a link", [][]string{{"to/", "l -> to", "l/x", "l/y"}}, "l->to to/ to/x=2 to/y=3"},
		{"the link moves", [][]string{{"p/", "q/", "l -> p", "l/x", "l -> q", "l/x", "l/y"}}, "l->q p/ p/x=3 q/ q/x=5 q/y=6"},
		{"a directory becomes a link", [][]string{{"q/", "a/", "a/x", "a -> q", "a/x", "a/y"}}, "a->q q/ q/x=4 q/y=5"},
		{"a link becomes a directory", [][]string{{"q/", "a -> q", "a/x", "a/", "a/y"}}, "a/ a/y=4 q/ q/x=2"},
		{"a link out of the root", [][]string{{"a/", "a/x", "a -> /..", "a/y", "a/z"}}, "a->/.. y=3 z=4"},
		{"names that leave the root", [][]string{{"../x", "../y", "a/../../z"}}, "x=0 y=1 z=2"},
		{"a file twice", [][]string{{"a/x", "a/x", "a/y"}}, "a/ a/x=1 a/y=2"},
		{"removed", [][]string{{"a/", "a/x", "a/y"}, {"a/.wh.x", "a/z"}}, "a/ a/y=2 a/z=1"},
		{"removed with its directory", [][]string{{"a/", "a/b/", "a/b/x"}, {"a/b/y", ".wh.a", "a/b/z"}}, "a/ a/b/ a/b/z=2"},
		{"all removed", [][]string{{"a/", "a/x", "a/y"}, {"a/z", "a/.wh..wh..opq", "a/y"}}, "a/ a/y=2 a/z=0"},
		{"the root", [][]string{{"./", "./x", ".", "y"}}, "x=1 y=3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			for _, entries := range test.layers {
				if _, err := archive.Apply(t.Context(), root, bytes.NewReader(layer(t, entries...))); err != nil {
					t.Fatal(err)
				}
			}
			if got := strings.Join(tree(t, root), " "); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

// TestUnpackParent: a file cannot be the directory of the next entry.
func TestUnpackParent(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	_, err := archive.Apply(t.Context(), root, bytes.NewReader(layer(t, "a/", "a/x", "a", "a/y")))
	if err == nil {
		t.Errorf("a file is a directory: %v", tree(t, root))
	}
}

// TestUnpackApply: the digest is that of the whole archive, what follows its end included; a layer that is cut off or
// cannot be unpacked fails.
func TestUnpackApply(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root mounts")
	}
	store, err := local.NewStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	random := make([]byte, 3<<20)
	rand.Read(random)
	good := layer(t, "a/", "a/x")
	for name, test := range map[string]struct {
		content []byte
		want    string
		fails   error
	}{
		"whole":              {good, "a/ a/x=1", nil},
		"with a long end":    {slices.Concat(good, random), "a/ a/x=1", nil},
		"cut off":            {good[:700], "a/", io.ErrUnexpectedEOF},
		"not an archive":     {random, "", tar.ErrHeader},
		"a file's own child": {slices.Concat(layer(t, "a", "a/x"), random), "a=0", syscall.ENOTDIR},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			desc := ocispecs.Descriptor{MediaType: ocispecs.MediaTypeImageLayer, Digest: digest.FromBytes(test.content), Size: int64(len(test.content))}
			if err := content.WriteBlob(t.Context(), store, name, bytes.NewReader(test.content), desc); err != nil {
				t.Fatal(err)
			}
			applied, err := apply.NewFileSystemApplier(store).Apply(t.Context(), desc, []mount.Mount{{Type: "bind", Source: root, Options: []string{"rbind", "rw"}}})
			if got := strings.Join(tree(t, root), " "); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
			if !errors.Is(err, test.fails) {
				t.Errorf("%v, want %v", err, test.fails)
			}
			if err == nil && (applied.Digest != desc.Digest || applied.Size != desc.Size) {
				t.Errorf("%v of %d bytes, want %v", applied.Digest, applied.Size, desc)
			}
		})
	}
}
