// Command picture makes a page of a job summary, for the picture of it in the README:
// Markdown from standard input, in GitHub's dialect, to HTML that looks much as it does on a
// run's page. picture.sh has a browser draw it.
//
//	go run ./internal/report/picture < warmlayer.md > summary.html
package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/renderer/html"
)

//go:embed style.css
var style string

func main() {
	if err := render(os.Stdin, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// render writes a page. Its title is its height in pixels, which a browser that has laid it
// out knows, and a picture of it needs.
func render(r io.Reader, w io.Writer) error {
	markdown, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("read summary: %w", err)
	}
	var body bytes.Buffer
	github := goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithRendererOptions(html.WithUnsafe()))
	if err := github.Convert(markdown, &body); err != nil {
		return fmt.Errorf("render summary: %w", err)
	}
	_, err = fmt.Fprintf(w, page, style, &body)
	return err
}

const page = `<!doctype html>
<meta charset="utf-8">
<style>
%s</style>
<article>
%s</article>
<script>document.title = Math.ceil(document.querySelector("article").getBoundingClientRect().bottom)</script>
`
