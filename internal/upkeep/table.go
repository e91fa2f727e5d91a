package upkeep

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
)

// Orders are the values of the flag --sort: name, size (the largest first), own, used (the longest ago first), created.
var Orders = []string{"name", "size", "own", "used", "created"}

// Sort brings scopes into one of the [Orders].
func Sort(scopes []Scope, by string) {
	slices.SortStableFunc(scopes, func(a, b Scope) int {
		switch by {
		case "size":
			return cmp.Compare(b.Size(), a.Size())
		case "own":
			return cmp.Compare(b.Own, a.Own)
		case "used":
			return a.Used.Compare(b.Used)
		case "created":
			return a.Created.Compare(b.Created)
		}
		return cmp.Compare(a.Name, b.Name)
	})
}

// Table writes the scopes of a store, and their sum.
func Table(w io.Writer, label string, stock Stock, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s\n", label)
	fmt.Fprintln(t, "SCOPE\tOF\tIMAGE\tSIZE\tOWN\tLAYERS\tVARIANTS\tUSED\tCREATED\tMODE\tCOMPRESSION")
	for _, s := range stock.Scopes {
		if s.Problem != "" {
			fmt.Fprintf(t, "%s\t%s\tcannot be read: %s\n", s.Name, s.Of, s.Problem)
			continue
		}
		fmt.Fprintln(t, strings.Join([]string{
			string(s.Name), s.Of, s.Key, size(s.Size()), size(s.Own), fmt.Sprint(s.Layers), number(s.Variants),
			ago(s.Used, now), ago(s.Created, now), s.Mode, s.Compression,
		}, "\t"))
	}
	fmt.Fprintf(t, "%s, %s in all\n", plural(len(stock.Scopes), "scope"), size(stock.Bytes))
	return t.Flush()
}

func size(n int64) string { return units.BytesSize(float64(n)) }

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// ago is a time as people say it: "3 days ago"; "" for the zero time.
func ago(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strings.ToLower(units.HumanDuration(max(now.Sub(t), 0))) + " ago"
}

// Listed is a store in JSON.
type Listed struct {
	Cache  string  `json:"cache"`
	Scopes []Scope `json:"scopes"`
	Bytes  int64   `json:"bytes"` // of all blobs that the scopes name, each once
}

// JSON writes a list, such as one of stores.
func JSON[T any](w io.Writer, all []T) error {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(all)
}

// Tell writes what a prune has done.
func (p Pruned) Tell(w io.Writer, label string, dry bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	verb := "removed"
	if dry {
		verb = "would remove"
	}
	for _, s := range p.Removed {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", verb, s.Name, s.Of, size(s.Own), s.Why)
	}
	for _, s := range p.Left {
		fmt.Fprintf(t, "left\t%s\t%s\t%s\tit is still there\n", s.Name, s.Of, size(s.Own))
	}
	sum := fmt.Sprintf("%s: %s %s", label, verb, plural(len(p.Removed), "scope"))
	switch {
	case p.Later != "" && len(p.Removed) > 0:
		sum += "; " + p.Later
	case p.Later == "":
		sum += fmt.Sprintf(" and %s, %s", plural(p.Swept.Blobs, "blob"), size(p.Swept.Bytes))
	}
	fmt.Fprintln(t, sum)
	return t.Flush()
}
