package layout

import (
	"bytes"
	"encoding/json"
	"fmt"

	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// damagedIndex says that an index.json cannot be parsed, for example because the disk was
// full when another program wrote it.
type damagedIndex struct{ err error }

func (e *damagedIndex) Error() string {
	return fmt.Sprintf("it is damaged (%v); the next export repairs it", e.err)
}

func (e *damagedIndex) Unwrap() error { return e.err }

// parseIndex reads an index.json. With a [damagedIndex] it returns what can be kept: the
// entries that are whole and have a valid digest.
func parseIndex(raw []byte, index ocispecs.Index) (ocispecs.Index, error) {
	parsed := index
	err := json.Unmarshal(raw, &parsed)
	if err == nil {
		return parsed, nil
	}
	index.Manifests = wholeEntries(raw)
	return index, &damagedIndex{err}
}

// wholeEntries are the entries of a damaged index, up to where its JSON ends.
func wholeEntries(raw []byte) []ocispecs.Descriptor {
	_, list, _ := bytes.Cut(raw, []byte(`"manifests"`))
	d := json.NewDecoder(bytes.NewReader(bytes.TrimLeft(list, ": \t\r\n")))
	if token, err := d.Token(); err != nil || token != json.Delim('[') {
		return nil
	}
	var kept []ocispecs.Descriptor
	for d.More() {
		var entry json.RawMessage
		if d.Decode(&entry) != nil {
			break
		}
		var desc ocispecs.Descriptor
		if json.Unmarshal(entry, &desc) == nil && desc.Digest.Validate() == nil {
			kept = append(kept, desc)
		}
	}
	return kept
}
