package mountpack

// absorbed tells for each pack of the previous index whether the new pack takes over its content. live are
// the bytes of each that the mount still has, and fresh are the bytes of new content, all uncompressed.
//
// A pack of which less than half is live is absorbed: rewriting it costs less than the bytes that have
// died in it, so that over time at most one byte is rewritten for each byte that was replaced, and a restore
// reads at most twice what it needs.
//
// When there would be more than MaxPacks, the newest ones are absorbed: the last one, and on while the next
// older one is not larger than all newer ones together. A content that is rewritten so is mostly in a pack
// twice as large then, and several places become free. TestCompaction measures what that costs.
func absorbed(packs []Pack, live []int64, fresh int64, whole bool) []bool {
	all := make([]bool, len(packs))
	remaining := 0
	for i, p := range packs {
		all[i] = whole || live[i] < p.Raw-live[i]
		if all[i] {
			fresh += live[i]
		} else {
			remaining++
		}
	}
	if fresh > 0 {
		remaining++
	}
	if remaining <= MaxPacks {
		return all
	}
	newer := fresh
	for i := len(packs) - 1; i >= 0; i-- {
		if all[i] {
			continue
		}
		if newer > fresh && live[i] > newer {
			break
		}
		all[i] = true
		newer += live[i]
	}
	return all
}
