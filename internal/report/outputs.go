package report

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/warmlayer/warmlayer/internal/ci"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Outputs are the values of [inputs.StepOutputs], in its order. Those that are not
// known are "". In particular:
//
//   - metadata is one line of JSON with the content of docker buildx's --metadata-file. It is
//     {} when BuildKit gave no answer. With bake files it has that of each target by its name, and the digest and
//     the image ID are "".
//   - cache-hit-ratio has two decimals, rounded down: 1.00 means all steps. "" without steps.
//   - cache-sources is JSON: [{"cache","name","why","state","error"}], in one line.
//   - cache-export is failed if any export was, else written, else unchanged, and
//     skipped when none was any of these.
//   - miss-reason is a sentence about the first step that was not cached: "COPY . .: 1 file changed: main.go".
//   - cache-scope is the scope that this build may write, "" for none.
func (r Report) Outputs() []ci.Output {
	return []ci.Output{
		{Name: "digest", Value: r.Result.Digest.String()},
		{Name: "imageid", Value: r.Result.ImageID.String()},
		{Name: "metadata", Value: compact(r.metadata())},
		{Name: "cache-hit-ratio", Value: r.ratio()},
		{Name: "cache-hits", Value: strconv.Itoa(r.Result.Hits())},
		{Name: "cache-steps", Value: strconv.Itoa(len(r.Result.Steps))},
		{Name: "cache-sources", Value: compact(r.sources())},
		{Name: "cache-export", Value: string(r.outcome())},
		{Name: "cache-scope", Value: string(r.Plan.Write)},
		{Name: "first-miss", Value: r.firstMiss()},
		{Name: "miss-reason", Value: r.missReason()},
	}
}

// plainJSON is the only key whose value is JSON without base64.
const plainJSON = "result.json"

// decoded is the JSON object, or list of objects, that a value contains in base64, or else the
// value itself (docker buildx v0.37.0, commands/build.go, decodeExporterResponse).
func decoded(key, value string) any {
	text, err := base64.StdEncoding.DecodeString(value)
	if key == plainJSON {
		text, err = []byte(value), nil
	}
	if err != nil {
		return value
	}
	var object map[string]any
	if json.Unmarshal(text, &object) == nil && len(object) > 0 {
		return json.RawMessage(text)
	}
	var list []map[string]any
	if json.Unmarshal(text, &list) == nil && len(list) > 0 {
		return json.RawMessage(text)
	}
	return value
}

// compact is v as JSON in one line. It panics when v cannot be encoded.
func compact(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// dotenvLimit is the size in bytes that a dotenv report must stay below. GitLab's default for
// every plan is 5 kilobytes (docs.gitlab.com, "Application limits").
const dotenvLimit = 5 << 10

// Dotenv writes the outputs as a GitLab dotenv report, one variable a line:
//
//	WARMLAYER_CACHE_HIT_RATIO=0.80
//
// GitLab supports neither quotes nor line breaks in it, so white space becomes a single space
// and values are not quoted. GitLab expands variables, so dollar signs are doubled. It refuses
// a report that is too large, so the longest values are left out. Eleven variables are fewer
// than the limit of every plan.
func Dotenv(w io.Writer, outputs []ci.Output) error {
	size := 0
	lines := make([]string, len(outputs))
	for i, o := range outputs {
		lines[i] = o.Variable() + "=" + strings.ReplaceAll(syntax.Line(o.Value), "$", "$$") + "\n"
		size += len(lines[i])
	}
	for size >= dotenvLimit {
		longest := slices.MaxFunc(lines, func(a, b string) int { return len(a) - len(b) })
		lines[slices.Index(lines, longest)] = ""
		size -= len(longest)
	}
	_, err := io.WriteString(w, strings.Join(lines, ""))
	return err
}
