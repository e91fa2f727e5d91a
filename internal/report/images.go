package report

import (
	"fmt"
	"strings"

	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/solve"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// documentImage is the result of a target of bake files.
type documentImage struct {
	Target  string         `json:"target"`
	Digest  digest.Digest  `json:"digest"`
	ImageID digest.Digest  `json:"imageid"`
	Tags    []string       `json:"tags"`
	Hits    int            `json:"hits"`
	Steps   int            `json:"steps"`
	Details map[string]any `json:"metadata"`
}

// names are those of an image, in BuildKit's answer.
func names(metadata map[string]string) []string {
	return strings.FieldsFunc(metadata[exptypes.ExporterImageNameKey], func(c rune) bool { return c == ',' })
}

// metadata is BuildKit's answer, decoded: that of each target by its name, as docker buildx bake has it, or of the image.
func (r Report) metadata() map[string]any {
	all := details(r.Result.Metadata)
	for _, i := range r.Result.Images {
		all[i.Target] = details(i.Metadata)
	}
	return all
}

// details are the values of BuildKit's answer, decoded.
func details(metadata map[string]string) map[string]any {
	all := map[string]any{}
	for key, value := range metadata {
		all[key] = decoded(key, value)
	}
	return all
}

// images are the results of targets.
func (r Report) images() []documentImage {
	var all []documentImage
	for _, i := range r.Result.Images {
		all = append(all, documentImage{i.Target, i.Digest, i.ImageID, list(names(i.Metadata)), i.Hits, i.Steps, details(i.Metadata)})
	}
	return all
}

// imageRows has a row for each image.
func (r Report) imageRows() [][]string {
	if r.Result.Images == nil {
		return [][]string{cells(r.Result.Digest.String()), cells(strings.Join(r.tags(), " "))}
	}
	var rows [][]string
	for _, i := range r.Result.Images {
		rows = append(rows, cells(i.Target, cached(i), i.Digest.String(), strings.Join(names(i.Metadata), " ")))
	}
	return rows
}

// cached says how many steps of a target were cached.
func cached(i solve.Image) string { return fmt.Sprintf("%d of %d cached", i.Hits, i.Steps) }

// brief is what became of a cache, and whether a person should read about it.
type brief struct {
	name  string
	wrong bool
}

func sourceStates(sources []cacheplan.Source) (all []brief) {
	for _, s := range sources {
		all = append(all, brief{string(s.State), s.Faulty()})
	}
	return all
}

func outcomes(exports []solve.Export) (all []brief) {
	for _, e := range exports {
		all = append(all, brief{string(e.Outcome), e.Err != nil})
	}
	return all
}

// briefly counts the states of caches where there are several targets, and shows the rows of those alone with which something is wrong.
// The JSON file has all.
func (r Report) briefly(states []brief, rows [][]string) [][]string {
	if len(r.Result.Images) < 2 || len(states) == 0 || len(states) != len(rows) {
		return rows
	}
	var names []string
	counts, wrong := map[string]int{}, [][]string{}
	for i, s := range states {
		if counts[s.name]++; counts[s.name] == 1 {
			names = append(names, s.name)
		}
		if s.wrong {
			wrong = append(wrong, rows[i])
		}
	}
	for i, name := range names {
		names[i] = fmt.Sprintf("%d %s", counts[name], name)
	}
	return append([][]string{{strings.Join(names, ", ")}}, wrong...)
}

// targets is a table of the targets of bake files; "": there are none.
func (r Report) targets() string {
	if r.Result.Images == nil {
		return ""
	}
	table := row("Target", "Steps", "Image", "Digest") + "| :-- | :-- | :-- | :-- |\n"
	for _, i := range r.Result.Images {
		table += row(code(i.Target), cached(i), code(syntax.Line(strings.Join(names(i.Metadata), " "))), code(i.Digest.String()))
	}
	return table + "\n"
}
