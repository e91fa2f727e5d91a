package solve_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// mounting is an app with steps that tell what they found in their cache mounts, and a longer step beside them. With the
// changed app the steps go on when there is something in the mounts, and so do not end before they are stopped.
var mounting = `FROM scratch AS base
ADD rootfs.tar /

FROM base AS made
COPY site site
RUN --mount=type=cache,target=/var/made ` + testkit.Awaits("/var/made/log", "grep -q ^Changed site/index.txt") + `; touch /found; cp /var/made/log /found; cat site/index.txt >> /var/made/log; true
RUN --mount=type=cache,target=/var/made --mount=type=cache,id=named,sharing=locked,target=/n --mount=type=cache,uid=7,mode=0750,sharing=private,target=/owned \
    ` + testkit.Awaits("/n/log", "grep -q ^Changed site/index.txt") + `; touch /named /owned.log; cp /n/log /named; cp /owned/log /owned.log; stat -c '%u %a' /owned > /owned.stat; cat site/index.txt >> /n/log; cat site/index.txt >> /owned/log; true

FROM base AS long
COPY site site
RUN for i in $(seq 40); do echo "$i"; sleep 0.05; done; date +%N > /long

FROM base
COPY --from=made /found /named /owned.log /owned.stat /
COPY --from=long /long /
`

// mounts builds an app as a branch, on an empty builder, and returns its image's files in a directory, too.
func mounts(t *testing.T, app, branch, cache string, args ...string) (testkit.Report, testkit.Output, string) {
	t.Helper()
	dir := t.TempDir()
	r := build(app, append([]string{"--cache", cache, "--default-branch", "main", "--outputs", "type=local,dest=" + dir}, args...)...)
	r.Branch = branch
	out := r.Start(t)
	if out.Code != 0 {
		t.Fatal(out.Text)
	}
	return out.Report, out, dir
}

// text is what a file in a directory has; "": there is none.
func text(t *testing.T, parts ...string) string {
	t.Helper()
	found, err := os.ReadFile(filepath.Join(parts...))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(found)
}

// TestCacheMounts: what steps have left in their cache mounts is there in the next build, on an empty builder.
func TestCacheMounts(t *testing.T) {
	t.Parallel()
	for name, cache := range map[string]func(t *testing.T) string{
		"local": func(t *testing.T) string { return "type=local,dest=" + t.TempDir() },
		"registry": func(t *testing.T) string {
			return "type=registry,ref=" + testkit.StartRegistry(t).Host + "/mounts"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app, line := testkit.App(t), cache(t)
			testkit.Write(t, filepath.Join(app, "Dockerfile"), mounting)
			first := text(t, app, "site", "index.txt")
			auto := []string{"--cache-mounts", "auto"}
			cold, _, dir := mounts(t, app, "main", line, auto...)
			if saved := movements(cold); saved != "/owned > b-main, /var/made > b-main, named > b-main" {
				t.Errorf("saved: %s", saved)
			}
			if found := text(t, dir, "found") + text(t, dir, "named") + text(t, dir, "owned.log"); found != "" {
				t.Errorf("found in the first build: %s", found)
			}
			same, _, _ := mounts(t, app, "main", line, auto...)
			if allCached(t, same); len(same.Mounts) > 0 {
				t.Errorf("all was cached: %+v", same.Mounts)
			}
			change(t, app)
			changed, out, dir := mounts(t, app, "feature", line, auto...)
			if moved := movements(changed); moved != "b-main > /owned > b-feature, b-main > /var/made > b-feature, b-main > named > b-feature" {
				t.Errorf("moved: %s", moved)
			}
			for _, file := range []string{"found", "named", "owned.log"} {
				if found := text(t, dir, file); found != first {
					t.Errorf("%s has %q", file, found)
				}
			}
			if owner := text(t, dir, "owned.stat"); owner != "7 750\n" {
				t.Errorf("owner and mode: %s", owner)
			}
			if n := strings.Count(out.Text, " 17\n"); n != 1 || strings.Contains(out.Text, "CANCELED") || strings.Contains(out.Text, "[internal] program") {
				t.Errorf("the step beside ran %d times:\n%s", n, out.Text)
			}
		})
	}
}

// movements are the mounts of a report, with the scopes that they came from and went to: "b-main > go > b-feature".
func movements(r testkit.Report) string {
	var all []string
	for _, m := range r.Mounts {
		text := m.ID
		if m.Restored != nil {
			text = m.Restored.Scope + " > " + text
		}
		if m.Saved != nil {
			text += " > " + m.Saved.Scope
		}
		if m.Error+m.Reason != "" {
			text += fmt.Sprintf(" (%s%s)", m.Error, m.Reason)
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

// TestCacheMountsFirst: where no scope has anything for a mount, its step runs once, and is not stopped.
func TestCacheMountsFirst(t *testing.T) {
	t.Parallel()
	app := testkit.App(t)
	testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch\nADD rootfs.tar /\nRUN --mount=type=cache,target=/made echo ran >> /made/log; head -c 300000000 /dev/zero | md5sum; cp /made/log /log\n")
	r, _, dir := mounts(t, app, "main", "type=local,dest="+t.TempDir(), "--cache-mounts", "auto")
	if moved, ran := movements(r), text(t, dir, "log"); moved != "/made > b-main" || ran != "ran\n" {
		t.Errorf("moved %s, and the step ran: %q", moved, ran)
	}
}

// TestCacheMountsLost: a pack that the store has lost costs the mount, and one warning.
func TestCacheMountsLost(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	app, c := testkit.App(t), p.cache("mounts")
	testkit.Write(t, filepath.Join(app, "Dockerfile"), mounting)
	named := []string{"--cache-mounts", "named"}
	mounts(t, app, "main", c.Line, named...)
	kept := manifest(t, c, "b-main.cache-mounts-"+mountsOfMain)
	if len(kept.Layers) != 2 {
		t.Fatalf("%d blobs of one mount", len(kept.Layers))
	}
	for i, cut := range []http.HandlerFunc{status(http.StatusNotFound, "BLOB_UNKNOWN"), sending("short", kept.Layers[1].Size)} {
		testkit.Write(t, filepath.Join(app, "site", "index.txt"), fmt.Sprintf("change %d\n", i))
		p.misbehave(cut, method(http.MethodGet), blob(kept.Layers[1].Digest))
		r, out, _ := mounts(t, app, "feature", c.Line, append(named, "--cache-write", "never")...)
		p.behave()
		if len(r.Warnings) != 1 || !strings.HasPrefix(r.Warnings[0], "cache mounts: named: not restored: ") {
			t.Errorf("%q\n%s", r.Warnings, out.Text)
		}
	}
}

// mountsOfMain ends the name of the mounts of a scope without a key.
const mountsOfMain = "44338b4db9b82dec"

// TestCacheMountsChangeNoKey: what a build with cache mounts has cached is found without them, and the other way round, and
// a restored mount makes no other image.
func TestCacheMountsChangeNoKey(t *testing.T) {
	t.Parallel()
	app, auto := testkit.App(t), []string{"--cache-mounts", "auto"}
	testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch\nADD rootfs.tar /\nCOPY site site\nRUN --mount=type=cache,target=/var/made head -c 200000000 /dev/zero | md5sum >> /var/made/log; wc -c site/index.txt > /size\n")
	dirs := []string{"type=local,dest=" + t.TempDir(), "type=local,dest=" + t.TempDir()}
	var digests []string
	run := func(cache string, args ...string) testkit.Report {
		r := build(app, append(append([]string{"--cache", cache}, fixed...), args...)...).Build(t)
		digests = append(digests, r.Digest)
		return r
	}
	run(dirs[0], auto...)
	allCached(t, run(dirs[0]))
	run(dirs[1])
	allCached(t, run(dirs[1], auto...))
	change(t, app)
	restored := run(dirs[0], auto...)
	run(dirs[1])
	if moved := movements(restored); moved != "b-main > /var/made > b-main" {
		t.Errorf("moved: %s", moved)
	}
	for i, want := range []int{0, 0, 0, 0, 4, 4} {
		if digests[i] != digests[want] || digests[i] == "" {
			t.Errorf("image %d is %s, want that of build %d, %s", i, digests[i], want, digests[want])
		}
	}
}
