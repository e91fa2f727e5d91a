package mountpack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
)

// sample is an index with every kind of entry.
func sample() *Index {
	pack := Pack{Digest: digest.FromString("pack"), Bytes: 50, Raw: 100}
	return &Index{
		Packs: []Pack{pack},
		Attrs: []Attr{{Mode: 0o755}, {Mode: 0o4711, UID: 1000, GID: 1 << 31, Xattrs: []Xattr{{"user.a", "1"}, {"user.b", "\x00"}}}},
		Entries: []Entry{
			{Kind: Dir, Parent: -1, Mtime: -5},
			{Kind: Dir, Parent: 0, Name: "a", Mtime: 1e18},
			{Kind: File, Parent: 1, Name: "one", Attr: 1, Size: 60, Content: Content{Sum: Sum{1}, Length: 60, Offset: 40}},
			{Kind: File, Parent: 1, Name: "sparse", Size: 1 << 30, Sparse: true, Extents: []Extent{{4096, 10}, {8192, 30}}, Content: Content{Length: 40}},
			{Kind: HardLink, Parent: 1, Name: "two", Link: 2},
			{Kind: Fifo, Parent: 0, Name: "b"},
			{Kind: Symlink, Parent: 0, Name: "c", Target: "../../etc/passwd"},
			{Kind: File, Parent: 0, Name: "empty"},
			{Kind: File, Parent: 0, Name: "hole", Size: 5, Sparse: true},
		},
	}
}

func TestIndexRoundTrip(t *testing.T) {
	t.Parallel()
	x := sample()
	got, err := ParseIndex(x.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Encode(), x.Encode()) {
		t.Errorf("got %+v", got)
	}
	if live := got.Live(); live[0] != 100 {
		t.Errorf("live: %v", live)
	}
}

// Indexes that would lead outside the mount, or are contradictory, are damaged.
func TestHostileIndex(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(x *Index){
		"a name of the parent":       func(x *Index) { x.Entries[5].Name = ".." },
		"a name with a slash":        func(x *Index) { x.Entries[5].Name = "b/../../x" },
		"an absolute name":           func(x *Index) { x.Entries[5].Name = "/b" },
		"a name with a zero byte":    func(x *Index) { x.Entries[5].Name = "b\x00" },
		"no name":                    func(x *Index) { x.Entries[1].Name = "" },
		"a name twice":               func(x *Index) { x.Entries[6].Name = "b" },
		"names out of order":         func(x *Index) { x.Entries[5].Name = "d" },
		"a file as a directory":      func(x *Index) { x.Entries[1].Kind = Fifo },
		"a first entry that is none": func(x *Index) { x.Entries = x.Entries[:1]; x.Entries[0].Kind = Symlink; x.Entries[0].Target = "/etc" },
		"a link to a directory":      func(x *Index) { x.Entries[4].Link = 1 },
		"a link to itself":           func(x *Index) { x.Entries[4].Link = 4 },
		"no target":                  func(x *Index) { x.Entries[6].Target = "" },
		"a mode beyond permissions":  func(x *Index) { x.Attrs[0].Mode = 0o100755 },
		"no attributes":              func(x *Index) { x.Entries[1].Attr = 2 },
		"content beyond its pack":    func(x *Index) { x.Packs[0].Raw = 99 },
		"content before its pack":    func(x *Index) { x.Entries[3].Content.Offset = -1 },
		"contents that overlap":      func(x *Index) { x.Entries[2].Content.Offset = 39 },
		"a file too large":           func(x *Index) { x.Entries[8].Size = maxSize + 1 },
		"data beyond the file":       func(x *Index) { x.Entries[3].Size = 8200 },
		"xattrs out of order":        func(x *Index) { x.Attrs[1].Xattrs[1].Name = "user.a" },
		"xattrs too large":           func(x *Index) { x.Attrs[1].Xattrs[1].Value = string(make([]byte, maxXattrs)) },
		"too many packs":             func(x *Index) { x.Packs = append(make([]Pack, 0), repeat(x.Packs[0], MaxPacks+1)...) },
		"no entry":                   func(x *Index) { x.Entries = nil },
		"too deep": func(x *Index) {
			x.Entries = []Entry{{Kind: Dir, Parent: -1}}
			for i := range int32(maxDepth) {
				x.Entries = append(x.Entries, Entry{Kind: Dir, Parent: i, Name: "d"})
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			x := sample()
			change(x)
			if got, err := ParseIndex(x.Encode()); err == nil {
				t.Errorf("it is taken: %+v", got)
			}
		})
	}
}

func repeat[T any](one T, n int) (all []T) {
	for range n {
		all = append(all, one)
	}
	return all
}

// Any bytes are an index or an error, and an index that is taken keeps the rules of the entries.
func FuzzIndex(f *testing.F) {
	f.Add(sample().body())
	f.Add((&Index{Attrs: []Attr{{}}, Entries: []Entry{{Kind: Dir, Parent: -1}}}).body())
	f.Fuzz(func(t *testing.T, body []byte) {
		x, err := parseBody(body)
		if err != nil {
			return
		}
		again, err := ParseIndex(x.Encode())
		if err != nil || !bytes.Equal(again.body(), x.body()) {
			t.Fatalf("%+v becomes %+v, %v", x, again, err)
		}
	})
}

// Any pack and any answer are refused cleanly, or restored, and nothing is written outside the mount.
func FuzzStream(f *testing.F) {
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), bytes.Repeat([]byte("content "), 20), 0o644); err != nil {
		f.Fatal(err)
	}
	var pack bytes.Buffer
	x, _, err := Save(f.Context(), dir, nil, SaveRequest{}, &pack)
	if err != nil {
		f.Fatal(err)
	}
	var asked bytes.Buffer
	w := newFrameWriter(&asked)
	for _, err := range []error{w.json(frameRequest, RestoreRequest{}), w.frame(frameIndex, x.Encode()), w.frame(framePack, pack.Bytes()), w.frame(framePackEnd, nil), w.end(nil)} {
		if err != nil {
			f.Fatal(err)
		}
	}
	f.Add(asked.Bytes(), pack.Bytes())
	f.Fuzz(func(t *testing.T, stream, pack []byte) {
		outside := t.TempDir()
		mount := filepath.Join(outside, "mount")
		if err := os.Mkdir(mount, 0o755); err != nil {
			t.Fatal(err)
		}
		_ = Serve(context.Background(), []string{"restore", mount}, bytes.NewReader(stream), io.Discard)
		// The same pack with the right digest: what zstd makes of it is all that protects.
		y := &Index{Packs: []Pack{{digest.NewDigestFromBytes(digest.SHA256, sum(pack)), int64(len(pack)), x.Packs[0].Raw}}, Attrs: x.Attrs, Entries: x.Entries}
		open := func(context.Context, Pack) (io.Reader, error) { return bytes.NewReader(pack), nil }
		_, _ = Restore(context.Background(), mount, y, RestoreRequest{Replace: true}, open)
		if names, err := os.ReadDir(outside); err != nil || len(names) != 1 {
			t.Fatalf("outside the mount: %v, %v", names, err)
		}
		_, _ = readSaved(bytes.NewReader(stream), io.Discard)
		_, _ = readRestored(bytes.NewReader(stream))
	})
}

func sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}
