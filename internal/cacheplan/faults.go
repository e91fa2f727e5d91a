package cacheplan

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/gateway"
)

// Attempt is what was observed of one attempt to build.
type Attempt struct {
	Err       error           // of the build; nil when it succeeded
	Cancelled bool            // the run was ended from outside
	Imports   []ImportEnd     // of each entry of [Reads.Imports]
	Partial   []digest.Digest // the layers whose transfer from a cache did not end
	Recovered []string        // errors of steps that BuildKit ran instead of getting their layers from a cache
	Lost      []digest.Digest // the blobs that a store did not deliver; those of the gateway are added

	why func(digest.Digest) error // what a store answered for one of Lost, or nil; nil without a gateway
}

// reason is why a blob was lost: what its store answered, or else the attempt's error. It never is a
// [backends.ErrAbsent], which would be the absence of the whole source.
func (a Attempt) reason(d digest.Digest) error {
	if a.why == nil || errors.Is(a.Err, ErrStalled) {
		return a.Err
	}
	switch why := a.why(d); {
	case errors.Is(why, gateway.ErrDamaged):
		return why
	case why != nil:
		return errors.New(why.Error()) // an ErrAbsent would make the source absent
	}
	return a.Err
}

// ImportEnd is how BuildKit's import of one entry ended. The zero value is that of an import
// that BuildKit never began.
type ImportEnd struct {
	Began, Ended bool
	Error        string // BuildKit's; "" when it succeeded, or did not end
}

// The errors of an attempt that was given up.
var (
	// ErrImportHangs says that an import did not end. It blocks the scheduler of the whole
	// daemon, and BuildKit does not cancel it.
	ErrImportHangs = errors.New("the import hangs")
	// ErrStalled says that no layer of a cache got further.
	ErrStalled = errors.New("the cache stalls")
)

// end is how the import of the nth entry ended.
func (a Attempt) end(n int) ImportEnd {
	if n >= len(a.Imports) {
		return ImportEnd{}
	}
	return a.Imports[n]
}

// state is the outcome of an import that ended. BuildKit answers "not found" for a cache
// that is absent; every other error is a failure.
func (e ImportEnd) state() (State, error) {
	switch {
	case e.Error == "":
		return Loaded, nil
	case strings.HasSuffix(e.Error, ": not found"):
		return Absent, errors.New(e.Error)
	}
	return Failed, fmt.Errorf("BuildKit could not import it: %s", e.Error)
}

// Fault is a source that is at fault for a failed attempt, and why.
type Fault struct {
	Err    error // wraps the attempt's, or the answer of a store
	source *source
	lost   []digest.Digest // the source's blobs that were lost; nil where that is not known, or where the store stalls
}

// faults are the sources that made an attempt fail: those with a blob that was lost, or
// whose import hangs. When a blob was lost and no source is known to have it, every source
// is at fault whose blobs are not known.
// A command that failed (BuildKit's typed ExitError) is an error of the user's build, and
// a cancelled build is not tried again: no source is at fault then.
func faults(a Attempt, all []imports) []Fault {
	var exit *gwpb.ExitError
	switch {
	case a.Err == nil || a.Cancelled || errors.As(a.Err, &exit):
		return nil
	case errors.Is(a.Err, ErrImportHangs):
		return hanging(a, all)
	}
	wanted := wantedBlobs(a)
	if len(wanted) == 0 && errors.Is(a.Err, ErrStalled) {
		// One of those that were loaded stalls.
		return slices.DeleteFunc(blamed(all, a.Err), func(f Fault) bool { return f.source.state != Loaded })
	}
	var found, suspects []Fault
	for _, i := range all {
		for _, s := range i.sources {
			if lost := s.holds(wanted); len(lost) > 0 {
				f := Fault{Err: s.advise(fmt.Errorf("blob %s was lost: %w", lost[0], a.reason(lost[0])), lost), source: s}
				if !errors.Is(a.Err, ErrStalled) {
					f.lost = lost
				}
				found = append(found, f)
			} else if len(wanted) > 0 && s.state == Loaded && s.reading.Manifest.Raw == nil {
				suspects = append(suspects, Fault{Err: fmt.Errorf("a blob was lost: %w", a.Err), source: s})
			}
		}
	}
	if len(found) == 0 {
		return suspects
	}
	return slices.Concat(found, inseparable(found, all, a.Err))
}

// blamed are all sources of some imports.
func blamed(some []imports, err error) (found []Fault) {
	for _, i := range some {
		for _, s := range i.sources {
			found = append(found, Fault{Err: err, source: s})
		}
	}
	return found
}

// hanging are the sources of the imports that began and did not end; of all imports when
// the one that hung ended in the moment when it was given up.
func hanging(a Attempt, all []imports) []Fault {
	var open []imports
	for n, i := range all {
		if end := a.end(n); end.Began && !end.Ended {
			open = append(open, i)
		}
	}
	if len(open) == 0 {
		open = all
	}
	return blamed(open, a.Err)
}

// inseparable are the other sources of imports that BuildKit reads only together with a
// source that is at fault.
func inseparable(found []Fault, all []imports, err error) []Fault {
	atFault := func(s *source) bool {
		return slices.ContainsFunc(found, func(f Fault) bool { return f.source == s })
	}
	var others []Fault
	for _, i := range all {
		if !i.allOrNothing || !slices.ContainsFunc(i.sources, atFault) {
			continue
		}
		for _, s := range i.sources {
			if !atFault(s) {
				others = append(others, Fault{Err: fmt.Errorf("BuildKit reads it only together with a scope that is broken: %w", err), source: s})
			}
		}
	}
	return others
}

// holds are the wanted blobs that the source's cache is made of.
func (s *source) holds(wanted map[digest.Digest]bool) []digest.Digest {
	var held []digest.Digest
	for _, blob := range s.reading.Manifest.Blobs() {
		if wanted[blob.Digest] && !s.lost[blob.Digest] {
			held = append(held, blob.Digest)
		}
	}
	return held
}

// advise adds to an error how its blobs get replaced, where the cache does not replace them: they are
// there in another size, or with another content.
func (s *source) advise(err error, lost []digest.Digest) error {
	keeping, ok := s.reading.From.(backends.Keeping)
	if !ok || err == nil {
		return err
	}
	var gone *backends.Gone
	if errors.As(err, &gone) {
		lost = gone.Cut
	} else if !damaged.MatchString(err.Error()) && !errors.Is(err, gateway.ErrDamaged) {
		return err
	}
	if len(lost) == 0 {
		return err
	}
	return fmt.Errorf("%s: %w", keeping.Replace(lost[0]), err)
}

// wantedBlobs are the blobs that BuildKit may have lacked when the attempt failed.
func wantedBlobs(a Attempt) map[digest.Digest]bool {
	partial := a.Partial
	if len(a.Lost) > 0 && !errors.Is(a.Err, ErrStalled) {
		partial = nil // the others of them were cancelled with the build
	}
	wanted := blobsIn(a.Err, partial)
	for _, d := range a.Lost {
		wanted[d] = true
	}
	return wanted
}

// blobsIn are the blobs that could not be fetched, according to an error. BuildKit's
// fetch errors are typed on the daemon only; to a client they come as text, in which
// the blob's digest is the one part that is the same for all stores and versions. Where
// a transfer stalls or breaks off the text has no digest, and the partial layers of the
// status stream stand for it. The error of an upload names blobs too, and tells nothing
// about caches.
func blobsIn(err error, partial []digest.Digest) map[digest.Digest]bool {
	found := map[digest.Digest]bool{}
	text := err.Error()
	if upload.MatchString(text) {
		return found
	}
	for _, d := range digestPattern.FindAllString(text, -1) {
		found[digest.Digest(d)] = true
	}
	if errors.Is(err, ErrStalled) || len(found) == 0 && copying.MatchString(text) {
		for _, d := range partial {
			found[d] = true
		}
	}
	return found
}

// lostIn are the blobs that errors of steps name.
func lostIn(errs []string) []digest.Digest {
	var lost []digest.Digest
	for _, text := range errs {
		lost = append(lost, slices.Collect(maps.Keys(blobsIn(errors.New(text), nil)))...)
	}
	return lost
}

// The words of containerd v2: core/remotes/docker (pusher.go, resolver.go) for requests
// that fetch no blob, and core/content (helpers.go, Copy) for a transfer that broke off.
var (
	digestPattern = regexp.MustCompile(`sha256:[0-9a-f]{64}`)
	upload        = regexp.MustCompile(`(HEAD|POST|PUT|PATCH) request to|(Head|Post|Put|Patch) "`)
	damaged       = regexp.MustCompile(`unexpected commit (digest|size)`) // core/content, Commit
	copying       = regexp.MustCompile(`failed to copy: |short read: |unexpected EOF`)
)
