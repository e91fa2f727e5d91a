package cachemounts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	gw "github.com/moby/buildkit/frontend/gateway/client"
	digest "github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/mountpack"
)

// Save begins to save the mounts of steps that ran, once. Call it when no step runs any more; Wait waits for it.
func (m *Mounts) Save(ctx context.Context, b Builder) {
	if m == nil || m.Plan.Write == "" {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.begun {
		return
	}
	m.begun = true
	used := map[*mount]bool{}
	for step := range m.ran {
		for _, mount := range m.steps[step] {
			if mount.late && mount.restore == nil {
				mount.outcome.Why = "not saved: a step ended before the mount could be restored"
				continue
			}
			used[mount] = true
		}
	}
	if len(used) == 0 {
		return
	}
	m.saving.Go(func() {
		defer crash.Catch()
		defer b.Time("save cache mounts")()
		m.saveAll(ctx, b, used)
	})
}

// saveAll packs the mounts, and makes them the scope's in all caches.
func (m *Mounts) saveAll(ctx context.Context, b Builder, used map[*mount]bool) {
	ctx, cancel := context.WithTimeoutCause(ctx, m.Timeout, fmt.Errorf("not saved within %s (cache-timeout)", m.Timeout))
	defer cancel()
	fail := func(err error) {
		for mount := range used {
			if mount.outcome.Err == nil {
				mount.outcome.Err = fmt.Errorf("not saved: %w", err)
			}
		}
	}
	places := m.places()
	if len(places) == 0 {
		for mount := range used {
			mount.outcome.Why = "no cache of the build can keep mounts"
		}
		return
	}
	dir, err := os.MkdirTemp("", "warmlayer-mounts-")
	if err != nil {
		fail(err)
		return
	}
	defer os.RemoveAll(dir)
	var packed []*saved
	err = b.Ask(ctx, func(ctx context.Context, c gw.Client) { packed, err = m.packAll(ctx, c, dir, used) })
	if err != nil {
		fail(err)
		return
	}
	for _, to := range places {
		if err := m.commit(ctx, to, packed); err != nil {
			for _, s := range packed {
				s.mount.outcome.Err = cmp.Or(s.mount.outcome.Err, fmt.Errorf("not saved to %s: %w", to.name, err))
			}
		}
	}
	for _, s := range packed {
		if s.mount.outcome.Err == nil {
			s.mount.outcome.Saved = Moved{m.Plan.Write, s.bytes(), s.stats.Added + s.stats.Changed + s.stats.Deleted, s.seconds}
		}
	}
}

// place is a cache that the scope is written to.
type place struct {
	name  string
	store backends.Store
}

// places are the caches that the scope's mounts are written to. An image has no place for them.
func (m *Mounts) places() (all []place) {
	for _, cache := range m.Caches {
		if limited, ok := cache.(backends.Limited); ok && limited.Refuses(m.Plan) != "" {
			continue
		}
		var store backends.Store
		through, written := cache.(backends.GatewayWritten)
		switch {
		case cache.InImage():
			continue
		case written:
			store = through.Destination()
		default:
			store, _ = cache.Scopes().(backends.Store)
		}
		if store != nil {
			all = append(all, place{cache.String(), store})
		}
	}
	return all
}

// saved is a mount that was packed.
type saved struct {
	mount   *mount
	index   []byte
	parsed  *mountpack.Index
	stats   mountpack.SaveStats
	pack    string // the file with the new pack; "": there is none
	seconds float64
}

// bytes is what is new: the index and the new pack.
func (s *saved) bytes() int64 { return int64(len(s.index)) + s.stats.Pack }

// packAll packs the mounts that have changed. One that cannot be packed is left out, and its outcome says why.
func (m *Mounts) packAll(ctx context.Context, c gw.Client, dir string, used map[*mount]bool) ([]*saved, error) {
	program, err := m.Program()
	if err != nil {
		return nil, err
	}
	box, err := root(ctx, c, program)
	if err != nil {
		return nil, err
	}
	var eg errgroup.Group
	eg.SetLimit(atOnce)
	packed := make(chan *saved, len(used))
	for mount := range used {
		eg.Go(func() error {
			defer crash.Catch()
			s, err := m.packOne(ctx, c, box, dir, mount)
			switch {
			case err != nil:
				mount.outcome.Err = cmp.Or(mount.outcome.Err, fmt.Errorf("not saved: %w", err))
			case s != nil:
				packed <- s
			}
			return nil
		})
	}
	_ = eg.Wait()
	close(packed)
	var all []*saved
	for s := range packed {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *saved) int { return cmp.Compare(a.mount.use.Key(), b.mount.use.Key()) })
	return all, nil
}

// touchedFor is how long files whose times alone changed are not saved: Go's build cache has such, and removes what
// was not used for five days.
const touchedFor = 24 * time.Hour

// packOne packs a mount; nil: nothing of it has changed.
func (m *Mounts) packOne(ctx context.Context, c gw.Client, box gw.Reference, dir string, mount *mount) (*saved, error) {
	began := time.Now()
	request := mountpack.SaveRequest{MaxBytes: mount.limit}
	var previous []byte
	if r := mount.restore; r != nil {
		previous, request.Since = r.index, r.clock
	}
	file, err := os.CreateTemp(dir, "pack-")
	if err != nil {
		return nil, err
	}
	var answer *mountpack.Saved
	err = m.container(ctx, c, box, mount.use, "save", func(stdin io.WriteCloser, stdout io.Reader) (err error) {
		answer, err = mountpack.AskSave(stdin, stdout, request, previous, file)
		return err
	})
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	s := &saved{mount, answer.Index, answer.Parsed, answer.Stats, "", time.Since(began).Seconds()}
	if s.stats.Pack > 0 {
		s.pack = file.Name()
	}
	changed := s.stats.Added + s.stats.Changed + s.stats.Deleted
	if s.stats.Same || previous != nil && changed == 0 && time.Since(mount.restore.at) < touchedFor {
		return nil, nil
	}
	return s, nil
}

// commitTries is how often a scope is read again that other builds write meanwhile.
const commitTries = 4

// commit makes packed mounts the scope's, beside its other ones.
func (m *Mounts) commit(ctx context.Context, to place, packed []*saved) error {
	if len(packed) == 0 {
		return nil
	}
	for _, s := range packed {
		if err := s.send(ctx, to.store); err != nil {
			return err
		}
	}
	for try := 1; ; try++ {
		scope, version, err := read(ctx, to.store, m.Plan.Write)
		if err != nil {
			scope, version = &document{Mounts: map[string]*entry{}}, backends.AnyVersion // what cannot be read is replaced
		}
		now := time.Now().UTC().Truncate(time.Second)
		for _, s := range packed {
			scope.Mounts[s.mount.use.Key()] = s.entry(now)
		}
		scope.limit(m.Total, now)
		err = m.write(ctx, to.store, scope, version)
		if !errors.Is(err, backends.ErrReplaced) || try == commitTries {
			return err
		}
	}
}

// write writes the mounts of the scope, where those in the store have still a version.
func (m *Mounts) write(ctx context.Context, store backends.Store, d *document, version string) error {
	record := m.Record
	record.Time = time.Now()
	manifest, config, err := d.manifest(record)
	if err != nil {
		return err
	}
	if len(config) > backends.MaxConfig {
		return fmt.Errorf("the list of the scope's cache mounts has %d bytes, and at most %d are read", len(config), backends.MaxConfig)
	}
	if err := put(ctx, store, manifest.Config, config); err != nil {
		return err
	}
	return store.Swap(ctx, m.Plan.Write.Mounts(), version, manifest)
}

// entry is a packed mount in the scope's document.
func (s *saved) entry(now time.Time) *entry {
	e := &entry{Index: blob{digest.FromBytes(s.index), int64(len(s.index))}, Time: now}
	for _, p := range s.parsed.Packs {
		e.Packs = append(e.Packs, blob{p.Digest, p.Bytes})
	}
	return e
}

// limit drops the oldest mounts until the others take no more than so many bytes; those of now stay.
func (d *document) limit(total int64, now time.Time) {
	if total <= 0 {
		return
	}
	keys, sum := d.keys(), int64(0)
	for _, key := range keys {
		sum += d.Mounts[key].bytes()
	}
	slices.SortStableFunc(keys, func(a, b string) int { return d.Mounts[a].Time.Compare(d.Mounts[b].Time) })
	for _, key := range keys {
		if sum <= total || !d.Mounts[key].Time.Before(now) {
			return
		}
		sum -= d.Mounts[key].bytes()
		delete(d.Mounts, key)
	}
}

// send writes the blobs of a packed mount that a store does not have. Older packs of another store are copied.
func (s *saved) send(ctx context.Context, store backends.Store) error {
	var all []digest.Digest
	e := s.entry(time.Time{})
	for _, b := range e.blobs() {
		all = append(all, b.Digest)
	}
	there, err := store.Stat(ctx, all)
	if err != nil {
		return err
	}
	if _, known := there[e.Index.Digest]; !known {
		if err := put(ctx, store, e.Index.descriptor(mediaIndex), s.index); err != nil {
			return err
		}
	}
	for i, p := range e.Packs {
		if _, known := there[p.Digest]; known {
			continue
		}
		if err := s.sendPack(ctx, store, p, s.pack != "" && i == len(e.Packs)-1); err != nil {
			return err
		}
	}
	return nil
}

func (s *saved) sendPack(ctx context.Context, store backends.Store, pack blob, made bool) error {
	var from io.ReadCloser
	var err error
	switch {
	case made:
		from, err = os.Open(s.pack)
	case s.mount.restore != nil:
		from, err = s.mount.restore.from.from.Open(ctx, pack.Digest, 0)
	default:
		err = fmt.Errorf("pack %s is nowhere", pack.Digest)
	}
	if err != nil {
		return err
	}
	defer from.Close()
	return store.Put(ctx, pack.descriptor(mediaPack), from)
}
