package report

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// Azure's commands escape as its task library does (azure-pipelines-task-lib,
// node/taskcommand.ts).
var (
	azureEscapes         = strings.NewReplacer("%", "%AZP25", "\r", "%0D", "\n", "%0A")
	azurePropertyEscapes = strings.NewReplacer("%", "%AZP25", "\r", "%0D", "\n", "%0A", "]", "%5D", ";", "%3B")
)

// longestVariable is the size of the longest output that Azure's agent is handed, in
// bytes: it puts every variable into the environment of every later step, which holds 32 KiB
// on Windows.
const longestVariable = 8 << 10

// azure writes a note as Azure's logissue, which has one line and no end of the place.
func (n note) azure(w io.Writer) {
	fmt.Fprintf(w, "##vso[task.logissue type=%s;sourcepath=%s", n.level, azurePropertyEscapes.Replace(line(n.place.File)))
	if n.place.Line > 0 {
		fmt.Fprintf(w, ";linenumber=%d", n.place.Line)
	}
	fmt.Fprintf(w, ";code=%s]%s\n", azurePropertyEscapes.Replace(line(n.title)), azureEscapes.Replace(strings.Join(n.message(), " — ")))
}

// publishAzure writes the commands that show the summary on the run's page, and hand the
// outputs to later steps as variables of this one: $(NAME.WARMLAYER_DIGEST), where NAME is
// the step's. One too long for a variable is left out. The summary is the file in dir,
// which must be where the agent finds it.
// (learn.microsoft.com, "Logging commands", uploadsummary and setvariable.)
func publishAzure(w io.Writer, dir string, outputs []Output) error {
	var b bytes.Buffer
	for _, o := range outputs {
		if len(o.Value) > longestVariable {
			continue
		}
		fmt.Fprintf(&b, "##vso[task.setvariable variable=%s;isoutput=true]%s\n", variable(o.Name), azureEscapes.Replace(line(o.Value)))
	}
	if dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return fmt.Errorf("publish summary: %w", err)
		}
		fmt.Fprintf(&b, "##vso[task.uploadsummary]%s\n", filepath.Join(abs, "warmlayer.md"))
	}
	_, err := w.Write(b.Bytes())
	return err
}
