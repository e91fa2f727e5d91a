package cacheplan

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachegraph"
	"github.com/warmlayer/warmlayer/internal/gateway"
	"github.com/warmlayer/warmlayer/scope"
)

// Committed is the outcome of a commit to one cache.
type Committed struct {
	Err  error      // why nothing was written
	Note error      // why what was written lacks something; nil where it is whole
	From scope.Name // the scope whose cache was copied; "": BuildKit exported it
	Kept Kept
	held bool // the scope has all of the build already
}

// Kept is what a scope holds of builds before the one that was written.
type Kept struct {
	Builds   int   // that are kept
	Variants int   // that they are of, the written build's left out
	Bytes    int64 // of layers that they add
	Dropped  int   // builds that did not fit into the limits
}

// written is a scope of a cache that is written.
type written struct {
	scope   scope.Name
	options map[string]string   // the export options that determine the content of the cache
	record  backends.Record     // without time and result
	own     *backends.Reading   // of the same scope and cache; nil: it was not read
	others  []*backends.Reading // of other scopes of the same cache
	variant string
	keep    Limits // the zero value: former builds are not kept
	made    *made  // gets what this build exported
}

// made is what a build exported: a cache, and the build in it. Destinations set it at the same time.
type made struct {
	mu    sync.Mutex
	cache *cachegraph.Cache // nil: not known
	build cachegraph.Build
}

// exported notes what a build exported. A mode other than max leaves steps out, and forced compression
// makes other layers of those that were read, so that neither tells what was read.
func (w written) exported(c cachegraph.Cache, b cachegraph.Build) {
	if w.options["mode"] == "max" && w.options["force-compression"] != "true" {
		w.made.set(c, b)
	}
}

func (m *made) set(c cachegraph.Cache, b cachegraph.Build) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cache, m.build = &c, b
}

func (m *made) get() (*cachegraph.Cache, cachegraph.Build) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cache, m.build
}

// reached reports whether this process has read the scope, or knows that there is none.
func (w written) reached() bool {
	return w.own != nil && (w.own.Err == nil || errors.Is(w.own.Err, backends.ErrAbsent))
}

// fresh is how long a build counts as just exported. An export after that time renews when its
// blobs were last used, in stores that expire them by age.
const fresh = 24 * time.Hour

// unchanged reports whether the scope has this build already, and has not had it for long.
func (w written) unchanged(e Exported) bool { return w.own != nil && w.has(w.own, e) }

// copy makes the cache of another scope that has this build the scope's cache, where there is none yet;
// nil: no scope that was read has it. The store has the cache's blobs. Where another build has written
// the scope meanwhile, the scope gets both.
func (w written) copy(store backends.Store, e Exported) func(context.Context) Committed {
	if w.keep.Variants == 0 || w.own == nil || !errors.Is(w.own.Err, backends.ErrAbsent) {
		return nil
	}
	at := slices.IndexFunc(w.others, func(r *backends.Reading) bool { return w.has(r, e) })
	if at < 0 {
		return nil
	}
	from := w.others[at]
	return func(ctx context.Context) Committed {
		m, err := from.Manifest.WithRecord(w.recordOf(e, w.buildOf(e)))
		if err != nil {
			return Committed{Err: err}
		}
		err = create(ctx, store, w.scope, m)
		if errors.Is(err, backends.ErrReplaced) {
			return w.write(ctx, store, gateway.Sent{Manifest: from.Manifest, Config: from.Config}, nil, e, nil)
		}
		return Committed{Err: err, From: from.Name}
	}
}

// create writes a scope where there is none. A copy that another build overwrites at the same moment is
// still in the scope that it comes from, so it needs no look afterwards.
func create(ctx context.Context, store backends.Store, n scope.Name, m backends.Manifest) error {
	if c, ok := store.(backends.Creator); ok {
		return c.Create(ctx, n, m)
	}
	return store.Swap(ctx, n, "", m)
}

// has reports whether a scope that was read has this build, and has not had it for long: then it is what
// this build exported. It is false for a result that is not known.
func (w written) has(r *backends.Reading, e Exported) bool {
	key := backends.ResultKey(w.options, e.Content)
	if key == "" || r.Verify() != nil {
		return false
	}
	for _, b := range buildsOf(r.Config, r.Manifest.Record) {
		if b.Result == key && (b.Variant == w.variant || b.Variant == "") && time.Since(b.Time) < fresh {
			if c, err := cachegraph.Parse(r.Config, r.Manifest.Layers); err == nil {
				w.exported(c, b)
			}
			return true
		}
	}
	return false
}

// buildsOf are the builds in a cache: one where another program, or an older version of this one,
// has written it.
func buildsOf(config []byte, r backends.Record) []cachegraph.Build {
	if all := cachegraph.Builds(config); len(all) > 0 {
		return all
	}
	return []cachegraph.Build{{Result: r.Result, Time: r.Time}}
}

// buildOf is an export that ends now.
func (w written) buildOf(e Exported) cachegraph.Build {
	return cachegraph.Build{Variant: w.variant, Result: backends.ResultKey(w.options, e.Content), Time: cmp.Or(e.Time, time.Now())}
}

// recordOf is the record of an export, which is a build of the scope.
func (w written) recordOf(e Exported, build cachegraph.Build) backends.Record {
	r := w.record
	r.Time, r.Result, r.Hits, r.Steps = build.Time, build.Result, e.Hits, e.Steps
	r.Mode, r.Created = w.options["mode"], build.Time
	if w.own != nil && w.own.Err == nil {
		if before := w.own.Manifest.Record; !before.Created.IsZero() {
			r.Created = before.Created
		} else if !before.Time.IsZero() {
			r.Created = before.Time
		}
	}
	return r
}

// former is what is in a scope before a write.
type former struct {
	cache   cachegraph.Cache
	version string // see [backends.Manifest].Version
	err     error  // why the cache is not known; nil: it is, or there is none
}

// known is what was in the scope when this process read it; nil: it has not reached the scope.
func (w written) known() *former {
	if !w.reached() {
		return nil
	}
	f := &former{}
	if w.own.Err == nil {
		f.version = w.own.Manifest.Version
		f.cache, f.err = w.parse(context.Background(), nil, w.own.Manifest)
	}
	return f
}

// read reads what is in the scope now. A scope that could not be read before the build is not tried
// again: its source says why, and the new cache replaces it.
func (w written) read(ctx context.Context, store backends.Scopes) former {
	if w.own != nil && !w.reached() {
		return former{version: backends.AnyVersion}
	}
	m, err := store.Manifest(ctx, w.scope)
	if errors.Is(err, backends.ErrAbsent) {
		return former{}
	}
	if err != nil {
		return former{version: backends.AnyVersion, err: err}
	}
	f := former{version: m.Version}
	f.cache, f.err = w.parse(ctx, store, m)
	return f
}

// parse is the cache of a manifest, without the results that need blobs which are known to be lost.
func (w written) parse(ctx context.Context, store backends.Scopes, m backends.Manifest) (cachegraph.Cache, error) {
	config, lost, err := m.Inline, map[digest.Digest]bool{}, error(nil)
	switch {
	case w.own != nil && bytes.Equal(w.own.Manifest.Raw, m.Raw):
		config = w.own.Config
		var gone *backends.Gone
		if errors.As(w.own.Verify(), &gone) {
			for _, d := range gone.Missing {
				lost[d] = true
			}
		}
	case config == nil:
		config, err = backends.ReadBlob(ctx, store, m.Config, backends.MaxConfig)
	}
	if err != nil {
		return cachegraph.Cache{}, err
	}
	c, err := cachegraph.Parse(config, m.Layers)
	if err != nil {
		return cachegraph.Cache{}, err
	}
	if len(c.Builds) == 0 {
		c = c.Foreign(cachegraph.Build{Result: m.Record.Result, Time: m.Record.Time})
	}
	return c.Without(lost), nil
}

// write makes a cache the scope's cache in a store, with its record and with what the scope keeps
// of former builds. Another build may write the scope at the same time: then write begins again with
// what is there, unless that has this build too. The former cache is the one that is given or, where it is nil,
// what was in the scope before the build: a store writes only over the version that it is told.
func (w written) write(ctx context.Context, store backends.Store, fitted gateway.Sent, note error, e Exported, before *former) Committed {
	build := w.buildOf(e)
	if e.Memory != nil && w.keep.Variants > 0 {
		build.Memory = e.Memory()
	}
	record := w.recordOf(e, build)
	if w.keep.Variants == 0 || fitted.Config == nil {
		return Committed{Err: w.put(ctx, store, fitted, record, backends.AnyVersion), Note: note}
	}
	newest, err := cachegraph.Parse(fitted.Config, fitted.Manifest.Layers)
	if err != nil {
		return Committed{Err: fmt.Errorf("the exported cache config cannot be read: %w", err)}
	}
	w.exported(newest, build)
	if before == nil {
		before = w.known()
	}
	if before == nil {
		read := w.read(ctx, store)
		before = &read
	}
	removed := w.removed(ctx, store, newest)
	for try, same := 1, 0; ; try++ {
		before.cache = before.cache.Without(removed)
		united, out := w.unite(fitted, newest, *before, build)
		if out.Note = cmp.Or(note, out.Note); try > 1 && out.held {
			return out
		}
		record.Variants = out.Kept.Variants + 1
		version := before.version
		if last := lastTry(try, same); last != nil {
			version, out.Note = backends.AnyVersion, cmp.Or(out.Note, last)
		}
		out.Err = w.put(ctx, store, united, record, version)
		if !errors.Is(out.Err, backends.ErrReplaced) || !pause(ctx, try) {
			return out
		}
		read := w.read(ctx, store)
		if same++; before.version != read.version {
			same = 0
		}
		before = &read
	}
}

// removed are blobs of the scope that this build could not use, and which the store no longer has: what is damaged is
// removed before BuildKit's own export, and the export may have made the same layer in another form.
func (w written) removed(ctx context.Context, store backends.Store, newest cachegraph.Cache) map[digest.Digest]bool {
	if w.own == nil {
		return nil
	}
	doubted := slices.DeleteFunc(w.own.Doubted(), func(d digest.Digest) bool {
		return slices.ContainsFunc(newest.Layers, func(l ocispecs.Descriptor) bool { return l.Digest == d })
	})
	if len(doubted) == 0 {
		return nil
	}
	there, err := store.Stat(ctx, doubted)
	if err != nil {
		return nil // the write says so
	}
	lost := map[digest.Digest]bool{}
	for _, d := range doubted {
		if _, known := there[d]; !known {
			lost[d] = true
		}
	}
	return lost
}

// Bounds of the writes of one scope. Of several builds that write at once, one succeeds each time.
const (
	maxTries = 32
	// maxSame is how often a store may say that another build has written the scope, which has not
	// changed. A store that answers late does so once, and one that cannot compare each time.
	maxSame = 3
)

var (
	errContended  = fmt.Errorf("other builds wrote the scope %d times meanwhile, and what the last one wrote may be lost", maxTries-1)
	errNotSwapped = errors.New("the store says that another build has written the scope, which has not changed: what a build wrote in the same moment may be lost")
)

// lastTry is why a scope is now written whatever is in it; nil: it is written only if it still is
// what was read.
func lastTry(try, same int) error {
	switch {
	case same == maxSame:
		return errNotSwapped
	case try == maxTries:
		return errContended
	}
	return nil
}

// pause lets other builds go first, for a random time of up to 10 ms for each try. It reports false
// when ctx ends.
func pause(ctx context.Context, try int) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(time.Duration(rand.Int64N(int64(try)) * int64(10*time.Millisecond))): //nolint:gosec // a pause is no secret
		return true
	}
}

// unite is the new cache with what the scope keeps of the former one. The note says why nothing is
// kept.
func (w written) unite(fitted gateway.Sent, newest cachegraph.Cache, f former, build cachegraph.Build) (gateway.Sent, Committed) {
	why := f.err
	out, err := cachegraph.Accumulate(newest, build, f.cache, w.keep)
	if err != nil {
		why = err
		out, err = cachegraph.Accumulate(newest, build, cachegraph.Cache{}, w.keep)
	}
	if err == nil {
		fitted.Config = out.JSON
		fitted.Manifest, err = fitted.Manifest.With(out.JSON, out.Layers)
	}
	if why = cmp.Or(why, err); why != nil {
		why = fmt.Errorf("what earlier builds left in the scope is not kept: %w", why)
	}
	return fitted, Committed{Note: why, Kept: keptOf(out, build), held: out.Held}
}

func keptOf(out cachegraph.Accumulated, build cachegraph.Build) Kept {
	k := Kept{Bytes: out.Added, Dropped: len(out.Dropped)}
	variants := map[string]bool{build.Variant: true}
	for i, b := range out.Builds {
		if i > 0 {
			k.Builds++
		}
		variants[b.Variant] = true
	}
	k.Variants = len(variants) - 1
	return k
}

// put writes a cache with its record, where the scope still has the version. The config is a part of some
// manifests, which stay as they are.
func (w written) put(ctx context.Context, store backends.Store, sent gateway.Sent, r backends.Record, version string) error {
	if sent.Config != nil && sent.Manifest.Inline == nil {
		if err := store.Put(ctx, sent.Manifest.Config, bytes.NewReader(sent.Config)); err != nil {
			return err
		}
	}
	m, err := sent.Manifest.WithRecord(r)
	if err != nil {
		return err
	}
	return store.Swap(ctx, w.scope, version, m)
}
