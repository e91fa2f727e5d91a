package testkit

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"
)

// Files lists a directory, or a tar archive, with the mode and digest of each file.
func Files(t testing.TB, path string) string {
	t.Helper()
	var list []string
	add := func(name string, mode os.FileMode, content []byte) {
		list = append(list, strings.Join([]string{name, mode.String(), digest.FromBytes(content).String()}, " "))
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.IsDir() {
		err = filepath.WalkDir(path, func(name string, d os.DirEntry, err error) error {
			info, statErr := d.Info()
			var content []byte
			if err = errors.Join(err, statErr); err == nil && d.Type().IsRegular() {
				content, err = os.ReadFile(name)
			}
			add(strings.TrimPrefix(name, path), info.Mode(), content)
			return err
		})
	} else {
		err = untar(path, add)
	}
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return strings.Join(list, "\n")
}

func untar(path string, add func(string, os.FileMode, []byte)) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	for archive := tar.NewReader(file); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			return err
		}
		add(header.Name, header.FileInfo().Mode(), content)
	}
}

// StubDocker is a directory for PATH, with a docker that prints its arguments, one on each line.
func StubDocker(t testing.TB) string {
	t.Helper()
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "docker"), []byte("#!/bin/sh\nprintf '%s\\n' \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return bin
}
