package cachemiss

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"
)

// app is a build of two stages.
func app() Memory {
	fact := func(key, text string) Fact { return Fact{Key: key, Hash: Hash(text), Text: text} }
	return Memory{Arguments: []string{"VERSION"}, Steps: []Step{
		{Name: "FROM debian", Stage: "build", Kind: Source, Facts: []Fact{fact(factImage, "debian:bookworm"), fact(factDigest, "sha256:"+strings.Repeat("a", 64)), fact(factPlatform, "linux/amd64")}},
		{Name: "[internal] load build context", Kind: Source, Facts: []Fact{fact(factLocal, "context"), {Key: factIgnored, Hash: Hash("")}}, Files: Tree{
			{"lib", fs.ModeDir | 0o755, ""}, {"lib/a", 0o644, Hash("a")}, {"lib/b", 0o644, Hash("b")}, {"main", 0o644, Hash("main")},
		}},
		{Digest: "1", Name: "COPY . .", Stage: "build", Kind: File, Inputs: []int{0, 1}, Facts: []Fact{fact(factCommand, "COPY . ."), fact(factRest, "copy")}, Uses: []Use{{Input: 1, Src: "/"}}},
		{Digest: "2", Name: "RUN make", Stage: "build", Kind: Exec, Inputs: []int{2}, Facts: []Fact{fact(factCommand, "make"), fact(factPlatform, "linux/amd64"), {Key: factVariable + "VERSION", Hash: Hash("1")}}},
		{Digest: "3", Name: "RUN test", Stage: "build", Kind: Exec, Inputs: []int{3}, Facts: []Fact{fact(factCommand, "test"), fact(factPlatform, "linux/amd64")}},
		{Digest: "4", Name: "COPY --from=build /out /", Stage: "stage-1", Kind: File, Inputs: []int{4}, Facts: []Fact{fact(factCommand, "COPY --from=build /out /")}, Uses: []Use{{Input: 4, Src: "/out"}}},
	}}
}

func with(change func(*Memory)) Memory {
	m := app()
	change(&m)
	return m
}

func TestExplain(t *testing.T) {
	t.Parallel()
	scope := func(builds ...Memory) []Scope { return []Scope{{Name: "b-main", Builds: builds}} }
	missed := func(steps ...string) func(digest.Digest) bool {
		return func(d digest.Digest) bool { return slices.Contains(steps, string(d)) }
	}
	set := func(step, fact int, text string) func(*Memory) {
		return func(m *Memory) { m.Steps[step].Facts[fact] = Fact{m.Steps[step].Facts[fact].Key, Hash(text), text} }
	}
	for _, test := range []struct {
		name    string
		request Request
		want    []string
	}{
		{"nothing", Request{Now: app(), Scopes: scope(app())}, nil},
		{"no scope", Request{Now: app()}, []string{"COPY . .: no scope is read"}},
		{"first build", Request{Now: app(), Scopes: []Scope{{Name: "b-x", Absent: true}, {Name: "b-main", Absent: true}}}, []string{"COPY . .: never built in this scope"}},
		{"unreadable", Request{Now: app(), Scopes: []Scope{{Name: "b-x", Err: errors.New("no answer within 5s")}, {Name: "b-main"}}},
			[]string{"COPY . .: b-x could not be read: no answer within 5s; b-main remembers no build: another version or another program has written it"}},
		{"another Dockerfile", Request{Now: with(func(m *Memory) {
			m.Steps = m.Steps[:4]
			for i := range m.Steps {
				m.Steps[i].Stage, m.Steps[i].Facts = "", m.Steps[i].Facts[1:]
			}
		}), Scopes: []Scope{{Name: "b-x", Absent: true}, {Name: "b-main", Builds: []Memory{app()}}}},
			[]string{"COPY . .: never built in this scope; b-main was built with another Dockerfile"}},
		{"stage of another name", Request{Now: with(func(m *Memory) {
			set(4, 0, "test all")(m)
			m.Steps[2].Stage, m.Steps[3].Stage, m.Steps[4].Stage = "builder", "builder", "builder"
		}), Scopes: scope(app())}, []string{"RUN test: the command changed: -test +test all", "COPY --from=build /out /: what it takes from stage builder changed"}},
		{"another platform", Request{Now: with(func(m *Memory) {
			for i := range m.Steps {
				m.Steps[i].Platform = "linux/arm64"
			}
		}), Scopes: scope(app()), Missed: missed("1", "4")}, []string{"COPY . .: b-main was built for another platform"}},
		{"platform", Request{Now: with(set(3, 1, "linux/arm64")), Scopes: scope(app())}, []string{
			"RUN make: platform: linux/amd64 → linux/arm64", "COPY --from=build /out /: what it takes from stage build changed",
		}},
		{"base moved", Request{Now: with(set(0, 1, "sha256:"+strings.Repeat("b", 64))), Scopes: scope(app()), Missed: missed("1")},
			[]string{"COPY . .: base image debian:bookworm moved: sha256:aaaaaaaaaaaa… → sha256:bbbbbbbbbbbb…"}},
		{"lost", Request{Now: app(), Scopes: []Scope{{Name: "b-main", Builds: []Memory{app()}, Lost: true}}, Missed: missed("2", "3")}, []string{"RUN make: its layer was lost from the store"}},
		{"dropped", Request{Now: app(), Scopes: scope(app()), Missed: missed("2")}, []string{"RUN make: it is as in b-main, which no longer has its layer"}},
		{"left out", Request{Now: app(), Scopes: scope(app()), Missed: missed("2"), Fault: "b-main: blob is gone"}, []string{"RUN make: caches were left out: b-main: blob is gone"}},
		{"no-cache", Request{Now: app(), Scopes: scope(app()), Missed: missed("1", "2"), NoCache: func(string) bool { return true }}, []string{"COPY . .: no-cache asks for it"}},
		{"step cached elsewhere", Request{Now: with(set(3, 0, "make all")), Scopes: scope(app()), Missed: missed("3")},
			[]string{"RUN test: a step before it changed: RUN make: the command changed: -make +make all"}},
		{"order", Request{Now: with(func(m *Memory) {
			m.Steps[3], m.Steps[4] = m.Steps[4], m.Steps[3]
			m.Steps[3].Inputs, m.Steps[4].Inputs = []int{2}, []int{3}
		}), Scopes: scope(app()), Missed: missed("3")}, []string{"RUN test: the steps before it are in another order"}},
		{"nearest build", Request{Now: with(set(4, 0, "test all")), Scopes: scope(with(set(0, 1, "sha256:0")), app()), Missed: missed("3")},
			[]string{"RUN test: the command changed: -test +test all"}},
		{"nearest scope", Request{Now: with(set(4, 0, "test all")), Scopes: []Scope{{Name: "b-x", Builds: []Memory{with(set(0, 1, "sha256:0"))}}, {Name: "b-main", Builds: []Memory{app()}}}, Missed: missed("3")},
			[]string{"RUN test: base image debian:bookworm moved: sha256:0 → sha256:aaaaaaaaaaaa…"}},
		{"failed before", Request{Now: app(), Scopes: scope(app().Failed(missed("1", "2")))}, []string{
			"RUN test: the last build of b-main failed before it was done", "COPY --from=build /out /: the last build of b-main failed before it was done",
		}},
		{"unknown content", Request{Now: with(func(m *Memory) { m.Steps[1].Files[3].Hash = "" }), Scopes: scope(app())}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, r := range Explain(test.request) {
				got = append(got, r.String())
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

// TestStored: what is stored is read again, in the bounds, and with too many files by directories.
func TestStored(t *testing.T) {
	t.Parallel()
	m := app()
	got, err := Parse(m.Stored(MaxStored))
	for i := range m.Steps {
		m.Steps[i].Digest = ""
	}
	if err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("read: %v\n%v\nwant\n%v", err, got, m)
	}
	many := func() Memory {
		m, r := app(), rand.New(rand.NewPCG(1, 2))
		m.Steps[1].Files = nil
		for i := range 20_000 {
			m.Steps[1].Files = append(m.Steps[1].Files, Entry{fmt.Sprintf("vendor/p%03d/file%05d.go", i/100, i), 0o644, Hash(fmt.Sprint(r.Uint64()))})
		}
		m.Steps[1].Files = append(m.Steps[1].Files, Entry{"zmain.go", 0o644, Hash("main")})
		return m
	}
	stored := many().Stored(MaxStored)
	if len(stored) == 0 || len(stored) > MaxStored {
		t.Fatalf("%d bytes", len(stored))
	}
	before, err := Parse(stored)
	if err != nil {
		t.Fatal(err)
	}
	now := many()
	if all := Explain(Request{Now: now, Scopes: []Scope{{Name: "b-main", Builds: []Memory{before}}}}); len(all) > 0 {
		t.Errorf("an unchanged tree differs: %v", all)
	}
	now.Steps[1].Files[1234].Hash = Hash("other")
	now.Steps[1].Files[20_000].Hash = Hash("other")
	all := Explain(Request{Now: now, Scopes: []Scope{{Name: "b-main", Builds: []Memory{before}}}})
	if len(all) == 0 || all[0].String() != "COPY . .: 2 files changed: vendor/p012/, zmain.go" {
		t.Errorf("got %v", all)
	}
	if m.Stored(10) != nil {
		t.Error("a memory of 10 bytes")
	}
}

// FuzzParse: no memory breaks the program, and reasons are short.
func FuzzParse(f *testing.F) {
	f.Add(app().Stored(MaxStored))
	f.Add(encode(Memory{Steps: []Step{{Kind: Exec, Inputs: []int{0}}}}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, stored []byte) {
		m, err := Parse(stored)
		if err != nil {
			return
		}
		for _, r := range []Request{{Now: app(), Scopes: []Scope{{Builds: []Memory{m}}}}, {Now: m, Scopes: []Scope{{Builds: []Memory{app(), m}}}}} {
			for _, reason := range Explain(r) {
				if n := len(reason.String()); n > 4096 {
					t.Errorf("a reason of %d bytes", n)
				}
			}
		}
	})
}

// FuzzText: the same for the text that is compressed.
func FuzzText(f *testing.F) {
	f.Add(`{"format":1,"steps":[{"kind":"source","facts":[{"k":"local","h":"a","t":"context"}],"files":"644 abc a\n40000000755  b\n"},{"kind":"file","inputs":[0],"uses":[{"i":0,"s":"/a*","w":true,"ex":["b"]}]}]}`)
	f.Add(`{"format":1,"steps":[{"kind":"exec","inputs":[-1]}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parse([]byte(text))
		if err != nil {
			return
		}
		Explain(Request{Now: m, Scopes: []Scope{{Builds: []Memory{app(), m}}}})
		Explain(Request{Now: app(), Scopes: []Scope{{Builds: []Memory{m}}}})
	})
}

// BenchmarkMemory is what a build with 20,000 files costs: to store it, and to compare it.
func BenchmarkMemory(b *testing.B) {
	m := app()
	m.Steps[1].Files = nil
	for i := range 20_000 {
		m.Steps[1].Files = append(m.Steps[1].Files, Entry{fmt.Sprintf("vendor/p%03d/file%05d.go", i/100, i), 0o644, Hash(fmt.Sprint(i))})
	}
	b.Run("store", func(b *testing.B) {
		for b.Loop() {
			b.ReportMetric(float64(len(m.Stored(MaxStored))), "bytes")
		}
	})
	before, err := Parse(m.Stored(MaxStored))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("explain", func(b *testing.B) {
		for b.Loop() {
			Explain(Request{Now: m, Scopes: []Scope{{Builds: []Memory{before}}}})
		}
	})
}
