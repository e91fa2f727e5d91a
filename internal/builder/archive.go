package builder

import (
	"archive/tar"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// archive is a tar of a configuration, and of files and directories at the paths that they have
// on this machine. Links are followed.
func archive(config string, files []string) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		t := tar.NewWriter(w)
		err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(path.Join(configDir, configFile), "/"), Mode: 0o600, Size: int64(len(config))})
		if err == nil {
			_, err = io.WriteString(t, config)
		}
		for _, name := range files {
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
