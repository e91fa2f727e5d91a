package main

const containerd = "github.com/containerd/containerd/v2"

// sameDirectory finds the directory of an entry of a layer once for all entries that follow each other in it.
// containerd v2.4.2 resolves it for each of them, with a call of lstat for each element of its path, and looks then
// whether it is there. Only the removal of something can make the answer wrong.
var sameDirectory = change{
	module: containerd,
	file:   "pkg/archive/tar.go",
	edits: []edit{
		{`		convertWhiteout = options.ConvertWhiteout
	)
`, `		convertWhiteout = options.ConvertWhiteout

		// last is the directory of the entry before, as it is named in the archive, and where it is. The path is
		// empty after something was removed. It is a change by the warmlayer project.
		last struct{ name, path string }
	)
`},
		{`		ppath, err = fs.RootPath(root, ppath)
		if err != nil {
			return 0, fmt.Errorf("failed to get root path: %w", err)
		}
`, `		parent := ppath
		known := last.path != "" && base != "" && parent == last.name
		if known {
			ppath = last.path
		} else {
			ppath, err = fs.RootPath(root, ppath)
		}
		if err != nil {
			return 0, fmt.Errorf("failed to get root path: %w", err)
		}
		last.path = ""
		directory := ppath
`},
		{`		if ppath != root {
			parentPath := ppath
`, `		if ppath != root && !known {
			parentPath := ppath
`},
		{`				if err := os.RemoveAll(path); err != nil {
					return 0, err
				}
			}
		}

		srcData`, `				if err := os.RemoveAll(path); err != nil {
					return 0, err
				}
				directory = ""
			}
		}
		last.name, last.path = parent, directory

		srcData`},
	},
}

// hashAhead hashes the content of a layer in a goroutine of its own, a few pieces ahead of the one that writes files.
var hashAhead = change{
	module: containerd,
	file:   "core/diff/apply/apply.go",
	edits: []edit{
		{`	"fmt"
	"io"
`, `	"fmt"
	"hash"
	"io"
`},
		{`	rc := &readCounter{
		r: io.TeeReader(processor, digester.Hash()),
	}
`, `	hashed := newHashed(processor, digester.Hash())
	defer hashed.close()
	rc := &readCounter{r: hashed}
`},
		{`type readCounter struct {
`, `// hashed is a stream that is read and hashed ahead. It is a change by the warmlayer project.
type hashed struct {
	pieces chan piece
	closed chan struct{}
	rest   piece // of what was taken from pieces
}

type piece struct {
	content []byte
	err     error // after the content
}

func newHashed(from io.Reader, to hash.Hash) *hashed {
	h := &hashed{pieces: make(chan piece, 4), closed: make(chan struct{})}
	go func() {
		defer close(h.pieces)
		for {
			buffer := make([]byte, 128<<10)
			n, err := io.ReadFull(from, buffer)
			to.Write(buffer[:n]) // hash.Hash: never an error
			if err == io.ErrUnexpectedEOF {
				err = io.EOF
			}
			select {
			case h.pieces <- piece{buffer[:n], err}:
			case <-h.closed:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return h
}

func (h *hashed) Read(p []byte) (int, error) {
	for len(h.rest.content) == 0 {
		if h.rest.err != nil {
			return 0, h.rest.err
		}
		h.rest = <-h.pieces
	}
	n := copy(p, h.rest.content)
	h.rest.content = h.rest.content[n:]
	return n, nil
}

// close waits for the goroutine, which reads from what the caller closes next.
func (h *hashed) close() {
	close(h.closed)
	for range h.pieces {
	}
}

type readCounter struct {
`},
	},
}
