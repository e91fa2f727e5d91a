package scope

// gitea reads Gitea Actions and Forgejo Actions, which give a job GitHub's variables and
// payload. A run's page goes by its number among the repository's runs, not by its id.
// https://docs.gitea.com/usage/actions/comparison
// https://forgejo.org/docs/latest/user/actions/reference/
func gitea(h host) Facts {
	f := github(h)
	f.URL = actionsRun(h, "GITHUB_RUN_NUMBER")
	return f
}
