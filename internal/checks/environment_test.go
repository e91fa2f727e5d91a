package checks

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// environmentPrefixes are the prefixes with which the source builds names from two parts: GitLab
// has one set of variables with two prefixes.
var environmentPrefixes = []string{"CI_MERGE_REQUEST_", "CI_EXTERNAL_PULL_REQUEST_"}

// notVariables are words in capitals that are not variables: the error codes of the distribution
// specification, and the second parts of names that are built from two.
var notVariables = strings.Fields(`
	BLOB_UNKNOWN BLOB_UPLOAD_INVALID DENIED DIGEST_INVALID MANIFEST_INVALID MANIFEST_UNKNOWN NAME_UNKNOWN NOT_FOUND
	SIZE_INVALID UNAUTHORIZED UNKNOWN DENY TRUE FALSE HEAD GIT_AUTH_TOKEN GIT_AUTH_HEADER
	ADD COPY FROM GET POST PUT DELETE PATCH INPUT_ARGS INPUT_ENTRYPOINT WARMLAYER_REQUIRE WARMLAYER_SEED WARMLAYER_SOAK
	AWS TARGET TLS KILL NET_ADMIN SYS_ADMIN NOTIFY_SOCKET USER XDG_DATA_HOME XDG_RUNTIME_DIR ID`)

var variableName = regexp.MustCompile(`^([A-Z][A-Z0-9]*(_[A-Z0-9]+)*|[a-z]+_proxy)$`)

// TestEnvironment compares docs/environment.md with the source: every variable that the source
// reads is documented, a CI's variable in the CI's section, and every documented variable is read.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/environment.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for row := range strings.Lines(string(page)) {
		cells := strings.Split(row, "|")
		if len(cells) < 3 {
			continue
		}
		for _, quoted := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
			example := strings.HasPrefix(quoted[1], "PLUGIN_") || strings.HasPrefix(quoted[1], "WARMLAYER_")
			if variableName.MatchString(quoted[1]) && !example {
				documented[quoted[1]] = true
			}
		}
	}
	read := map[string]bool{}
	for _, p := range packages(t) {
		if strings.Contains(p.room(), "testkit") || p.room() == "inputs/generate" {
			continue
		}
		for _, name := range p.GoFiles {
			for _, word := range capitals(t, filepath.Join(p.Dir, name)) {
				read[word] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(read)) {
		if !documented[name] && !slices.Contains(notVariables, name) && !endsAName(name, documented) {
			t.Errorf("%s is read, and not documented", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(documented)) {
		if !read[name] && !madeOf(name, read) {
			t.Errorf("%s is documented, and not read", name)
		}
	}
	if len(read) < 100 {
		t.Errorf("only %d variables were found", len(read))
	}
}

// endsAName tells whether a word is the rest of a name that begins with a prefix.
func endsAName(word string, documented map[string]bool) bool {
	return slices.ContainsFunc(environmentPrefixes, func(p string) bool { return documented[p+word] })
}

// madeOf tells whether a name consists of a prefix and a word of the source.
func madeOf(name string, read map[string]bool) bool {
	return slices.ContainsFunc(environmentPrefixes, func(p string) bool {
		rest, ok := strings.CutPrefix(name, p)
		return ok && read[rest]
	})
}

// capitals are the strings in a Go file that may be names of variables.
func capitals(t *testing.T, file string) []string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	ast.Inspect(parsed, func(n ast.Node) bool {
		if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			if text, err := strconv.Unquote(literal.Value); err == nil && variableName.MatchString(text) {
				words = append(words, text)
			}
		}
		return true
	})
	return words
}
