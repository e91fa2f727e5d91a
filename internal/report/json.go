package report

import (
	"bytes"
	"encoding/json"

	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/solve"
	"github.com/warmlayer/warmlayer/scope"
)

// document is the schema of warmlayer.json. Only [Report.JSON] uses it.
type document struct {
	Version  string           `json:"version"`
	OK       bool             `json:"ok"`
	Error    string           `json:"error"`
	Builder  string           `json:"builder"`
	State    string           `json:"state,omitempty"` // what became of the state that the builder keeps
	Network  []Network        `json:"network"`
	Plan     scope.Plan       `json:"plan"`
	Digest   digest.Digest    `json:"digest"`
	ImageID  digest.Digest    `json:"imageid"`
	Tags     []string         `json:"tags"`
	Images   []documentImage  `json:"images,omitempty"` // of the targets of bake files
	Steps    []documentStep   `json:"steps"`
	Cache    documentCache    `json:"cache"`
	Auto     Auto             `json:"auto"`
	Sources  []documentSource `json:"sources"`
	Exports  []documentExport `json:"exports"`
	Mounts   []documentMount  `json:"mounts"`
	Misses   []documentMiss   `json:"misses"`
	Phases   []documentPhase  `json:"phases"`
	Timings  []documentTiming `json:"timings"`
	Retried  string           `json:"retried"`
	Warnings []string         `json:"warnings"`
	Checks   []documentCheck  `json:"checks"`
	Failure  documentFailure  `json:"failure"`
	Seconds  float64          `json:"seconds"`
}

type documentStep struct {
	Name    string        `json:"name"`
	Digest  digest.Digest `json:"digest"`
	Cached  bool          `json:"cached"`
	Seconds float64       `json:"seconds"`
	Error   string        `json:"error"`
}

type documentCache struct {
	Hits      int         `json:"hits"`
	Steps     int         `json:"steps"`
	Ratio     json.Number `json:"ratio"`
	FirstMiss string      `json:"first-miss"`
	Reason    string      `json:"miss-reason"`
}

type documentSource struct {
	Cache string          `json:"cache"`
	Name  string          `json:"name"`
	Why   string          `json:"why"`
	State cacheplan.State `json:"state"`
	Error string          `json:"error"`
	Used  *int            `json:"used,omitempty"`
	Bytes int64           `json:"bytes,omitempty"` // of the layers in its cache
}

type documentExport struct {
	Cache   string        `json:"cache"`
	Name    string        `json:"name"`
	Outcome solve.Outcome `json:"outcome"`
	Error   string        `json:"error"`
	Seconds float64       `json:"seconds"`
	From    string        `json:"from"` // the scope that was copied; "": the build's own cache was written
	Kept    documentKept  `json:"kept"`
}

// documentKept is what a scope holds of builds before the one that was written.
type documentKept struct {
	Builds   int   `json:"builds"`
	Variants int   `json:"variants"`
	Bytes    int64 `json:"bytes"`
	Dropped  int   `json:"dropped"`
}

type documentPlace struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	EndLine int    `json:"end-line"`
}

type documentCheck struct {
	Text   string `json:"text"`
	Detail string `json:"detail"`
	URL    string `json:"url"`
	documentPlace
}

type documentFailure struct {
	What string `json:"what"`
	Next string `json:"next"`
	Step string `json:"step"`
	Log  string `json:"log"`
	documentPlace
}

type documentPhase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// JSON is the whole report, indented, with a newline at its end:
//
//	{"version", "ok", "error", "builder", "state",
//	 "network":  [{"builder","steps","reason"}],
//	 "plan":     what "warmlayer plan --json" shows as the plan,
//	 "digest", "imageid", "tags":[],
//	 "steps":    [{"name","digest","cached","seconds","error"}],
//	 "cache":    {"hits","steps","ratio","first-miss","miss-reason"},
//	 "auto":     {"cache","why"},
//	 "sources":  [{"cache","name","why","state","error","used","bytes"}],
//	 "exports":  [{"cache","name","outcome","error","seconds"}],
//	 "mounts":   [{"id","restored":{"scope","bytes","files","seconds"},"saved":{…},"reason","error"}],
//	 "misses":   [{"stage","platform","step","reason","scope"}],
//	 "phases":   [{"name","seconds"}],
//	 "timings":  [{"name","start","seconds","critical"}],
//	 "retried", "warnings":[],
//	 "checks":   [{"text","detail","url","file","line","end-line"}],
//	 "failure":  {"what","next","step","log","file","line","end-line"},
//	 "seconds"}
//
// Network has an entry for each builder that started: what its RUN steps are on that choose none, which
// is "own", "host", "container", "none", "configured" or "remote".
//
// Auto is what the cache "auto" became where that is not a registry beside the image, and why.
//
// Used is how many steps of this build the source has; it is left out where that is not known. A step
// that several sources have counts for each of them.
//
// Mounts are the cache mounts of steps that ran. Restored and saved are left out where that was not done; the
// reason, or the error, says why. Bytes are those that the store sent or got.
//
// Misses say why the first step that was not cached in each stage was not, and which scope the build was
// compared with.
//
// Timings are the parts of the run that took a millisecond or more, in the order of their beginnings,
// in seconds since the run's. The run waited for the critical ones.
//
// Checks are BuildKit's own warnings. Failure is what happened and what to do next, in a line
// each, the position in the Dockerfile where the build failed, and the end of the step's log.
//
// Every other key is always present. A string without a value is "", a list may be empty, and the
// ratio is the output cache-hit-ratio as a number, 0 without steps. Later versions may add
// keys; they keep all existing ones.
func (r Report) JSON() ([]byte, error) {
	d := document{
		Version: r.Version, OK: r.Err == nil, Error: message(r.Err), Builder: r.Builder, State: r.State, Network: list(r.Networks), Plan: r.Plan,
		Digest: r.Result.Digest, ImageID: r.Result.ImageID, Tags: list(r.tags()), Images: r.images(),
		Steps: []documentStep{},
		Cache: documentCache{Hits: r.Result.Hits(), Steps: len(r.Result.Steps), Ratio: json.Number(r.ratio()), FirstMiss: r.firstMiss(), Reason: r.missReason()},
		Auto:  r.Auto, Sources: r.sources(), Exports: []documentExport{}, Mounts: r.mounts(), Misses: r.misses(), Phases: []documentPhase{}, Timings: r.timings(),
		Retried: r.Result.Retried, Warnings: list(r.warnings()), Checks: []documentCheck{}, Seconds: r.Seconds,
	}
	d.Plan.Read = list(d.Plan.Read)
	for _, s := range r.Result.Steps {
		d.Steps = append(d.Steps, documentStep(s))
	}
	for _, e := range r.Result.Exports {
		d.Exports = append(d.Exports, documentExport{e.Cache, e.Name, e.Outcome, message(e.Err), e.Seconds, e.From, documentKept(e.Kept)})
	}
	for _, p := range r.Result.Phases {
		d.Phases = append(d.Phases, documentPhase(p))
	}
	for _, w := range r.Result.Warnings {
		d.Checks = append(d.Checks, documentCheck{w.Text, w.Detail, w.URL, documentPlace(w.Place)})
	}
	if f := r.Result.Failure; f != nil {
		d.Failure = documentFailure{f.What, f.Next, f.Step, tail(f.Log), documentPlace(f.Place)}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(d)
	return b.Bytes(), err
}

// sources is the list of cache sources for the JSON file and for the output cache-sources.
func (r Report) sources() []documentSource {
	all := []documentSource{}
	for _, s := range r.Result.Sources {
		all = append(all, documentSource{s.Cache, s.Name, s.Why, s.State, reason(s), s.Used, s.Bytes})
	}
	return all
}

// list replaces a nil slice by an empty one, which is [] in JSON.
func list[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}
