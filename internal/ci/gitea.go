package ci

import "github.com/warmlayer/warmlayer/scope"

// Gitea and Forgejo run GitHub's workflows.
var (
	gitea   = actions("gitea", "GITEA_ACTIONS", giteaFacts)
	forgejo = actions("forgejo", "FORGEJO_ACTIONS", giteaFacts)
)

// giteaFacts reads Gitea Actions and Forgejo Actions, which give a job GitHub's variables and
// payload. A run's page goes by its number among the repository's runs, not by its id.
// https://docs.gitea.com/usage/actions/comparison
// https://forgejo.org/docs/latest/user/actions/reference/
func giteaFacts(h host) scope.Facts {
	f := githubFacts(h)
	f.URL = actionsRun(h, "GITHUB_RUN_NUMBER")
	if f.Queue && f.Trusted { // neither has merge queues
		judgeNamedQueue(&f, f.Base)
	}
	return f
}
