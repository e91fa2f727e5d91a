package mountpack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/warmlayer/warmlayer/internal/crash"
)

// smallFile is the largest file that is read as a whole, and compared with the others of the new pack.
const smallFile = 1 << 20

// Save writes the content of a directory that no pack of the previous index has to pack, and returns the
// new index. previous is nil for a first save. Nothing is written when no content is new. Files that
// vanish or change meanwhile are left out and counted; each file in the index is as it was at one moment
// during the save.
//
// The error is ErrTooLarge beyond a limit, the error of pack, or that of the directory itself. What was
// written to pack is then worth nothing.
func Save(ctx context.Context, dir string, previous *Index, request SaveRequest, pack io.Writer) (*Index, SaveStats, error) {
	stats := SaveStats{}
	if previous == nil {
		previous = &Index{}
	}
	root, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, stats, fmt.Errorf("open the mount %s: %w", dir, err)
	}
	defer unix.Close(root)
	w := newWalk(ctx, request, previous, &stats)
	if err := w.root(root); err != nil {
		return nil, stats, fmt.Errorf("the mount %s: %w", dir, err)
	}
	if err := w.limit(); err != nil {
		return nil, stats, err
	}
	s := &saving{walk: w, contents: map[key]Content{}}
	if err := s.compare(root); err != nil {
		return nil, stats, err
	}
	s.absorb()
	if err := s.pack(root, pack); err != nil {
		return nil, stats, err
	}
	index := s.index()
	stats.Entries, stats.Bytes = len(index.Entries), index.Bytes()
	stats.Same = len(previous.Entries) > 0 && bytes.Equal(index.Encode(), previous.Encode())
	return index, stats, nil
}

// key identifies a content.
type key struct {
	sum    Sum
	length int64
}

func keyOf(c Content) key { return key{c.Sum, c.Length} }

// fresh is the Content.Pack of contents in the new pack, until the index is made.
const fresh = int32(-1)

// saving is a save after its walk.
type saving struct {
	*walk
	contents map[key]Content // where contents are
	absorbs  []bool          // for each previous pack
	written  Pack
}

// compare reads the files that may have a content of the previous index. Those that have one are settled;
// the others are stored.
func (s *saving) compare(root int) error {
	lengths := map[int64]bool{}
	for i := range s.previous.Entries {
		if c := s.previous.Entries[i].Content; c.Length > 0 {
			s.contents[keyOf(c)] = c
			lengths[c.Length] = true
		}
	}
	group, ctx := errgroup.WithContext(s.ctx)
	var next atomic.Int64
	reads := make([]int64, runtime.GOMAXPROCS(0))
	for worker := range reads {
		group.Go(func() error {
			defer crash.Catch()
			r := newFileReader(s.walk, root)
			defer r.cursor.close()
			for {
				first := int(next.Add(compareTogether)) - compareTogether
				if first >= len(s.entries) || ctx.Err() != nil {
					return context.Cause(ctx)
				}
				for i := first; i < min(first+compareTogether, len(s.entries)); i++ {
					reads[worker] += s.compareOne(r, int32(i), lengths)
				}
			}
		})
	}
	err := group.Wait()
	for _, n := range reads {
		s.stats.Read += n
	}
	return err
}

// compareTogether is how many neighbours one goroutine compares, so that it changes the directory seldom.
const compareTogether = 64

// compareOne compares one file, and returns how many bytes it read. lengths are those of the previous
// contents.
func (s *saving) compareOne(r *fileReader, i int32, lengths map[int64]bool) (read int64) {
	e, status := &s.entries[i], &s.status[i]
	if status.state != check {
		return 0
	}
	status.state = store
	like := s.previousFile(status.before)
	if !lengths[e.Size] && (like == nil || !like.Sparse || like.Size != e.Size) {
		return 0
	}
	err := r.read(i, like, func(*Entry) error { return nil }, func(b []byte) error { read += int64(len(b)); return nil })
	if err != nil {
		return read // it is read again, for the new pack
	}
	if c, ok := s.contents[keyOf(e.Content)]; ok {
		e.Content, status.state = c, settled
	}
	return read
}

// absorb finds which packs the new one replaces, and has their contents stored.
func (s *saving) absorb() {
	now := &Index{Packs: s.previous.Packs, Entries: make([]Entry, 0, len(s.entries))}
	pending := int64(0)
	for i := range s.entries {
		switch s.status[i].state {
		case settled:
			now.Entries = append(now.Entries, s.entries[i])
		case store:
			pending += s.status[i].occupied
		}
	}
	s.absorbs = absorbed(s.previous.Packs, now.Live(), pending, s.request.Whole)
	for i := range s.entries {
		c := s.entries[i].Content
		if s.entries[i].Kind == File && s.status[i].state == settled && c.Length > 0 && s.absorbs[c.Pack] {
			s.status[i].state = store
		}
	}
	for k, c := range s.contents {
		if s.absorbs[c.Pack] {
			delete(s.contents, k)
		}
	}
	for _, is := range s.absorbs {
		if is {
			s.stats.Absorbed++
		}
	}
}

// pack writes the new pack.
func (s *saving) pack(root int, out io.Writer) error {
	p, err := newPackWriter(out)
	if err != nil {
		return err
	}
	r := newFileReader(s.walk, root)
	defer r.cursor.close()
	for i := range s.entries {
		if s.status[i].state != store {
			continue
		}
		if err = context.Cause(s.ctx); err != nil {
			break
		}
		if err = s.file(r, int32(i), p); errors.Is(err, errUnstable) {
			s.status[i].state = gone
			s.stats.Unstable++
			err = nil
		} else if err != nil {
			break
		}
	}
	written, finished := p.finish()
	s.written, s.stats.Raw, s.stats.Pack = written, written.Raw, written.Bytes
	if finished != nil {
		return fmt.Errorf("write the pack: %w", finished)
	}
	return err
}

// file writes a file's content to the pack, unless it is there already.
func (s *saving) file(r *fileReader, i int32, p *packWriter) error {
	e := &s.entries[i]
	var whole []byte
	buffered, at := false, int64(0)
	begin := func(e *Entry) error {
		buffered, whole, at = e.Size <= smallFile, whole[:0], p.raw
		return nil
	}
	limit := maxBytes(s.request.MaxBytes)
	err := r.read(i, s.previousFile(s.status[i].before), begin, func(b []byte) error {
		s.stats.Read += int64(len(b))
		if p.raw > 2*limit {
			return tooLarge("it grows beyond its limit of %d MB while it is saved", limit>>20)
		}
		if buffered {
			whole = append(whole, b...)
			return nil
		}
		_, err := p.Write(b)
		return err
	})
	if err != nil {
		return err
	}
	s.status[i].state = settled
	if e.Content.Length == 0 {
		return nil
	}
	if c, ok := s.contents[keyOf(e.Content)]; ok && buffered {
		e.Content = c
		return nil
	}
	if buffered {
		at = p.raw
		if _, err := p.Write(whole); err != nil {
			return err
		}
	}
	e.Content.Pack, e.Content.Offset = fresh, at
	s.contents[keyOf(e.Content)] = e.Content
	return nil
}

// index makes the new index of what is settled.
func (s *saving) index() *Index {
	x := &Index{Attrs: s.attrs, Entries: make([]Entry, 0, len(s.entries))}
	s.stats.Deleted = len(s.previous.Entries)
	position, packs := make([]int32, len(s.entries)), map[int32]int32{}
	used := make([]bool, len(s.previous.Packs))
	for i := range s.entries {
		e := &s.entries[i]
		if e.Kind == HardLink && s.status[e.Link].state == gone {
			s.status[i].state = gone
			s.stats.Unstable++
		}
		if s.status[i].state != gone && e.Content.Length > 0 && e.Content.Pack != fresh {
			used[e.Content.Pack] = true
		}
	}
	for i, is := range used {
		if is {
			packs[int32(i)] = int32(len(x.Packs))
			x.Packs = append(x.Packs, s.previous.Packs[i])
		}
	}
	if packs[fresh] = int32(len(x.Packs)); s.written.Bytes > 0 {
		x.Packs = append(x.Packs, s.written)
	}
	for i, e := range s.entries {
		if s.status[i].state == gone {
			continue
		}
		position[i] = int32(len(x.Entries))
		if e.Parent >= 0 {
			e.Parent = position[e.Parent]
		}
		if e.Kind == HardLink {
			e.Link = position[e.Link]
		}
		if e.Content.Length > 0 {
			e.Content.Pack = packs[e.Content.Pack]
		} else {
			e.Content = Content{}
		}
		s.count(&e, s.status[i].before, x)
		x.Entries = append(x.Entries, e)
	}
	return x
}

// count counts what became of a path since the previous index.
func (s *saving) count(e *Entry, before int32, x *Index) {
	if before < 0 {
		s.stats.Added++
		return
	}
	s.stats.Deleted-- // of all paths that were there, see index
	old := &s.previous.Entries[before]
	now, file := e, s.previousFile(before)
	if e.Kind == HardLink {
		now = &x.Entries[e.Link]
	}
	if old.Kind == HardLink && file != nil {
		old = file
	}
	switch {
	case now.Kind != old.Kind || now.Target != old.Target || now.Size != old.Size || now.Content.Sum != old.Content.Sum:
		s.stats.Changed++
	case !sameAttr(x.Attrs[now.Attr], s.previous.Attrs[old.Attr]) || now.Mtime != old.Mtime && now.Kind != Dir:
		s.stats.Touched++
	}
}

func sameAttr(a, b Attr) bool {
	return a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && slices.Equal(a.Xattrs, b.Xattrs)
}
