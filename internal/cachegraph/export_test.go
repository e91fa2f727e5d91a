package cachegraph

// Work is the number of links that the merge of the caches looks at, and its bound.
func Work(caches []Cache) (links, bound int, err error) {
	var all []*record
	shared := chains{}
	for _, c := range caches {
		records, _, err := c.records(shared)
		if err != nil {
			return 0, maxWork, err
		}
		all = append(all, records...)
	}
	b := newBudget()
	if all, err = unite(all, b); err == nil {
		_, err = order(all, b)
	}
	return maxWork - b.left, maxWork, err
}

// Chains is the number of chain links that are in memory when a cache is read.
func Chains(c Cache) (int, error) {
	shared := chains{}
	_, _, err := c.records(shared)
	return len(shared), err
}
