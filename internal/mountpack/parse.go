package mountpack

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// ParseIndex reads what Encode has written. It returns ErrDamaged for anything else: every rule of Index
// and every bound of this package is checked, so that an index from a hostile store names no file outside
// the mount.
func ParseIndex(encoded []byte) (*Index, error) {
	if len(encoded) > MaxIndexBytes {
		return nil, damaged("an index of %d bytes", len(encoded))
	}
	rest, ok := bytes.CutPrefix(encoded, []byte(indexMagic))
	if !ok || len(rest) < sha256.Size {
		return nil, damaged("it is no index of this version")
	}
	frame := rest[:len(rest)-sha256.Size]
	if sum := sha256.Sum256(encoded[:len(encoded)-sha256.Size]); !bytes.Equal(sum[:], rest[len(frame):]) {
		return nil, damaged("the index's checksum differs")
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2*MaxIndexBytes))
	if err != nil {
		return nil, err
	}
	defer decoder.Close()
	body, err := decoder.DecodeAll(frame, nil)
	if err != nil {
		return nil, damaged("the index's body: %v", err)
	}
	return parseBody(body)
}

// parseBody parses the sections of an index.
func parseBody(body []byte) (*Index, error) {
	all := &parser{rest: body}
	var sections [5]*parser
	for i := range sections {
		sections[i] = &parser{rest: all.bytes(all.count(1))}
	}
	x := &Index{}
	sections[0].packs(x)
	sections[1].attrs(x)
	entries := entryParser{numbers: sections[2], text: sections[3], sums: sections[4], index: x}
	entries.parse()
	for _, p := range append(sections[:], all) {
		if p.bad == "" && len(p.rest) > 0 {
			p.fail("bytes are left over")
		}
		if p.bad != "" {
			return nil, damaged("the index: %s", p.bad)
		}
	}
	if reason := x.invalidContents(); reason != "" {
		return nil, damaged("the index: %s", reason)
	}
	return x, nil
}

// parser reads values from a section. After the first fault all values are zero, and bad is the reason.
type parser struct {
	rest []byte
	bad  string
}

func (p *parser) fail(reason string) {
	if p.bad == "" {
		p.bad, p.rest = reason, nil
	}
}

// number is the next number, which is at most limit.
func (p *parser) number(limit uint64) uint64 {
	v, n := binary.Uvarint(p.rest)
	if n <= 0 || v > limit {
		p.fail("a number is missing or too large")
		return 0
	}
	p.rest = p.rest[n:]
	return v
}

// size is the next number, as a size or an offset.
func (p *parser) size() int64 { return int64(p.number(maxSize)) }

// signed is the next signed number.
func (p *parser) signed() int64 {
	v, n := binary.Varint(p.rest)
	if n <= 0 {
		p.fail("a number is missing")
		return 0
	}
	p.rest = p.rest[n:]
	return v
}

// count is a number of elements of at least so many bytes each, which all must be there.
func (p *parser) count(each int) int {
	return int(p.number(uint64(len(p.rest) / each)))
}

func (p *parser) bytes(n int) []byte {
	if n > len(p.rest) {
		p.fail("it is cut")
		return nil
	}
	b := p.rest[:n]
	p.rest = p.rest[n:]
	return b
}

func (p *parser) string(longest int) string {
	n := p.number(uint64(longest))
	return string(p.bytes(int(n)))
}

func (p *parser) packs(x *Index) {
	n := p.number(MaxPacks)
	for range n {
		sum := p.bytes(sha256.Size)
		pack := Pack{Bytes: p.size(), Raw: p.size()}
		if p.bad != "" {
			return
		}
		pack.Digest = digest.NewDigestFromBytes(digest.SHA256, sum)
		x.Packs = append(x.Packs, pack)
	}
}

func (p *parser) attrs(x *Index) {
	n := p.count(4)
	if n > MaxEntries {
		p.fail("too many attributes")
		return
	}
	x.Attrs = make([]Attr, n)
	for i := range x.Attrs {
		a := &x.Attrs[i]
		a.Mode = uint32(p.number(07777))
		a.UID, a.GID = uint32(p.number(math.MaxUint32)), uint32(p.number(math.MaxUint32))
		total := 0
		for range p.count(2) {
			xattr := Xattr{Name: p.string(maxName), Value: p.string(maxXattrs)}
			if n := len(a.Xattrs); xattr.Name == "" || strings.Contains(xattr.Name, "\x00") || n > 0 && a.Xattrs[n-1].Name >= xattr.Name {
				p.fail("extended attributes are out of order")
			}
			if total += len(xattr.Name) + len(xattr.Value); total > maxXattrs {
				p.fail("extended attributes are too large")
			}
			if p.bad != "" {
				return
			}
			a.Xattrs = append(a.Xattrs, xattr)
		}
	}
}

// entryParser parses the sections of the entries.
type entryParser struct {
	numbers, text, sums *parser
	index               *Index
	open                []int32  // the directories around the next entry
	last                []string // the last name in each of them
	mtime               int64
	end                 []int64 // for each pack, of the last content
}

func (p *entryParser) parse() {
	n := p.numbers.count(2)
	if n < 1 || n > MaxEntries {
		p.numbers.fail("too few or too many entries")
		return
	}
	p.end = make([]int64, len(p.index.Packs))
	p.index.Entries = make([]Entry, 0, n)
	for i := range int32(n) {
		e := p.entry(i)
		if p.numbers.bad != "" || p.text.bad != "" || p.sums.bad != "" {
			return
		}
		if p.index.Entries = append(p.index.Entries, e); e.Kind == Dir {
			p.open, p.last = append(p.open, i), append(p.last, "")
		}
		if len(p.open) > maxDepth {
			p.numbers.fail("directories are too deep")
		}
	}
}

// entry parses the entry at position i.
func (p *entryParser) entry(i int32) Entry {
	e := Entry{Parent: -1}
	if i > 0 {
		p.place(&e)
	}
	e.Kind = Kind(p.numbers.number(uint64(kinds - 1)))
	if i == 0 && e.Kind != Dir {
		p.numbers.fail("the first entry is no directory")
	}
	if p.numbers.bad != "" {
		return e
	}
	if e.Kind == HardLink {
		e.Link = i - int32(p.numbers.number(uint64(i)))
		if e.Link == i || p.index.Entries[e.Link].Kind != File {
			p.numbers.fail("a hard link to no file")
		}
		return e
	}
	e.Attr = int32(p.numbers.number(uint64(len(p.index.Attrs))))
	if int(e.Attr) == len(p.index.Attrs) {
		p.numbers.fail("an entry without attributes")
	}
	p.mtime += p.numbers.signed()
	e.Mtime = p.mtime
	switch e.Kind {
	case Symlink:
		if e.Target = p.text.string(maxTarget); e.Target == "" || strings.Contains(e.Target, "\x00") {
			p.text.fail("a symbolic link without a target")
		}
	case File:
		p.file(&e)
	}
	return e
}

// place parses where an entry is: in which directory, and its name.
func (p *entryParser) place(e *Entry) {
	closed := int(p.numbers.number(uint64(len(p.open) - 1)))
	p.open, p.last = p.open[:len(p.open)-closed], p.last[:len(p.last)-closed]
	top := len(p.open) - 1
	e.Parent, e.Name = p.open[top], p.text.string(maxName)
	if e.Name == "." || e.Name == ".." || strings.ContainsAny(e.Name, "/\x00") || e.Name <= p.last[top] {
		p.text.fail("names are out of order, or are none")
	}
	p.last[top] = e.Name
}

// file parses what appendFile writes.
func (p *entryParser) file(e *Entry) {
	if e.Size = p.numbers.size(); e.Size == 0 {
		return
	}
	e.Content.Length = e.Size
	if n := p.numbers.number(maxExtents + 1); n > 0 {
		e.Sparse, e.Content.Length = true, 0
		at := int64(0)
		for range n - 1 {
			extent := Extent{at + p.numbers.size(), p.numbers.size()}
			if at = extent.Offset + extent.Length; extent.Length == 0 || at > e.Size || p.numbers.bad != "" {
				p.numbers.fail("a sparse file's data is beyond its end")
				return
			}
			e.Extents = append(e.Extents, extent)
			e.Content.Length += extent.Length
		}
	}
	if e.Content.Length == 0 {
		return
	}
	e.Content.Pack = int32(p.numbers.number(MaxPacks))
	if int(e.Content.Pack) >= len(p.end) {
		p.numbers.fail("a file without a pack")
		return
	}
	e.Content.Offset = p.end[e.Content.Pack] + p.numbers.signed()
	p.end[e.Content.Pack] = e.Content.Offset + e.Content.Length
	copy(e.Content.Sum[:], p.sums.bytes(len(Sum{})))
}

// invalidContents says why contents are not where their packs have them, or "".
func (x *Index) invalidContents() string {
	for i := range x.Entries {
		c := x.Entries[i].Content
		if c.Length > 0 && (c.Offset < 0 || c.Offset > x.Packs[c.Pack].Raw-c.Length) {
			return "a content is outside its pack"
		}
	}
	for _, spans := range x.spans() {
		end := int64(0)
		for _, s := range spans {
			if s.offset < end {
				return "contents overlap"
			}
			end = s.offset + s.length
		}
	}
	return ""
}
