package inputs

import (
	"slices"
	"strconv"
	"strings"

	"github.com/tonistiigi/go-csvvalue"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// call reads the question for the frontend as buildx's --call does
// (util/buildflags/callfunc.go): check,format=json,ignorestatus=true. The older name of
// check is lint.
func (p *parser) call() (name, format string, ignoreStatus bool) {
	fields, err := csvvalue.Fields(p.value("call"), nil)
	if err != nil {
		p.report("call", 0, syntax.CSVError(err).Error(), "")
	}
	for _, f := range fields {
		key, value, ok := strings.Cut(f, "=")
		switch {
		case !ok && name == "":
			name = p.called(f)
		case key == "format":
			format = p.callFormat(value)
		case key == "ignorestatus":
			if ignoreStatus, err = strconv.ParseBool(value); err != nil {
				p.report("call", 0, "ignorestatus: "+syntax.Quoted(value)+" is neither true nor false", "")
			}
		default:
			p.report("call", 0, syntax.Quoted(f)+" is malformed", "write it like check or check,format=json")
		}
	}
	if name == "build" {
		name = ""
	}
	return name, format, ignoreStatus
}

func (p *parser) called(name string) string {
	calls := []string{"build", "check", "outline", "targets"}
	switch {
	case name == "lint":
		return "check"
	case !slices.Contains(calls, name):
		p.report("call", 0, syntax.Quoted(name)+" is none of "+strings.Join(calls, ", "), syntax.NearestHint(name, calls))
	}
	return name
}

func (p *parser) callFormat(format string) string {
	switch format {
	case "json":
		return format
	case "text", "":
	default:
		p.report("call", 0, "format: "+syntax.Quoted(format)+" is none of text, json", syntax.NearestHint(format, []string{"text", "json"}))
	}
	return ""
}
