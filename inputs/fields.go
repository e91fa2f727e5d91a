package inputs

import (
	"cmp"
	"slices"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

//go:generate go run ./generate ..

// Field describes one input. Its flag is --Name; its variables are INPUT_,
// PLUGIN_ and WARMLAYER_ followed by the name in upper case.
type Field struct {
	Name    string
	Kind    syntax.Kind
	Default string   // the value when unset; "" when there is none
	Unset   string   // what unset means, in Markdown, where Default cannot say it
	Choices []string // the only values allowed; nil: any
	Help    string   // one sentence of Markdown for action.yml, the README and --help
	Secret  bool     // items may hold any character but a newline
	Action  string   // the value of GitHub's own when unset there: an expression for action.yml
}

// Compressions are the layer compressions that BuildKit v0.33.1 writes
// (util/compression).
var Compressions = []string{"gzip", "estargz", "zstd", "uncompressed"}

// Fields is the table of inputs: what is read, documented and generated, in the
// order in which it is shown. Names and list rules of the first part are those of
// docker/build-push-action.
var Fields = []Field{
	{Name: "context", Unset: "`.`; on GitHub without a checkout, `{{defaultContext}}`", Help: "Directory to build, or a Git or HTTP URL; `{{defaultContext}}` is the commit on GitHub."},
	{Name: "file", Unset: "`Dockerfile` in the context", Help: "Path of the Dockerfile, from the working directory; for a URL, from the context's root."},
	{Name: "build-contexts", Kind: syntax.Lines, Help: "Further contexts, one `name=place` a line: a directory, a URL, `docker-image://…` or `oci-layout://…`."},
	{Name: "target", Unset: "the last stage", Help: "Stage of the Dockerfile to build."},
	{Name: "build-args", Kind: syntax.Lines, Help: "Build arguments, one `NAME=value` a line; a bare `NAME` takes its value from the environment."},
	{Name: "labels", Kind: syntax.Lines, Help: "Labels of the image, one `key=value` a line."},
	{Name: "annotations", Kind: syntax.Lines, Help: "Annotations of the image, one `key=value` a line; `index,manifest:key=value` says where."},
	{Name: "tags", Kind: syntax.Words, Help: "Names of the image, such as `ghcr.io/owner/app:1.2`."},
	{Name: "push", Kind: syntax.Bool, Default: "false", Help: "Push the image to the registries of its tags."},
	{Name: "load", Kind: syntax.Bool, Default: "false", Help: "Load the image into the local engine."},
	{Name: "outputs", Kind: syntax.Entries, Help: "Where the result goes, one a line: `type=local,dest=out`; types `image`, `registry`, `local`, `oci`, `docker`, `tar`, `cacheonly`."},
	{Name: "platforms", Kind: syntax.Words, Unset: "the builder's own", Help: "Platforms to build for, such as `linux/arm64`."},
	{Name: "provenance", Unset: "`mode=max` for a public repository on GitHub, else `mode=min,inline-only=true`; none when loading", Help: "Provenance attestation: `true`, `false`, or attributes such as `mode=max`."},
	{Name: "sbom", Unset: "`false`", Help: "SBOM attestation: `true`, `false`, or `generator=` and an image."},
	{Name: "attests", Kind: syntax.Entries, Help: "Attestations, one a line, such as `type=sbom,generator=image`."},
	{Name: "call", Default: "build", Help: "What to ask of the Dockerfile: `build`, `check`, `outline` or `targets`; `check,format=json` answers in JSON."},
	{Name: "no-cache", Kind: syntax.Bool, Default: "false", Help: "Run every step, whatever the caches hold."},
	{Name: "no-cache-filters", Kind: syntax.Words, Help: "Stages whose steps are all to run."},
	{Name: "pull", Kind: syntax.Bool, Default: "false", Help: "Look for newer base images, even where the builder has them."},
	{Name: "secrets", Kind: syntax.Lines, Secret: true, Help: "Secrets for `RUN --mount=type=secret`, one `id=value` a line; quote a value of several lines."},
	{Name: "secret-envs", Kind: syntax.Words, Help: "Secrets from variables, such as `id=NAME`."},
	{Name: "secret-files", Kind: syntax.Lines, Help: "Secrets from files, one `id=path` a line."},
	{Name: "ssh", Kind: syntax.Words, Help: "Agents for `RUN --mount=type=ssh`: `default`, or `id=path` of a socket or key; quote several paths."},
	{Name: "github-token", Unset: "`github.token` in the GitHub Action", Action: "${{ github.token }}", Help: "Token for Git contexts on the GitHub server."},
	{Name: "add-hosts", Kind: syntax.Words, Help: "Further hosts for `RUN`, such as `name=10.0.0.1`."},
	{Name: "allow", Kind: syntax.Words, Help: "Entitlements: `network.host`, `security.insecure`, `device=name`."},
	{Name: "cgroup-parent", Unset: "BuildKit's", Help: "Control group that `RUN` is put under."},
	{Name: "network", Choices: []string{"default", "none", "host"}, Unset: "`default`", Help: "Network of `RUN`."},
	{Name: "shm-size", Kind: syntax.Size, Unset: "BuildKit's", Help: "Size of `/dev/shm` in `RUN`, such as `64m` or `1g`."},
	{Name: "ulimit", Kind: syntax.Lines, Help: "Limits of `RUN`, one `name=soft:hard` a line, such as `nofile=1024:2048`."},

	{Name: "registry", Unset: "`docker.io`", Help: "Registry that `username` and `password` are for."},
	{Name: "username", Help: "User to log in as."},
	{Name: "password", Kind: syntax.Block, Help: "Password or token of that user."},
	{Name: "registry-auth", Kind: syntax.Block, Help: "Logins of several registries: a YAML list of `registry`, `username`, `password`, and where wanted `scope` and `ecr`."},

	{Name: "cache", Kind: syntax.Entries, Default: "auto", Help: "Caches, one a line, without the branch: `type=registry,ref=ghcr.io/owner/app`, likewise `local`, `s3`, `azblob`, or a bare `gha`, `inline`, `local`, `auto`, `none`. Beside `cache-from` or `cache-to`, unset means `none`."},
	{Name: "cache-from", Kind: syntax.Entries, Help: "Caches to read as BuildKit does, passed on verbatim: no branch is added."},
	{Name: "cache-to", Kind: syntax.Entries, Help: "Caches to write as BuildKit does, passed on verbatim: no branch is added."},
	{Name: "cache-key", Unset: "derived from Dockerfile, context, target and platforms", Help: "Identity of this image among those that share a cache."},
	{Name: "cache-mode", Choices: []string{"max", "min"}, Unset: "`max`; inline: `min`", Help: "Layers to cache: those of every stage, or of the result alone."},
	{Name: "compression", Choices: Compressions, Unset: "`zstd`", Help: "Compression of the cache's layers."},
	{Name: "compression-level", Kind: syntax.Int, Unset: "BuildKit's", Help: "Level of that compression: gzip and estargz 0–9, zstd 0–22."},
	{Name: "force-compression", Kind: syntax.Bool, Unset: "`false`", Help: "Compress layers again that have another compression."},
	{Name: "oci-mediatypes", Kind: syntax.Bool, Unset: "`true`", Help: "Use OCI media types in the cache instead of Docker's."},
	{Name: "image-manifest", Kind: syntax.Bool, Unset: "`true`", Help: "Store the cache as an image manifest instead of an image index."},
	{Name: "cache-fallbacks", Kind: syntax.Words, Help: "Further branches whose caches are read, in order."},
	{Name: "cache-write", Default: "auto", Choices: []string{"auto", "always", "never"}, Help: "Whether to write caches: by the trust rules, always, or never."},
	{Name: "cache-strict", Kind: syntax.Bool, Default: "false", Help: "Let a cache fault fail the step."},
	{Name: "probe-timeout", Kind: syntax.Duration, Default: "5s", Help: "Time for finding out which caches exist."},
	{Name: "cache-timeout", Kind: syntax.Duration, Default: "10m", Help: "Time for importing a cache's manifest, and for exporting a cache."},

	{Name: "branch", Unset: "detected", Help: "Branch that is built."},
	{Name: "base-branch", Unset: "detected", Help: "Branch that a pull request is to be merged into."},
	{Name: "default-branch", Unset: "detected", Help: "The repository's default branch."},
	{Name: "pull-request", Kind: syntax.Int, Unset: "detected", Help: "Number of the pull request."},
	{Name: "trusted", Kind: syntax.Bool, Unset: "detected", Help: "Whether this run may write caches."},

	{Name: "builder", Kind: syntax.Lines, Default: "auto", Help: "BuildKit to use: `auto`, `embedded`, `rootless`, `container` (beside ours, through the engine's socket), or an address: `unix://`, `tcp://`, `docker-container://`, `podman-container://`, `kube-pod://`, `ssh://`; or the name of a builder that buildx has made. Several, one a line, each with `;platforms=linux/arm64` after it."},
	{Name: "driver-opts", Kind: syntax.Lines, Help: "Options of a daemon of ours, one a line: `env.NAME=value`; in a container also `image`, `network`, `memory`, `memory-swap`, `cpu-period`, `cpu-quota`, `cpu-shares`, `cpuset-cpus`, `cpuset-mems`, `cgroup-parent`."},
	{Name: "buildkitd-flags", Kind: syntax.Lines, Help: "Further flags for a daemon of ours, such as `--debug`."},
	{Name: "buildkitd-config", Help: "Path of a `buildkitd.toml` for a daemon of ours: mirrors, certificates, limits."},
	{Name: "buildkitd-config-inline", Kind: syntax.Block, Help: "The same, as text."},
	{Name: "builder-cacert", Kind: syntax.Block, Unset: "`$BUILDER_NODE_0_AUTH_TLS_CACERT`; with a certificate, the system's", Help: "Authority that vouches for a `tcp://` builder: PEM, or the path of a file."},
	{Name: "builder-cert", Kind: syntax.Block, Unset: "`$BUILDER_NODE_0_AUTH_TLS_CERT`", Help: "Our certificate for that builder: PEM, or the path of a file."},
	{Name: "builder-key", Kind: syntax.Block, Unset: "`$BUILDER_NODE_0_AUTH_TLS_KEY`", Help: "Key of that certificate: PEM, or the path of a file."},
	{Name: "progress", Default: "auto", Choices: []string{"auto", "plain", "tty", "quiet"}, Help: "How progress is shown."},
	{Name: "report-dir", Unset: "`$RUNNER_TEMP/warmlayer` on GitHub, `.warmlayer` in other CIs, none at a terminal", Help: "Directory for `warmlayer.json`, `warmlayer.md` and `warmlayer.env`."},
}

// StepOutput is a value that the step hands to later steps.
type StepOutput struct{ Name, Help string }

// StepOutputs are the step's outputs, in the order in which they are documented.
var StepOutputs = []StepOutput{
	{"digest", "Digest of the image."},
	{"imageid", "ID of the image: the digest of its configuration."},
	{"metadata", "Metadata of the build, as JSON."},
	{"cache-hit-ratio", "Cached steps divided by all steps, from 0 to 1."},
	{"cache-hits", "Number of steps that were cached."},
	{"cache-steps", "Number of steps."},
	{"cache-sources", "Each cache that was to be read, as JSON: loaded, absent or failed."},
	{"cache-export", "What became of the cache's export: written, unchanged, skipped or failed."},
	{"cache-scope", "Name under which the cache was written."},
	{"first-miss", "First step that was not cached."},
}

func isOutput(name string) bool {
	return slices.ContainsFunc(StepOutputs, func(o StepOutput) bool { return o.Name == name })
}

// position is the place of an input in Fields, or -1.
func position(name string) int {
	return slices.IndexFunc(Fields, func(f Field) bool { return f.Name == name })
}

// field returns the input called name, which must be one of Fields.
func field(name string) Field { return Fields[position(name)] }

func names() []string {
	all := make([]string, len(Fields))
	for i, f := range Fields {
		all[i] = f.Name
	}
	return all
}

// Sort brings problems into the order of Fields, those of unknown inputs first.
func Sort(ps syntax.Problems) {
	slices.SortStableFunc(ps, func(a, b syntax.Problem) int {
		return cmp.Or(cmp.Compare(position(a.Input), position(b.Input)), cmp.Compare(a.Line, b.Line))
	})
}
