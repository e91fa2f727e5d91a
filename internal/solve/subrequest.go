package solve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/moby/buildkit/frontend/dockerfile/linter"
	gw "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/frontend/subrequests/lint"
	"github.com/moby/buildkit/frontend/subrequests/outline"
	"github.com/moby/buildkit/frontend/subrequests/targets"
	"github.com/moby/buildkit/solver/pb"
)

// question is BuildKit's name of a request to the frontend (frontend/subrequests).
func question(call string) string {
	if call == "check" {
		return "lint"
	}
	return call
}

// call asks the frontend, without outputs and caches. The findings of a check become warnings, and
// an error too.
func (b *run) call(ctx context.Context) error {
	m, err := b.mounts(ctx)
	if err != nil {
		return err
	}
	m.capability("subrequests+forward")
	t := b.target(m, nil)
	watch := newWatch(t.session)
	t.watch, t.show, t.internal = watch.update, b.display, true
	answer, err := b.ask(ctx, t)
	if err != nil {
		b.result.Failure = b.failure(ctx, err, watch)
		return err
	}
	b.result.Metadata = answer
	return b.answer(answer)
}

// ask is a solve whose result is the frontend's answer: result.json, result.txt,
// result.statuscode and version (BuildKit v0.34.2, frontend/subrequests).
func (b *run) ask(ctx context.Context, t target) (map[string]string, error) {
	answer := map[string]string{}
	t.answered = func(_ context.Context, _ gw.Client, result *gw.Result) {
		for key, value := range result.Metadata {
			answer[key] = string(value)
		}
	}
	_, err := b.calling(ctx, t, map[string]string{"requestid": "frontend." + question(b.Inputs.Call)})
	if err != nil {
		return nil, err // and answer may still be written, by a call that was abandoned
	}
	return answer, nil
}

// answer stores the answer, as text unless JSON was requested.
func (b *run) answer(answer map[string]string) error {
	text := []byte(answer["result.json"])
	var said bytes.Buffer
	var found, err error
	switch b.Inputs.Call {
	case "check":
		found, err = b.lintAnswer(&said, text)
	case "outline":
		err = outline.PrintOutline(text, &said)
	case "targets":
		err = targets.PrintTargets(text, &said)
	}
	if err != nil {
		return fmt.Errorf("read answer to %s: %w", b.Inputs.Call, err)
	}
	b.result.Answer = said.String()
	if b.Inputs.CallFormat == "json" {
		b.result.Answer = answer["result.json"] + "\n"
	}
	if b.Inputs.CallIgnoreStatus {
		return nil
	}
	return found
}

// lintAnswer formats the findings of a check as docker buildx does (v0.37.0, commands/build.go,
// printResult). The error found says how many there are; nil: none.
func (b *run) lintAnswer(w io.Writer, text []byte) (found, err error) {
	var results lint.LintResults
	if err := json.Unmarshal(text, &results); err != nil {
		return nil, err
	}
	for _, warning := range results.Warnings {
		b.result.Warnings = append(b.result.Warnings, b.lintWarning(warning, results.Sources))
	}
	named := func(s *pb.SourceInfo) *pb.SourceInfo {
		if s == nil {
			return nil
		}
		s = s.CloneVT()
		s.Filename = b.place(s, nil).File
		return s
	}
	switch n := len(results.Warnings); {
	case n == 1:
		found = errors.New("1 warning has been found")
	case n > 1:
		found = fmt.Errorf("%d warnings have been found", n)
	case results.Error == nil:
		fmt.Fprintln(w, "Check complete, no warnings found.")
	}
	if found != nil {
		fmt.Fprintf(w, "Check complete, %v!\n", found)
	}
	if err := results.PrintTo(w, named); err != nil {
		return found, err
	}
	if e := results.Error; e != nil {
		if found != nil {
			fmt.Fprintln(w)
		}
		results.PrintErrorTo(w, named)
		found = errors.New(e.Message)
		b.result.Failure = &Failure{Place: b.located(&e.Location, results.Sources)}
	}
	return found, nil
}

// lintWarning is the text of the warning that a build gives for the same finding.
func (b *run) lintWarning(w lint.Warning, sources []*pb.SourceInfo) Warning {
	place := b.located(w.Location, sources)
	return Warning{Text: linter.LintFormatShort(w.RuleName, w.Detail, place.Line), Detail: w.Description, URL: w.URL, Place: place}
}

func (b *run) located(l *pb.Location, sources []*pb.SourceInfo) Place {
	i := int(l.GetSourceIndex())
	if l == nil || i < 0 || i >= len(sources) {
		return Place{}
	}
	return b.place(sources[i], l.GetRanges())
}
