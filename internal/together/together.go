// Package together lets the builds of several targets, which run on one builder at the same time, have in common what they send and what
// they make of each other.
//
//	shared := together.New()
//	defer shared.Close()
//	files, session, err := shared.Send(c, "context", dir, open)         // a directory is sent once
//	shared.Answered(ctx, "base", asked, result)                         // in the build of base
//	links, err := shared.Links(ctx, gateway, client, links, false)      // in the build of what has base as a context
package together

import (
	"context"
	"fmt"
	"sync"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/filesync"
	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"

	"github.com/warmlayer/warmlayer/internal/crash"
)

// Shared is what the builds of several targets on one builder have in common: the directories that they send, each of which is sent
// once, and the results that are contexts of other targets. It may be used by several goroutines.
//
// What a shared session has sent is found again by that session, without its content, and steps that were found like that cannot be
// exported as a cache: it has contents alone (v0.34.2, solver/exporter.go). So exports send directories with sessions of their own, to
// which the builder compares what it has; and a build whose image carries its cache shares nothing.
type Shared struct {
	id    string // begins the keys by which the builder knows a directory again
	mu    sync.Mutex
	sent  map[directory]*sending
	links map[string]*link
}

// directory is a mount of the frontend's, and the directory there.
type directory struct{ mount, path string }

// sending is a directory with a session of its own, whose id builds give in place of their own.
type sending struct {
	files   fsutil.FS
	session *session.Session
}

// New has no directories yet.
func New() *Shared {
	return &Shared{id: identity.NewID(), sent: map[directory]*sending{}, links: map[string]*link{}}
}

// Close ends the sessions. A nil Shared has none.
func (s *Shared) Close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.sent {
		_ = one.session.Close() // the builder does not read from it any more
	}
}

// Ended says that the build of a target has ended. Targets that still wait for it fail.
func (s *Shared) Ended(target string, err error) {
	if err == nil {
		err = fmt.Errorf("target %s has no result", target)
	}
	s.link(target).end(Asked{}, nil, err)
}

// Send shares a directory, which the frontend knows by the name of a mount. It returns the files, as the build that was first has
// opened them, and the id of the session that sends them.
func (s *Shared) Send(c *client.Client, mount, path string, files func() fsutil.FS) (fsutil.FS, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := directory{mount, path}
	if one := s.sent[at]; one != nil {
		return one.files, one.session.ID(), nil
	}
	one := &sending{files: files()}
	var err error
	one.session, err = serve(context.Background(), c, s.Key(path), map[string]fsutil.FS{mount: one.files})
	if err != nil {
		return nil, "", err
	}
	s.sent[at] = one
	return one.files, one.session.ID(), nil
}

// serve begins a session that sends directories, until it is closed or ctx ends.
func serve(ctx context.Context, c *client.Client, key string, dirs map[string]fsutil.FS) (*session.Session, error) {
	s, err := session.NewSession(ctx, key)
	if err != nil {
		return nil, err
	}
	owned := filesync.StaticDirSource{}
	for mount, files := range dirs {
		if owned[mount], err = fsutil.NewFilterFS(files, &fsutil.FilterOpt{Map: ownedByRoot}); err != nil {
			return nil, err
		}
	}
	s.Allow(filesync.NewFSSyncProvider(owned))
	go func() {
		defer crash.Catch()
		_ = s.Run(ctx, c.Dialer()) // where it fails BuildKit says that the session is missing
	}()
	return s, nil
}

// ownedByRoot gives files to root, as BuildKit's client does (v0.34.2, client/solve.go).
func ownedByRoot(_ string, st *types.Stat) fsutil.MapResult {
	st.Uid, st.Gid = 0, 0
	return fsutil.MapResultKeep
}

// SessionOf begins an option of the frontend: the session of a mount.
const SessionOf = "local-sessionid:"

// Key is that of sessions which send a directory: by it a builder knows again what it has. Those of a nil Shared are new each time.
func (s *Shared) Key(path string) string {
	if s == nil {
		return identity.NewID()
	}
	return s.id + ":" + path
}
