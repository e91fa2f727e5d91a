package scope_test

import (
	"fmt"

	"github.com/warmlayer/warmlayer/scope"
)

// Pull request 7, for an image with its own key.
func Example() {
	facts := scope.Facts{
		Event: "pull_request", PR: 7, Branch: "fix", Base: "release/1.4", Default: "main", Trusted: true,
	}
	plan := scope.New(facts, scope.Options{Key: "worker"})

	fmt.Printf("writes %s: %s\n", plan.Write, plan.Why)
	for _, source := range plan.Read {
		fmt.Printf("reads %s: %s\n", source.Name, source.Why)
	}
	// Output:
	// writes pr-7.worker: pull request 7
	// reads pr-7.worker: own pull request
	// reads b-fix.worker: head branch
	// reads b-release-1-4-2fc50011251b1300.worker: base branch
	// reads b-main.worker: default branch
}
