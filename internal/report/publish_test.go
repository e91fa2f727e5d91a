package report

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/ci"
	"github.com/warmlayer/warmlayer/internal/solve"
)

func same(s string) string { return s }

// runner is the CI in a job with these variables.
func runner(environ ...string) ci.Dialect {
	dialect, _ := ci.Detect(ci.Machine{Environ: environ, ReadFile: os.ReadFile})
	return dialect
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestPublish(t *testing.T) {
	t.Parallel()
	tmp := t.TempDir()
	output, summary := filepath.Join(tmp, "output"), filepath.Join(tmp, "summary")
	p := Places{Dir: filepath.Join(tmp, "new", "dir"), CI: runner("GITHUB_OUTPUT="+output, "GITHUB_STEP_SUMMARY="+summary), Summary: true}
	if err := os.WriteFile(output, []byte("before=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := reports()["several"]
	for range 2 { // files in Dir are replaced, the others grow
		if err := r.Publish(p, same); err != nil {
			t.Fatal(err)
		}
	}
	var document map[string]any
	if err := json.Unmarshal([]byte(read(t, p.Dir, "warmlayer.json")), &document); err != nil || document["ok"] != true {
		t.Errorf("warmlayer.json: %v, %v", err, document)
	}
	if got := read(t, p.Dir, "warmlayer.md"); got != r.Markdown() {
		t.Errorf("warmlayer.md:\n%s", got)
	}
	if got := read(t, p.Dir, "warmlayer.env"); strings.Count(got, "WARMLAYER_CACHE_EXPORT=failed\n") != 1 {
		t.Errorf("warmlayer.env:\n%s", got)
	}
	if got := read(t, summary); got != r.Markdown()+r.Markdown() {
		t.Errorf("summary:\n%s", got)
	}
	appended, found := strings.CutPrefix(read(t, output), "before=1\n")
	if !found || strings.Count(appended, "<<warmlayer_") != 2*len(r.Outputs()) {
		t.Errorf("outputs\n%s", appended)
	}
	left, err := os.ReadDir(p.Dir)
	if err != nil || len(left) != 3 {
		t.Errorf("%d files in the directory, want 3; %v", len(left), err)
	}
}

func TestPublishNowhere(t *testing.T) {
	t.Parallel()
	if err := (Report{}).Publish(Places{}, same); err != nil {
		t.Error(err)
	}
}

// TestPublishGoesOn makes each destination fail in turn: the others are written.
func TestPublishGoesOn(t *testing.T) {
	t.Parallel()
	for _, broken := range []string{"dir", "output", "summary"} {
		t.Run(broken, func(t *testing.T) {
			t.Parallel()
			tmp := t.TempDir()
			path := func(name string) string {
				if name == broken { // a path below a file cannot be created
					name = filepath.Join("file", name)
				}
				return filepath.Join(tmp, name)
			}
			if err := os.WriteFile(filepath.Join(tmp, "file"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			err := reports()["warm"].Publish(Places{
				Dir: path("dir"), CI: runner("GITHUB_OUTPUT="+path("output"), "GITHUB_STEP_SUMMARY="+path("summary")), Summary: true,
			}, same)
			var where *os.PathError
			if !errors.As(err, &where) || !strings.Contains(where.Path, filepath.Join(tmp, "file")) {
				t.Errorf("error %v", err)
			}
			for _, name := range []string{"dir", "output", "summary"} {
				if _, err := os.Stat(path(name)); (err == nil) != (name != broken) {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

// TestReplaceCleansUp: a directory is in the place of the new file.
func TestReplaceCleansUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "warmlayer.md", "in the way"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := replace(dir, "warmlayer.md", []byte("x")); err == nil {
		t.Error("a directory was replaced")
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("files remain: %v", left)
	}
}

// TestPublishHidesSecrets puts a canary into everything that a build can choose, with characters
// that JSON, Markdown and dotenv escape.
func TestPublishHidesSecrets(t *testing.T) {
	t.Parallel()
	const canary = `ca"na\ry<&>|$1`
	r := reports()["several"]
	r.Builder, r.Err, r.Result.Retried, r.Plan.Why = canary, errors.New(canary), canary, canary
	r.Warnings, r.Plan.Warnings = []string{canary}, []string{canary}
	r.Result.Warnings = []solve.Warning{{Text: "x" + canary, Detail: canary, URL: canary, Place: solve.Place{File: canary}}}
	r.Result.Failure = &solve.Failure{Place: solve.Place{File: canary}, Step: canary, Log: canary}
	r.Result.Steps = append(r.Result.Steps, solve.Step{Name: canary, Error: canary})
	r.Result.Sources = append(r.Result.Sources, cacheplan.Source{Cache: canary, Err: errors.New(canary)})
	r.Result.Exports = append(r.Result.Exports, solve.Export{Cache: canary, Err: errors.New(canary)})
	f := &r.Plan.Facts
	for _, fact := range []*string{&f.Event, &f.Branch, &f.Base, &f.Default, &f.Tag, &f.Untrusted, &f.Repo, &f.URL} {
		*fact = canary
	}
	quoted, err := json.Marshal(map[string]any{"args": []any{canary, 1}})
	if err != nil {
		t.Fatal(err)
	}
	r.Result.Metadata = map[string]string{
		"image.name": canary, "provenance": base64.StdEncoding.EncodeToString(quoted), "result.json": string(quoted),
	}
	before := compact(r.metadata())

	tmp := t.TempDir()
	var azure bytes.Buffer
	dialect := runner("TF_BUILD=True", "GITHUB_OUTPUT="+filepath.Join(tmp, "output"), "GITHUB_STEP_SUMMARY="+filepath.Join(tmp, "summary"))
	p := Places{Dir: tmp, CI: dialect, Log: &azure, Summary: true}
	// This redactor knows only the plain form of the secret, which must be enough.
	hide := func(s string) string { return strings.ReplaceAll(s, canary, mask) }
	if err := r.Publish(p, hide); err != nil {
		t.Fatal(err)
	}
	commands := dialect.Notes(r.Notes(true, hide)) + runner("GITHUB_ACTIONS=true").Notes(r.Notes(true, hide))
	if err := os.WriteFile(filepath.Join(tmp, "azure"), azure.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tmp, "annotations"), []byte(commands), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"warmlayer.json", "warmlayer.md", "warmlayer.env", "output", "summary", "azure", "annotations"} {
		text := read(t, tmp, file)
		if strings.Contains(text, "na\\") || strings.Contains(text, "ry<") || strings.Contains(text, "ry&") || strings.Contains(text, "ry\\") {
			t.Errorf("%s shows the secret:\n%s", file, text)
		}
		if !strings.Contains(text, mask) {
			t.Errorf("%s has no mask, so the canary was not in it", file)
		}
	}
	if compact(r.metadata()) != before || r.Result.Steps[len(r.Result.Steps)-1].Name != canary {
		t.Error("the report itself was changed")
	}
}
