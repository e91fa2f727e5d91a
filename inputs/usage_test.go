package inputs

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/settings"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

var update = flag.Bool("update", false, "write the golden files")

func TestUsage(t *testing.T) {
	t.Parallel()
	const golden = "testdata/usage.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(Usage()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if Usage() != string(want) {
		t.Errorf("--help differs from %s; run go test ./inputs -update and check the difference", golden)
	}
}

// Every default and every row of the table is well-formed.
func TestFields(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, f := range Fields {
		if seen[f.Name] || !syntax.IsName(f.Name) || settings.InputName(f.Name) != f.Name {
			t.Errorf("%q is not a name, or is used twice", f.Name)
		}
		seen[f.Name] = true
		if !strings.HasSuffix(f.Help, ".") || strings.Contains(f.Help, "|") || strings.Contains(f.Help, "\n") {
			t.Errorf("the help of %s is not one sentence that fits into a table: %s", f.Name, f.Help)
		}
		if f.Default == "" || f.Kind.List() {
			continue
		}
		if _, problem := f.Check(f.Default); problem != nil {
			t.Errorf("the default of %s: %s", f.Name, problem)
		}
	}
}
