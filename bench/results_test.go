package bench

import (
	"path/filepath"
	"testing"
)

func TestRatio(t *testing.T) {
	var g Group
	for _, seconds := range []float64{2, 4, 10} {
		g.Add("cold", "buildx", seconds, 0)
	}
	for _, seconds := range []float64{1, 1, 9} {
		g.Add("cold", "ours", seconds, 0)
	}
	if got := g.Ratio("cold", "ours", "buildx"); got != 0.5 {
		t.Errorf("the median of 0.5, 0.25 and 0.9 is %v", got)
	}
	if got := g.Ratio("unchanged", "ours", "buildx"); got != 0 {
		t.Errorf("what was not measured has the ratio %v", got)
	}
	if got := Median([]float64{4, 1, 3, 2}); got != 2.5 {
		t.Errorf("the median of four is %v", got)
	}
}

// A group takes the place of one of its name, and the others stay.
func TestSave(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results.json")
	for _, g := range []Group{
		{Backend: "registry", Workload: "app", Network: "loopback", Made: "first"},
		{Backend: "registry", Workload: "app", Network: "40ms"},
		{Backend: "registry", Workload: "app", Network: "loopback", Made: "second"},
	} {
		if err := g.Save(file); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Load(file)
	if err != nil || len(r.Groups) != 2 || r.Groups[0].Made != "second" || r.Groups[1].Name() != "registry/app/40ms" {
		t.Errorf("%+v, %v", r, err)
	}
}
