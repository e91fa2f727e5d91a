package step

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/syntax"
	"github.com/warmlayer/warmlayer/internal/upkeep"
	"github.com/warmlayer/warmlayer/scope"
)

// caches are those of all builders, each once.
func (r Run) caches() []backends.Backend {
	var all []backends.Backend
	for _, b := range r.Builds {
		for _, c := range b.Caches {
			if !slices.ContainsFunc(all, func(other backends.Backend) bool { return other.Identity() == c.Identity() }) {
				all = append(all, c)
			}
		}
	}
	return all
}

// stores are the stores of caches, and why others are none.
func (r Run) stores(caches []backends.Backend) (all []upkeep.Cache, unlisted []string) {
	for _, c := range caches {
		store, why := backends.List(c, r.Inputs.GitHubToken)
		if store == nil {
			unlisted = append(unlisted, c.String()+": "+why)
			continue
		}
		all = append(all, upkeep.Cache{Label: c.String(), Store: store})
	}
	return all, unlisted
}

// List prints what is in the stores of the run's caches, or of the scope that the inputs name in each cache, and returns the exit
// code: [ExitCache] where one could not be listed.
func (r Run) List(ctx context.Context, asJSON bool, order string) int {
	if r.Inputs.Scope != "" {
		return r.inspect(ctx, scope.Name(r.Inputs.Scope), asJSON)
	}
	out := r.host.Redactor.Log(r.host.Stdout)
	all, failed := r.stores(r.caches())
	var listed []upkeep.Listed
	var written error
	for _, c := range all {
		stock, err := upkeep.Take(ctx, c)
		if err != nil {
			failed = append(failed, c.Label+": "+err.Error())
		}
		upkeep.Sort(stock.Scopes, order)
		if asJSON {
			listed = append(listed, upkeep.Listed{Cache: c.Label, Scopes: stock.Scopes, Bytes: stock.Bytes})
		} else {
			written = errors.Join(written, upkeep.Table(out, c.Label, stock, time.Now()))
		}
	}
	if asJSON {
		written = upkeep.JSON(out, listed)
	}
	return r.ended(ctx, out, written, failed)
}

// inspect prints the steps whose layers a scope has in each cache.
func (r Run) inspect(ctx context.Context, n scope.Name, asJSON bool) int {
	out := r.host.Redactor.Log(r.host.Stdout)
	found := []upkeep.Contents{}
	var failed []string
	for _, reading := range backends.Read(ctx, r.caches(), scope.Plan{Read: []scope.Source{{Name: n, Why: "as asked"}}}, r.Inputs.ProbeTimeout) {
		switch {
		case errors.Is(reading.Err, backends.ErrAbsent):
			failed = append(failed, fmt.Sprintf("%s has no scope %s; warmlayer ls lists those that it has", reading.From, n))
		case reading.Err != nil:
			failed = append(failed, fmt.Sprintf("%s: %s: %v", reading.From, n, reading.Err))
		default:
			found = append(found, upkeep.Inspect(reading))
		}
	}
	var written error
	if asJSON {
		written = upkeep.JSON(out, found)
	}
	for _, c := range found {
		if !asJSON {
			written = errors.Join(written, c.Table(out, time.Now()))
		}
	}
	return r.ended(ctx, out, written, failed)
}

// ended says what failed, and returns the exit code.
func (r Run) ended(ctx context.Context, out io.Closer, written error, failed []string) int {
	if err := errors.Join(written, out.Close()); err != nil {
		r.say(err.Error())
		return ExitBuild
	}
	for _, f := range failed {
		r.say("error: " + f)
	}
	switch {
	case ctx.Err() != nil:
		return ExitCancelled
	case len(failed) > 0:
		return ExitCache
	}
	return ExitOK
}

// Unprunable are the reasons why the run may not prune.
func (r Run) Unprunable() syntax.Problems {
	var problems syntax.Problems
	if why := untrusted(r.Facts); why != "" {
		problems = append(problems, syntax.Problem{What: "prune needs a trusted run: " + why, Hint: "run it for a branch, or on a schedule"})
	}
	p := r.Inputs.Prune
	if r.Facts.Default == "" && (p.OlderThan > 0 || p.KeepStorage > 0) {
		problems = append(problems, syntax.Problem{
			Input: "default-branch", What: "the default branch is not known, and its caches should stay", Hint: "set default-branch",
		})
	}
	return problems
}

// Prune removes the caches that the inputs name, and returns the exit code: [ExitCache] where something could not be removed.
func (r Run) Prune(ctx context.Context) int {
	out := r.host.Redactor.Log(r.host.Stdout)
	rules := r.rules()
	all, failed := r.stores(r.caches())
	if !rules.Any() {
		rules.Dry = true
		fmt.Fprintln(out, "no rule is given, so no scope is removed: set gone, older-than, keep-storage or scopes")
	}
	var listed []upkeep.Cache
	var stocks []upkeep.Stock // of the caches that were listed
	for _, c := range all {
		stock, err := upkeep.Take(ctx, c)
		if err != nil {
			failed = append(failed, fmt.Sprintf("%s: nothing was removed: %v", c.Label, err))
			continue
		}
		listed, stocks = append(listed, c), append(stocks, stock)
	}
	var refs upkeep.Refs
	if rules.Gone { // only now: what is opened after the answer has no scope among those that were listed
		var err error
		if refs, err = r.refs(ctx, out); err != nil {
			return r.ended(ctx, out, nil, append(failed, "nothing was removed: "+err.Error()))
		}
	}
	var written error
	for i, c := range listed {
		done, err := upkeep.Prune(ctx, c, rules.Choose(stocks[i], refs, time.Now()), rules)
		written = errors.Join(written, done.Tell(out, c.Label, rules.Dry))
		if err != nil {
			failed = append(failed, fmt.Sprintf("%s: %v; the next prune goes on from here", c.Label, err))
		}
	}
	return r.ended(ctx, out, written, failed)
}

// keepBudget removes what GitHub's cache has beyond cache-budget, and returns warnings where that fails.
func (r Run) keepBudget(ctx context.Context) []string {
	budget := r.Inputs.CacheBudget
	if budget == 0 || untrusted(r.Facts) != "" || r.asks() {
		return nil
	}
	var warnings []string
	all, unlisted := r.stores(slices.DeleteFunc(r.caches(), func(c backends.Backend) bool { _, ok := c.(*backends.GHA); return !ok }))
	for _, c := range all {
		done, err := r.shrink(ctx, c, budget)
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("cache-budget: %s: %v", c.Label, err))
		}
		if len(done.Removed) > 0 {
			r.say(fmt.Sprintf("cache-budget: removed %d scopes from %s", len(done.Removed), c.Label))
		}
	}
	for _, why := range unlisted {
		warnings = append(warnings, "cache-budget: "+why)
	}
	return warnings
}

func (r Run) shrink(ctx context.Context, c upkeep.Cache, budget int64) (upkeep.Pruned, error) {
	stock, err := upkeep.Take(ctx, c)
	if err != nil || stock.Bytes <= budget {
		return upkeep.Pruned{}, err
	}
	rules := r.rules()
	rules.Gone, rules.KeepStorage, rules.OlderThan, rules.Scopes, rules.Dry = true, budget, 0, nil, false
	refs, err := r.refs(ctx, io.Discard)
	if err != nil {
		return upkeep.Pruned{}, err
	}
	return upkeep.Prune(ctx, c, rules.Choose(stock, refs, time.Now()), rules)
}

// Lifecycle prints rules by which the services of the run's caches remove what no build uses, and returns the exit code.
func (r Run) Lifecycle(days int) int {
	for _, c := range r.caches() {
		var config cachespec.Config
		switch c := c.(type) {
		case *backends.S3:
			config = c.Config
		case *backends.Azblob:
			config = c.Config
		}
		document, ok, err := upkeep.Lifecycle(config, days)
		switch {
		case !ok:
			r.say(fmt.Sprintf("%s has no lifecycle rules; only s3 and azblob have them", c))
			return ExitInput
		case err != nil:
			r.say(err.Error())
			return ExitInput
		}
		if _, err := r.host.Stdout.Write(document); err != nil {
			r.say(err.Error())
			return ExitBuild
		}
	}
	return ExitOK
}

func (r Run) rules() upkeep.Rules {
	p := r.Inputs.Prune
	return upkeep.Rules{
		Gone: p.Gone, OlderThan: p.OlderThan, KeepStorage: p.KeepStorage, Scopes: p.Scopes, Keep: p.Keep,
		Foreign: p.Foreign, Grace: p.Grace, Dry: p.Dry, Default: scope.RefName("refs/heads/" + r.Facts.Default),
	}
}

// refs are the branches, tags and open pull requests of the repository. Where it is not known which pull requests are open, that is said, and
// their caches stay.
func (r Run) refs(ctx context.Context, out io.Writer) (upkeep.Refs, error) {
	refs, err := upkeep.Branches(ctx, r.remote())
	if err != nil {
		return refs, err
	}
	pulls, why := r.host.CI.Pulls(r.Inputs.GitHubToken)
	r.host.Redactor.Add(pulls.Secret)
	if why == "" {
		known, err := refs.WithPulls(ctx, upkeep.List{URL: pulls.List, Header: pulls.Header, Value: pulls.Value})
		if err == nil {
			return known, nil
		}
		why = err.Error()
	}
	fmt.Fprintf(out, "caches of pull requests stay unless another rule names them: %s\n", why)
	return refs, nil
}

// remote is the repository whose branches are asked for: the input's, the checkout's, or the one that the CI names.
func (r Run) remote() upkeep.Remote {
	remote := upkeep.Remote{URL: "origin", Dir: r.Builds[0].Inputs.Context.Checkout(), Environ: r.host.Environ}
	switch named := r.host.CI.Remote(); {
	case r.Inputs.Prune.Repository != "":
		remote.URL = r.Inputs.Prune.Repository
	case remote.Dir == "" && named != "":
		remote.URL = named
		if strings.HasPrefix(named, r.host.CI.Repository().Server+"/") {
			remote.Token = r.Inputs.GitHubToken
		}
	}
	return remote
}
