package ci

import (
	"slices"
	"strings"

	"github.com/warmlayer/warmlayer/scope"
)

// unknown is any CI without an entry in the table. Its checkout may be a fork's.
var unknown = Dialect{Name: "unknown", here: inUnknownCI, facts: unknownFacts}

// unknownVariables are set by CIs without an entry, or by tools that many of them use.
var unknownVariables = []string{
	"BUILD_ID", "BUILD_NUMBER", "CI_BUILD_ID", "CI_BUILD_NUMBER", "CI_NAME", // several
	"APPCENTER_BUILD_ID",
	"BITRISE_IO",
	"BUDDY_WORKSPACE_ID",
	"BUILDER_OUTPUT",                          // Google Cloud Build
	"BUILD_PIPELINE_NAME", "ATC_EXTERNAL_URL", // Concourse
	"CF_BUILD_ID", "CF_PAGES", // Codefresh, Cloudflare Pages
	"CI_XCODE_PROJECT", // Xcode Cloud
	"CIRRUS_CI",
	"CM_BUILD_ID", // Codemagic
	"CODEBUILD_BUILD_ID",
	"EARTHLY_CI",
	"HARNESS_BUILD_ID",
	"HEROKU_TEST_RUN_ID",
	"HUDSON_URL",
	"NETLIFY",
	"PROW_JOB_ID",
	"RENDER",
	"SCREWDRIVER",
	"SEMAPHORE",
	"SOURCECRAFT_CI",
	"TASKCLUSTER_ROOT_URL",
	"TEAMCITY_VERSION",
	"VELA",
	"VERCEL",
	"WORKERS_CI",
}

// unknownPrefixes begin the variables of Bamboo, GoCD, Zuul, Argo Workflows, Tekton and Concourse.
var unknownPrefixes = []string{
	"bamboo_", "GO_PIPELINE_", "GO_STAGE_", "GO_JOB_", "GO_SERVER_", "GO_REVISION", "ZUUL_", "ARGO_", "TEKTON_", "CONCOURSE_",
}

// inUnknownCI recognises any CI. People set CI=false for programs that behave otherwise in a CI,
// so this is no sign of one; other variables count with any value.
func inUnknownCI(h host) bool {
	if set("CI", "CONTINUOUS_INTEGRATION")(h) || h.knows(unknownVariables...) {
		return true
	}
	for name, value := range h.variables {
		if value != "" && slices.ContainsFunc(unknownPrefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			return true
		}
	}
	return false
}

func unknownFacts(h host) scope.Facts {
	f, _ := readCheckout(h)
	f.Untrusted = scope.UnknownCI
	return f
}
