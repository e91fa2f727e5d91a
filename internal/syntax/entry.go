package syntax

// Entry is one line of BuildKit's CSV that begins with its type: an output or a cache.
type Entry struct {
	Line  int // in its input, from 1; 0: the default, or none of the user's
	Type  string
	Attrs map[string]string // never nil, without the type
}

// ParseEntry reads an entry such as type=registry,ref=ghcr.io/owner/app. The entry is
// useful only where it has a type. The problems have the line and no input.
func ParseEntry(it Item) (Entry, Problems) {
	e := Entry{Line: it.Line, Attrs: map[string]string{}}
	pairs, err := ParseCSV(it.Text)
	if err != nil {
		return e, Problems{{Line: it.Line, What: err.Error(), Hint: `put quotes around a whole field: type=local,"dest=a,b"`}}
	}
	var problems Problems
	seen := map[string]bool{}
	for _, pair := range pairs {
		if seen[pair.Key] {
			problems = append(problems, Problem{Line: it.Line, What: AttributeName(pair.Key) + " is given twice"})
		}
		seen[pair.Key] = true
		e.Attrs[pair.Key] = pair.Value
	}
	e.Type = e.Attrs["type"]
	delete(e.Attrs, "type")
	if e.Type == "" {
		problems = append(problems, Problem{Line: it.Line, What: "the type is missing", Hint: "begin with type="})
	}
	return e, problems
}
