// Package screen passes a build's status stream through what makes text fit for a job's log.
//
//	s := screen.New(redactor)
//	display <- s.Status(status) // for each
//	display <- s.Rest()
package screen

import (
	"bytes"
	"io"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
)

// Text makes text that a build has chosen fit for a job's log.
type Text interface {
	// Log returns a writer for a text that comes in pieces. It may hold back the end of the text
	// until more comes, or until it is closed.
	Log(to io.Writer) io.WriteCloser
	// Text is a whole text.
	Text(text string) string
}

// longestLine is the length in bytes after which a line of a step's log is broken. BuildKit's
// plain display prints an unfinished line again from its beginning whenever another step has
// written in between (v0.34.2, util/progress/progressui/printer.go).
const longestLine = 64 << 10

// Stream is the status stream of one solve on its way through a [Text]. Each stream of each
// step goes through a writer of its own, before a display cuts it into lines with prefixes: a
// secret is found wherever BuildKit has cut it.
type Stream struct {
	by   Text
	logs map[stepStream]*stepLog
}

type stepStream struct {
	step   digest.Digest
	stream int // 1: standard output, 2: standard error
}

// stepLog is what one step writes to one stream.
type stepLog struct {
	in     io.WriteCloser
	out    bytes.Buffer
	column int // bytes since the last line's end
}

// New begins a stream. It may only be used by one goroutine at a time.
func New(by Text) *Stream {
	return &Stream{by: by, logs: map[stepStream]*stepLog{}}
}

// Status is a copy of a status, screened. Of logs it has what is not held back, and of steps that
// have ended the rest.
func (s *Stream) Status(in *client.SolveStatus) *client.SolveStatus {
	out := &client.SolveStatus{}
	for _, l := range in.Logs {
		out.Logs = s.log(out.Logs, l)
	}
	for _, v := range in.Vertexes {
		if v.Completed != nil {
			for _, stream := range []int{1, 2} {
				out.Logs = s.end(out.Logs, stepStream{v.Digest, stream}, *v.Completed)
			}
		}
		shown := *v
		shown.Name, shown.Error = s.by.Text(v.Name), s.by.Text(v.Error)
		if g := v.ProgressGroup; g != nil {
			shown.ProgressGroup = &pb.ProgressGroup{Id: g.Id, Name: s.by.Text(g.Name), Weak: g.Weak}
		}
		out.Vertexes = append(out.Vertexes, &shown)
	}
	for _, one := range in.Statuses {
		shown := *one
		shown.ID, shown.Name = s.by.Text(one.ID), s.by.Text(one.Name)
		out.Statuses = append(out.Statuses, &shown)
	}
	for _, w := range in.Warnings {
		out.Warnings = append(out.Warnings, s.warning(w))
	}
	return out
}

func (s *Stream) warning(w *client.VertexWarning) *client.VertexWarning {
	shown := *w
	shown.Short, shown.URL, shown.Detail = []byte(s.by.Text(string(w.Short))), s.by.Text(w.URL), nil
	for _, line := range w.Detail {
		shown.Detail = append(shown.Detail, []byte(s.by.Text(string(line))))
	}
	if i := w.SourceInfo; i != nil {
		shown.SourceInfo = &pb.SourceInfo{
			Filename: s.by.Text(i.Filename), Data: []byte(s.by.Text(string(i.Data))), Definition: i.Definition, Language: i.Language,
		}
	}
	return &shown
}

// log appends what a piece of a step's log shows.
func (s *Stream) log(all []*client.VertexLog, l *client.VertexLog) []*client.VertexLog {
	key := stepStream{l.Vertex, l.Stream}
	known := s.logs[key]
	if known == nil {
		known = &stepLog{}
		known.in = s.by.Log(&known.out)
		s.logs[key] = known
	}
	_, _ = known.in.Write(l.Data) // into memory
	return known.take(all, key, l.Timestamp)
}

// end appends the rest of a step's log.
func (s *Stream) end(all []*client.VertexLog, key stepStream, at time.Time) []*client.VertexLog {
	known := s.logs[key]
	if known == nil {
		return all
	}
	delete(s.logs, key)
	_ = known.in.Close() // into memory
	return known.take(all, key, at)
}

// Rest is the rest of all logs.
func (s *Stream) Rest() *client.SolveStatus {
	out := &client.SolveStatus{}
	for key := range s.logs {
		out.Logs = s.end(out.Logs, key, time.Now())
	}
	return out
}

// take appends what came out, if anything did, with lines broken that are too long.
func (l *stepLog) take(all []*client.VertexLog, key stepStream, at time.Time) []*client.VertexLog {
	if l.out.Len() == 0 {
		return all
	}
	data := make([]byte, 0, l.out.Len()+l.out.Len()/longestLine+1)
	for line := range bytes.Lines(l.out.Bytes()) {
		for l.column+len(line) > longestLine {
			n := longestLine - l.column
			data = append(append(data, line[:n]...), '\n')
			line, l.column = line[n:], 0
		}
		data = append(data, line...)
		if l.column += len(line); len(line) > 0 && line[len(line)-1] == '\n' {
			l.column = 0
		}
	}
	l.out.Reset()
	return append(all, &client.VertexLog{Vertex: key.step, Stream: key.stream, Data: data, Timestamp: at})
}

// None leaves text as it is.
type None struct{}

// Log implements [Text].
func (None) Log(to io.Writer) io.WriteCloser { return unclosed{to} }

// Text implements [Text].
func (None) Text(text string) string { return text }

type unclosed struct{ io.Writer }

func (unclosed) Close() error { return nil }
