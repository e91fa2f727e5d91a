package mountpack

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// indexMagic begins an encoded index; its last character is the version. A zstd frame with the body
// follows, and the SHA-256 of all bytes before it. The body has five sections, each with its length: packs,
// attributes, entries, names and targets, hashes. Like values side by side compress better.
const indexMagic = "wlmount1"

// Encode is the index for a store; ParseIndex reads it. Equal indexes have equal bytes.
func (x *Index) Encode() []byte {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
	if err != nil {
		panic(err) // the options are constants
	}
	out := encoder.EncodeAll(x.body(), []byte(indexMagic))
	sum := sha256.Sum256(out)
	return append(out, sum[:]...)
}

// body are the sections.
func (x *Index) body() (body []byte) {
	var sections [5][]byte
	sections[0] = x.appendPacks(nil)
	sections[1] = x.appendAttrs(nil)
	sections[2], sections[3], sections[4] = x.appendEntries()
	for _, s := range sections {
		body = append(binary.AppendUvarint(body, uint64(len(s))), s...)
	}
	return body
}

func (x *Index) appendPacks(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(x.Packs)))
	for _, p := range x.Packs {
		sum, err := hex.DecodeString(p.Digest.Encoded())
		if err != nil || len(sum) != sha256.Size {
			panic(fmt.Sprintf("pack with digest %q", p.Digest))
		}
		b = append(b, sum...)
		b = binary.AppendUvarint(b, uint64(p.Bytes))
		b = binary.AppendUvarint(b, uint64(p.Raw))
	}
	return b
}

func (x *Index) appendAttrs(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(x.Attrs)))
	for _, a := range x.Attrs {
		for _, v := range []uint32{a.Mode, a.UID, a.GID, uint32(len(a.Xattrs))} {
			b = binary.AppendUvarint(b, uint64(v))
		}
		for _, xattr := range a.Xattrs {
			b = appendString(appendString(b, xattr.Name), xattr.Value)
		}
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendEntries are the sections of the entries.
func (x *Index) appendEntries() (numbers, names, sums []byte) {
	var text bytes.Buffer
	numbers = binary.AppendUvarint(nil, uint64(len(x.Entries)))
	depth, mtime, end := make([]int, len(x.Entries)), int64(0), make([]int64, len(x.Packs))
	for i := range x.Entries {
		e := &x.Entries[i]
		if i > 0 {
			depth[i] = depth[e.Parent] + 1
			// How many directories end before this entry, which is in the last open one.
			open := depth[i-1]
			if x.Entries[i-1].Kind == Dir {
				open++
			}
			numbers = binary.AppendUvarint(numbers, uint64(open-depth[i]))
			text.Write(appendString(nil, e.Name))
		}
		numbers = append(numbers, byte(e.Kind))
		if e.Kind == HardLink {
			numbers = binary.AppendUvarint(numbers, uint64(i)-uint64(e.Link))
			continue
		}
		numbers = binary.AppendUvarint(numbers, uint64(e.Attr))
		numbers = binary.AppendVarint(numbers, e.Mtime-mtime)
		mtime = e.Mtime
		switch e.Kind {
		case Symlink:
			text.Write(appendString(nil, e.Target))
		case File:
			numbers = e.appendFile(numbers, end)
			if e.Content.Length > 0 {
				sums = append(sums, e.Content.Sum[:]...)
			}
		}
	}
	return numbers, text.Bytes(), sums
}

// appendFile appends a file's size, extents and content. Where a content begins is relative to the end of
// the one before it in the same pack.
func (e *Entry) appendFile(b []byte, end []int64) []byte {
	b = binary.AppendUvarint(b, uint64(e.Size))
	if e.Size == 0 {
		return b
	}
	if !e.Sparse {
		b = binary.AppendUvarint(b, 0)
	} else {
		b = binary.AppendUvarint(b, uint64(len(e.Extents))+1)
		at := int64(0)
		for _, extent := range e.Extents {
			b = binary.AppendUvarint(b, uint64(extent.Offset-at))
			b = binary.AppendUvarint(b, uint64(extent.Length))
			at = extent.Offset + extent.Length
		}
	}
	if c := e.Content; c.Length > 0 {
		b = binary.AppendUvarint(b, uint64(c.Pack))
		b = binary.AppendVarint(b, c.Offset-end[c.Pack])
		end[c.Pack] = c.Offset + c.Length
	}
	return b
}
