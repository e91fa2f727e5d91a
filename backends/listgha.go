package backends

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/warmlayer/warmlayer/internal/ghaservice"
	"github.com/warmlayer/warmlayer/scope"
)

// ghaListing is a GHA cache as GitHub's API shows it. A scope is the index of a Git ref. The blobs that a build of a ref has saved are the
// ref's, too: other refs do not read them, but for those of the default branch and of a pull request's base. So they go with the ref's last index. The
// contents of other refs' indexes are not known, so that a ref's blobs stay as long as it has an index.
type ghaListing struct {
	*ghaStore
	api *ghaservice.API
}

// listing is the cache by GitHub's API, or says why there is none.
func (c *GHA) listing(token string) (Listing, string) {
	if c.sharedByRefs() {
		return nil, "this server has no API for the entries of its cache"
	}
	if c.spec.GHToken != "" {
		token = c.spec.GHToken
	}
	api, err := ghaservice.NewAPI(c.spec, token)
	if err != nil {
		return nil, err.Error()
	}
	return &ghaListing{c.destination, api}, ""
}

// ghaRef is what a Git ref has in the cache.
type ghaRef struct {
	series map[string][]ghaservice.Stored // versions of indexes, by key without the version's number
	extra  map[string][]ghaservice.Stored // their records, by the index's key
	blobs  []ghaservice.Stored
}

// refs are all entries of BuildKit's caches, by Git ref: those of other caches too, since all of a ref share its blobs.
func (g *ghaListing) refs(ctx context.Context) (map[string]*ghaRef, error) {
	all := map[string]*ghaRef{}
	of := func(ref string) *ghaRef {
		if all[ref] == nil {
			all[ref] = &ghaRef{series: map[string][]ghaservice.Stored{}, extra: map[string][]ghaservice.Stored{}}
		}
		return all[ref]
	}
	err := g.api.All(ctx, "index-", func(s ghaservice.Stored) error {
		key, _, _ := strings.Cut(s.Key, "#")
		of(s.Ref).series[key] = append(of(s.Ref).series[key], s)
		return nil
	})
	if err == nil {
		err = g.api.All(ctx, recordKey(""), func(s ghaservice.Stored) error {
			key, _, _ := strings.Cut(s.Key, "#")
			index := "index-" + strings.TrimPrefix(key, recordKey(""))
			of(s.Ref).extra[index] = append(of(s.Ref).extra[index], s)
			return nil
		})
	}
	if err == nil {
		err = g.api.All(ctx, ghaservice.BlobPrefix, func(s ghaservice.Stored) error {
			of(s.Ref).blobs = append(of(s.Ref).blobs, s)
			return nil
		})
	}
	return all, err
}

// name is the scope of an index: index-<scope>-<key>-1-<hash> of refs/heads/main is b-main.<key>.
func (g *ghaListing) name(ref, index string) scope.Name {
	own := scope.RefName(ref)
	at := strings.LastIndex(index, "-1-")
	rest, ours := strings.CutPrefix(index[:max(at, 0)], "index-"+g.cache.spec.Scope)
	switch {
	case own == "" || !ours:
		return ""
	case rest == "":
		return own
	}
	key, keyed := strings.CutPrefix(rest, "-")
	if n := own + "." + scope.Name(key); keyed && n.Valid() {
		return n
	}
	return ""
}

// List implements [Listing].
func (g *ghaListing) List(ctx context.Context, each func(Entry) error) error {
	refs, err := g.refs(ctx)
	if err != nil {
		return err
	}
	for ref, has := range refs {
		for index, versions := range has.series {
			if err := each(g.entry(ref, index, has, versions)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *ghaListing) entry(ref, index string, has *ghaRef, versions []ghaservice.Stored) Entry {
	e := Entry{Name: g.name(ref, index), Key: ref + " " + index, Counted: &Counted{}}
	for _, s := range append(versions[:len(versions):len(versions)], has.extra[index]...) {
		e.Counted.Own += s.Size
		e.Changed = later(e.Changed, later(s.Created, s.Used))
	}
	e.Counted.Blobs = len(has.blobs)
	for _, b := range has.blobs {
		if len(has.series) > 1 {
			e.Counted.Shared += b.Size
		} else {
			e.Counted.Own += b.Size
		}
	}
	return e
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// At implements [Listing]. GitHub's API shows no content, so the manifest is the zero value; the entry has the sizes.
func (g *ghaListing) At(context.Context, Entry) (Manifest, error) { return Manifest{}, nil }

// Forget implements [Listing]: it removes the index, and with a ref's last index everything of that ref.
func (g *ghaListing) Forget(ctx context.Context, entries []Entry, gone func(Entry)) error {
	refs, err := g.refs(ctx)
	if err != nil {
		return err
	}
	for _, e := range entries {
		ref, index, _ := strings.Cut(e.Key, " ")
		has := refs[ref]
		if has == nil {
			gone(e)
			continue
		}
		// The index goes first: it must not name a blob that is gone. What an error leaves behind it goes with a sweep.
		if err := g.removeAll(ctx, has.series[index]); err != nil {
			return err
		}
		gone(e)
		going := has.extra[index]
		if delete(has.series, index); len(has.series) == 0 {
			going = append(going, has.blobs...)
		}
		if err := g.removeAll(ctx, going); err != nil {
			return err
		}
	}
	return nil
}

func (g *ghaListing) removeAll(ctx context.Context, all []ghaservice.Stored) error {
	for _, one := range all {
		if err := g.api.Remove(ctx, one); err != nil {
			return err
		}
	}
	return nil
}

// Sweep implements [Sweeping]: it removes former versions of the cache's indexes and records, and what a ref has left that has no index.
func (g *ghaListing) Sweep(ctx context.Context, s Sweep) (Swept, error) {
	refs, err := g.refs(ctx)
	if err != nil {
		return Swept{}, err
	}
	var swept Swept
	before := time.Now().Add(-s.Grace)
	remove := func(all []ghaservice.Stored) error {
		for _, one := range all {
			if later(one.Created, one.Used).After(before) {
				continue
			}
			if !s.Dry {
				if err := g.api.Remove(ctx, one); err != nil {
					return err
				}
			}
			swept.Blobs, swept.Bytes = swept.Blobs+1, swept.Bytes+one.Size
		}
		return nil
	}
	for ref, has := range refs {
		for index, versions := range has.series {
			if s.Without != nil && s.Without(Entry{Key: ref + " " + index}) {
				delete(has.series, index)
				continue
			}
			if g.name(ref, index) == "" {
				continue // another cache's
			}
			err = cmp.Or(err, remove(versions[:len(versions)-1]))
		}
		for index, records := range has.extra {
			if has.series[index] != nil {
				records = records[:len(records)-1]
			}
			err = cmp.Or(err, remove(records))
		}
		if len(has.series) == 0 {
			err = cmp.Or(err, remove(has.blobs))
		}
		if err != nil {
			return swept, err
		}
	}
	return swept, nil
}
