package inputs

import (
	"cmp"
	"slices"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/settings"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

//go:generate go run ./generate ..

// Field describes one input.
type Field = settings.Field

// Fields is the table of inputs, in the order of the documentation. Parsing, documentation and
// generated files follow it. The first part has the names and the list rules of
// docker/build-push-action.
var Fields = []Field{
	{Name: "context", Unset: "`.`; on GitHub without a checkout, `{{defaultContext}}`", Help: "Build context: a directory, a Git URL or an HTTP URL. On GitHub `{{defaultContext}}` is the repository at the commit of the run."},
	{Name: "file", Short: "f", Unset: "`Dockerfile` in the context", Help: "Path of the Dockerfile. It is relative to the working directory or, when the context is a URL, to the context. `-` reads the Dockerfile from standard input."},
	{Name: "build-contexts", Kind: syntax.Lines, Help: "Additional build contexts, one `name=source` per line. A source is a directory, a URL, `docker-image://…` or `oci-layout://…`."},
	{Name: "target", Unset: "the last stage", Help: "Stage of the Dockerfile to build."},
	{Name: "build-args", Kind: syntax.Lines, Help: "Build arguments, one `NAME=value` per line. A bare `NAME` takes its value from the environment."},
	{Name: "labels", Kind: syntax.Lines, Help: "Labels of the image, one `key=value` per line."},
	{Name: "annotations", Kind: syntax.Lines, Help: "Annotations of the image, one `key=value` per line. A prefix sets the level: `index,manifest:key=value`."},
	{Name: "tags", Short: "t", Kind: syntax.Words, Help: "Names of the image, such as `ghcr.io/owner/app:1.2`."},
	{Name: "push", Kind: syntax.Bool, Default: "false", Help: "Push the image to the registries of its tags."},
	{Name: "load", Kind: syntax.Bool, Default: "false", Help: "Load the image into the local container engine. With `builder: engine` it is there without `load`."},
	{Name: "part", Kind: syntax.Bool, Default: "false", Help: "Push the image by digest, without its tags, as one part of an image. A later job with `command: merge` makes one image of the parts. Each job must build different platforms. It needs `push` and `tags`."},
	{Name: "outputs", Kind: syntax.Entries, Help: "Destinations of the result, one per line, such as `type=local,dest=out`. Types: `image`, `registry`, `local`, `oci`, `docker`, `tar`, `cacheonly`."},
	{Name: "image-compression", Unset: "`gzip`", Help: "Compression of the layers of images that are pushed or written to OCI files: `gzip`, `zstd`, `estargz` or `uncompressed`, and optionally a level: `zstd:3`. An image that is loaded into an engine keeps gzip."},
	{Name: "platforms", Kind: syntax.Words, Unset: "the platform of the builder", Help: "Platforms to build for, such as `linux/amd64,linux/arm64`."},
	{Name: "provenance", Unset: "`mode=max` for a public repository on GitHub, otherwise `mode=min,inline-only=true`; none with `load`", Help: "Provenance attestation: `true`, `false`, or attributes such as `mode=max`."},
	{Name: "sbom", Unset: "`false`", Help: "SBOM attestation: `true`, `false`, or `generator=` followed by an image."},
	{Name: "attests", Kind: syntax.Entries, Help: "Attestations, one per line, such as `type=sbom,generator=image`."},
	{Name: "call", Default: "build", Help: "Method to call on the Dockerfile: `build`, `check`, `outline` or `targets`. Add `,format=json` for an answer in JSON."},
	{Name: "bake", Kind: syntax.Words, Unset: "with `targets`, `set` or `vars` the files that `docker buildx bake` looks for", Help: "Bake files, such as `docker-bake.hcl` or `compose.yaml`: each of their targets is built as an image of its own, all in one run. `context` is then the directory that paths start from. What a target has in the file, such as `tags`, cannot be given as an input."},
	{Name: "targets", Kind: syntax.Words, Unset: "`default`", Help: "Targets and groups of the bake files to build, or patterns of their names."},
	{Name: "set", Kind: syntax.Lines, Help: "Values that replace those of bake files, one `TARGET.ATTRIBUTE=value` per line, such as `*.platform=linux/arm64`."},
	{Name: "vars", Kind: syntax.Lines, Help: "Values of variables of the bake files, one `NAME=value` per line."},
	{Name: "no-cache", Kind: syntax.Bool, Default: "false", Help: "Run every step and ignore all caches."},
	{Name: "no-cache-filters", Kind: syntax.Words, Help: "Stages of which every step runs."},
	{Name: "pull", Kind: syntax.Bool, Default: "false", Help: "Check the registry for newer base images on every build."},
	{Name: "secrets", Kind: syntax.Lines, Secret: true, Help: "Secrets for `RUN --mount=type=secret`, one `id=value` per line. Put quotes around a value of several lines."},
	{Name: "secret-envs", Kind: syntax.Words, Help: "Secrets from environment variables, such as `id=NAME`."},
	{Name: "secret-files", Kind: syntax.Lines, Help: "Secrets from files, one `id=path` per line."},
	{Name: "ssh", Kind: syntax.Words, Help: "SSH agents for `RUN --mount=type=ssh`: `default`, or `id=path` of a socket or key. Put quotes around several paths."},
	{Name: "github-token", Unset: "`github.token` in the GitHub Action", Action: tokenDefault + "${{ github.token }}", Help: "Token for Git contexts on the GitHub server, and for ghcr.io when the run is trusted and has no other login. Only trusted runs use the default."},
	{Name: "add-hosts", Kind: syntax.Words, Help: "Additional host names for `RUN`, such as `name=10.0.0.1`."},
	{Name: "allow", Kind: syntax.Words, Help: "Entitlements that the build may use: `network.host`, `security.insecure`, `device=name`. For bake files also `fs.read=path`, `fs.write=path` and `ssh`."},
	{Name: "cgroup-parent", Unset: "set by BuildKit", Help: "Parent control group of `RUN` steps."},
	{Name: "network", Choices: []string{"default", "none", "host"}, Unset: "`default`", Help: "Network of `RUN` steps."},
	{Name: "shm-size", Kind: syntax.Size, Unset: "set by BuildKit", Help: "Size of `/dev/shm` in `RUN` steps, such as `64m` or `1g`."},
	{Name: "ulimit", Kind: syntax.Lines, Help: "Resource limits of `RUN` steps, one `name=soft:hard` per line, such as `nofile=1024:2048`."},

	{Name: "registry", Unset: "`docker.io`", Help: "Registry of `username` and `password`."},
	{Name: "username", Help: "User name for the registry."},
	{Name: "password", Kind: syntax.Block, Help: "Password or token for the registry."},
	{Name: "registry-auth", Kind: syntax.Block, Help: "Logins for several registries: a YAML list with `registry`, `username`, `password`, and optionally `scope` and `ecr`."},
	{Name: "ca-certificates", Kind: syntax.Block, Help: "CA certificates, in addition to those of the system, that verify registries, caches and proxies, for warmlayer and for a managed builder: PEM text or the path of a file."},

	{Name: "cache", Kind: syntax.Entries, Default: "auto", Help: "Caches to read and write, one per line, without the branch: `type=registry,ref=ghcr.io/owner/app`, `type=s3,…`, `type=azblob,…`, `type=local,…`, `gha`, `inline`, `auto` or `none`. With `cache-from` or `cache-to` the default is `none`."},
	{Name: "cache-from", Kind: syntax.Entries, Help: "Cache sources in BuildKit's syntax. They are passed to BuildKit unchanged, without a branch."},
	{Name: "cache-to", Kind: syntax.Entries, Help: "Cache destinations in BuildKit's syntax. They are passed to BuildKit unchanged, without a branch."},
	{Name: "cache-key", Unset: "derived from the paths of the Dockerfile and the context in their repository", Help: "Name of this image among the images that share a cache."},
	{Name: "cache-mode", Choices: []string{"max", "min"}, Unset: "`max`; `min` for `inline`", Help: "Layers to cache: those of every stage (`max`), or only those of the resulting image (`min`)."},
	{Name: "compression", Choices: cachespec.Compressions, Unset: "`zstd`", Help: "Compression of the cache's layers."},
	{Name: "compression-level", Kind: syntax.Int, Unset: "set by BuildKit", Help: "Compression level: 0–9 for gzip and estargz, 0–22 for zstd."},
	{Name: "force-compression", Kind: syntax.Bool, Unset: "`false`", Help: "Recompress layers that have another compression."},
	{Name: "oci-mediatypes", Kind: syntax.Bool, Unset: "`true`", Help: "Use OCI media types in the cache instead of Docker's."},
	{Name: "image-manifest", Kind: syntax.Bool, Unset: "`true`", Help: "Store the cache as an image manifest instead of an image index."},
	{Name: "cache-fallbacks", Kind: syntax.Words, Help: "Additional branches whose caches are read, in this order."},
	{Name: "cache-write", Default: "auto", Choices: []string{"auto", "always", "never"}, Help: "When to write caches: `auto` follows the trust rules."},
	{Name: "cache-keep-age", Kind: syntax.Duration, Default: "336h", Help: "How long a scope keeps what a build of it used, after that build's last export."},
	{Name: "cache-keep-variants", Kind: syntax.Int, Default: "16", Help: "Number of variants that a scope keeps: builds with another target, other build arguments or platforms. `0` keeps the last build alone."},
	{Name: "cache-keep-size", Default: "100%", Help: "How much the builds before the last one may add to a scope: a size such as `2g`, or a percentage of its largest build. `0` keeps the last build alone."},
	{Name: "cache-mounts", Kind: syntax.Lines, Help: "Cache mounts (`RUN --mount=type=cache`) that are kept with the cache: `auto` for all that steps of the build have used, or their ids, one per line, each with an optional limit of its size: `gomod,max=2g`. A mount without an id has its target as the id."},
	{Name: "cache-mounts-size", Kind: syntax.Size, Default: "10g", Help: "How much the cache mounts of a scope may take in a cache. The oldest are dropped."},
	{Name: "cache-budget", Kind: syntax.Size, Help: "Size that the entries of GitHub's cache may have, such as `8g`: a build that finds more removes those of branches and pull requests that are gone, and then those that were used the longest ago. It needs `github-token` with `actions: write`."},
	{Name: "cache-strict", Kind: syntax.Bool, Default: "false", Help: "Fail the step when a cache cannot be read or written."},
	{Name: "fail-below", Help: "Ratio of cached steps, from 0 to 1, below which the step fails with exit code 3, after everything has been built and written."},
	{Name: "probe-timeout", Kind: syntax.Duration, Default: "5s", Help: "Timeout for finding out which caches exist, and whether registries accept the pushes."},
	{Name: "cache-timeout", Kind: syntax.Duration, Default: "10m", Help: "Timeout for importing a cache's manifest, and for exporting a cache."},

	{Name: "command", Default: "build", Choices: []string{"build", "prune", commandMerge}, Help: "What the step does: `build` an image, `prune` the caches that the inputs below name, or `merge` the images that several jobs have pushed into one image, and push it with the `tags`. It needs `push`, and `platforms` or `digests`."},
	{Name: "digests", Kind: syntax.Words, Unset: "the parts that jobs of this run have pushed with `part`", Help: "`merge`: digests of the images, or directories with one file for each image. The name or the content of a file is the digest."},
	{Name: "gone", Kind: syntax.Bool, Default: "false", Help: "`prune`: remove the caches of branches and tags that do not exist any more, and of pull requests that are closed."},
	{Name: "older-than", Kind: syntax.Duration, Help: "`prune`: remove the caches that no build has used for this long, such as `30d`."},
	{Name: "keep-storage", Kind: syntax.Size, Help: "`prune`: remove the caches that were used the longest ago until the others take at most this size, such as `50g`."},
	{Name: "scopes", Kind: syntax.Words, Help: "`prune`: consider only these scopes, as `warmlayer ls` names them: `pr-7`, `b-feature-*`. Without another rule they are removed. One without an image's key means all images."},
	{Name: "keep", Kind: syntax.Words, Help: "`prune`: never remove these scopes. Those of the default branch stay unless `scopes` has their whole name."},
	{Name: "grace", Kind: syntax.Duration, Default: "24h", Help: "`prune`: keep what was written in this time, since builds may rely on it; scopes of closed pull requests go."},
	{Name: "repository", Unset: "the remote `origin` of the checkout, or the repository that the CI names", Help: "`prune`: Git repository whose branches and tags exist: a URL, a path, or the name of a remote."},
	{Name: "foreign", Kind: syntax.Bool, Default: "false", Help: "`prune`: also remove caches that other programs have written."},
	{Name: "dry-run", Kind: syntax.Bool, Default: "false", Help: "`prune`: say what would be removed, and remove nothing."},

	{Name: "branch", Unset: "detected", Help: "Branch to build."},
	{Name: "base-branch", Unset: "detected", Help: "Target branch of the pull request."},
	{Name: "default-branch", Unset: "detected", Help: "Default branch of the repository."},
	{Name: "pull-request", Kind: syntax.Int, Unset: "detected", Help: "Number of the pull request."},
	{Name: "trusted", Kind: syntax.Bool, Unset: "detected", Help: "Whether the run is trusted. Only a trusted run writes caches and uses the credentials of the CI and of the machine."},

	{Name: "builder", Kind: syntax.Lines, Default: "auto", Help: "BuildKit to use: `auto`, `embedded`, `rootless`, `container`, `engine` (the one inside the container engine), an address (`unix://`, `tcp://`, `docker-container://`, `podman-container://`, `nerdctl-container://`, `kube-pod://`, `ssh://`), or the name of a buildx builder. For several builders write one per line, each followed by its platforms: `;platforms=linux/arm64`."},
	{Name: "builder-state", Help: "Directory on a self-hosted machine in which `builder: embedded` or `rootless` keeps what it has built for the next run. Only one run at a time uses it: see `builder-state-wait`. Untrusted builds do not use it."},
	{Name: "builder-state-size", Kind: syntax.Size, Default: "20g", Help: "Largest size of `builder-state` after a run. What was used the longest ago is removed until the rest fits. `0`: no limit."},
	{Name: "builder-state-wait", Kind: syntax.Duration, Unset: "no wait", Help: "How long a run waits while another run uses `builder-state`, such as `5m`. After that the builder starts empty, and keeps nothing."},
	{Name: "driver-opts", Kind: syntax.Lines, Help: "Options of a managed builder, one per line: `env.NAME=value`. With `builder: container` also `image`, `network`, `memory`, `memory-swap`, `cpu-period`, `cpu-quota`, `cpu-shares`, `cpuset-cpus`, `cpuset-mems`, `cgroup-parent`."},
	{Name: "buildkitd-flags", Kind: syntax.Lines, Help: "Additional `buildkitd` flags of a managed builder, such as `--debug`."},
	{Name: "buildkitd-config", Help: "Path of a `buildkitd.toml` for a managed builder: mirrors, certificates, limits."},
	{Name: "buildkitd-config-inline", Kind: syntax.Block, Help: "Content of a `buildkitd.toml` for a managed builder."},
	{Name: "builder-cacert", Kind: syntax.Block, Unset: "`$BUILDER_NODE_0_AUTH_TLS_CACERT`; with a client certificate, the CAs of the system", Help: "CA certificate that verifies a `tcp://` builder: PEM text or the path of a file."},
	{Name: "builder-cert", Kind: syntax.Block, Unset: "`$BUILDER_NODE_0_AUTH_TLS_CERT`", Help: "Client certificate for a `tcp://` builder: PEM text or the path of a file."},
	{Name: "builder-key", Kind: syntax.Block, Unset: "`$BUILDER_NODE_0_AUTH_TLS_KEY`", Help: "Private key of the client certificate: PEM text or the path of a file."},
	{Name: "progress", Default: "auto", Choices: []string{"auto", "plain", "tty", "quiet"}, Help: "Format of the progress output."},
	{Name: "timings", Kind: syntax.Bool, Default: "false", Help: "Show in the log and in the summary when each part of the build ran, and which parts the build waited for."},
	{Name: "report-dir", Unset: "`$RUNNER_TEMP/warmlayer` on GitHub, `.warmlayer` on other CIs, no report at a terminal", Help: "Directory for the report: `warmlayer.json`, `warmlayer.md` and `warmlayer.env`."},
}

// StepOutput is a value that the step hands to later steps.
type StepOutput struct{ Name, Help string }

// StepOutputs are the step's outputs, in the order in which they are documented.
var StepOutputs = []StepOutput{
	{"digest", "Digest of the image; empty with bake files."},
	{"imageid", "ID of the image: the digest of its configuration."},
	{"metadata", "Metadata of the build, as JSON; with bake files an object for each target."},
	{"cache-hit-ratio", "Cached steps divided by all steps, from 0 to 1."},
	{"cache-hits", "Number of cached steps."},
	{"cache-steps", "Number of all steps."},
	{"cache-sources", "State of each cache source, as JSON: `loaded`, `absent` or `failed`."},
	{"cache-export", "Result of the cache export: `written`, `unchanged`, `skipped` or `failed`."},
	{"cache-scope", "Scope that this build may write; empty for none."},
	{"first-miss", "First step that was not cached."},
	{"miss-reason", "Why that step was not cached, in a sentence; empty where every step was cached."},
}

// outputNames are the names of [StepOutputs].
func outputNames() []string {
	all := make([]string, len(StepOutputs))
	for i, o := range StepOutputs {
		all[i] = o.Name
	}
	return all
}

// position is the index of an input in Fields, or -1.
func position(name string) int {
	return slices.IndexFunc(Fields, func(f Field) bool { return f.Name == name })
}

// Sort brings problems into the order of Fields, those of unknown inputs first.
func Sort(ps syntax.Problems) {
	slices.SortStableFunc(ps, func(a, b syntax.Problem) int {
		return cmp.Or(cmp.Compare(position(a.Input), position(b.Input)), cmp.Compare(a.Line, b.Line))
	})
}
