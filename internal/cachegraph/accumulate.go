package cachegraph

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"sort"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// Limits bound what a cache keeps of former builds. The zero value keeps nothing.
type Limits struct {
	Age      time.Duration // since the last export of a build
	Variants int           // that a cache holds, with the newest build's
	// Bytes is how much the layers of former builds may add to those of the newest one. Where it
	// is 0, it is Percent of the layers of the largest build that the cache holds.
	Bytes   int64
	Percent int
	JSON    int // bytes of the config
}

// Accumulated is a cache that holds several builds.
type Accumulated struct {
	Cache           // Builds begins with the newest one
	JSON    []byte  // the config
	Added   int64   // bytes of the layers that the former builds add
	Dropped []Build // former builds that do not fit into the limits
	// Held tells that the former cache had all of the new build, as one of the same variant and
	// no older.
	Held bool
}

// Accumulate adds what former builds have left in a scope to the cache of a new build, which
// comes from [Parse] as the former one does. The newest build of each other variant takes
// precedence, and then older builds of all variants, each in the order of their last use. A build
// that does not fit is left out as a whole. A former build of the same variant is the same build when
// it has the same result, or used no other record: such builds differ in what no step makes, as the
// labels of an image.
//
// The error says that the two cannot be one cache; the new one alone can still be used.
func Accumulate(newest Cache, build Build, former Cache, limits Limits) (Accumulated, error) {
	a := &accumulation{limits: limits, builds: []Build{build}, descriptors: descriptorsOf(slices.Concat(former.Layers, newest.Layers))}
	shared, b := chains{}, newBudget()
	reader, err := newest.read(shared)
	if err == nil {
		a.addNewest(reader)
		reader, err = former.read(shared)
	}
	if err == nil {
		a.addFormer(reader, former.Builds)
		a.all, err = unite(a.all, b)
	}
	if err == nil {
		a.findRepeated()
		a.all, err = order(a.all, b)
	}
	if err != nil {
		return Accumulated{}, err
	}
	return a.within(a.choose())
}

// accumulation is an accumulated cache under way.
type accumulation struct {
	limits      Limits
	builds      []Build // the newest one first; each has the bit of its index in uses of records
	old         []Build // former builds that are too old
	repeated    uint64  // bits of the former builds that the newest one repeats
	held        bool    // see Accumulated
	forgets     bool    // there is no room for what is remembered of builds
	all         []*record
	descriptors map[digest.Digest]ocispecs.Descriptor
}

func (a *accumulation) addNewest(from *recordReader) {
	for _, r := range from.all {
		r.uses = 1
	}
	a.all = from.all
}

// addFormer adds the records that builds within the age have used.
func (a *accumulation) addFormer(from *recordReader, builds []Build) {
	newest := a.builds[0]
	for _, b := range builds {
		switch {
		case b.Variant == newest.Variant && b.Result == newest.Result && b.Result != "":
			a.found(b)
		case newest.Time.Sub(b.Time) > a.limits.Age || len(a.builds) == maxBuilds:
			a.old = append(a.old, b)
		default:
			for i, r := range from.known {
				if b.uses(i) {
					r.uses |= 1 << len(a.builds)
				}
			}
			a.builds = append(a.builds, b)
		}
	}
	for _, r := range from.all {
		if r.uses != 0 {
			a.all = append(a.all, r)
		}
	}
}

// found notes that a former build has the results of the newest one.
func (a *accumulation) found(b Build) {
	a.held = a.held || !b.Time.Before(a.builds[0].Time.Truncate(time.Second))
}

// findRepeated finds the former builds of the newest one's variant that used none but its records.
func (a *accumulation) findRepeated() {
	var more, less uint64 // bits of the builds that used other records, and of those that did not use all
	for _, r := range a.all {
		if r.uses&1 == 0 {
			more |= r.uses
		} else {
			less |= ^r.uses
		}
	}
	for i, b := range a.builds[1:] {
		bit := uint64(1) << (i + 1)
		if b.Variant != a.builds[0].Variant || more&bit != 0 {
			continue
		}
		if a.repeated |= bit; less&bit == 0 {
			a.found(b)
		}
	}
}

// chosen are the former builds that a cache keeps: the first one is the last to be dropped.
type chosen struct {
	builds  []int
	added   []int64 // bytes that the builds up to this one add to the newest
	dropped []int
}

// choose keeps as many former builds as the limits on variants and bytes allow.
func (a *accumulation) choose() chosen {
	var out chosen
	in, total := a.layers(0), int64(0)
	largest := a.more(in, nil)
	ranked, beyond := a.ranked()
	for _, i := range ranked {
		layers := a.layers(i)
		more, size := a.more(layers, in), max(largest, a.more(layers, nil))
		if total+more > cmp.Or(a.limits.Bytes, size*int64(a.limits.Percent)/100) {
			out.dropped = append(out.dropped, i)
			continue
		}
		total, largest = total+more, size
		maps.Copy(in, layers)
		out.builds, out.added = append(out.builds, i), append(out.added, total)
	}
	out.dropped = append(out.dropped, beyond...)
	return out
}

// layers are those that the records of a build need.
func (a *accumulation) layers(build int) map[digest.Digest]bool {
	blobs, seen := map[digest.Digest]bool{}, map[*chain]bool{}
	for _, r := range a.all {
		if r.uses&(1<<build) == 0 {
			continue
		}
		for c := r.result.layers; c != nil && !seen[c]; c = c.parent {
			seen[c], blobs[c.blob] = true, true
		}
	}
	return blobs
}

// more is the size of the layers that are not among others.
func (a *accumulation) more(layers, others map[digest.Digest]bool) (bytes int64) {
	for d := range layers {
		if !others[d] {
			bytes += a.descriptors[d].Size
		}
	}
	return bytes
}

// ranked are the former builds of as many variants as may be kept: the newest one of each, and
// then the others. Those of more variants are beyond the limit.
func (a *accumulation) ranked() (ranked, beyond []int) {
	var former []int
	for i := 1; i < len(a.builds); i++ {
		if a.repeated&(1<<i) == 0 {
			former = append(former, i)
		}
	}
	slices.SortStableFunc(former, func(i, k int) int { return a.builds[k].Time.Compare(a.builds[i].Time) })
	variants := map[string]bool{a.builds[0].Variant: true}
	kept := map[string]bool{a.builds[0].Variant: true}
	var rest []int
	for _, i := range former {
		v := a.builds[i].Variant
		switch {
		case kept[v]:
			rest = append(rest, i)
		case !variants[v] && len(kept) < a.limits.Variants:
			kept[v] = true
			ranked = append(ranked, i)
		default:
			beyond = append(beyond, i)
		}
		variants[v] = true
	}
	return append(ranked, rest...), beyond
}

// within is the cache of the newest build and of as many of the chosen ones as make a config that
// BuildKit imports.
func (a *accumulation) within(c chosen) (Accumulated, error) {
	var failed error
	attempt := func(n int) Accumulated {
		out, err := a.of(c.builds[:n])
		if err != nil {
			failed = err
		}
		return out
	}
	fits := func(out Accumulated) bool { return out.JSON != nil && len(out.JSON) <= a.limits.JSON }
	n := len(c.builds)
	out := attempt(n)
	if !fits(out) && failed == nil {
		a.forgets = true
		out = attempt(n)
	}
	if !fits(out) {
		n = sort.Search(n, func(n int) bool { return !fits(attempt(n + 1)) })
		out = attempt(n)
	}
	if failed == nil && !fits(out) {
		failed = errNoRoom
	}
	if n > 0 {
		out.Added = c.added[n-1]
	}
	out.Held, out.Dropped = a.held, a.old
	for _, i := range slices.Concat(c.builds[n:], c.dropped) {
		out.Dropped = append(out.Dropped, a.builds[i])
	}
	return out, failed
}

// errNoRoom says that the new cache takes all the room that a config has.
var errNoRoom = errors.New("the cache config has no room for former builds")

// of is the cache of the newest build and of some former ones. Its JSON is nil where BuildKit would
// not import it in good time.
func (a *accumulation) of(former []int) (Accumulated, error) {
	numbers := append([]int{0}, former...)
	records := a.usedBy(numbers)
	if expanded(records) > MaxExpanded {
		return Accumulated{}, nil
	}
	out := Accumulated{Cache: newCache(records, a.descriptors)}
	for bit, i := range numbers {
		b := a.builds[i]
		b.records = make([]byte, (len(records)+7)/8)
		for n, r := range records {
			if r.uses&(1<<bit) != 0 {
				b.records[n/8] |= 1 << (n % 8)
			}
		}
		if a.forgets {
			b.Memory = nil
		}
		out.Builds = append(out.Builds, b)
	}
	remember(out.Builds)
	var err error
	out.JSON, err = marshalBuilds(out.Config, out.Builds)
	return out, err
}

// usedBy are copies of the records that some builds use, in order, with links among them alone. In
// their uses, the bits are the indexes of the given builds.
func (a *accumulation) usedBy(builds []int) []*record {
	copies := map[*record]*record{}
	var all []*record
	for _, r := range a.all {
		c := &record{digest: r.digest, result: r.result, inputs: make([][]link, len(r.inputs))}
		for bit, i := range builds {
			if r.uses&(1<<i) != 0 {
				c.uses |= 1 << bit
			}
		}
		complete := c.uses != 0
		for n, input := range r.inputs {
			for _, l := range input {
				if from := copies[l.from]; from != nil {
					c.inputs[n] = append(c.inputs[n], link{from, l.selector})
				}
			}
			complete = complete && len(c.inputs[n]) > 0
		}
		if complete {
			copies[r] = c
			all = append(all, c)
		}
	}
	return all
}
