package ci

import (
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/scope"
)

// trustCase is one line of a table in testdata/trust.
type trustCase struct {
	at      string // file and line
	name    string
	machine machine
	trusted bool
	writes  string
	reads   string
}

// TestTrust holds every CI to the tables in testdata/trust: each event and each combination of
// variables that its documents name, hostile values among them, with the plan that follows. What is
// not known only reads.
//
// A table has lines of these forms:
//
//	# what follows, and the documents that it is taken from
//	base NAME=value …                      the environment of the cases below, in place of that above
//	name | NAME=value … | trusted | main | main fix
//	name | NAME=value … | no | - | main     not trusted; writes nothing, reads main
//
// Values are escaped as in URLs. An empty value removes the variable. payload= are the members of
// the event's JSON object, beside the repository's, TERMINAL= says that there is a terminal, and
// FILE= adds an empty file. Scopes are branches, #7 for a pull request, ~main
// for main's merge queue, and ^v1 for a tag.
func TestTrust(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/trust/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	cases := 0
	for _, file := range files {
		for _, c := range readTrust(t, file) {
			cases++
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.check(t)
			})
		}
	}
	if cases < 250 {
		t.Errorf("the tables have %d cases", cases)
	}
}

func (c trustCase) check(t *testing.T) {
	facts := c.machine.facts()
	plan := scope.New(facts, scope.Options{})
	if facts.Trusted != c.trusted || facts.Trusted == (facts.Untrusted != "") {
		t.Errorf("%s: trusted %t (%s), want %t", c.at, facts.Trusted, facts.Untrusted, c.trusted)
	}
	if want := refs(c.writes); string(plan.Write) != want {
		t.Errorf("%s: writes %q, want %q", c.at, plan.Write, want)
	}
	var read []string
	for _, s := range plan.Read {
		read = append(read, string(s.Name))
	}
	if got, want := strings.Join(read, " "), refs(c.reads); got != want {
		t.Errorf("%s: reads %q, want %q", c.at, got, want)
	}
	if !c.trusted && c.writes != "-" {
		t.Errorf("%s: the table lets an untrusted build write", c.at)
	}
	for _, o := range []scope.Options{{}, {Write: scope.WriteAlways}, {Trusted: yes()}, {Trusted: yes(), Write: scope.WriteAlways}, {Trusted: no()}} {
		checkPlan(t, facts, o)
	}
}

// refs are the names of scopes in a table.
func refs(text string) string {
	var names []string
	for _, ref := range strings.Fields(text) {
		ref, _ = url.PathUnescape(ref)
		switch {
		case ref == "-":
			continue
		case ref == "=local": // the scope that is no ref's
			names = append(names, "local")
			continue
		case strings.HasPrefix(ref, "~"):
			names = append(names, string(queueOf(ref[1:])))
			continue
		case strings.HasPrefix(ref, "#"):
			ref = "refs/pull/" + ref[1:] + "/merge"
		case strings.HasPrefix(ref, "^"):
			ref = "refs/tags/" + ref[1:]
		default:
			ref = "refs/heads/" + ref
		}
		names = append(names, string(scope.RefName(ref)))
	}
	return strings.Join(names, " ")
}

func readTrust(t *testing.T, file string) []trustCase {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var cases []trustCase
	var base []string
	cited := false
	for i, line := range strings.Split(string(text), "\n") {
		at := file + ":" + strconv.Itoa(i+1)
		cells := strings.Split(line, "|")
		switch {
		case line == "":
		case strings.HasPrefix(line, "#"):
			cited = cited || strings.Contains(line, "https://")
		case strings.HasPrefix(line, "base "):
			base = strings.Fields(line)[1:]
		case len(cells) == 5 && cited:
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			if cells[2] != "trusted" && cells[2] != "no" {
				t.Fatalf("%s: trust is %q", at, cells[2])
			}
			name := strings.TrimSuffix(filepath.Base(file), ".txt") + "/" + cells[0]
			cases = append(cases, trustCase{
				at: at, name: name, machine: trustMachine(t, at, append(base[:len(base):len(base)], strings.Fields(cells[1])...)),
				trusted: cells[2] == "trusted", writes: cells[3], reads: cells[4],
			})
		default:
			t.Fatalf("%s: no case, or no document is cited before it: %q", at, line)
		}
	}
	return cases
}

func trustMachine(t *testing.T, at string, settings []string) machine {
	t.Helper()
	m := machine{env: map[string]string{}, files: map[string][]byte{}}
	for _, setting := range settings {
		name, escaped, ok := strings.Cut(setting, "=")
		value, err := url.PathUnescape(escaped)
		if !ok || err != nil {
			t.Fatalf("%s: %q, %v", at, setting, err)
		}
		switch {
		case name == "TERMINAL":
			m.terminal = value == "true"
		case name == "FILE":
			m.files[value] = nil
		case name == "payload":
			m.files[m.env["GITHUB_EVENT_PATH"]] = []byte(`{"repository":{"default_branch":"main"},` + value + `}`)
		case strings.HasPrefix(name, "/"):
			m.files[name] = []byte(value)
		case value == "":
			delete(m.env, name)
		default:
			m.env[name] = value
		}
	}
	return m
}
