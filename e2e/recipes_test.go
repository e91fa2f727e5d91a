package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// cacheLine matches a cache in a table of the README.
var cacheLine = regexp.MustCompile("(?m)^\\|.*`(type=[^`…]+)`")

// recipes are the inputs that a page shows: its YAML blocks in which every value is text, and the
// caches in its tables.
func recipes(t *testing.T, page string) []map[string]string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]string
	for _, block := range yamlBlock.FindAllStringSubmatch(string(text), -1) {
		var inputs map[string]string
		if yaml.Unmarshal([]byte(block[1]), &inputs) == nil { // any other block is a workflow
			all = append(all, inputs)
		}
	}
	for _, cell := range cacheLine.FindAllStringSubmatch(string(text), -1) {
		all = append(all, map[string]string{"cache": cell[1]})
	}
	return all
}

// recipeValues replaces a CI's variables and secrets by values.
func recipeValues(text string) string {
	text = strings.NewReplacer("${{ secrets.REGISTRY_AUTH }}", "[{username: user, password: secret}]",
		"$CI_REGISTRY_IMAGE", "registry.gitlab.com/acme/shop").Replace(text)
	return regexp.MustCompile(`\${{[^}]*}}`).ReplaceAllString(text, "secret")
}

// TestRecipes plans a build with the inputs of each recipe, in a job that has GitHub's cache. All
// recipes are valid.
func TestRecipes(t *testing.T) {
	t.Parallel()
	claims := fmt.Sprintf(`{"exp":%d,"ac":"[{\"Scope\":\"refs/heads/main\",\"Permission\":3}]"}`, int64(1)<<40)
	token := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + "."
	dir := t.TempDir()
	testkit.Write(t, filepath.Join(dir, "Dockerfile"), "FROM scratch\n")
	found := 0
	for _, page := range []string{"README.md", "docs/reference/builders.md", "docs/reference/logins.md"} {
		for _, recipe := range recipes(t, page) {
			found++
			cmd := exec.Command(testkit.Program(t), "plan", "--branch", "main", "--default-branch", "main", "--trusted", "--tags", "ghcr.io/acme/shop:1", "--push")
			cmd.Dir = dir
			cmd.Env = []string{"HOME=" + dir, "ACTIONS_RUNTIME_TOKEN=" + token, "ACTIONS_RESULTS_URL=https://results.example/"}
			for name, value := range recipe {
				cmd.Env = append(cmd.Env, "INPUT_"+strings.ToUpper(name)+"="+recipeValues(value))
			}
			if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("\ncache ")) {
				t.Errorf("%s: %v: %v\n%s", page, recipe, err, out)
			}
		}
	}
	if found < 15 {
		t.Errorf("only %d recipes were found", found)
	}
}
