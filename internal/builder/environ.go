package builder

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// inherited are the variables that a managed builder gets from the environment. No others are
// passed on: a job's environment contains many credentials, which the builder does not need.
// USER is left out because runc in a user namespace keeps its state in /run when it is "root",
// and in XDG_RUNTIME_DIR when it is unset.
var inherited = []string{
	"HOME",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
	"http_proxy", "https_proxy", "no_proxy", "all_proxy",
	"SSL_CERT_FILE", "SSL_CERT_DIR",
}

// defaultPath is used when PATH is unset.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// variable returns the value of a variable in environ, "" for one that is unset. The last
// assignment holds, as in os/exec.
func variable(environ []string, name string) string {
	for _, v := range slices.Backward(environ) {
		if key, value, _ := strings.Cut(v, "="); key == name {
			return value
		}
	}
	return ""
}

// searchPath returns the PATH of environ, followed by an sbin for each bin: Debian has runc in
// /usr/sbin, which only root has on PATH.
func searchPath(environ []string) string {
	path := variable(environ, "PATH")
	if path == "" {
		return defaultPath
	}
	dirs := filepath.SplitList(path)
	for _, dir := range filepath.SplitList(path) {
		if sbin := filepath.Join(filepath.Dir(dir), "sbin"); filepath.Base(dir) == "bin" && !slices.Contains(dirs, sbin) {
			dirs = append(dirs, sbin)
		}
	}
	return strings.Join(dirs, string(filepath.ListSeparator))
}

// daemonEnviron returns the environment of a daemon that keeps its files in dir.
func daemonEnviron(environ []string, dir string) []string {
	env := []string{
		"PATH=" + searchPath(environ),
		"TMPDIR=" + filepath.Join(dir, "tmp"),
		"XDG_RUNTIME_DIR=" + filepath.Join(dir, "run"),
		"XDG_CONFIG_HOME=" + filepath.Join(dir, "config"),
	}
	for _, v := range environ {
		name, _, _ := strings.Cut(v, "=")
		if slices.Contains(inherited, name) {
			env = append(env, v)
		}
	}
	return env
}

// authorityDirs are the directories of which Go loads every certificate, unless SSL_CERT_DIR is set
// (crypto/x509, root_linux.go).
const authorityDirs = "/etc/ssl/certs:/etc/pki/tls/certs"

// trusting returns an environment in which Go programs also trust the authorities in the files of
// a directory.
func trusting(env []string, dir string) []string {
	dirs := variable(env, "SSL_CERT_DIR")
	if dirs == "" {
		dirs = authorityDirs
	}
	return append(env, "SSL_CERT_DIR="+dirs+":"+dir)
}

// lookPath returns the absolute path of the first of some programs that a directory of path
// contains, "" for none. exec.LookPath would read this process's environment.
func lookPath(path string, names ...string) string {
	for _, name := range names {
		for _, dir := range filepath.SplitList(path) {
			file := filepath.Join(dir, name)
			info, err := os.Stat(file)
			if err == nil && filepath.IsAbs(file) && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return file
			}
		}
	}
	return ""
}
