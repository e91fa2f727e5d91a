package main

// oneImport gives a step that a build adds the import of a cache that steps of other builds have already, where both are of one name.
// BuildKit v0.34.2 makes each build an import of its own, even of one cache, and a step that builds have in common keeps that of the first
// build alone. What follows the step in another build is then looked for in that build's import, which does not know how the step was
// found, and so runs. Only imports of steps that are in use are taken, so a later build reads the cache anew.
var oneImport = change{
	module: buildkit,
	file:   "solver/jobs.go",
	edits: []edit{
		{`			if _, ok := st.cache[cache.ID()]; !ok {
				st.cache[cache.ID()] = cache
			}
`, `			if _, ok := st.cache[cache.ID()]; !ok {
				st.cache[cache.ID()] = jl.imported(cache)
			}
`},
		{`func (jl *Solver) connectProgressFromState(`, `// imported is the import by the same name that another step in use has, or else this one. It is a change by the
// warmlayer project.
func (jl *Solver) imported(cache CacheManager) CacheManager {
	for _, other := range jl.actives {
		if known, ok := other.cache[cache.ID()]; ok {
			return known
		}
	}
	return cache
}

func (jl *Solver) connectProgressFromState(`},
	},
}
