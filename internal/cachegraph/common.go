package cachegraph

// Common counts the results of one build that another cache has, too: the same layers on the same
// layers. Results of several records count once, since BuildKit keeps a step's result under each key
// by which the step can be found. The build is the one of c with this variant and result, or the whole
// of c where c does not name its builds. Both caches come from [Parse].
//
// A step that was executed has layers of its own, with its own times, so what is common came from the
// cache: BuildKit's status tells which steps were cached, and not where from.
func Common(c Cache, variant, result string, other Cache) (int, error) {
	shared := chains{}
	theirs, _, err := other.records(shared)
	if err != nil {
		return 0, err
	}
	have := map[*chain]bool{}
	for _, r := range theirs {
		have[r.result.layers] = r.result.layers != nil
	}
	ours, err := c.read(shared)
	if err != nil {
		return 0, err
	}
	used := c.usedBy(variant, result)
	type made struct {
		created int64
		layers  *chain
	}
	common := map[made]bool{}
	for i, r := range ours.known {
		if used(i) && have[r.result.layers] {
			common[made{r.result.created.UnixNano(), r.result.layers}] = true
		}
	}
	return len(common), nil
}

// usedBy tells which records of the config a build used.
func (c Cache) usedBy(variant, result string) func(index int) bool {
	for _, b := range c.Builds {
		if b.Variant == variant && b.Result == result {
			return func(i int) bool { return i/8 < len(b.records) && b.records[i/8]>>(i%8)&1 == 1 }
		}
	}
	return func(int) bool { return true }
}
