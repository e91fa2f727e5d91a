package leaks

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/containerd/containerd/v2/pkg/archive/compression"
)

// encodings are the texts by which a secret would be recognised, by the name of the encoding. They
// are computed without the program's own code.
func encodings(secret string) map[string]string {
	all := map[string]string{
		"plain": secret, "quoted in Go": trimmed(fmt.Sprintf("%q", secret)), "HTML": html.EscapeString(secret),
		"shell": strings.ReplaceAll(secret, "'", `'\''`), "query": url.QueryEscape(secret), "path": url.PathEscape(secret),
		"hexadecimal": hex.EncodeToString([]byte(secret)), "HEXADECIMAL": strings.ToUpper(hex.EncodeToString([]byte(secret))),
	}
	for order, wide := range wide(strings.TrimSpace(secret)) {
		all["UTF-16, "+order] = strings.Trim(wide, "\x00")
		all["UTF-16 with escapes, "+order] = strings.ReplaceAll(strings.Trim(wide, "\x00"), "\x00", `\u0000`)
		all["hexadecimal UTF-16, "+order] = hex.EncodeToString([]byte(wide))
		all["base64 of UTF-16, "+order] = base64.RawStdEncoding.EncodeToString([]byte(wide))[:8*len(wide)/6]
	}
	if text, err := json.Marshal(secret); err == nil {
		all["JSON"] = trimmed(string(text))
		again, _ := json.Marshal(string(text)) // a string always encodes
		all["JSON in JSON"] = strings.TrimSuffix(strings.TrimPrefix(trimmed(string(again)), `\"`), `\"`)
	}
	for offset := range 3 {
		longer := append(bytes.Repeat([]byte{':'}, offset), secret...)
		from, to := (8*offset+5)/6, 8*len(longer)/6
		all[fmt.Sprint("base64 at ", offset)] = base64.RawStdEncoding.EncodeToString(longer)[from:to]
		all[fmt.Sprint("base64 for URLs at ", offset)] = base64.RawURLEncoding.EncodeToString(longer)[from:to]
	}
	return all
}

// wide is a text in UTF-16 of both byte orders.
func wide(text string) map[string]string {
	var all [2][]byte
	for _, unit := range utf16.Encode([]rune(text)) {
		all[0] = append(all[0], byte(unit), byte(unit>>8))
		all[1] = append(all[1], byte(unit>>8), byte(unit))
	}
	return map[string]string{"little endian": string(all[0]), "big endian": string(all[1])}
}

func trimmed(text string) string { return text[1 : len(text)-1] }

// leaks are the names of the secrets that a text contains, with the encoding. Line breaks and the
// spaces after them make no difference.
func leaks(text []byte, secrets map[string]string) []string {
	joined := bytes.NewBuffer(nil)
	for line := range bytes.Lines(text) {
		joined.Write(bytes.TrimSpace(line))
	}
	var found []string
	for name, secret := range secrets {
		for encoding, form := range encodings(secret) {
			if bytes.Contains(text, []byte(form)) || bytes.Contains(joined.Bytes(), []byte(form)) {
				found = append(found, name+" ("+encoding+")")
			}
		}
	}
	return found
}

// unpacked is a file, and what is compressed or archived in it.
func unpacked(content []byte) [][]byte {
	all := [][]byte{content}
	var inner []byte
	switch {
	case compression.DetectCompression(content) != compression.Uncompressed:
		if r, err := compression.DecompressStream(bytes.NewReader(content)); err == nil {
			inner, _ = io.ReadAll(r) // as far as it goes
			r.Close()
		}
	case len(content) > 512 && bytes.HasPrefix(content[257:], []byte("ustar")):
		for r := tar.NewReader(bytes.NewReader(content)); ; {
			if _, err := r.Next(); err != nil {
				return all
			}
			if file, err := io.ReadAll(r); err == nil && len(file) < 1<<20 {
				all = append(all, unpacked(file)...)
			}
		}
	}
	if inner != nil {
		all = append(all, unpacked(inner)...)
	}
	return all
}

// searchObjects reports the secrets in the names and contents of a store's objects.
func searchObjects(t testing.TB, secrets map[string]string, names []string, read func(key string) (io.ReadCloser, error)) (objects int) {
	t.Helper()
	for _, name := range names {
		key, _, _ := strings.Cut(name, " ")
		body, err := read(key)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(body)
		body.Close()
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range append(unpacked(content), []byte(key)) {
			if found := leaks(text, secrets); len(text) <= 512<<10 && len(found) > 0 {
				t.Errorf("object %s has %q", key, found)
			}
		}
	}
	return len(names)
}

// searchFiles reports the secrets in the files below directories.
func searchFiles(t testing.TB, secrets map[string]string, dirs ...string) (files int) {
	t.Helper()
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() || entry.Name() == "rootfs.tar" {
				return err
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			files++
			for _, text := range append(unpacked(content), []byte(path)) {
				if len(text) > 512<<10 {
					continue // the base image's programs
				}
				if found := leaks(text, secrets); len(found) > 0 {
					t.Errorf("%s has %q", path, found)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}
