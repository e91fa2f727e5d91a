package screen

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
)

// upper is a screen that shows everything in capitals, and holds back each last byte.
type upper struct{}

func (upper) Text(text string) string         { return strings.ToUpper(text) }
func (upper) Log(to io.Writer) io.WriteCloser { return &upperLog{to: to} }

type upperLog struct {
	to   io.Writer
	held []byte
}

func (u *upperLog) Write(p []byte) (int, error) {
	all := append(u.held, p...)
	u.held = bytes.Clone(all[len(all)-1:])
	_, err := u.to.Write(bytes.ToUpper(all[:len(all)-1]))
	return len(p), err
}

func (u *upperLog) Close() error {
	_, err := u.to.Write(bytes.ToUpper(u.held))
	return err
}

// TestStream: every text of a status is screened, each stream of a step's log by itself, and
// nothing is lost at a step's end or at the solve's.
func TestStream(t *testing.T) {
	t.Parallel()
	s, now := New(upper{}), time.Now()
	one, two := digest.FromString("1"), digest.FromString("2")
	logs := map[digest.Digest]string{}
	see := func(status *client.SolveStatus) *client.SolveStatus {
		for _, l := range status.Logs {
			logs[l.Vertex] += string(l.Data)
		}
		return status
	}
	piece := func(step digest.Digest, stream int, text string) *client.VertexLog {
		return &client.VertexLog{Vertex: step, Stream: stream, Data: []byte(text)}
	}
	see(s.Status(&client.SolveStatus{Logs: []*client.VertexLog{piece(one, 1, "abc"), piece(two, 1, "xyz"), piece(one, 1, "def"), piece(one, 2, "!?")}}))
	if logs[one] != "ABCDE!" || logs[two] != "XY" {
		t.Errorf("logs %q", logs)
	}
	got := see(s.Status(&client.SolveStatus{
		Vertexes: []*client.Vertex{{Digest: one, Name: "run", Error: "failed", Completed: &now, ProgressGroup: &pb.ProgressGroup{Name: "group"}}},
		Statuses: []*client.VertexStatus{{ID: "id", Name: "name"}},
		Warnings: []*client.VertexWarning{{
			Short: []byte("short"), URL: "url", Detail: [][]byte{[]byte("detail")}, SourceInfo: &pb.SourceInfo{Filename: "file", Data: []byte("from")},
		}},
	}))
	if logs[one] != "ABCDE!F?" {
		t.Errorf("of a step that ended: %q", logs[one])
	}
	see(s.Rest())
	if logs[two] != "XYZ" {
		t.Errorf("at the end: %q", logs[two])
	}
	v, w := got.Vertexes[0], got.Warnings[0]
	shown := strings.Join([]string{
		v.Name, v.Error, v.ProgressGroup.Name, got.Statuses[0].ID, got.Statuses[0].Name,
		string(w.Short), w.URL, string(w.Detail[0]), w.SourceInfo.Filename, string(w.SourceInfo.Data),
	}, " ")
	if want := "RUN FAILED GROUP ID NAME SHORT URL DETAIL FILE FROM"; shown != want {
		t.Errorf("shown %q, want %q", shown, want)
	}
}

// TestLongLines: BuildKit's display never gets a line that is too long.
func TestLongLines(t *testing.T) {
	t.Parallel()
	s := New(None{})
	var all string
	for range 1000 {
		for _, l := range s.Status(&client.SolveStatus{Logs: []*client.VertexLog{{Data: bytes.Repeat([]byte("x"), 1000)}}}).Logs {
			all += string(l.Data)
		}
	}
	if n := strings.Count(all, "x"); n != 1e6 {
		t.Errorf("%d bytes of a million", n)
	}
	for line := range strings.Lines(all) {
		if len(line) > longestLine+1 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
}
