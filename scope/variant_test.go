package scope_test

import (
	"fmt"
	"testing"

	"github.com/warmlayer/warmlayer/scope"
)

// The names of variants are fixed, because a scope keeps builds under them.
func TestVariant(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, test := range []struct {
		target    string
		args      map[string]string
		platforms []string
		want      string
	}{
		{"", nil, nil, "77bfa4de88f9bd2e"},
		{"deps", nil, nil, ""},
		{"", map[string]string{"V": "1"}, nil, ""},
		{"", map[string]string{"V": "2"}, nil, ""},
		{"", map[string]string{"V": ""}, nil, ""},
		{"", map[string]string{"V": "1", "W": "1"}, nil, ""},
		{"", map[string]string{"V\"=\n": "1"}, nil, ""},
		{"", nil, []string{"linux/amd64"}, ""},
		{"", nil, []string{"linux/amd64", "linux/arm64"}, ""},
	} {
		got, name := scope.Variant(test.target, test.args, test.platforms), fmt.Sprintf("%q", test)
		if test.want != "" && got != test.want {
			t.Errorf("%s: %s", name, got)
		}
		if other, ok := seen[got]; ok || len(got) != 16 {
			t.Errorf("%s: %s, as of %s", name, got, other)
		}
		seen[got] = name
	}
	one := scope.Variant("t", map[string]string{"A": "1", "B": "2"}, []string{"linux/arm64", "linux/amd64", "linux/amd64"})
	if other := scope.Variant("t", map[string]string{"B": "2", "A": "1"}, []string{"linux/amd64", "linux/arm64"}); one != other {
		t.Errorf("%s and %s", one, other)
	}
}
