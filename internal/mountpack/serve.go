package mountpack

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Command is the first argument of the program in the builder, followed by save or restore and the mount's
// directory.
const Command = "mount-pack"

// Serve answers AskSave or AskRestore: args are "save" or "restore", and the mount's directory. A failure
// is written to stdout, where ReadSaved and ReadRestored find it, and is returned as well.
func Serve(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	if len(args) != 2 || args[0] != "save" && args[0] != "restore" {
		return fmt.Errorf("%s save|restore DIRECTORY is expected, not %q", Command, args)
	}
	serve := serveSave
	if args[0] == "restore" {
		serve = serveRestore
	}
	out := newFrameWriter(stdout)
	err := serve(ctx, args[1], newFrameReader(stdin), out)
	return errors.Join(err, out.end(err))
}

func serveSave(ctx context.Context, dir string, in *frameReader, out *frameWriter) error {
	request := SaveRequest{}
	encoded, next, err := in.request(&request)
	if err == nil && next != frameEnd {
		err = damaged("frame %q behind the index", next)
	}
	if err != nil {
		return err
	}
	var previous *Index
	if len(encoded) > 0 {
		if previous, err = ParseIndex(encoded); err != nil {
			return fmt.Errorf("the previous index: %w", err)
		}
	}
	index, stats, err := Save(ctx, dir, previous, request, frames{out, framePack})
	if err != nil {
		return err
	}
	if err := out.frame(framePackEnd, nil); err != nil {
		return err
	}
	if err := out.frame(frameIndex, index.Encode()); err != nil {
		return err
	}
	return out.json(frameResult, stats)
}

func serveRestore(ctx context.Context, dir string, in *frameReader, out *frameWriter) error {
	request := RestoreRequest{}
	encoded, next, err := in.request(&request)
	if err != nil {
		return err
	}
	index, err := ParseIndex(encoded)
	if err != nil {
		return err
	}
	packs := &framedPacks{in: in, next: next}
	stats, err := Restore(ctx, dir, index, request, packs.open)
	if err != nil {
		return err
	}
	return out.json(frameResult, stats)
}

// framedPacks reads the packs of a restore from frames.
type framedPacks struct {
	in   *frameReader
	next byte // the kind of the frame that was read already; 0 if none was
	rest []byte
	done bool // the pack has ended
}

// open begins the next pack, once the one before it was read to its end.
func (p *framedPacks) open(context.Context, Pack) (io.Reader, error) {
	p.done = false
	return p, nil
}

func (p *framedPacks) Read(b []byte) (int, error) {
	for len(p.rest) == 0 {
		if p.done {
			return 0, io.EOF
		}
		kind, payload := p.next, p.in.current
		if p.next = 0; kind == 0 {
			var err error
			if kind, payload, err = p.in.next(); err != nil {
				return 0, err
			}
		}
		switch kind {
		case framePack:
			p.rest = payload
		case framePackEnd:
			p.done = true
		default:
			return 0, damaged("frame %q inside a pack", kind)
		}
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}
