package main

import (
	"embed"
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// gzipAtOnce compresses a layer's gzip with all processors, to the same bytes: Go's compress/gzip uses one, and is the longest part
// of a cold build. BuildKit's copy gets a copy of the toolchain's compress/flate, with parallel.go and gzip.go beside it.
var gzipAtOnce = []change{{
	module: buildkit,
	file:   flateDir + "/deflate.go",
	edits: []edit{
		{`	// deflate state
	length         int
`, `	// Of a segment, see parallel.go. It is a change by the warmlayer project.
	collect func([]token) // gets the tokens, in place of w
	origin  int           // where the window begins, in the stream
	shifts  []int         // where it was moved, in the stream

	// deflate state
	length         int
`},
		{`		// shift the window by windowSize
`, `		if d.collect != nil {
			d.shifts = append(d.shifts, d.origin+d.index)
			d.origin += windowSize
		}
		// shift the window by windowSize
`},
		{`func (d *compressor) writeBlock(tokens []token, index int) error {
`, `func (d *compressor) writeBlock(tokens []token, index int) error {
	if d.collect != nil {
		d.collect(tokens)
		return nil
	}
`},
	},
}, {
	module: buildkit,
	file:   "util/compression/gzip.go",
	edits: []edit{
		{`		return gzip.NewWriterLevel(dest, level)
`, `		return flate.NewGzipWriter(dest, level)
`},
		{`	"github.com/containerd/containerd/v2/core/images"
`, `	"github.com/containerd/containerd/v2/core/images"
	"github.com/moby/buildkit/util/compression/flate"
`},
	},
}}

// flateDir is the copy of compress/flate in BuildKit's copy.
const flateDir = "util/compression/flate"

//go:embed flate
var flateFiles embed.FS

// addFlate copies the toolchain's compress/flate, without tests, and this project's files.
func addFlate(module string) error {
	listed, err := output("list", "-f", "{{.Dir}}", "compress/flate")
	if err != nil {
		return err
	}
	from, to := strings.TrimSpace(string(listed)), filepath.Join(module, flateDir)
	theirs, err := filepath.Glob(filepath.Join(from, "*.go"))
	if err == nil && len(theirs) == 0 {
		err = errors.New(from + " has no files of Go")
	}
	if err != nil {
		return err
	}
	all := map[string][]byte{}
	for _, path := range theirs {
		if name := filepath.Base(path); !strings.HasSuffix(name, "_test.go") {
			if all[name], err = os.ReadFile(path); err != nil {
				return err
			}
		}
	}
	ours, err := flateFiles.ReadDir("flate")
	if err != nil {
		return err
	}
	for _, f := range ours {
		text, err := flateFiles.ReadFile("flate/" + f.Name())
		if err != nil {
			return err
		}
		all[f.Name()] = []byte(strings.TrimPrefix(string(text), "//go:build ignore\n\n"))
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for name, text := range all {
		if err := os.WriteFile(filepath.Join(to, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
