package scope_test

import (
	"fmt"
	"io/fs"

	"github.com/warmlayer/warmlayer/scope"
)

// A GitLab pipeline for merge request 7, of an image with a key of its own.
func Example() {
	env := map[string]string{
		"GITLAB_CI":                           "true",
		"CI_PIPELINE_SOURCE":                  "merge_request_event",
		"CI_DEFAULT_BRANCH":                   "main",
		"CI_MERGE_REQUEST_IID":                "7",
		"CI_MERGE_REQUEST_PROJECT_ID":         "42",
		"CI_MERGE_REQUEST_SOURCE_PROJECT_ID":  "42",
		"CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "fix",
		"CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "release/1.4",
	}
	noFiles := func(string) ([]byte, error) { return nil, fs.ErrNotExist }

	facts := scope.Detect(func(name string) string { return env[name] }, noFiles)
	plan := scope.New(facts, scope.Options{Key: "worker"})

	fmt.Printf("writes %s: %s\n", plan.Write, plan.Why)
	for _, source := range plan.Read {
		fmt.Printf("reads %s: %s\n", source.Name, source.Why)
	}
	// Output:
	// writes pr-7.worker: pull request 7
	// reads pr-7.worker: own pull request
	// reads b-fix.worker: head branch
	// reads b-release-1-4-2fc5001125.worker: base branch
	// reads b-main.worker: default branch
}
