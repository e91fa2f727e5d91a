package leaks

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// cell is one run.
type cell struct {
	style, scenario string
	more            []string // flags
}

// place has the directories of a run, and the collector of its trace.
type place struct {
	work, home, tmp, reports, docker, secrets string
	protocol                                  string // of the collector
	collector                                 *testkit.Collector
}

func (w world) place(t testing.TB, c cell) place {
	t.Helper()
	p := place{work: testkit.App(t), home: t.TempDir(), tmp: testkit.Temp(t), reports: t.TempDir(), docker: t.TempDir(), secrets: t.TempDir(), protocol: "grpc"}
	if c.style == "shell" {
		p.protocol = "http/protobuf"
	}
	p.collector = testkit.StartCollector(t, p.protocol)
	s := scenarios[c.scenario]
	if s.dockerfile != "" {
		// No builder and no cache has the step of another run.
		own := strings.Replace(s.dockerfile, "cd /run/secrets;", ": "+c.scenario+" "+c.style+"; cd /run/secrets;", 1)
		testkit.Write(t, filepath.Join(p.work, "Dockerfile"), own)
	}
	testkit.Write(t, filepath.Join(p.secrets, "c"), w.secrets["secret-files"])
	config, err := json.Marshal(map[string]any{
		"auths":   map[string]any{"docker-config.example": map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte("me:" + w.secrets["docker config"]))}},
		"proxies": map[string]any{"default": map[string]string{"httpProxy": "http://u:" + w.secrets["proxy"] + "@127.0.0.1:9", "noProxy": "127.0.0.1"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	testkit.Write(t, filepath.Join(p.docker, "config.json"), string(config))
	return p
}

// environ has a secret in every variable that the program reads one from.
func (w world) environ(p place, c cell) []string {
	s := w.secrets
	env := map[string]string{
		"PATH": os.Getenv("PATH"), "HOME": p.home, "TMPDIR": p.tmp, "DOCKER_CONFIG": p.docker,
		"DOCKER_AUTH_CONFIG":    `{"auths":{"variable.example":{"auth":"` + base64.StdEncoding.EncodeToString([]byte("me:"+s["DOCKER_AUTH_CONFIG"])) + `"}}}`,
		"WARMLAYER_SECRETS":     `"a=` + strings.ReplaceAll(s["secrets"], `"`, `""`) + "\"\n\"d=" + s["lines"] + "second-line-cAn4ry\"",
		"WARMLAYER_SECRET_ENVS": "b=CANARY_B", "CANARY_B": s["secret-envs"], "WARMLAYER_SECRET_FILES": "c=" + filepath.Join(p.secrets, "c"),
		"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": s["AWS environment"], "AZURE_CLIENT_SECRET": s["Azure environment"], "AZURE_CLIENT_ID": "i", "AZURE_TENANT_ID": "t",
		"HTTP_PROXY": "http://u:" + s["proxy"] + "@127.0.0.1:9", "NO_PROXY": "127.0.0.1", "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer " + s["trace header"],
		"OTEL_EXPORTER_OTLP_ENDPOINT": p.collector.URL, "OTEL_EXPORTER_OTLP_PROTOCOL": p.protocol,
		"WARMLAYER_REGISTRY_AUTH": w.logins(s["registry-auth"]), "WARMLAYER_BUILD_CONTEXTS": "x=https://u:" + s["build context"] + "@127.0.0.1:1/x.git",
		"WARMLAYER_SSH": "default=" + w.keys.ssh,
		"GITHUB_OUTPUT": filepath.Join(p.reports, "output"), "GITHUB_STEP_SUMMARY": filepath.Join(p.reports, "summary"),
	}
	maps.Copy(env, w.gha.Env(s["runner's token"]))
	maps.Copy(env, w.styles()[c.style])
	if more := scenarios[c.scenario].environ; more != nil {
		maps.Copy(env, more(w))
	}
	if c.style == "drone" {
		w.ofPlugin(env, strings.Contains(strings.Join(w.flags(p, c), " "), w.registry.Host))
	}
	var all []string
	for name, value := range env {
		all = append(all, name+"="+value)
	}
	return all
}

// ofPlugin gives the logins by the inputs of a Drone plugin. registry-auth and password exclude each
// other: a run has registry-auth where it needs the private registry, or has a text of its own for it.
func (w world) ofPlugin(env map[string]string, private bool) {
	auth := env["WARMLAYER_REGISTRY_AUTH"]
	delete(env, "WARMLAYER_REGISTRY_AUTH")
	if private || auth != w.logins(w.secrets["registry-auth"]) {
		env["PLUGIN_REGISTRY_AUTH"] = auth
		return
	}
	maps.Copy(env, map[string]string{"PLUGIN_REGISTRY": "other.example", "PLUGIN_USERNAME": "me", "PLUGIN_PASSWORD": w.secrets["password"]})
}

// flags are the arguments of a run. Without a builder the lines of cache-from and cache-to have
// credentials for all stores.
func (w world) flags(p place, c cell) []string {
	s, sc := w.secrets, scenarios[c.scenario]
	command := sc.command
	if command == "" {
		command = "build"
	}
	all := []string{command}
	if slices.Contains(plain, command) {
		if sc.args != nil {
			all = append(all, sc.args(w)...)
		}
		return all
	}
	if sc.args != nil {
		all = append(all, sc.args(w)...)
	}
	all = append(all, c.more...)
	if command == "build" {
		all = append(all, "--report-dir="+p.reports, "--progress=plain")
	}
	if c.style == "shell" {
		all = append(all, "--trusted", "--branch=main")
	}
	if !strings.Contains(strings.Join(all, " "), "--builder=") {
		all = append(all, "--builder=embedded")
	}
	if !strings.Contains(strings.Join(all, " "), "--cache-from=") {
		all = append(all, "--cache-from=type=s3,bucket=b,region=r,use_path_style=true,retry_max_attempts=1,endpoint_url=http://127.0.0.1:1,"+csv("access_key_id", "k")+","+
			csv("secret_access_key", s["S3 key of cache-from"])+","+csv("session_token", s["S3 session of cache-from"]))
	}
	if !sc.builds && !strings.Contains(strings.Join(all, " "), "--cache-to=") {
		all = append(all, "--cache-to=type=azblob,account_url=https://a.example,container=ccc,"+csv("secret_access_key", s["Azure key of cache-to"]),
			"--cache-from=type=gha,url=http://127.0.0.1:1/,"+csv("token", s["GitHub's token of cache-from"]))
	}
	return all
}

// output collects what a run prints, and tells when it has printed a word.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
	word string
	seen chan struct{}
	once sync.Once
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	if bytes.Contains(o.text.Bytes(), []byte(o.word)) {
		o.once.Do(func() { close(o.seen) })
	}
	return len(p), nil
}

// run runs one cell, and looks for the secrets in what comes out of it.
func (w world) run(t *testing.T, c cell) {
	t.Helper()
	sc := scenarios[c.scenario]
	p := w.place(t, c)
	cmd := exec.CommandContext(t.Context(), w.program, w.flags(p, c)...)
	if sc.hook {
		hook, err := filepath.Abs("../../hooks/command")
		if err != nil {
			t.Fatal(err)
		}
		cmd = exec.CommandContext(t.Context(), hook)
	}
	cmd.Env, cmd.Dir = w.environ(p, c), p.work
	out := &output{word: " begun", seen: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	watched := watch(cmd.Process.Pid)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var err error
	if sc.interrupt {
		select {
		case <-out.seen:
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		case err := <-ended:
			ended <- err
		}
	}
	err = <-ended
	args, environ := watched.stop()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	text := withoutMasks(out.text.Bytes())
	if code := cmd.ProcessState.ExitCode(); code != sc.code && !t.Failed() {
		t.Errorf("exit code %d, want %d:\n%s", code, sc.code, text)
	}
	if sc.dockerfile == prints && !bytes.Contains(text, []byte("***")) && !strings.HasPrefix(c.scenario, "refused push") {
		t.Errorf("nothing was hidden:\n%s", text)
	}
	own := ownArguments(cmd.Args)
	for name, content := range map[string][]byte{"the log": text, "the arguments": bytes.ReplaceAll(args, own, nil), "the environment of children": environ} {
		if found := slices.DeleteFunc(leaks(content, w.secrets), func(one string) bool {
			// BuildKit hands git the address of a context as an argument: SECURITY.md, "Limits".
			return name == "the environment of children" && (strings.HasPrefix(one, "proxy (") || sc.hook) ||
				name == "the arguments" && strings.HasPrefix(one, "build context (")
		}); len(found) > 0 {
			t.Errorf("%s has %q:\n%s", name, found, content)
		}
	}
	searchFiles(t, w.secrets, p.work, p.home, p.tmp, p.reports)
	w.searchTrace(t, p, sc)
}

// searchTrace reports the secrets in the spans that a run has sent.
func (w world) searchTrace(t testing.TB, p place, sc scenario) {
	t.Helper()
	spans, text := p.collector.Spans()
	if found := leaks([]byte(text), w.secrets); len(found) > 0 {
		t.Errorf("the trace has %q:\n%s", found, text)
	}
	if sc.untraced || !sc.builds {
		return
	}
	if !slices.Contains(p.collector.Authorization(), "Bearer "+w.secrets["trace header"]) {
		t.Errorf("the collector has %d spans with the headers %q", len(spans), p.collector.Authorization())
	}
	if sc.dockerfile == prints && sc.code == 0 && !strings.Contains(text, `"buildkitd"`) {
		t.Errorf("no span of the builder:\n%s", text)
	}
}

// ownArguments are those of the run itself, as /proc has them.
func ownArguments(all []string) []byte { return []byte(strings.Join(all, "\n") + "\n") }

// withoutMasks is a log without the commands that hide secrets, which runners remove from it.
func withoutMasks(text []byte) []byte {
	var kept bytes.Buffer
	for line := range bytes.Lines(text) {
		if !bytes.HasPrefix(line, []byte("::add-mask::")) && !bytes.HasPrefix(line, []byte("##vso[task.setsecret]")) {
			kept.Write(line)
		}
	}
	return kept.Bytes()
}

// String names a cell.
func (c cell) String() string {
	return strings.TrimSpace(fmt.Sprint(c.scenario, "/", c.style, " ", strings.Join(c.more, " ")))
}
