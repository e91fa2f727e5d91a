package report

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/ci"
	"github.com/warmlayer/warmlayer/internal/solve"
)

func TestOutputsAreTheDocumentedOnes(t *testing.T) {
	t.Parallel()
	var got, want []string
	for _, o := range (Report{}).Outputs() {
		got = append(got, o.Name)
	}
	for _, o := range inputs.StepOutputs {
		want = append(want, o.Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("outputs %q, want %q", got, want)
	}
}

// output is one output of a report.
func output(t *testing.T, r Report, name string) string {
	t.Helper()
	for _, o := range r.Outputs() {
		if o.Name == name {
			return o.Value
		}
	}
	t.Fatalf("no output %s", name)
	return ""
}

func TestCacheHitRatio(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		hits, steps int
		want        string
	}{
		{0, 0, ""}, {0, 3, "0.00"}, {4, 5, "0.80"}, {2, 3, "0.66"}, {999, 1000, "0.99"}, {29, 100, "0.29"}, {7, 7, "1.00"},
	} {
		r := Report{Result: solve.Result{Steps: make([]solve.Step, tt.steps)}}
		for i := range tt.hits {
			r.Result.Steps[i].Cached = true
		}
		if got := output(t, r, "cache-hit-ratio"); got != tt.want {
			t.Errorf("%d of %d: %q, want %q", tt.hits, tt.steps, got, tt.want)
		}
	}
}

func TestCacheExport(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		exports []solve.Outcome
		want    solve.Outcome
	}{
		{nil, solve.Skipped},
		{[]solve.Outcome{solve.Skipped}, solve.Skipped},
		{[]solve.Outcome{solve.Skipped, solve.Unchanged}, solve.Unchanged},
		{[]solve.Outcome{solve.Written, solve.Unchanged}, solve.Written},
		{[]solve.Outcome{solve.Written, solve.Broken, solve.Skipped}, solve.Broken},
	} {
		var r Report
		for _, o := range tt.exports {
			r.Result.Exports = append(r.Result.Exports, solve.Export{Outcome: o})
		}
		if got := output(t, r, "cache-export"); got != string(tt.want) {
			t.Errorf("%q: %s, want %s", tt.exports, got, tt.want)
		}
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	r := Report{Result: solve.Result{Metadata: map[string]string{
		"containerimage.digest":     "sha256:abc",
		"containerimage.descriptor": encode(`{"size": 12345678901234567890, "mediaType": "a&b"}`),
		"list":                      encode(`[{"a": 1}]`),
		"word":                      "true", // valid base64, but not JSON
		"number":                    encode("7"),
		"empty":                     encode("{}"),
		"result.json":               `{"warnings":[]}`,
	}}}
	want := `{"containerimage.descriptor":{"size":12345678901234567890,"mediaType":"a&b"},` +
		`"containerimage.digest":"sha256:abc","empty":"e30=","list":[{"a":1}],"number":"Nw==","result.json":{"warnings":[]},"word":"true"}`
	if got := output(t, r, "metadata"); got != want {
		t.Errorf("metadata %s\nwant     %s", got, want)
	}
	if got := output(t, Report{}, "metadata"); got != "{}" {
		t.Errorf("metadata of no build: %s", got)
	}
}

func TestDotenvStaysBelowItsLimit(t *testing.T) {
	t.Parallel()
	for _, length := range []int{dotenvLimit - len("WARMLAYER_A=\nWARMLAYER_METADATA=\n") - 1, dotenvLimit - len("WARMLAYER_A=\nWARMLAYER_METADATA=\n"), 1 << 20} {
		var b bytes.Buffer
		if err := Dotenv(&b, []ci.Output{{Name: "a"}, {Name: "metadata", Value: strings.Repeat("m", length)}}); err != nil {
			t.Fatal(err)
		}
		if b.Len() >= dotenvLimit || !strings.HasPrefix(b.String(), "WARMLAYER_A=\n") {
			t.Errorf("a value of %d bytes gives a file of %d", length, b.Len())
		}
		fits := length+len("WARMLAYER_A=\nWARMLAYER_METADATA=\n") < dotenvLimit
		if has := strings.Contains(b.String(), "METADATA"); has != fits {
			t.Errorf("a value of %d bytes: included is %t", length, has)
		}
	}
}

// FuzzDotenv: the file has only lines of KEY=value, which is all that GitLab reads.
func FuzzDotenv(f *testing.F) {
	f.Add("[1/2] RUN make")
	f.Add(hostile)
	f.Add("\r\n\n\u2028$$A")
	f.Fuzz(func(t *testing.T, value string) {
		var b bytes.Buffer
		if err := Dotenv(&b, []ci.Output{{Name: "first-miss", Value: value}}); err != nil {
			t.Fatal(err)
		}
		got, ok := strings.CutPrefix(b.String(), "WARMLAYER_FIRST_MISS=")
		if b.Len() == 0 && len(value) > 0 {
			return // too long
		}
		if !ok || strings.Count(got, "\n") != 1 || strings.ContainsAny(got, "\r\x00\x1b") {
			t.Fatalf("%q gives %q", value, b.String())
		}
		if strings.Contains(strings.ReplaceAll(got, "$$", ""), "$") {
			t.Errorf("%q gives %q, with a variable", value, b.String())
		}
	})
}

func TestJSONHasEveryList(t *testing.T) {
	t.Parallel()
	text, err := Report{}.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"steps", "sources", "exports", "phases", "warnings", "tags"} {
		if l, ok := got[name].([]any); !ok || len(l) != 0 {
			t.Errorf("%s is %v, want []", name, got[name])
		}
	}
	if plan := got["plan"].(map[string]any); plan["read"] == nil {
		t.Error("plan.read is null")
	}
}
