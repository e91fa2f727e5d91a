package builder

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// inherited are the variables that a daemon of ours gets from the environment.
// Nothing else passes: a job's environment is full of credentials, which no daemon
// needs. USER is left out on purpose: runc inside a
// user namespace keeps its state in /run when it is "root", and under
// XDG_RUNTIME_DIR when it is unset.
var inherited = []string{
	"HOME",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
	"http_proxy", "https_proxy", "no_proxy", "all_proxy",
	"SSL_CERT_FILE", "SSL_CERT_DIR",
}

// defaultPath stands in for a PATH that is not set.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// variable returns the value of a variable in environ; the last one holds, as for
// os/exec.
func variable(environ []string, name string) string {
	for _, v := range slices.Backward(environ) {
		if key, value, _ := strings.Cut(v, "="); key == name {
			return value
		}
	}
	return ""
}

// searchPath returns the PATH of environ, and after it an sbin for each bin: Debian
// has runc in /usr/sbin, which is on the PATH of root alone.
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

// daemonEnviron returns the environment of a daemon whose files belong into dir.
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

// lookPath returns the absolute path of the first of names found in the directories
// of path, "" when there is none. Unlike exec.LookPath it reads no environment.
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
