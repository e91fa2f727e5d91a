package cachespec_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// A refusal is a cache line and its problem.
type refusal struct {
	line string
	o    cachespec.Environment
	want string // of each problem, after "cache: line 1: type=s3: "; "" for none
}

func refuses(t *testing.T, kind string, tests []refusal) {
	t.Helper()
	for _, test := range tests {
		t.Run(fmt.Sprint(test.line, test.o.Remote, test.o.Plaintext), func(t *testing.T) {
			t.Parallel()
			_, problems := testkit.Resolve(test.o, test.line)
			got := ""
			if len(problems) > 0 {
				got = strings.ReplaceAll(problems.Error(), "cache: line 1: type="+kind+": ", "")
			}
			if got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
			if strings.Contains(got, "canary") {
				t.Error("a credential is shown")
			}
		})
	}
}

// attrsText is the attributes of an entry in a fixed order.
func attrsText(attrs map[string]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(attrs)) {
		b.WriteString(" " + k + "=" + attrs[k])
	}
	return b.String()
}
