package cachegraph

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
)

// Build is a build whose results a cache holds.
type Build struct {
	// Variant tells the builds of one scope apart that do not replace each other, such as those
	// with other build arguments; "" for a build of another program.
	Variant string
	// Result identifies what the build exported; "" where that is not known.
	Result string
	// Time is that of the last export with this result, with a precision of a second.
	Time time.Time
	// Memory is what is remembered of the build, for people; nil: nothing. See package cachemiss.
	Memory []byte

	records []byte // the records that it used: a bit for each of the config's, the first in the lowest bit of the first byte
}

// maxBuilds is the largest number of builds of one cache: a record has a bit for each.
const maxBuilds = 64

// Document is the form of a cache config with the builds that it holds. BuildKit and docker buildx
// read the config, and ignore what they do not know.
type Document struct {
	cacheconfig.CacheConfig
	Builds json.RawMessage `json:"builds,omitempty"`
}

// buildText is a [Build] in a document.
type buildText struct {
	Variant string    `json:"variant,omitempty"`
	Result  string    `json:"result,omitempty"`
	Time    time.Time `json:"time"`
	Records []byte    `json:"records"`
	Memory  []byte    `json:"memory,omitempty"`
}

// Builds are the builds in a config that is JSON; none where they are not known.
func Builds(config []byte) []Build {
	var doc struct {
		Builds json.RawMessage `json:"builds"`
	}
	if CheckText(config) != nil || json.Unmarshal(config, &doc) != nil {
		return nil
	}
	return Document{Builds: doc.Builds}.builds()
}

// builds are those of the document, none where they cannot be read: a config is valid when
// BuildKit's parser accepts it.
func (d Document) builds() []Build {
	var texts []buildText
	if json.Unmarshal(d.Builds, &texts) != nil {
		return nil
	}
	var all []Build
	for _, t := range texts[:min(len(texts), maxBuilds)] {
		all = append(all, Build{Variant: t.Variant, Result: t.Result, Time: t.Time, Memory: t.Memory, records: t.Records})
	}
	return all
}

// maxMemory is how many bytes the memories of a cache's former builds may have together. A cache config, with
// all memories in base64, is at most 1 MiB.
const maxMemory = 64 << 10

// remember leaves memories to the newest build of each variant, as far as there is room for them; the first of the
// builds is the newest.
func remember(builds []Build) {
	known, room := map[string]bool{}, maxMemory
	for i := range builds {
		b := &builds[i]
		if i > 0 {
			room -= len(b.Memory)
		}
		if known[b.Variant] || room < 0 {
			b.Memory = nil
		}
		known[b.Variant] = true
	}
}

// uses reports whether the build used a record of the config.
func (b Build) uses(record int) bool {
	return record/8 < len(b.records) && b.records[record/8]&(1<<(record%8)) != 0
}

// Foreign is a cache that another program has written, as one build: all of its records, used
// when the newest of its results was made or, where that is known, at the build's Time.
func (c Cache) Foreign(b Build) Cache {
	b.records = bytes.Repeat([]byte{0xff}, (len(c.Config.Records)+7)/8)
	if b.Time.IsZero() {
		for _, r := range c.Config.Records {
			for _, result := range r.Results {
				b.Time = later(b.Time, result.CreatedAt)
			}
			for _, result := range r.ChainedResults {
				b.Time = later(b.Time, result.CreatedAt)
			}
		}
	}
	c.Builds = []Build{b}
	return c
}

// marshalBuilds is a config with the builds that it holds.
func marshalBuilds(config cacheconfig.CacheConfig, builds []Build) ([]byte, error) {
	var texts []buildText
	for _, b := range builds {
		texts = append(texts, buildText{b.Variant, b.Result, b.Time.UTC().Truncate(time.Second), b.records, b.Memory})
	}
	raw, err := json.Marshal(texts)
	if err != nil {
		return nil, fmt.Errorf("write builds of a cache: %w", err)
	}
	return marshal(Document{config, raw})
}
