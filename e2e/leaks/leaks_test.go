// Package leaks runs the program with a secret in every place that takes one, and looks for them in
// everything that comes out of it.
package leaks

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// tail has the characters that encodings change.
const tail = `/+"'<&>%é~`

// secrets are the canaries, by the place where the program finds them.
func secrets() map[string]string {
	all := map[string]string{}
	for _, place := range []string{
		"secrets", "secret-envs", "secret-files", "password", "registry-auth", "docker config", "github-token", "S3 key of cache-from", "S3 session of cache-from",
		"Azure key of cache-to", "GitHub's token of cache-from", "AWS environment", "Azure environment", "runner's token", "GitHub environment", "GitLab's registry", "lines",
	} {
		all[place] = "cAn4ry-" + strings.ReplaceAll(strings.ToLower(place), " ", "-") + tail
	}
	for _, place := range []string{"build context", "proxy", "DOCKER_AUTH_CONFIG", "trace header", "collector", "signature", "builder"} { // in URLs and the like
		all[place] = "cAn4ry-" + strings.ReplaceAll(strings.ToLower(place), " ", "-") + "-x9"
	}
	all["lines"] = "cAn4ry-first-line-of-two\n"
	all["Azure key of cache-to"] = base64.StdEncoding.EncodeToString([]byte("cAn4ry-azure-key"))
	return all
}

// csv is a field of an entry.
func csv(name, value string) string {
	return `"` + name + "=" + strings.ReplaceAll(value, `"`, `""`) + `"`
}

// world are the servers and files that all runs share.
type world struct {
	secrets  map[string]string
	registry testkit.Registry // accepts "me" with the secret password only
	s3       testkit.S3
	azblob   testkit.Azblob
	gha      testkit.GHA
	silent   string // address of a server that never answers
	builder  string // address of a BuildKit that runs already
	secured  string // address of a BuildKit that takes only the TLS key
	scanner  string // name of an image that makes SBOMs
	program  string // path of the program
	docker   string // directory of a program docker that prints its arguments
	keys     keys
}

// styles are the environments of CIs, by name.
func (w world) styles() map[string]map[string]string {
	s := w.secrets
	actions := map[string]string{
		"CI": "true", "GITHUB_EVENT_NAME": "push", "GITHUB_REF": "refs/heads/main", "GITHUB_REF_NAME": "main", "GITHUB_REF_TYPE": "branch",
		"GITHUB_SHA": strings.Repeat("a", 40), "GITHUB_REPOSITORY": "o/app", "GITHUB_TOKEN": s["GitHub environment"], "INPUT_GITHUB-TOKEN": s["github-token"],
	}
	with := func(more map[string]string) map[string]string {
		all := maps.Clone(actions)
		maps.Copy(all, more)
		return all
	}
	return map[string]map[string]string{
		"shell":   {},
		"github":  with(map[string]string{"GITHUB_ACTIONS": "true"}),
		"gitea":   with(map[string]string{"GITHUB_ACTIONS": "true", "GITEA_ACTIONS": "true"}),
		"forgejo": with(map[string]string{"GITHUB_ACTIONS": "true", "FORGEJO_ACTIONS": "true"}),
		"gitlab": {
			"CI": "true", "GITLAB_CI": "true", "CI_PIPELINE_SOURCE": "push", "CI_COMMIT_BRANCH": "main", "CI_DEFAULT_BRANCH": "main",
			"CI_REGISTRY": "registry.example", "CI_REGISTRY_USER": "job", "CI_REGISTRY_PASSWORD": s["GitLab's registry"],
		},
		"buildkite": {"CI": "true", "BUILDKITE": "true", "BUILDKITE_BRANCH": "main", "BUILDKITE_PIPELINE_DEFAULT_BRANCH": "main", "BUILDKITE_PULL_REQUEST": "false", "BUILDKITE_SOURCE": "webhook"},
		"azure":     {"TF_BUILD": "True", "BUILD_REASON": "IndividualCI", "BUILD_SOURCEBRANCH": "refs/heads/main"},
		"drone":     {"CI": "true", "DRONE": "true", "DRONE_BUILD_EVENT": "push", "DRONE_BRANCH": "main", "DRONE_REPO_BRANCH": "main"},
		"fork": {
			"CI": "true", "GITLAB_CI": "true", "CI_PIPELINE_SOURCE": "merge_request_event", "CI_MERGE_REQUEST_IID": "7", "CI_DEFAULT_BRANCH": "main",
			"CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "1", "CI_MERGE_REQUEST_PROJECT_ID": "2",
		},
	}
}

// prints is a Dockerfile whose step prints its secrets in many ways.
const prints = `FROM scratch
ADD rootfs.tar /
COPY site site
RUN --mount=type=ssh --mount=type=secret,id=a --mount=type=secret,id=b --mount=type=secret,id=c --mount=type=secret,id=d sh -c 'cd /run/secrets; for s in a b c d; do \
  cat $s; echo; base64 $s; base64 $s | tr -d "\n"; echo; base64 -w 20 $s; hexdump -ve "1/1 \"%02x\""  $s; echo; hexdump -ve "30/1 \"%02X\" \"\n\"" $s; echo; \
  echo "::add-mask::$(cat $s)"; echo "https://u:$(cat $s)@host/"; for n in 1 2 3; do printf %s "$(cat $s)"; done; done; \
  wide() { printf "$(head -c 24 d | hexdump -ve "1/1 \"%02x\"" | sed "s/../$1/g")"; }; for w in "\\\\x&\\\\000" "\\\\000\\\\x&"; do \
  wide $w; echo; wide $w | base64; wide $w | hexdump -ve "1/1 \"%02x\""; echo; done; env'
`

// scenario is how a run goes.
type scenario struct {
	dockerfile string
	args       func(world) []string
	environ    func(world) map[string]string
	command    string // "" is build
	code       int
	builds     bool // it starts a builder
	interrupt  bool // with SIGTERM, once the step runs
	hook       bool // by the hook of the Buildkite plugin
	untraced   bool // no collector gets its trace
}

func args(all ...string) func(world) []string { return func(world) []string { return all } }

var scenarios = map[string]scenario{
	"ok": {dockerfile: prints, builds: true, args: func(w world) []string {
		return []string{"--outputs=type=oci,dest=out.tar,tar=true", "--provenance=mode=max", "--cache=type=local,dest=cache"}
	}},
	"built": {dockerfile: prints, builds: true, args: func(w world) []string {
		return []string{"--outputs=type=oci,dest=out.tar", "--provenance=mode=max"}
	}},
	"failing step": {dockerfile: prints + "RUN --mount=type=secret,id=a cat /run/secrets/a >&2; exit 3\n", code: 1, builds: true, args: args("--cache=none")},
	"interrupted":  {dockerfile: prints + "RUN --mount=type=secret,id=a cat /run/secrets/a; echo begun; sleep 60\n", code: 130, builds: true, interrupt: true, args: args("--cache=none")},
	"call check":   {dockerfile: "from scratch\nCOPY a b\n# x\nfrom scratch\n", code: 1, builds: true, args: args("--call=check", "--cache=none")},
	"remote builder": {dockerfile: prints, builds: true, args: func(w world) []string {
		return []string{"--builder=" + w.builder, "--provenance=mode=max", "--outputs=type=oci,dest=out.tar", w.cache("s3")}
	}},
	"TLS builder": {dockerfile: prints, builds: true, args: func(w world) []string {
		return []string{"--builder=" + w.secured, "--provenance=mode=max", "--outputs=type=oci,dest=out.tar", "--cache=none"}
	}, environ: func(w world) map[string]string {
		return map[string]string{"BUILDER_NODE_0_AUTH_TLS_CACERT": w.pem("ca"), "BUILDER_NODE_0_AUTH_TLS_CERT": w.pem("cert"), "BUILDER_NODE_0_AUTH_TLS_KEY": w.pem("key")}
	}},
	"refused TLS": {code: 1, args: func(w world) []string {
		return []string{"--builder=tcp://127.0.0.1:1", "--cache=none", "--cache-from=", "--cache-to="}
	}, environ: func(w world) map[string]string {
		return map[string]string{"WARMLAYER_BUILDER_CACERT": w.pem("ca"), "WARMLAYER_BUILDER_CERT": w.pem("cert"), "WARMLAYER_BUILDER_KEY": w.pem("key")}
	}},
	"broken TLS": {code: 2, environ: func(w world) map[string]string {
		return map[string]string{"WARMLAYER_BUILDER": w.secured, "WARMLAYER_BUILDER_CERT": w.pem("cert"), "WARMLAYER_BUILDER_KEY": strings.Replace(w.pem("key"), "END EC", "END", 1)}
	}},
	"docker certificates": {code: 1, args: args("--load", "--tags=x:y", "--cache=none", "--cache-from=", "--cache-to="), environ: func(w world) map[string]string {
		return map[string]string{"DOCKER_HOST": "tcp://127.0.0.1:1", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": w.keys.cert}
	}},
	"inline cache": {dockerfile: prints, builds: true, args: func(w world) []string {
		return []string{"--push", "--tags=" + w.registry.Host + "/inline:x", "--cache=inline", "--provenance=mode=max"}
	}},
	"SBOM": {dockerfile: prints, builds: true, args: func(w world) []string {
		return []string{"--builder=" + w.builder, "--sbom=generator=" + w.scanner, "--provenance=mode=max", "--outputs=type=oci,dest=out.tar", "--cache=none"}
	}},
	"hook": {dockerfile: prints, builds: true, hook: true, environ: func(w world) map[string]string {
		config, _ := json.Marshal(map[string]any{ // strings always encode
			"image": "none", "builder": "embedded", "progress": "plain", "outputs": "type=cacheonly", "cache": "none", "secrets": []string{"a=" + w.secrets["secrets"]},
		})
		return map[string]string{
			"BUILDKITE_PLUGIN_NAME": "WARMLAYER", "BUILDKITE_PLUGIN_WARMLAYER_IMAGE": "none", "BUILDKITE_PLUGIN_CONFIGURATION": string(config),
			"PATH": filepath.Dir(w.program) + ":" + os.Getenv("PATH"),
		}
	}},
	"hook with docker": {hook: true, environ: func(w world) map[string]string {
		return map[string]string{
			"BUILDKITE_PLUGIN_NAME": "WARMLAYER", "BUILDKITE_PLUGIN_WARMLAYER_IMAGE": "warmlayer:x", "BUILDKITE_PLUGIN_WARMLAYER_PASS_0": "CANARY_B",
			"BUILDKITE_PLUGIN_CONFIGURATION": `{"secrets": ["` + w.secrets["signature"] + `"]}`, "PATH": w.docker + ":" + os.Getenv("PATH"),
		}
	}},
	"plan":         {command: "plan", args: args("--cache=type=local,dest=cache")},
	"plan as JSON": {command: "plan", args: args("--json", "--cache=type=local,dest=cache")},
	"bad inputs": {code: 2, args: func(w world) []string {
		return []string{"--cache=type=s3,bucket=b,regio=x," + csv("secret_access_key", w.secrets["S3 key of cache-from"]), "--tags=##vso[x", "--builder=tcp//u:" + w.secrets["builder"] + "@h"}
	}},
	"unbalanced quotes": {code: 2, args: func(w world) []string { return []string{`--outputs="type=local,dest=` + w.secrets["builder"]} }, environ: func(w world) map[string]string {
		return map[string]string{"WARMLAYER_SECRETS": "\"a=" + w.secrets["secrets"], "PLUGIN_CACHE": "[" + w.secrets["signature"]}
	}},
	"broken YAML": {code: 2, environ: func(w world) map[string]string {
		return map[string]string{"WARMLAYER_REGISTRY_AUTH": "- registry: a\n  password: [" + w.secrets["registry-auth"] + "\n : "}
	}},
	"broken JSON": {code: 2, environ: func(w world) map[string]string {
		return map[string]string{"BUILDKITE_PLUGIN_CONFIGURATION": `{"secrets": ["` + w.secrets["signature"] + `"`}
	}},
	"signed cache URL": {code: 2, args: func(w world) []string {
		return []string{"--cache=type=azblob,account_url=https://a.example/?sig=" + w.secrets["signature"] + ",container=ccc"}
	}},
	"unreachable": {code: 1, args: func(w world) []string {
		return []string{"--builder=tcp://u:" + w.secrets["builder"] + "@127.0.0.1:1", "--cache=none", "--cache-from=", "--cache-to="}
	}},
	"refused trace": {dockerfile: prints, builds: true, untraced: true, args: args("--outputs=type=cacheonly", "--cache=none"), environ: func(w world) map[string]string {
		return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://u:" + w.secrets["collector"] + "@127.0.0.1:1"}
	}},
	"broken trace": {dockerfile: prints, builds: true, untraced: true, args: args("--outputs=type=cacheonly", "--cache=none"), environ: func(w world) map[string]string {
		return map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": "u:" + w.secrets["collector"] + "@127.0.0.1:1", "OTEL_EXPORTER_OTLP_HEADERS": w.secrets["trace header"] + "%zz",
			"OTEL_RESOURCE_ATTRIBUTES": "a=" + w.secrets["collector"] + "%zz",
		}
	}},
	"unreachable source": {code: 1, builds: true, args: func(w world) []string {
		return []string{"--cache=none", "https://u:" + w.secrets["build context"] + "@127.0.0.1:1/x.git"}
	}},
	"refused push": {dockerfile: prints, code: 1, builds: true, args: func(w world) []string {
		return []string{"--push", "--tags=" + w.registry.Host + "/refused:x", "--cache=none"}
	}, environ: func(w world) map[string]string {
		return map[string]string{"WARMLAYER_REGISTRY_AUTH": w.logins("wrong" + w.secrets["registry-auth"])}
	}},
	"refused cache": {dockerfile: prints, builds: true, args: func(w world) []string {
		return []string{"--cache=type=registry,ref=" + w.registry.Host + "/refused", "--outputs=type=cacheonly"}
	}, environ: func(w world) map[string]string {
		return map[string]string{"WARMLAYER_REGISTRY_AUTH": w.logins("wrong" + w.secrets["registry-auth"])}
	}},
	"slow cache": {dockerfile: prints, builds: true, args: func(w world) []string {
		return []string{"--cache=type=s3,bucket=b,region=r,use_path_style=true,endpoint_url=http://" + w.silent + "," + csv("access_key_id", "k") + "," + csv("secret_access_key", w.secrets["S3 key of cache-from"]), "--probe-timeout=300ms", "--cache-timeout=1s", "--outputs=type=cacheonly"}
	}},
	"version":    {command: "version"},
	"post":       {command: "post"},
	"dial-stdio": {command: "dial-stdio", code: 1, args: args("/nowhere")},
}

// plain are the scenarios whose commands take no inputs.
var plain = []string{"version", "post", "dial-stdio"}

func (w world) logins(password string) string {
	text, _ := json.Marshal([]map[string]string{{"registry": w.registry.Host, "username": "me", "password": password}}) // strings always encode
	return string(text)
}

// cache is the flag for a cache in a backend.
func (w world) cache(backend string) string {
	return "--cache=" + map[string]string{
		"local": "type=local,dest=cache", "s3": w.s3.Line(",mode=max"), "azblob": w.azblob.Line(""), "gha": "type=gha", "none": "none",
		"registry": "type=registry,ref=" + w.registry.Host + "/cache",
	}[backend]
}

// searchStores reports the secrets in the caches in S3, in Azure and in GitHub's service, whose
// contents are in Azure too.
func (w world) searchStores(t testing.TB) (objects int) {
	t.Helper()
	objects = searchObjects(t, w.secrets, w.s3.Objects(t, ""), func(key string) (io.ReadCloser, error) {
		out, err := w.s3.Client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &w.s3.Bucket, Key: &key})
		if err != nil {
			return nil, err
		}
		return out.Body, nil
	})
	objects += searchObjects(t, w.secrets, w.azblob.Objects(t, ""), func(key string) (io.ReadCloser, error) {
		out, err := w.azblob.Client.DownloadStream(t.Context(), w.azblob.Container, key, nil)
		return out.Body, err
	})
	entries := w.gha.Entries("")
	if found := leaks([]byte(strings.Join(entries, "\n")), w.secrets); len(found) > 0 {
		t.Errorf("the keys of GitHub's cache %q have %q", entries, found)
	}
	return objects
}

// pem is the text of a file beside the TLS key.
func (w world) pem(name string) string {
	text, _ := os.ReadFile(filepath.Join(w.keys.cert, name+".pem")) // without it the build fails
	return string(text)
}

// silence is a server that accepts connections and never answers.
func silence(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			if _, err := listener.Accept(); err != nil {
				return
			}
		}
	}()
	return listener.Addr().String()
}

// cells are the runs of a test: all commands that build nothing in every CI, and of builds one or
// two of each kind. With WARMLAYER_SOAK=1 they are the whole product, with every backend.
func cells() []cell {
	whole := os.Getenv("WARMLAYER_SOAK") != ""
	var all []cell
	for scenario, s := range scenarios {
		if s.hook {
			all = append(all, cell{style: "buildkite", scenario: scenario})
			continue
		}
		for style := range (world{}).styles() {
			if (!s.builds || whole) && scenario != "built" {
				all = append(all, cell{style: style, scenario: scenario})
			}
		}
		if s.builds && !whole && scenario != "built" {
			all = append(all, cell{style: "shell", scenario: scenario})
		}
	}
	usual := map[string]string{"github": "gha", "gitlab": "registry", "buildkite": "s3", "azure": "azblob", "fork": "registry", "gitea": "local"}
	for style, backend := range usual {
		all = append(all, cell{style, "built", []string{"backend " + backend}})
		for _, other := range []string{"s3", "azblob", "gha", "registry", "local"} {
			if whole && other != backend {
				all = append(all, cell{style, "built", []string{"backend " + other}})
			}
		}
	}
	return append(all, cell{style: "github", scenario: "failing step"}, cell{style: "azure", scenario: "failing step"})
}

// TestLeaks counts the runs, each with about twenty secrets in some fifteen encodings each.
func TestLeaks(t *testing.T) {
	t.Parallel()
	w := world{secrets: secrets(), silent: silence(t), builder: testkit.StartBuildkitd(t), s3: testkit.StartS3(t), azblob: testkit.StartAzblob(t)}
	w.registry = testkit.StartPrivateRegistry(t, "me", w.secrets["registry-auth"])
	w.gha = testkit.StartGHAOn(t, w.azblob)
	w.program, w.docker = testkit.Program(t), testkit.StubDocker(t)
	w.newKeys(t)
	w.pushScanner(t)
	w.secrets["store's key"], w.secrets["runner's token"] = w.s3.Secret, w.gha.Token("refs/heads/main", "refs/heads/main")
	var runs atomic.Int64
	t.Run("runs", func(t *testing.T) {
		for _, c := range cells() {
			t.Run(c.String(), func(t *testing.T) {
				t.Parallel()
				for i, flag := range c.more {
					if backend, ok := strings.CutPrefix(flag, "backend "); ok {
						c.more = slices.Clone(c.more)
						c.more[i] = w.cache(backend)
					}
				}
				w.run(t, c)
				runs.Add(1)
			})
		}
	})
	history, err := exec.Command("buildctl", "--addr", w.builder, "debug", "histories", "--format={{json .}}").CombinedOutput()
	if err != nil || !strings.Contains(string(history), "dockerfile") {
		t.Errorf("the history of the builder is %q, %v", history, err)
	}
	// Its operator sees the attributes of a build: SECURITY.md, "Limits".
	public := maps.Clone(w.secrets)
	for _, place := range []string{"proxy", "build context", "S3 key of cache-from", "S3 session of cache-from", "store's key"} {
		delete(public, place)
	}
	if found := leaks(history, public); len(found) > 0 {
		t.Errorf("the history of the builder has %q:\n%s", found, history)
	}
	files, objects := searchFiles(t, w.secrets, w.registry.Root), w.searchStores(t)
	t.Logf("%d runs, %d secrets, %d encodings each, %d files of a registry, %d objects of stores", runs.Load(), len(w.secrets), len(encodings("x")), files, objects)
}
