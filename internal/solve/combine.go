package solve

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/internal/timing"
)

// Combined combines the results of the builds of one image's parts, which ran on several builders
// at the same time, each with a name for what it built: "linux/arm64". The result has no image yet.
func Combined(names []string, parts []Result) Result {
	var all Result
	known := map[Warning]bool{}
	for i, part := range parts {
		for _, s := range part.Steps {
			s.Name = names[i] + " " + s.Name
			all.Steps = append(all.Steps, s)
		}
		for _, w := range part.Warnings {
			if !known[w] {
				known[w] = true
				all.Warnings = append(all.Warnings, w)
			}
		}
		if part.Failure != nil {
			all.Failure = part.Failure
		}
		if part.Retried != "" {
			all.Retried = names[i] + ": " + part.Retried
		}
		all.Sources = append(all.Sources, part.Sources...)
		all.Exports = append(all.Exports, part.Exports...)
		all.Mounts = append(all.Mounts, part.Mounts...)
		for _, m := range part.Misses {
			m.Platform = cmp.Or(m.Platform, names[i])
			all.Misses = append(all.Misses, m)
		}
		all.longest(part.Phases)
		all.Traces = append(all.Traces, part.Traces...)
		all.Parts = append(all.Parts, timing.Named(part.Parts, names[i]+" ")...)
		all.Metadata = described(all.Metadata, part.Metadata, names[i])
	}
	return all
}

// longest keeps the longest of each phase, since the builds ran at the same time.
func (r *Result) longest(phases []Phase) {
	for _, p := range phases {
		i := slices.IndexFunc(r.Phases, func(other Phase) bool { return other.Name == p.Name })
		if i < 0 {
			r.Phases = append(r.Phases, p)
		} else {
			r.Phases[i].Seconds = max(r.Phases[i].Seconds, p.Seconds)
		}
	}
}

// described adds the metadata of a part, except that of its image. The key of a single provenance
// gets the platform, as the key of one of several has it.
func described(all, part map[string]string, name string) map[string]string {
	if all == nil {
		all = map[string]string{}
	}
	for key, value := range part {
		switch {
		case strings.HasPrefix(key, "containerimage."), key == exptypes.ExporterImageNameKey:
			continue
		case key == keyProvenance:
			key += "/" + name
		}
		if _, known := all[key]; !known {
			all[key] = value
		}
	}
	return all
}

// Becomes sets an index as the image of the result, with these names.
func (r *Result) Becomes(index ocispecs.Descriptor, names []string) {
	r.Digest, r.ImageID = index.Digest, index.Digest
	r.Metadata = maps.Clone(r.Metadata)
	r.Metadata[exptypes.ExporterImageDigestKey] = index.Digest.String()
	r.Metadata[exptypes.ExporterImageDescriptorKey] = encode(index)
	r.Metadata[exptypes.ExporterImageNameKey] = strings.Join(names, ",")
}

// Baked combines the results of the targets of bake files, by their names.
func Baked(names []string, parts []Result) Result {
	all := Combined(names, parts)
	all.Metadata = map[string]string{}
	var warnings []json.RawMessage
	for i, part := range parts {
		metadata := maps.Clone(part.Metadata)
		warnings = append(warnings, list(metadata[keyWarnings])...)
		delete(metadata, keyWarnings)
		all.Images = append(all.Images, Image{names[i], part.Digest, part.ImageID, metadata, part.Hits(), len(part.Steps)})
	}
	if len(warnings) > 0 {
		all.Metadata[keyWarnings] = encode(warnings)
	}
	return all
}

// list is a list that [encode] has written; "" is an empty one.
func list(text string) (all []json.RawMessage) {
	if decoded, err := base64.StdEncoding.DecodeString(text); err == nil {
		_ = json.Unmarshal(decoded, &all) // "", or what encode wrote
	}
	return all
}
