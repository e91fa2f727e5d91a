package inputs

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestCredentials: the values are passed on as they are, JSON among them. All verbs of fmt leave
// the passwords out.
func TestCredentials(t *testing.T) {
	t.Parallel()
	values, problem := parseIn(t.TempDir(), "INPUT_REGISTRY=ghcr.io", "INPUT_USERNAME=me", "INPUT_PASSWORD=hunter2\nline 2",
		`BUILDKITE_PLUGIN_CONFIGURATION={"registry-auth": [{"registry": "r.example", "password": "hunter2"}]}`)
	want := Credentials{Registry: "ghcr.io", Username: "me", Password: "hunter2\nline 2", RegistryAuth: `[{"registry": "r.example", "password": "hunter2"}]`}
	if values.Credentials != want || problem != "" {
		t.Errorf("credentials differ: %v, %s", values.Credentials, problem)
	}
	if shown := fmt.Sprintf("%v %+v %#v", values, values, values); strings.Contains(shown, "hunter2") {
		t.Errorf("a password is shown: %s", shown)
	}
	if !slices.Contains(values.Sensitive(), want.Password) {
		t.Error("the password is not known to be sensitive")
	}
}
