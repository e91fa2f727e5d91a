package step

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/internal/solve"
	"github.com/warmlayer/warmlayer/internal/timing"
)

// combined combines the results of the builds of one image's parts, which ran on several builders
// at the same time, each with a name for what it built: "linux/arm64". The result has no image yet.
func combined(names []string, parts []solve.Result) solve.Result {
	var all solve.Result
	known := map[solve.Warning]bool{}
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
		all.Phases = longest(all.Phases, part.Phases)
		all.Traces = append(all.Traces, part.Traces...)
		all.Parts = append(all.Parts, timing.Named(part.Parts, names[i]+" ")...)
		all.Metadata = described(all.Metadata, part.Metadata, names[i])
	}
	return all
}

// longest keeps the longest of each phase, since the builds ran at the same time.
func longest(all, phases []solve.Phase) []solve.Phase {
	for _, p := range phases {
		i := slices.IndexFunc(all, func(other solve.Phase) bool { return other.Name == p.Name })
		if i < 0 {
			all = append(all, p)
		} else {
			all[i].Seconds = max(all[i].Seconds, p.Seconds)
		}
	}
	return all
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
		case key == solve.KeyProvenance:
			key += "/" + name
		}
		if _, known := all[key]; !known {
			all[key] = value
		}
	}
	return all
}

// baked combines the results of the targets of bake files, by their names.
func baked(names []string, parts []solve.Result) solve.Result {
	all := combined(names, parts)
	all.Metadata = map[string]string{}
	var warnings []json.RawMessage
	for i, part := range parts {
		metadata := maps.Clone(part.Metadata)
		warnings = append(warnings, list(metadata[solve.KeyWarnings])...)
		delete(metadata, solve.KeyWarnings)
		all.Images = append(all.Images, solve.Image{
			Target: names[i], Digest: part.Digest, ImageID: part.ImageID, Metadata: metadata, Hits: part.Hits(), Steps: len(part.Steps),
		})
	}
	if len(warnings) > 0 {
		all.Metadata[solve.KeyWarnings] = solve.Encode(warnings)
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

// becomes sets an index as the image of a result, with these names.
func becomes(r *solve.Result, index ocispecs.Descriptor, names []string) {
	r.Digest, r.ImageID = index.Digest, index.Digest
	r.Metadata = maps.Clone(r.Metadata)
	r.Metadata[exptypes.ExporterImageDigestKey] = index.Digest.String()
	r.Metadata[exptypes.ExporterImageDescriptorKey] = solve.Encode(index)
	r.Metadata[exptypes.ExporterImageNameKey] = strings.Join(names, ",")
}
