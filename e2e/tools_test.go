package e2e

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// caching is a program that keeps a cache, whose directory a step has as a cache mount.
type caching struct {
	name    string
	base    func(t *testing.T, registry string) string // pushes the image with the program
	files   func(t *testing.T, app string)             // beside the Dockerfile
	changed string                                     // the file that the second build has changed
	step    string                                     // in /src, from the option with which the mount is given
	mounts  int

	cold, warm string // what the step prints in the first and in the second build, and not in the other
}

var cachings = []caching{
	{
		"go", goTools, goModule, "main.go",
		"--mount=type=cache,target=/root/.cache/go-build --mount=type=cache,target=/root/go/pkg/mod GOPROXY=file:///src/proxy GOSUMDB=off go build -v -o /app . 2>&1 && /app",
		2, "go: downloading github.com/pkg/errors", "hello again",
	},
	{
		"npm", nodeTools, npmPackage, "index.js",
		"--mount=type=cache,target=/tmp/.npm node registry.js && node index.js",
		1, "served /left/-/left-1.0.0.tgz", "hello again",
	},
	{
		"pip", cachingTools, pipPackage, "main.py",
		"--mount=type=cache,target=/root/.cache/pip python3 registry.py && PYTHONPATH=/out python3 main.py",
		1, "served /simple/left/left-1.0-py3-none-any.whl", "Using cached",
	},
	{
		"apt", cachingTools, aptPackage, "note",
		"--mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt,sharing=locked " +
			"echo 'deb [trusted=yes] copy:/src/archive ./' > /etc/apt/sources.list && apt-get update && apt-get install -y left && cat note /left",
		2, "Get:1 copy:/src/archive ./ left", "Need to get 0 B",
	},
	{
		"ccache", cachingTools, cProgram, "two.c",
		"--mount=type=cache,target=/root/.cache/ccache " + testkit.Awaits("/root/.cache/ccache/made", "grep -q again two.c") +
			"; ccache --zero-stats && ccache tcc -c one.c && ccache tcc -c two.c && ccache --print-stats && date > /root/.cache/ccache/made",
		1, "cache_miss\t2", "cache_miss\t1",
	},
}

// TestCachingTools: Go, npm, pip, apt and ccache find in their cache mounts what a build on another builder has left there.
func TestCachingTools(t *testing.T) {
	t.Parallel()
	for _, c := range cachings {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			registry, app := testkit.StartRegistry(t).Host, t.TempDir()
			c.files(t, app)
			testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM "+c.base(t, registry)+"\nWORKDIR /src\nCOPY . .\nRUN "+c.step+"\n")
			run := testkit.Invocation{Dir: app, Branch: "main", Args: []string{
				"--cache", "type=registry,ref=" + registry + "/cache", "--cache-mounts", "auto", "--outputs", "type=cacheonly",
			}}
			for _, build := range []struct {
				says, not string
				restored  int
			}{{c.cold, c.warm, 0}, {c.warm, c.cold, c.mounts}} {
				out := run.Start(t)
				restored := 0
				for _, m := range out.Report.Mounts {
					if m.Restored != nil {
						restored++
					}
				}
				if out.Code != 0 || restored != build.restored || !strings.Contains(out.Text, build.says) || strings.Contains(out.Text, build.not) {
					t.Fatalf("want %q, not %q, and %d mounts restored; %+v\n%s", build.says, build.not, build.restored, out.Report.Mounts, out.Text)
				}
				before, err := os.ReadFile(filepath.Join(app, c.changed))
				if err != nil {
					t.Fatal(err)
				}
				testkit.Write(t, filepath.Join(app, c.changed), strings.ReplaceAll(string(before), "hello", "hello again"))
			}
		})
	}
}

func goTools(t *testing.T, registry string) string {
	t.Helper()
	file, places := goBase(t)
	return standIn(t, registry+"/base/go", file, places...)
}

func nodeTools(t *testing.T, registry string) string {
	t.Helper()
	file, places := nodeBase(t)
	return standIn(t, registry+"/base/node", file, places...)
}

// cachingTools is Debian with pip, apt and ccache.
func cachingTools(t *testing.T, registry string) string {
	t.Helper()
	layer, err := tarball.LayerFromFile(filepath.Join(testkit.Bases(t, "caching"), "caching.tar"))
	if err != nil {
		t.Fatal(err)
	}
	testkit.PushImage(t, registry+"/base/debian", []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "DEBIAN_FRONTEND=noninteractive"}, layer)
	return registry + "/base/debian"
}

// goModule is a program that needs a module, and a proxy with it, which this machine has for its own module.
func goModule(t *testing.T, app string) {
	t.Helper()
	const version = "v0.9.1"
	testkit.Write(t, filepath.Join(app, "go.mod"), "module left\n\ngo 1.26\n\nrequire github.com/pkg/errors "+version+"\n")
	testkit.Write(t, filepath.Join(app, "main.go"), "package main\n\nimport (\n\t\"fmt\"\n\n\t\"github.com/pkg/errors\"\n)\n\nfunc main() { fmt.Println(errors.New(\"hello\")) }\n")
	modules, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	const proxied = "github.com/pkg/errors/@v"
	for _, kind := range []string{"info", "mod", "zip"} {
		content, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(modules)), "cache", "download", proxied, version+"."+kind))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(app, "proxy", proxied, version+"."+kind), string(content))
	}
}

// npmPackage is a program that needs a package, and a registry with it, beside which npm runs.
func npmPackage(t *testing.T, app string) {
	t.Helper()
	made := t.TempDir()
	write(t, filepath.Join(made, "package", "package.json"), `{"name": "left", "version": "1.0.0"}`)
	write(t, filepath.Join(made, "package", "index.js"), "module.exports = text => console.log(text)\n")
	archive(t, "tar", "-czf", filepath.Join(app, "left.tgz"), "-C", made, "package")
	testkit.Write(t, filepath.Join(app, "package.json"), `{"name": "app", "version": "1.0.0", "dependencies": {"left": "1.0.0"}}`)
	testkit.Write(t, filepath.Join(app, "index.js"), "require('left')('hello')\n")
	testkit.Write(t, filepath.Join(app, "registry.js"), `const fs = require('fs'), crypto = require('crypto'), {spawn} = require('child_process')
const content = fs.readFileSync('left.tgz'), at = 'http://127.0.0.1:4873'
const dist = {tarball: at + '/left/-/left-1.0.0.tgz', integrity: 'sha512-' + crypto.createHash('sha512').update(content).digest('base64')}
const lock = {name: 'app', version: '1.0.0', lockfileVersion: 3, requires: true, packages: {
  '': {name: 'app', version: '1.0.0', dependencies: {left: '1.0.0'}},
  'node_modules/left': {version: '1.0.0', resolved: dist.tarball, integrity: dist.integrity}}}
fs.writeFileSync('package-lock.json', JSON.stringify(lock))
require('http').createServer((request, answer) => {
  console.log('served ' + request.url)
  answer.end(request.url.endsWith('.tgz') ? content : JSON.stringify({name: 'left', versions: {'1.0.0': {name: 'left', version: '1.0.0', dist}}}))
}).listen(4873, '127.0.0.1', () => {
  spawn('npm', ['ci', '--no-audit', '--no-fund', '--registry', at], {stdio: 'inherit'}).on('exit', code => process.exit(code))
})
`)
}

// pipPackage is a program that needs a package, and an index with it, beside which pip runs.
func pipPackage(t *testing.T, app string) {
	t.Helper()
	testkit.Write(t, filepath.Join(app, "main.py"), "import left\nprint('hello')\n")
	testkit.Write(t, filepath.Join(app, "registry.py"), `import http.server, subprocess, sys, threading, zipfile
wheel = 'left-1.0-py3-none-any.whl'
with zipfile.ZipFile(wheel, 'w') as z:
    z.writestr('left.py', '')
    z.writestr('left-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\nName: left\nVersion: 1.0\n')
    z.writestr('left-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n')
    z.writestr('left-1.0.dist-info/RECORD', '')
class Index(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print('served ' + self.path, flush=True)
        file = self.path.endswith('.whl')
        content = open(wheel, 'rb').read() if file else ('<a href="%s">%s</a>' % (wheel, wheel)).encode()
        self.send_response(200)
        self.send_header('Content-Type', 'application/octet-stream' if file else 'text/html')
        self.send_header('Cache-Control', 'max-age=86400')
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    def log_message(self, *all): pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 4873), Index)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.exit(subprocess.run(['pip', 'install', '--index-url', 'http://127.0.0.1:4873/simple/', '--trusted-host', '127.0.0.1', '--target', '/out', 'left']).returncode)
`)
}

// aptPackage is a package, and an archive with it.
func aptPackage(t *testing.T, app string) {
	t.Helper()
	const about = "Package: left\nVersion: 1.0\nArchitecture: all\nMaintainer: Left <left@example.com>\nDescription: a file\n"
	made, file := t.TempDir(), filepath.Join(app, "archive", "left.deb")
	write(t, filepath.Join(made, "DEBIAN", "control"), about)
	testkit.Write(t, filepath.Join(made, "left"), "left\n")
	testkit.Write(t, filepath.Join(app, "note"), "hello\n")
	write(t, file, "")
	archive(t, "dpkg-deb", "--build", "--root-owner-group", made, file)
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Write(t, filepath.Join(app, "archive", "Packages"), fmt.Sprintf("%sFilename: ./left.deb\nSize: %d\nSHA256: %x\n", about, len(content), sha256.Sum256(content)))
}

// cProgram is two files, of which one changes.
func cProgram(t *testing.T, app string) {
	t.Helper()
	testkit.Write(t, filepath.Join(app, "one.c"), "int one(void) { return 1; }\n")
	testkit.Write(t, filepath.Join(app, "two.c"), "const char *two(void) { return \"hello\"; }\n")
}

// write writes a file, and the directory that it is in.
func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	testkit.Write(t, path, content)
}

// archive runs a program that makes an archive.
func archive(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
}
