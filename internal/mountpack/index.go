package mountpack

import (
	"cmp"
	"slices"

	"github.com/opencontainers/go-digest"
)

// Index says what a mount has, and where its content is. Save makes it, and ParseIndex reads it; both
// keep these rules: Entries[0] is the mount's own directory; the entries of a directory follow it, in
// the order of their names' bytes, each with what it contains behind it; no name is "", "." or "..", or
// contains a slash; a hard link's file precedes it; contents in a pack do not overlap.
type Index struct {
	Packs   []Pack
	Attrs   []Attr
	Entries []Entry
}

// Pack is a blob with contents.
type Pack struct {
	Digest digest.Digest // of its bytes, sha256
	Bytes  int64         // compressed
	Raw    int64         // uncompressed
}

// Attr are attributes that many entries share.
type Attr struct {
	Mode     uint32 // permissions with setuid, setgid and sticky: 07777
	UID, GID uint32 // as the container sees them
	Xattrs   []Xattr
}

// Xattr is an extended attribute. A list of them is in the order of the names.
type Xattr struct {
	Name  string
	Value string
}

// Kind is the type of an entry.
type Kind uint8

// The kinds. Sockets and devices are in no index.
const (
	Dir Kind = iota
	File
	Symlink
	HardLink
	Fifo
	kinds
)

// Entry is a file, a directory or a link.
type Entry struct {
	Kind   Kind
	Parent int32  // its directory's position in Entries; -1 for the mount's own
	Name   string // in its directory; "" for the mount's own
	Attr   int32  // position in Attrs; unused for hard links
	Mtime  int64  // nanoseconds since 1970; unused for hard links
	Link   int32  // of a hard link: the position of the file
	Target string // of a symbolic link
	Size   int64  // of a file, holes included
	Sparse bool   // of a file: it has holes, and Extents are its data
	// Extents are in the order of their offsets, with holes between them.
	Extents []Extent
	Content Content
}

// Extent is a part of a sparse file that has data.
type Extent struct {
	Offset, Length int64
}

// Content is where the data of a file is: its extents, or all of it. Contents of several files may be
// the same one.
type Content struct {
	Sum    Sum   // of the data
	Length int64 // bytes of data; 0 needs no pack
	Pack   int32 // position in Packs; unused without data
	Offset int64 // in the uncompressed pack
}

// Sum is the beginning of the data's SHA-256. 128 bits tell apart what a mount has had; the pack's
// digest, which is whole, proves that content is unchanged.
type Sum [16]byte

// extents are the parts of a file that have data.
func (e *Entry) extents() []Extent {
	if e.Sparse {
		return e.Extents
	}
	return []Extent{{0, e.Size}}
}

// Live is for each pack how many of its uncompressed bytes the entries need.
func (x *Index) Live() []int64 {
	live := make([]int64, len(x.Packs))
	for pack, spans := range x.spans() {
		for _, s := range spans {
			live[pack] += s.length
		}
	}
	return live
}

// Bytes is the data of all files, as SaveRequest.MaxBytes counts it.
func (x *Index) Bytes() int64 {
	n := int64(0)
	for i := range x.Entries {
		n += x.Entries[i].Content.Length
	}
	return n
}

// span is a part of a pack that files need.
type span struct {
	offset, length int64
	files          []int32 // positions in Entries
}

// spans are for each pack what files need of it, in the order of the offsets.
func (x *Index) spans() [][]span {
	all := make([][]span, len(x.Packs))
	order := make([]int32, 0, len(x.Entries))
	for i := range x.Entries {
		if x.Entries[i].Kind == File && x.Entries[i].Content.Length > 0 {
			order = append(order, int32(i))
		}
	}
	slices.SortStableFunc(order, func(a, b int32) int {
		p, q := x.Entries[a].Content, x.Entries[b].Content
		return cmp.Or(cmp.Compare(p.Pack, q.Pack), cmp.Compare(p.Offset, q.Offset), cmp.Compare(p.Length, q.Length))
	})
	for _, i := range order {
		c := x.Entries[i].Content
		list := all[c.Pack]
		if n := len(list); n > 0 && list[n-1].offset == c.Offset && list[n-1].length == c.Length {
			list[n-1].files = append(list[n-1].files, i)
			continue
		}
		all[c.Pack] = append(list, span{c.Offset, c.Length, []int32{i}})
	}
	return all
}

// child is a name in a directory of an index.
type child struct {
	parent int32
	name   string
}

// children are the positions of all entries but the first.
func (x *Index) children() map[child]int32 {
	found := make(map[child]int32, len(x.Entries))
	for i := 1; i < len(x.Entries); i++ {
		found[child{x.Entries[i].Parent, x.Entries[i].Name}] = int32(i)
	}
	return found
}
