package builder

import (
	"archive/tar"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/warmlayer/warmlayer/internal/builderspec"
	"github.com/warmlayer/warmlayer/internal/crash"
)

// archive is a tar of a managed builder's configuration and authorities, and of files and
// directories at the paths that they have on this machine. Links are followed.
func archive(o builderspec.Managed) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		defer crash.Catch()
		t := tar.NewWriter(w)
		text, err := config(o.Config, nil)
		if err == nil {
			err = addFile(t, configFile, string(text))
		}
		if err == nil && o.Authorities != "" {
			err = addFile(t, path.Join(authoritiesDir, authoritiesFile), o.Authorities)
		}
		for _, name := range o.ConfigFiles {
			if err == nil {
				err = addTree(t, name)
			}
		}
		if err == nil {
			err = t.Close()
		}
		w.CloseWithError(err)
	}()
	return r
}

// addFile adds a file below the directory of the configuration.
func addFile(t *tar.Writer, name, content string) error {
	name = strings.TrimPrefix(path.Join(configDir, name), "/")
	err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(content))})
	if err == nil {
		_, err = io.WriteString(t, content)
	}
	return err
}

// addTree adds a file, or all files in a directory.
func addTree(t *tar.Writer, root string) error {
	return filepath.WalkDir(root, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Stat(name)
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		f, err := os.Open(name) //nolint:gosec // files that the user names, whose links are followed
		if err != nil {
			return err
		}
		defer f.Close()
		header := &tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(filepath.ToSlash(name), "/"), Mode: 0o600, Size: info.Size()}
		if err := t.WriteHeader(header); err != nil {
			return err
		}
		_, err = io.CopyN(t, f, info.Size())
		return err
	})
}
