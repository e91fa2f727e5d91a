package checks

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// known are the names that a snippet may use: inputs, and what each package adds to them.
type known struct {
	inputs, component, plugin, variables map[string]bool
}

func knownNames(t *testing.T) known {
	t.Helper()
	k := known{map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{"WARMLAYER_REQUIRE": true, "WARMLAYER_SOAK": true, "WARMLAYER_SEED": true}} // of the tests
	for _, f := range inputs.Fields {
		k.inputs[f.Name] = true
		k.variables["WARMLAYER_"+strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))] = true
	}
	for _, o := range inputs.StepOutputs {
		k.variables["WARMLAYER_"+strings.ToUpper(strings.ReplaceAll(o.Name, "-", "_"))] = true
	}
	for name := range testkit.KeysAt(t, "templates/build.yml", "spec", "inputs") {
		k.component[name] = true
	}
	for name := range testkit.KeysAt(t, "plugin.yml", "configuration", "properties") {
		k.plugin[name] = true
	}
	return k
}

// check finds the names in a document that are passed to the program, and returns how many there
// are.
func (k known) check(t *testing.T, node any) int {
	t.Helper()
	found := 0
	names := func(where string, given any, allowed map[string]bool) {
		values, _ := given.(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(values)) {
			if !allowed[strings.ReplaceAll(name, "_", "-")] {
				t.Errorf("%s: there is no %q", where, name)
			}
		}
		found++
	}
	text := func(key string, in map[string]any) string { s, _ := in[key].(string); return s }
	switch n := node.(type) {
	case []any:
		for _, element := range n {
			found += k.check(t, element)
		}
	case map[string]any:
		switch {
		case strings.Contains(text("uses", n), "warmlayer/warmlayer@"), text("uses", n) == "./":
			names("with", n["with"], k.inputs)
		case strings.Contains(text("component", n), "/warmlayer/"):
			names("component", n["inputs"], k.component)
		case strings.Contains(text("image", n), "warmlayer/warmlayer:") && n["settings"] != nil:
			names("settings", n["settings"], k.inputs)
		}
		for key, value := range n {
			if strings.Contains(key, "warmlayer/warmlayer.git#") {
				names("plugin", value, k.plugin)
			}
			found += k.check(t, value)
		}
	}
	return found
}

var (
	ownVariable = regexp.MustCompile(`WARMLAYER_[A-Z_]*[A-Z]`)
	codeBlock   = regexp.MustCompile("(?s)```(\\w+)\n(.*?)```")
	commandLine = regexp.MustCompile(`(?m)^[ -]*warmlayer (.*)$`)
	longFlag    = regexp.MustCompile(`--([a-z-]+)`)
)

// TestPagesOfCIs parses every snippet in docs/ci: it is valid YAML, and every input,
// setting, variable and flag in it exists.
func TestPagesOfCIs(t *testing.T) {
	t.Parallel()
	k := knownNames(t)
	pages, err := filepath.Glob("docs/ci/*.md")
	if err != nil || len(pages) < 12 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	for _, page := range pages {
		t.Run(filepath.Base(page), func(t *testing.T) {
			t.Parallel()
			k.checkPage(t, readText(t, page))
		})
	}
}

// checkSnippets checks the snippets of a page, and returns how often they use the program.
func (k known) checkSnippets(t *testing.T, page string) int {
	t.Helper()
	found := 0
	for _, block := range codeBlock.FindAllStringSubmatch(page, -1) {
		if block[1] != "yaml" {
			continue
		}
		var document any
		if err := yaml.Unmarshal([]byte(block[2]), &document); err != nil {
			t.Errorf("%v in\n%s", err, block[2])
		}
		found += k.check(t, document)
	}
	for _, name := range ownVariable.FindAllString(page, -1) {
		if !k.variables[name] {
			t.Errorf("unknown variable %s", name)
		}
		found++
	}
	for _, line := range commandLine.FindAllStringSubmatch(page, -1) {
		for _, flag := range longFlag.FindAllStringSubmatch(line[1], -1) {
			if !k.inputs[flag[1]] && !slices.Contains([]string{"json", "sort", "lifecycle"}, flag[1]) {
				t.Errorf("unknown flag --%s", flag[1])
			}
			found++
		}
	}
	return found
}

func (k known) checkPage(t *testing.T, page string) {
	t.Helper()
	if k.checkSnippets(t, page) == 0 {
		t.Error("the page does not show how to use the program")
	}
	for _, part := range []string{"**Secrets.**", "**Caches.**", "**Who writes.**", "**In a container.**", "**Privileges.**"} {
		if !strings.Contains(page, part) {
			t.Errorf("the page does not describe %s", part)
		}
	}
}

// TestPages parses the snippets of all other pages, and follows every link from one page to
// another: the file exists, and has the heading.
func TestPages(t *testing.T) {
	t.Parallel()
	k, links := knownNames(t), 0
	out, err := exec.Command("git", "ls-files", "*.md").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range strings.Fields(string(out)) {
		t.Run(page, func(t *testing.T) {
			text := readText(t, page)
			if !strings.HasPrefix(page, "docs/ci/") {
				k.checkSnippets(t, text)
			}
			links += checkLinks(t, page, text)
		})
	}
	if links < 50 {
		t.Errorf("only %d links were found", links)
	}
}

// checkLinks follows the links of a page, and returns how many there are.
func checkLinks(t *testing.T, page, text string) int {
	t.Helper()
	links := pageLink.FindAllStringSubmatch(codeBlock.ReplaceAllString(text, ""), -1)
	for _, link := range links {
		file := page
		if link[1] != "" {
			file = filepath.Join(filepath.Dir(page), link[1])
		}
		if info, err := os.Stat(file); err != nil {
			t.Errorf("%s does not exist", link[1])
		} else if link[2] != "" && (info.IsDir() || !slices.Contains(headings(readText(t, file)), link[2])) {
			t.Errorf("%s has no heading for #%s", file, link[2])
		}
	}
	return len(links)
}

// pageLink is a link to a file of the repository, or to a heading.
var pageLink = regexp.MustCompile(`\]\(([^)\s:#]*)#?([^)\s:]*)\)`)

func readText(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

var dockerRun = regexp.MustCompile(`(?m)^ *docker run .*\\\n(?:.*\\\n)*.*warmlayer/warmlayer:latest$`)

// The commands in the pages that pass variables to a container give docker the names of all
// variables with the CI's prefix, without their values.
func TestVariablesIntoContainers(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("docs/ci/*.md")
	if err != nil {
		t.Fatal(err)
	}
	bin, found := testkit.StubDocker(t), 0
	for _, page := range append(pages, "docs/environment.md") {
		for _, command := range dockerRun.FindAllString(readText(t, page), -1) {
			found++
			cmd := exec.Command("sh", "-c", command)
			cmd.Env = []string{
				"PATH=" + bin + ":/usr/bin:/bin", "HOME=/root", "WARMLAYER_TAGS=a\nb c", "OTHER=canary",
				"CIRCLE_BRANCH=canary $(id)", "CIRCLECI=true", "TF_BUILD=True", "BUILD_REASON=canary", "SYSTEM_JOBID=canary",
			}
			out, err := cmd.Output()
			if err != nil || strings.Contains(string(out), "canary") || !strings.Contains(string(out), "\n--env\nWARMLAYER_TAGS\n") ||
				!strings.HasSuffix(string(out), "\nghcr.io/warmlayer/warmlayer:latest\n") {
				t.Errorf("%s: %v, docker gets\n%s", page, err, out)
			}
			for _, name := range cmd.Env[4:] {
				name, _, _ = strings.Cut(name, "=")
				prefix := regexp.MustCompile(`^[A-Z]+_|^CIRCLE`).FindString(name)
				if strings.Contains(command, prefix) && !strings.Contains(string(out), "\n--env\n"+name+"\n") {
					t.Errorf("%s: docker does not get %s:\n%s", page, name, out)
				}
			}
		}
	}
	if found < 4 {
		t.Errorf("only %d commands run the image", found)
	}
}

// headings are the anchors that GitHub makes from a page's headings.
func headings(page string) []string {
	var all []string
	for line := range strings.Lines(codeBlock.ReplaceAllString(page, "")) {
		if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && line[0] == '#' {
			title = strings.ToLower(strings.TrimSpace(title))
			all = append(all, strings.ReplaceAll(regexp.MustCompile(`[^a-z0-9_ -]`).ReplaceAllString(title, ""), " ", "-"))
		}
	}
	return all
}
