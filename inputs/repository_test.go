package inputs

import (
	"path/filepath"
	"testing"
)

// Only a job on GitHub without a checkout builds the repository from the server by default.
// {{defaultContext}} always means that repository.
func TestDefaultContext(t *testing.T) {
	t.Parallel()
	empty, missing, full := t.TempDir(), filepath.Join(t.TempDir(), "gone"), checkout(t)
	for _, tt := range []struct {
		name, dir     string
		environ       []string
		context, file string
	}{
		{"commit", empty, nil, repository + "#abc", "Dockerfile"},
		{"missing directory", missing, nil, repository + "#abc", "Dockerfile"},
		{"checkout", full, nil, ".", "Dockerfile"},
		{"context is given", full, []string{"INPUT_CONTEXT=."}, ".", "Dockerfile"},
		{"file", empty, []string{"INPUT_FILE=docker/Dockerfile"}, repository + "#abc", "docker/Dockerfile"},
		{"template", full, []string{"INPUT_CONTEXT={{defaultContext}}:app"}, repository + "#abc:app", "Dockerfile"},
		{"template with blanks", full, []string{"INPUT_CONTEXT={{ defaultContext }}"}, repository + "#abc", "Dockerfile"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v, problems := ParseJob(nil, tt.environ, tt.dir, github)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			if v.Context.Source != tt.context || v.Dockerfile.Filename() != tt.file || v.Context.Remote() != (tt.context != ".") {
				t.Errorf("context %+v, Dockerfile %+v; want %q, %q", v.Context, v.Dockerfile, tt.context, tt.file)
			}
		})
	}
}

func TestNoDefaultContext(t *testing.T) {
	t.Parallel()
	_, problems := Parse(nil, nil, t.TempDir())
	if want := "file: no Dockerfile at \"Dockerfile\"\nhint: set file to the Dockerfile's path, or context to its directory"; problems.Error() != want {
		t.Errorf("in an empty directory without a CI:\n%s\nwant:\n%s", problems, want)
	}
}
