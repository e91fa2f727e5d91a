package ci

import "github.com/warmlayer/warmlayer/scope"

// unknown is any CI without an entry in the table. Its checkout may be a fork's.
var unknown = Dialect{
	Name:  "unknown",
	here:  set("CI", "CONTINUOUS_INTEGRATION", "CODEBUILD_BUILD_ID", "TEAMCITY_VERSION"),
	facts: unknownFacts,
}

func unknownFacts(h host) scope.Facts {
	f, _ := readCheckout(h)
	f.Untrusted = "this CI is unknown, and so is whose code it builds; trusted: true overrides"
	return f
}
