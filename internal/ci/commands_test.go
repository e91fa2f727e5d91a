package ci

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// command is a command in a log, as a runner reads it.
type command struct {
	name       string
	properties map[string]string
	data       string
}

// readActions reads a line as GitHub's runner does (actions/runner, src/Runner.Common/ActionCommand.cs,
// TryParseV2).
func readActions(line string) (c command, ok bool) {
	line = strings.TrimLeft(line, " \t")
	rest, ok := strings.CutPrefix(line, "::")
	head, data, found := strings.Cut(rest, "::")
	if !ok || !found {
		return c, false
	}
	unescape := func(text string, property bool) string {
		text = strings.NewReplacer("%0D", "\r", "%0A", "\n").Replace(text)
		if property {
			text = strings.NewReplacer("%3A", ":", "%2C", ",").Replace(text)
		}
		return strings.ReplaceAll(text, "%25", "%")
	}
	c.properties = map[string]string{}
	c.name, head, _ = strings.Cut(head, " ")
	for pair := range strings.SplitSeq(strings.TrimSpace(head), ",") {
		if key, value, ok := strings.Cut(pair, "="); ok && key != "" && value != "" {
			c.properties[key] = unescape(value, true)
		}
	}
	c.data = unescape(data, false)
	return c, true
}

// readAzure reads a line as Azure's agent does (microsoft/azure-pipelines-agent,
// src/Microsoft.VisualStudio.Services.Agent/../Agent.Sdk/CommandStringConvertor.cs and Command.cs).
func readAzure(line string) (c command, ok bool) {
	_, rest, ok := strings.Cut(line, "##vso[")
	head, data, found := strings.Cut(rest, "]")
	if !ok || !found {
		return c, false
	}
	unescape := func(text string) string {
		text = strings.NewReplacer("%3B", ";", "%0D", "\r", "%0A", "\n", "%5D", "]").Replace(text)
		return strings.ReplaceAll(text, "%AZP25", "%")
	}
	c.properties = map[string]string{}
	c.name, head, _ = strings.Cut(head, " ")
	for pair := range strings.SplitSeq(head, ";") {
		if key, value, ok := strings.Cut(pair, "="); ok && key != "" && value != "" {
			c.properties[strings.TrimSpace(key)] = unescape(value)
		}
	}
	c.data = unescape(data)
	return c, true
}

// FuzzCommands: a runner reads from each command what was put into it, and no other command.
func FuzzCommands(f *testing.F) {
	f.Add("a:b", "Rule, one", "100%;]\nmore", 7)
	f.Add("x;linenumber=2]##vso[task.setvariable variable=A]", "::add-mask::x", "%0A::set-output name=a::b%25", 0)
	f.Add("%AZP25%3B", "a,file=/etc", "##[error]", -1)
	f.Fuzz(func(t *testing.T, file, title, message string, line int) {
		file, title = syntax.Line(file), syntax.Line(title)
		var lines []string
		for one := range strings.SplitSeq(message, "\n") {
			lines = append(lines, syntax.Line(one))
		}
		note := Note{Level: "warning", File: file, Line: line, Title: title, Message: lines}
		kept := map[string]string{"title": title, "code": title, "file": file, "sourcepath": file}
		for name, read := range map[string]func(string) (command, bool){"github": readActions, "azure": readAzure} {
			d := dialect(t, name)
			text := d.Notes([]Note{note, note})
			if strings.Count(text, "\n") != 2 || strings.Contains(text, "\r") {
				t.Fatalf("%s: %q", name, text)
			}
			c, ok := read(strings.Split(text, "\n")[1])
			separator := map[string]string{"github": "\n", "azure": " — "}[name]
			if !ok || c.data != strings.Join(lines, separator) {
				t.Errorf("%s: %q is read as %+v", name, text, c)
			}
			for key, value := range c.properties {
				if want, known := kept[key]; known && value != want {
					t.Errorf("%s: %q: %s is %q, want %q", name, text, key, value, want)
				} else if !known && !slices.Contains([]string{"line", "endLine", "linenumber", "type"}, key) {
					t.Errorf("%s: %q has the property %s", name, text, key)
				}
			}
			for i, one := range strings.Split(strings.TrimSuffix(d.Masks(lines), "\n"), "\n") {
				if c, ok := read(one); !ok || c.data != lines[i] || !strings.HasSuffix(strings.ReplaceAll(c.name, "setsecret", "add-mask"), "add-mask") {
					t.Errorf("%s: %q is read as %+v", name, one, c)
				}
			}
		}
	})
}

// FuzzSections: the names of GitLab's sections are those of its grammar, the same at the beginning
// and at the end (docs.gitlab.com, "Custom collapsible sections").
func FuzzSections(f *testing.F) {
	f.Add(int64(1767225600), int64(7))
	f.Add(int64(-1), int64(-1))
	f.Fuzz(func(t *testing.T, seconds, nanoseconds int64) {
		s := Section{Title: "Build", Began: time.Unix(seconds, nanoseconds)}
		d := dialect(t, "gitlab")
		name := func(text, kind string) string {
			_, rest, ok := strings.Cut(text, kind+":")
			_, name, found := strings.Cut(rest, ":")
			if !ok || !found {
				t.Fatalf("%q", text)
			}
			return strings.TrimRight(name[:strings.IndexAny(name, "[\r")], "\r")
		}
		begin, end := name(d.Begin(s), "section_start"), name(d.End(s, s.Began, true), "section_end")
		if begin != end || strings.Trim(begin, "abcdefghijklmnopqrstuvwxyz0123456789_.-") != "" {
			t.Errorf("%q and %q", begin, end)
		}
	})
}
