package inputs

import (
	"fmt"
	"strings"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Usage is the flags with their help, for --help.
func Usage() string {
	var b strings.Builder
	for _, f := range Fields {
		flags := "--" + f.Name
		if f.Short != "" {
			flags = "-" + f.Short + ", " + flags
		}
		fmt.Fprintf(&b, "  %s%s\n", flags, placeholder(f.Kind))
		for _, line := range wrap(strings.ReplaceAll(f.Description(), "`", ""), 70) {
			fmt.Fprintf(&b, "        %s\n", line)
		}
	}
	return b.String()
}

// placeholder stands for a flag's value. Dots tell that the flag may be repeated.
func placeholder(k syntax.Kind) string {
	switch k {
	case syntax.Bool:
		return "[=false]"
	case syntax.Int:
		return " number"
	case syntax.Duration:
		return " duration"
	case syntax.Size:
		return " size"
	case syntax.Words, syntax.Lines, syntax.Entries:
		return " value ..."
	}
	return " value"
}

// wrap breaks text between words into lines of at most width bytes.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return append(lines, line)
}
