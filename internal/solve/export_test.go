package solve

import (
	"context"
	"io"
	"iter"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/util/progress/progressui"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/screen"
)

// ShowLog takes the output of a step the way of a build: from BuildKit's status stream through the screen
// to the watch and to BuildKit's display, which writes to progress. It returns the end of the output as a
// report has it. A piece's stream is 1 for standard output, and 2 for standard error.
func ShowLog(by screen.Text, mode progressui.DisplayMode, progress io.Writer, pieces iter.Seq2[int, []byte]) (string, error) {
	display, err := progressui.NewDisplay(progress, mode)
	if err != nil {
		return "", err
	}
	opened, err := session.NewSession(context.Background(), "")
	if err != nil {
		return "", err
	}
	show, shown := make(chan *client.SolveStatus), make(chan error, 1)
	go func() {
		_, err := display.UpdateFrom(context.Background(), show)
		shown <- err
	}()
	watch, screened, now := newWatch(opened), screen.New(by), time.Now()
	t := target{watch: watch.update, show: show}
	step := client.Vertex{Digest: digest.FromString("step"), Name: "[2/2] RUN make", Started: &now}
	t.pass(screened, &client.SolveStatus{Vertexes: []*client.Vertex{&step}})
	for stream, piece := range pieces {
		l := client.VertexLog{Vertex: step.Digest, Stream: stream, Data: piece, Timestamp: now}
		t.pass(screened, &client.SolveStatus{Logs: []*client.VertexLog{&l}})
	}
	step.Completed = &now
	t.pass(screened, &client.SolveStatus{Vertexes: []*client.Vertex{&step}})
	close(show)
	return string(watch.vertices[step.Digest].log), <-shown
}
