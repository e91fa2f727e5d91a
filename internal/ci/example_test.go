package ci_test

import (
	"fmt"
	"time"

	"github.com/warmlayer/warmlayer/internal/ci"
)

// A job for merge request 7 in GitLab.
func Example() {
	environ := []string{
		"GITLAB_CI=true",
		"CI_PIPELINE_SOURCE=merge_request_event",
		"CI_DEFAULT_BRANCH=main",
		"CI_MERGE_REQUEST_IID=7",
		"CI_MERGE_REQUEST_PROJECT_ID=42",
		"CI_MERGE_REQUEST_SOURCE_PROJECT_ID=42",
		"CI_MERGE_REQUEST_SOURCE_BRANCH_NAME=fix",
		"CI_MERGE_REQUEST_TARGET_BRANCH_NAME=release/1.4",
	}

	dialect, facts := ci.Detect(ci.Machine{Environ: environ})

	fmt.Printf("%s: pull request %d from %s into %s, trusted: %t\n", dialect.Name, facts.PR, facts.Branch, facts.Base, facts.Trusted)
	fmt.Printf("%q\n", dialect.Begin(ci.Section{Title: "Build", Began: time.Unix(0, 7)}))
	// Output:
	// gitlab: pull request 7 from fix into release/1.4, trusted: true
	// "\x1b[0Ksection_start:0:warmlayer_7[collapsed=true]\r\x1b[0KBuild\n"
}
