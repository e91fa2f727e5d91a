package upkeep

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/scope"
)

var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// stockOf is a stock of scopes, each "name age size", where the age has days: "b-main 3 10". Each has a blob of its size that no other has,
// and all have one of a hundred bytes.
func stockOf(lines ...string) Stock {
	stock := Stock{Bytes: 100, sizes: []int64{100}, uses: []int32{int32(len(lines))}}
	mounts := map[scope.Name]scope.Name{}
	for _, line := range lines {
		f := strings.Fields(line)
		age, _ := time.ParseDuration(f[1] + "h")
		size := int64(len(f[2])) * 10
		s := Scope{Name: scope.Name(f[0]), Used: now.Add(-24 * age), Own: size, Shared: 100, blobs: []int32{0, int32(len(stock.sizes))}, entry: backends.Entry{Key: f[0]}}
		s.Foreign = !s.Name.Valid()
		s.mounts = mounts[s.Name]
		mounts[s.Name.Mounts()] = s.Name
		stock.sizes, stock.uses, stock.Bytes = append(stock.sizes, size), append(stock.uses, 1), stock.Bytes+size
		stock.Scopes = append(stock.Scopes, s)
	}
	return stock
}

// TestChoose: which scopes each rule names, and which stay all the same.
func TestChoose(t *testing.T) {
	t.Parallel()
	stock := stockOf(
		"b-main 60 ##", "b-main.worker 60 ##", "b-old 40 ###", "b-young 0 ####", "pr-7 5 #####", "pr-7.worker 5 #", "pr-8 2 ##", "t-v1 90 #",
		"q-main 3 #", "q-old 3 #", "main 400 ########", "local 50 #", "b-mounts 40 #", string(scope.Name("b-mounts").Mounts())+" 1 ##",
	)
	refs := Refs{names: map[scope.Name]bool{"b-main": true, "b-young": true}, pulls: map[int]bool{8: true}}
	unknown := Refs{names: refs.names}
	mounts := string(scope.Name("b-mounts").Mounts())
	for _, test := range []struct {
		name  string
		rules Rules
		refs  Refs
		want  string
	}{
		{"no rule", Rules{}, refs, ""},
		{"gone", Rules{Gone: true}, refs, "b-mounts b-old pr-7 pr-7.worker q-old t-v1 " + mounts},
		{"gone, pull requests unknown", Rules{Gone: true}, unknown, "b-mounts b-old q-old t-v1 " + mounts},
		{"gone, with grace", Rules{Gone: true, Grace: 6 * 24 * time.Hour}, refs, "b-mounts b-old pr-7 pr-7.worker t-v1 " + mounts},
		{"old, with grace", Rules{OlderThan: 24 * time.Hour, Grace: 45 * 24 * time.Hour}, refs, "b-main b-main.worker local t-v1"},
		{"gone, some kept", Rules{Gone: true, Keep: []string{"pr-*", "t-*"}}, refs, "b-mounts b-old q-old " + mounts},
		{"gone, of one image", Rules{Gone: true, Scopes: []string{"*.worker"}}, refs, "pr-7.worker"},
		{"old", Rules{OlderThan: 40 * 24 * time.Hour, Default: "b-main"}, refs, "b-mounts b-old local t-v1 " + mounts},
		{"old, no default branch", Rules{OlderThan: 60 * 24 * time.Hour}, refs, "b-main b-main.worker t-v1"},
		{"old, foreign", Rules{OlderThan: 300 * 24 * time.Hour, Foreign: true, Default: "b-main"}, refs, "main"},
		{"a name", Rules{Scopes: []string{"pr-7"}, Grace: 240 * time.Hour}, refs, "pr-7 pr-7.worker"},
		{"a whole name", Rules{Scopes: []string{"pr-7.worker"}}, refs, "pr-7.worker"},
		{"a pattern leaves the default branch", Rules{Scopes: []string{"b-*"}, Default: "b-main"}, refs, "b-mounts b-old b-young " + mounts},
		{"the default branch by name", Rules{Scopes: []string{"b-main"}, Default: "b-main"}, refs, "b-main b-main.worker"},
		{"one image of the default branch", Rules{Scopes: []string{"b-main.worker"}, Default: "b-main"}, refs, "b-main.worker"},
		{"a name that is kept, too", Rules{Scopes: []string{"pr-7"}, Keep: []string{"pr-7"}}, refs, ""},
		{"another program's by name", Rules{Scopes: []string{"main"}}, refs, ""},
		{"another program's, allowed", Rules{Scopes: []string{"main"}, Foreign: true}, refs, "main"},
		// 100 shared, and 340 of their own: the oldest that may go are t-v1 (10), local (10), b-mounts with its mounts (30), b-old (30).
		{"size", Rules{KeepStorage: stock.Bytes - 20, Default: "b-main"}, refs, "local t-v1"},
		{"size, one byte less", Rules{KeepStorage: stock.Bytes - 21, Default: "b-main"}, refs, "b-old local t-v1"},
		{"size that is there", Rules{KeepStorage: stock.Bytes}, refs, ""},
		{"size after what is gone", Rules{Gone: true, KeepStorage: stock.Bytes - 140, Default: "b-main"}, refs, "b-mounts b-old pr-7 pr-7.worker q-old t-v1 " + mounts},
	} {
		var names []string
		for _, c := range test.rules.Choose(stock, test.refs, now) {
			names = append(names, string(c.Name))
			if c.Why == "" {
				t.Errorf("%s: %s goes without a reason", test.name, c.Name)
			}
		}
		slices.Sort(names)
		want := strings.Fields(test.want)
		slices.Sort(want)
		if !slices.Equal(names, want) {
			t.Errorf("%s:\n got %v\nwant %v", test.name, names, want)
		}
	}
	if !slices.Equal(slices.Sorted(maps.Keys(refs.pulls)), []int{8}) {
		t.Error("the refs were changed")
	}
}
