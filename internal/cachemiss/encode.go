package cachemiss

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Bounds of what is read, since everyone who can write to a cache can write any memory.
const (
	MaxStored = 64 << 10 // bytes, compressed
	maxJSON   = 2 << 20  // bytes of its JSON
	maxParts  = 100_000  // commas and colons of its JSON
	maxSteps  = 2000
	maxWork   = 2_000_000 // files that steps select, each with the patterns of the step
)

// format is the version of the form in which a memory is stored.
const format = 1

type document struct {
	Format int `json:"format"`
	Memory
}

// Stored is the memory as a scope has it, in at most limit bytes: JSON that is compressed (RFC 1951). Where the
// files take more, the deepest directories are kept as one hash each, then all files of a source. It is nil where the steps
// alone take more.
func (m Memory) Stored(limit int) []byte {
	for depth := m.deepest(); depth >= 0; depth-- {
		kept := Memory{Steps: slices.Clone(m.Steps), Arguments: m.Arguments}
		for i, s := range kept.Steps {
			if depth < m.deepest() {
				kept.Steps[i].Files = s.Files.upTo(depth)
			}
		}
		if out := encode(kept); out != nil && len(out) <= limit {
			return out
		}
	}
	return nil
}

// deepest is one more than the number of slashes in the longest path.
func (m Memory) deepest() int {
	deepest := 0
	for _, s := range m.Steps {
		for _, e := range s.Files {
			deepest = max(deepest, bytes.Count([]byte(e.Path), []byte{'/'})+1)
		}
	}
	return min(deepest, 8)
}

func encode(m Memory) []byte {
	text, err := json.Marshal(document{Format: format, Memory: m})
	if err != nil || len(text) > maxJSON || parts(text) > maxParts || len(m.Steps) > maxSteps {
		return nil
	}
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestSpeed)
	if err == nil {
		_, err = w.Write(text)
	}
	if err != nil || w.Close() != nil {
		return nil // never happens: the buffer takes everything
	}
	return out.Bytes()
}

// parts bounds the elements of a JSON text, before it is parsed.
func parts(text []byte) int { return bytes.Count(text, []byte{','}) + bytes.Count(text, []byte{':'}) }

// ErrFormat says that another version of the program has written a memory.
var ErrFormat = errors.New("another version of warmlayer has written it")

// Parse reads a memory that is stored. Its texts may be anything.
func Parse(stored []byte) (Memory, error) {
	if len(stored) > MaxStored {
		return Memory{}, fmt.Errorf("%d bytes are more than the %d that are read", len(stored), MaxStored)
	}
	text, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(stored)), maxJSON+1))
	if err != nil {
		return Memory{}, fmt.Errorf("decompress: %w", err)
	}
	return parse(text)
}

func parse(text []byte) (Memory, error) {
	if len(text) > maxJSON || parts(text) > maxParts {
		return Memory{}, errors.New("it is too large")
	}
	var d document
	if err := json.Unmarshal(text, &d); err != nil {
		return Memory{}, fmt.Errorf("parse: %w", err)
	}
	if d.Format != format {
		return Memory{}, ErrFormat
	}
	return d.Memory, d.check()
}

// check refuses indexes that lead nowhere, or in a circle.
func (m Memory) check() error {
	if len(m.Steps) > maxSteps {
		return fmt.Errorf("%d steps are more than the %d that are read", len(m.Steps), maxSteps)
	}
	for i, s := range m.Steps {
		uses := slices.Clone(s.Inputs)
		for _, u := range s.Uses {
			uses = append(uses, u.Input)
		}
		if slices.ContainsFunc(uses, func(in int) bool { return in < 0 || in >= i }) {
			return fmt.Errorf("step %d has an input that is not before it", i)
		}
	}
	if m.work() > maxWork {
		return errors.New("its steps select too many files")
	}
	return nil
}

// work is what it takes to find out which files the steps select.
func (m Memory) work() (files int) {
	for _, s := range m.Steps {
		for _, u := range s.Uses {
			files += len(m.Steps[u.Input].Files) * (1 + len(u.Include) + len(u.Exclude))
		}
	}
	return files
}
