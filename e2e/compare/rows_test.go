package compare

import (
	"strings"
	"testing"
)

// noProvenance disables the default attestation, so that images are equal byte for byte.
var noProvenance = []string{"--provenance=false"}

// both are flags that have the same name in both programs.
func flags(f ...string) []string { return f }

// imageRows are inputs that change the image.
var imageRows = []row{
	{name: "defaults"},
	{name: "tags", theirs: flags("--tag", "IMAGE-other"), ours: flags("--tags", "IMAGE-other")},
	{name: "provenance false", theirs: noProvenance},
	{name: "provenance true", theirs: flags("--provenance=true"), compare: sameProvenance},
	{name: "provenance max", theirs: flags("--provenance=mode=max"), compare: sameProvenance},
	{name: "provenance with builder-id", theirs: flags("--provenance=mode=min,builder-id=https://ci.example/1"), compare: sameProvenance},
	{
		name: "attests", theirs: flags("--attest", "type=provenance,mode=max"), ours: flags("--attests", "type=provenance,mode=max"),
		compare: sameProvenance,
	},
	{name: "sbom", theirs: flags("--sbom=generator=REGISTRY/scanner:v1"), compare: sameProvenance},
	{name: "no default attestations", env: map[string]string{"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}},
	{name: "no OCI artifacts", env: map[string]string{"BUILDX_NO_DEFAULT_OCI_ARTIFACT": "1"}, compare: sameProvenance},
	{
		name:   "annotations",
		theirs: flags("--annotation", "org.example.a=b, c", "--annotation", "index,manifest:org.example.both=1", "--annotation", "manifest-descriptor:org.example.d=2"),
		ours:   flags("--annotations", "org.example.a=b, c", "--annotations", "index,manifest:org.example.both=1", "--annotations", "manifest-descriptor:org.example.d=2"),
	},
	{
		name: "labels", theirs: flags("--label", "a=b, c", "--label", `d="e"`, "--provenance=false"),
		ours: flags("--labels", "a=b, c", "--labels", `d="e"`, "--provenance=false"),
	},
	{
		name: "build-args", dockerfile: simple + "ARG A B=b C\nRUN echo $A $B $C > /args\nLABEL args=\"$A $B\"\n",
		env:    map[string]string{"C": "from the environment"},
		theirs: flags("--build-arg", "A=x, y=z", "--build-arg", "C"), ours: flags("--build-args", "A=x, y=z", "--build-args", "C"),
	},
	{
		name: "build-args BUILDKIT_INLINE_CACHE", theirs: flags("--build-arg", "BUILDKIT_INLINE_CACHE=1", "--provenance=false"),
		ours: flags("--build-args", "BUILDKIT_INLINE_CACHE=1", "--provenance=false"),
	},
	{
		name: "build-args BUILDKIT_MULTI_PLATFORM", theirs: flags("--build-arg", "BUILDKIT_MULTI_PLATFORM=1", "--provenance=false"),
		ours: flags("--build-args", "BUILDKIT_MULTI_PLATFORM=1", "--provenance=false"),
	},
	{
		name: "SOURCE_DATE_EPOCH", env: map[string]string{"SOURCE_DATE_EPOCH": "1700000000"},
		theirs: noProvenance,
	},
	{
		name: "SOURCE_DATE_EPOCH given", env: map[string]string{"SOURCE_DATE_EPOCH": "1700000000"},
		theirs: flags("--build-arg", "SOURCE_DATE_EPOCH=1600000000", "--provenance=false"), ours: flags("--build-args", "SOURCE_DATE_EPOCH=1600000000", "--provenance=false"),
	},
	{name: "target", dockerfile: simple + "FROM base AS other\nRUN echo other > /other\n", theirs: flags("--target", "base")},
	{name: "platforms", dockerfile: "FROM scratch\nARG TARGETPLATFORM\nCOPY render.sh /\nLABEL p=$TARGETPLATFORM\n", theirs: flags("--platform", "linux/amd64,linux/arm64"), ours: flags("--platforms", "linux/amd64,linux/arm64")},
	{
		name: "add-hosts", dockerfile: simple + "RUN cat /etc/hosts > /hosts\n",
		theirs: flags("--add-host", "one:10.1.2.3", "--add-host", "six=::1"), ours: flags("--add-hosts", "one:10.1.2.3,six=::1"),
	},
	{name: "network none", dockerfile: simple + "RUN cat /proc/net/dev > /net\n", theirs: flags("--network", "none")},
	{
		name: "allow", dockerfile: simple + "RUN --network=host cat /proc/net/dev | wc -l > /net\n",
		theirs: flags("--allow", "network.host"),
	},
	{name: "not allowed", dockerfile: simple + "RUN --network=host true\n", stays: true, compare: sameFailure},
	{name: "network host", dockerfile: simple + "RUN true\n", theirs: flags("--allow", "network.host", "--network", "host")},
	{name: "shm-size", dockerfile: simple + "RUN df /dev/shm > /shm\n", theirs: flags("--shm-size", "128m")},
	{name: "ulimit", dockerfile: simple + "RUN ulimit -n > /files\n", theirs: flags("--ulimit", "nofile=1024:2048")},
	{name: "cgroup-parent", dockerfile: simple + "RUN cat /proc/self/cgroup > /group\n", theirs: flags("--cgroup-parent", "made-by-a-test")},
	{name: "outputs with attributes", stays: true, theirs: flags("--output", "type=image,name=IMAGE,push=true,compression=zstd,annotation.a=b")},
	{name: "outputs registry", stays: true, theirs: flags("--output", "type=registry,name=IMAGE,oci-mediatypes=false", "--provenance=false")},
	{
		name: "push by digest", stays: true, theirs: flags("--output", "type=image,name=REGISTRY/by-digest,push=true,push-by-digest=true,name-canonical=true", "--provenance=false"),
		compare: sameMetadata,
	},
	{name: "pull", dockerfile: "FROM REGISTRY/base:v1\nRUN echo pulled > /pulled\n", theirs: flags("--pull")},
}

// contextRows are inputs about what is built, and from which files.
var contextRows = []row{
	{name: "context by Git", context: "GIT#main"},
	{name: "context in a directory of a repository", context: "GIT#main:site", theirs: flags("--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1"), ours: flags("--build-args", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1"), compare: sameFailure},
	{name: "file", files: map[string]string{"other/Containerfile": simple + "LABEL other=1\n"}, theirs: flags("--file", "DIR/other/Containerfile")},
	{
		name: "build-contexts", dockerfile: simple + "COPY --from=directory note /\nCOPY --from=image hello /\nCOPY --from=layout hello /layout\n",
		files:  map[string]string{"side/note": "from a directory"},
		theirs: flags("--build-context", "directory=DIR/side", "--build-context", "image=docker-image://REGISTRY/base:v1", "--build-context", "layout=oci-layout://LAYOUT:v1"),
		ours:   flags("--build-contexts", "directory=DIR/side", "--build-contexts", "image=docker-image://REGISTRY/base:v1", "--build-contexts", "layout=oci-layout://LAYOUT:v1"),
	},
	{name: "build-contexts over a base", dockerfile: "FROM nowhere.example/base\nRUN echo replaced > /replaced\n", theirs: flags("--build-context", "nowhere.example/base=docker-image://REGISTRY/base:v1"), ours: flags("--build-contexts", "nowhere.example/base=docker-image://REGISTRY/base:v1")},
	{
		name: "secrets", dockerfile: simple + "RUN --mount=type=secret,id=one cat /run/secrets/one | wc -c > /one\n",
		files:  map[string]string{"one": "a canary, 93d1"},
		theirs: flags("--secret", "id=one,src=DIR/one"), ours: flags("--secrets", "one=a canary, 93d1"), compare: noCanary,
	},
	{
		name: "secret-envs", dockerfile: simple + "RUN --mount=type=secret,id=one,env=ONE test \"$ONE\" = 'a canary, 93d1'\n",
		env:    map[string]string{"HIDDEN": "a canary, 93d1"},
		theirs: flags("--secret", "id=one,env=HIDDEN"), ours: flags("--secret-envs", "one=HIDDEN"), compare: noCanary,
	},
	{
		name: "secret-files", dockerfile: simple + "RUN --mount=type=secret,id=one test \"$(cat /run/secrets/one)\" = 'a canary, 93d1'\n",
		files:  map[string]string{"one": "a canary, 93d1"},
		theirs: flags("--secret", "id=one,src=DIR/one"), ours: flags("--secret-files", "one=DIR/one"), compare: noCanary,
	},
	{
		name: "ssh", dockerfile: simple + "RUN --mount=type=ssh test -S $SSH_AUTH_SOCK && echo yes > /agent\nRUN --mount=type=ssh,id=other test -S $SSH_AUTH_SOCK\n",
		env: map[string]string{"SSH_AUTH_SOCK": "AGENT"}, theirs: flags("--ssh", "default", "--ssh", "other=AGENT"), ours: flags("--ssh", "default,other=AGENT"),
	},
	{name: "cache-from and cache-to", theirs: flags("--cache-to", "type=registry,ref=REGISTRY/cache:verbatim,mode=max", "--cache-from", "type=registry,ref=REGISTRY/cache:verbatim")},
	{name: "no-cache-filters", dockerfile: simple + "FROM base AS again\nRUN date +%N > /again\nFROM base\nRUN date +%N > /time\n", theirs: flags("--no-cache-filter", "again"), ours: flags("--no-cache-filters", "again")},
	{name: "no-cache", env: map[string]string{"SOURCE_DATE_EPOCH": "1"}, stays: true, theirs: flags("--no-cache", "--provenance=false", "--output", "type=image,name=IMAGE,push=true,rewrite-timestamp=true")},
	{name: "missing Dockerfile", theirs: flags("--file", "DIR/absent"), compare: sameFailure},
	{name: "failing step", dockerfile: simple + "RUN exit 3\n", compare: sameFailure},
	{name: "BUILDKIT_SYNTAX that is not there", theirs: flags("--build-arg", "BUILDKIT_SYNTAX=REGISTRY/no-frontend"), ours: flags("--build-args", "BUILDKIT_SYNTAX=REGISTRY/no-frontend"), compare: sameFailure},
}

// resultRows are inputs about the outputs of a build.
var resultRows = []row{
	{name: "outputs local", stays: true, theirs: flags("--output", "type=local,dest=OUT"), compare: sameFiles},
	{name: "outputs as a path", stays: true, theirs: flags("--output", "OUT"), compare: sameFiles},
	{name: "outputs local without attestations", stays: true, theirs: flags("--output", "type=local,dest=OUT", "--provenance=false"), compare: sameFiles},
	{name: "outputs tar", stays: true, theirs: flags("--output", "type=tar,dest=OUT"), compare: sameFiles},
	{name: "outputs local with src", stays: true, dockerfile: parts, theirs: flags("--output", "type=local,dest=OUT,src=/reports"), compare: sameFiles},
	{name: "outputs tar with src", stays: true, dockerfile: parts, theirs: flags("--output", "type=tar,dest=OUT,src=reports/"), compare: sameFiles},
	{name: "outputs oci", stays: true, env: epoch, theirs: flags("--output", "type=oci,dest=OUT", "--provenance=false"), compare: sameFiles},
	{name: "outputs docker", stays: true, env: epoch, theirs: flags("--output", "type=docker,dest=OUT", "--tag", "IMAGE"), ours: flags("--outputs", "type=docker,dest=OUT", "--tags", "IMAGE"), compare: sameFiles},
	{name: "outputs cacheonly", stays: true, theirs: flags("--output", "type=cacheonly"), compare: sameMetadata},
	{name: "several outputs", stays: true, theirs: flags("--output", "type=local,dest=OUT", "--output", "type=image,name=IMAGE,push=true", "--provenance=false"), compare: sameFiles},
	{
		name: "load", stays: true, env: map[string]string{"DOCKER_HOST": "ENGINE"}, theirs: flags("--load", "--tag", "loaded:v1", "--tag", "loaded:v2"),
		ours: flags("--load", "--tags", "loaded:v1", "--tags", "loaded:v2"), compare: sameMetadata,
	},
	{
		name: "load and push", env: map[string]string{"DOCKER_HOST": "ENGINE"}, theirs: flags("--load", "--provenance=false"),
	},
	{name: "call check", stays: true, dockerfile: unclean, theirs: flags("--call", "check"), compare: sameAnswer},
	{name: "call check of a clean one", stays: true, theirs: flags("--call", "check"), compare: sameAnswer},
	{name: "call check as JSON", stays: true, dockerfile: unclean, theirs: flags("--call", "check,format=json"), compare: sameAnswer},
	{name: "call outline", stays: true, dockerfile: unclean, theirs: flags("--call", "outline"), compare: sameAnswer},
	{name: "call targets", stays: true, dockerfile: unclean, theirs: flags("--call", "targets"), compare: sameAnswer},
	{name: "metadata provenance max", env: map[string]string{"BUILDX_METADATA_PROVENANCE": "max"}},
	{name: "metadata provenance disabled", env: map[string]string{"BUILDX_METADATA_PROVENANCE": "disabled"}},
	{name: "metadata warnings", dockerfile: unclean, env: map[string]string{"BUILDX_METADATA_WARNINGS": "1"}},
}

var epoch = map[string]string{"SOURCE_DATE_EPOCH": "1"}

// parts has a directory of its own for reports.
const parts = simple + "RUN mkdir /reports && echo passed > /reports/tests.txt && echo clean > /reports/lint.txt\n"

// unclean is a Dockerfile for which BuildKit's checks report warnings.
const unclean = `ARG VERSION=1 # of the app
FROM scratch as base
ADD rootfs.tar /
# tools are for tests
FROM base AS tools
LABEL key value
RUN echo $VERSION > /version
`

// noCanary requires, in addition to the same image, that the output does not contain the secret.
func noCanary(t *testing.T, theirs, ours run) {
	t.Helper()
	sameImages(t, theirs, ours)
	if strings.Contains(ours.text+ours.stdout+encoded(t, ours.metadata), "canary") {
		t.Errorf("the secret is in the output:\n%s", ours.text)
	}
}
