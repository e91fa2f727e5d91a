package inputs

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"

	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// commandMerge is the command that makes one image of those of several jobs.
const commandMerge = "merge"

// digests reads the digests of the images to merge: each item is a digest, or a directory with a file for each. Its name or,
// failing that, its content is the digest: 64 hexadecimal digits, also after sha256: or sha256-.
func (p *parser) digests() []digest.Digest {
	if !p.settings.Given("digests") {
		return nil
	}
	all := []digest.Digest{}
	for _, it := range p.list("digests") {
		found := []digest.Digest{digest.Digest(it.Text)}
		if found[0].Validate() != nil {
			found = p.digestFiles(it)
		}
		for _, d := range found {
			if slices.Contains(all, d) {
				p.report("digests", it.Line, d.String()+" is given twice", "give each digest once")
				continue
			}
			all = append(all, d)
		}
	}
	return all
}

// digestFiles are the digests in a directory.
func (p *parser) digestFiles(it syntax.Item) []digest.Digest {
	dir, ok := p.contained("digests", it.Line, it.Text)
	if !ok {
		return nil
	}
	entries, err := os.ReadDir(locate(p.dir, dir))
	if err != nil || len(entries) == 0 {
		p.report("digests", it.Line, syntax.Quoted(it.Text)+" is neither a digest nor a directory with files", "download the files of the jobs first, or write sha256:…")
		return nil
	}
	var all []digest.Digest
	for _, e := range entries {
		d, ok := digestOf(filepath.Join(locate(p.dir, dir), e.Name()))
		if !ok {
			p.report("digests", it.Line, "the file "+syntax.Quoted(e.Name())+" has no digest", "its name or its content must be sha256:… or the 64 hexadecimal digits")
			continue
		}
		all = append(all, d)
	}
	return all
}

// largestDigestFile is how long a file with a digest may be, in bytes.
const largestDigestFile = 1 << 10

// digestOf is the digest that a file names.
func digestOf(file string) (digest.Digest, bool) {
	texts := []string{filepath.Base(file)}
	if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Size() <= largestDigestFile {
		content, _ := os.ReadFile(file)
		texts = append(texts, strings.TrimSpace(string(content)))
	}
	for _, text := range texts {
		text = strings.TrimPrefix(strings.Replace(text, "sha256-", "sha256:", 1), "sha256:")
		if sum, err := hex.DecodeString(text); err == nil && len(sum) == digest.SHA256.Size() {
			return digest.NewDigestFromEncoded(digest.SHA256, strings.ToLower(text)), true
		}
	}
	return "", false
}

// needPush reports a merge that is not told to push. With push: false it does nothing.
func (p *parser) needPush() {
	if !p.settings.Given("push") {
		p.report("push", 0, "a merge pushes the image", "set push: true; with push: false nothing is merged")
	}
}

// parts reports what does not go with the input part. A build that pushes nothing because of push: false or call makes no part.
func (p *parser) parts(v *Values) {
	if len(v.Outputs) == 0 && (p.settings.Given("push") || v.Call != "") {
		v.Part = false
	}
	if !v.Part {
		return
	}
	for _, o := range v.Outputs {
		if !o.Pushes() {
			p.report("part", 0, "a part must be pushed, but an output has the type "+o.Type, "set push: true and tags, and leave outputs out")
		}
	}
	switch {
	case len(v.Outputs) == 0:
		p.report("part", 0, "a part is an image that is pushed", "set push: true and tags")
	case len(v.Builders) > 1:
		p.report("part", 0, "with several builders one job already makes the whole image", "leave part out")
	}
}
