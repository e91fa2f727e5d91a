// Package mountpack turns the files of a cache mount into packs and an index, and back. It runs in
// the builder, in a container that has the mount; the run of warmlayer speaks to it through standard
// streams.
//
// A pack is a blob: a zstd stream with the content of files, one after the other, and nothing else.
// The index says what the mount has (names, attributes, hashes) and where in which pack each content
// is. A save writes one new pack with the content that no pack has yet, and a new index. A restore
// needs the index and all packs that it lists.
//
// In the builder, with what standard input and output are connected to:
//
//	err := mountpack.Serve(ctx, []string{"save", "/mount"}, stdin, stdout)
//
// In the run of warmlayer, which keeps the packs and the index:
//
//	err := mountpack.AskSave(stdin, mountpack.SaveRequest{Since: restored.Clock}, previousIndex)
//	saved, err := mountpack.ReadSaved(stdout, pack) // saved.Index and the pack belong together
//
// and in a later run, on an empty builder:
//
//	err := mountpack.AskRestore(stdin, mountpack.RestoreRequest{}, saved.Index, openPack)
//	restored, err := mountpack.ReadRestored(stdout)
package mountpack

import (
	"errors"
	"fmt"
)

// Bounds of what is read. A mount beyond one of them is not saved, and an index beyond one of them is
// damaged or hostile and not restored.
const (
	// MaxIndexBytes bounds an encoded index. Entries take about 40 bytes.
	MaxIndexBytes = 128 << 20
	// MaxEntries bounds the entries of an index. In memory each takes about 200 bytes.
	MaxEntries = 2_000_000
	// MaxPacks bounds the packs of an index. Saves keep it: see plan.go.
	MaxPacks = 16
	// DefaultMaxBytes is the limit of a mount's content when a request names none, in bytes.
	DefaultMaxBytes = 10 << 30

	maxDepth   = 500      // directories in directories; each is an open file during a walk
	maxName    = 255      // bytes of a name
	maxTarget  = 4095     // bytes of a symbolic link's target
	maxXattrs  = 64 << 10 // bytes of the extended attributes of one entry, names included
	maxExtents = 4096     // parts with data of one sparse file
	maxSize    = 1 << 52  // apparent bytes of one file
)

var (
	// ErrDamaged says that an index, a pack or a stream is cut or damaged.
	ErrDamaged = errors.New("damaged")
	// ErrTooLarge says that the mount is beyond the limit of the request, or of this package.
	ErrTooLarge = errors.New("too large")
)

// damaged is an ErrDamaged with the reason.
func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// tooLarge is an ErrTooLarge with the reason.
func tooLarge(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrTooLarge, fmt.Sprintf(format, args...))
}

// SaveRequest says what a save may do. The zero value saves with the default limit, and checks every
// file by its hash.
type SaveRequest struct {
	// MaxBytes is the limit of the mount's content, uncompressed, in bytes: the data of all files,
	// hard links once, holes not. 0 means DefaultMaxBytes. A mount beyond it is not saved: ErrTooLarge,
	// before the pack's first byte where the files do not grow meanwhile.
	MaxBytes int64 `json:"maxBytes,omitempty"`
	// Since is the Clock of the restore of the previous index into this very mount. A file with the
	// size and mtime of the previous index, and a ctime before Since, is taken for unchanged. 0 means
	// that there was no such restore: each file is read and compared by its hash.
	Since int64 `json:"since,omitempty"`
	// Whole asks for a pack of everything, which needs no older pack.
	Whole bool `json:"whole,omitempty"`
}

// SaveStats say what a save did.
type SaveStats struct {
	// Same says that the mount is as the previous index says, to the attribute. There is nothing to
	// store: the new index is the previous one.
	Same bool `json:"same"`
	// Entries are the files, directories and links in the new index; Bytes is the content, as
	// SaveRequest.MaxBytes counts it.
	Entries int   `json:"entries"`
	Bytes   int64 `json:"bytes"`
	// Added, Changed, Touched and Deleted are files whose content is new, whose content changed, whose
	// attributes alone changed, and which are no longer there. Directories count with their attributes,
	// except for their mtimes.
	Added   int `json:"added"`
	Changed int `json:"changed"`
	Touched int `json:"touched"`
	Deleted int `json:"deleted"`
	// Read are the bytes that were read and hashed; Raw those that went into the pack, uncompressed; Pack
	// are the bytes of the pack. 0 means that there is no new pack.
	Read int64 `json:"read"`
	Raw  int64 `json:"raw"`
	Pack int64 `json:"pack"`
	// Absorbed are older packs whose content is in the new pack.
	Absorbed int `json:"absorbed"`
	// Sockets, Devices and Unstable are left out: Unstable are files that changed each time they were
	// read, that vanished, or that cannot be read.
	Sockets  int `json:"sockets"`
	Devices  int `json:"devices"`
	Unstable int `json:"unstable"`
	// Xattrs are extended attributes that could not be read.
	Xattrs int `json:"xattrs"`
}

// RestoreRequest says what a restore may do. The zero value restores with the default limit.
type RestoreRequest struct {
	// MaxBytes is the limit of what is written, in bytes, as in SaveRequest.
	MaxBytes int64 `json:"maxBytes,omitempty"`
	// Replace removes what the mount has. Without it a mount with files is kept as it is.
	Replace bool `json:"replace,omitempty"`
}

// RestoreStats say what a restore did.
type RestoreStats struct {
	// Kept says that the mount had files already. Nothing was written.
	Kept bool `json:"kept"`
	// Entries and Bytes were written; Packs are the bytes of the packs that were read.
	Entries int   `json:"entries"`
	Bytes   int64 `json:"bytes"`
	Packs   int64 `json:"packs"`
	// Clock is the file system's time at the end, in nanoseconds, for SaveRequest.Since. 0 when Kept, or
	// when another build has written to the mount meanwhile.
	Clock int64 `json:"clock"`
	// Owners, Modes and Xattrs are owners, modes and extended attributes that this user may not set:
	// such files belong to the user, or lack the attribute. Fifos are named pipes it may not make.
	Owners int `json:"owners"`
	Modes  int `json:"modes"`
	Xattrs int `json:"xattrs"`
	Fifos  int `json:"fifos"`
}
