package inputs

import (
	"cmp"
	"path/filepath"
	"syscall"
	"testing"
)

func TestContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, ".git/HEAD")
	agent := listen(t)
	for _, name := range []string{"Dockerfile", "app/Dockerfile", "low/dockerfile", "other/Dockerfile.prod", "other/app.dockerfile", "other/.dockerignore", "empty/x", "typo/Dokerfile"} {
		write(t, dir, name)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		context, file string
		path, name    string // of the Dockerfile; a path that is not absolute is in the context
		subdir        string // of the context
		key           string // of the Dockerfile
		problems      string
	}{
		{path: dir + "/Dockerfile", name: "Dockerfile"},
		{context: "app", path: dir + "/app/Dockerfile", name: "app/Dockerfile", subdir: "app"},
		{context: "./app/", file: "app/Dockerfile", path: dir + "/app/Dockerfile", name: "app/Dockerfile", subdir: "app"},
		{context: dir + "/app", path: dir + "/app/Dockerfile", name: "app/Dockerfile", subdir: "app"},
		{context: "low", path: dir + "/low/dockerfile", name: "low/dockerfile", subdir: "low"},
		{context: "app", file: "other/Dockerfile.prod", path: dir + "/other/Dockerfile.prod", name: "other/Dockerfile.prod", subdir: "app", key: "other/Dockerfile.prod"},
		{context: "https://example.com/o/r.git#main:sub", path: "Dockerfile", name: "sub/Dockerfile", subdir: "sub"},
		{context: "https://example.com/o/r.git#main:sub", file: "x/Image", path: "x/Image", name: "sub/x/Image", subdir: "sub", key: "sub/x/Image"},
		{context: "git@example.com:o/r.git", file: "docker/Dockerfile", path: "docker/Dockerfile", name: "docker/Dockerfile", key: "docker/Dockerfile"},
		{context: "https://example.com/context.tar.gz", path: "Dockerfile", name: "Dockerfile"},
		{context: "https://example.com/o/r.git", file: dir + "/app/Dockerfile", path: dir + "/app/Dockerfile", name: "app/Dockerfile", key: "app/Dockerfile"},

		{context: "nope", problems: "context: no directory \"nope\"\nhint: relative paths start from the working directory"},
		{context: "Dockerfile", problems: "context: \"Dockerfile\" is not a directory\nhint: name the directory that it is in"},
		{context: "htps://u:hunter2@h/x", problems: "context: no directory the value\nhint: relative paths start from the working directory"},
		{context: "https://example.com/o/r.git?foo=hunter2", problems: "context: BuildKit does not understand the URL's query\nhint: known are ref, subdir, checksum, submodules and keep-git-dir"},
		{context: "Dockerfile/app", problems: "context: the directory cannot be read\nhint: check the path and its permissions"},
		{context: "-", problems: "context: a context from standard input is not supported\nhint: unpack it into a directory"},
		{context: "{{defaultContext}}:app", problems: "context: there is no default context outside GitHub Actions\nhint: name the directory, or the repository's URL"},
		{context: "{{context}}", problems: "context: the template is unknown\nhint: the only one is {{defaultContext}}"},
		{context: "other", problems: "file: no Dockerfile at \"other/Dockerfile\"\nhint: set file to other/Dockerfile.prod or other/app.dockerfile"},
		{context: "typo", problems: "file: no Dockerfile at \"typo/Dockerfile\"\nhint: set file to typo/Dokerfile"},
		{context: "empty", problems: "file: no Dockerfile at \"empty/Dockerfile\"\nhint: set file to the Dockerfile's path, or context to its directory"},
		{context: "other", file: "Dockerfile.prod", problems: "file: no Dockerfile at \"Dockerfile.prod\"\nhint: the path starts from the working directory: did you mean \"other/Dockerfile.prod\"?"},
		{file: "no/such/Dockerfile", problems: "file: no Dockerfile at \"no/such/Dockerfile\"\nhint: there is no directory \"no/such\" either"},
		{file: "other", problems: "file: \"other\" is a directory\nhint: set file to other/Dockerfile.prod or other/app.dockerfile"},
		{file: "https://example.com/Dockerfile", problems: "file: the Dockerfile must be a file\nhint: save it in the working directory first, or write - and pipe it in"},
		{file: "pipe", problems: "file: \"pipe\" is not a regular file\nhint: write - to read the Dockerfile from standard input"},
		{context: "nope", file: "nope/Dockerfile", problems: "context: no directory \"nope\"\nhint: relative paths start from the working directory\n" +
			"file: no Dockerfile at \"nope/Dockerfile\"\nhint: there is no directory \"nope\" either"},
	} {
		t.Run(tt.context+" "+tt.file, func(t *testing.T) {
			t.Parallel()
			v, problems := Parse(nil, []string{"INPUT_CONTEXT=" + tt.context, "INPUT_FILE=" + tt.file, "SSH_AUTH_SOCK=" + agent}, dir)
			if got := problems.Error(); got != tt.problems {
				t.Fatalf("got:\n%s\nwant:\n%s", got, tt.problems)
			}
			if tt.problems != "" {
				return
			}
			d := v.Dockerfile
			if cmp.Or(d.Path, d.InContext) != tt.path || d.Name != tt.name || v.Context.Subdir != tt.subdir || d.Key != tt.key {
				t.Errorf("context %+v and Dockerfile %+v\nwant %+v", v.Context, d, tt)
			}
			if here := d.Path != ""; here != (d.Text != nil) {
				t.Errorf("the Dockerfile's text is %q", d.Text)
			}
		})
	}
}
