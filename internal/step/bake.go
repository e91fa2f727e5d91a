package step

import (
	"context"
	"encoding/json"
	"io"
	"sync"

	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/gateway"
	"github.com/warmlayer/warmlayer/internal/together"
)

// machine is the builder of one build, or of several that share it.
type machine struct {
	options builder.Options
	shared  *together.Shared // nil: there is one build
	pool    *cacheplan.Pool  // nil: there is one build, or none reads a cache

	mu      sync.Mutex
	users   int // builds that have not released it
	builder *builder.Builder
	err     error
	serving int // builds that use the gateway
	gateway *gateway.Gateway
}

func newMachine(o builder.Options, users int) *machine { return &machine{options: o, users: users} }

// open opens the builder, for the first build that needs it.
func (m *machine) open(ctx context.Context) (*builder.Builder, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.builder == nil && m.err == nil {
		m.builder, m.err = builder.Open(ctx, m.options)
	}
	return m.builder, m.err
}

// release says that a build does not need the builder any more. It is closed with the last of them.
func (m *machine) release() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.users--; m.users > 0 || m.builder == nil {
		return nil
	}
	m.shared.Close()
	m.closeGateway()
	return m.builder.Close()
}

// serve is the gateway through which a managed builder reaches the stores, for one more build; nil for any other builder.
func (m *machine) serve(ctx context.Context) (*gateway.Gateway, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.builder.Managed {
		return nil, nil
	}
	if m.gateway == nil {
		listener, err := m.builder.Listen(ctx)
		if err != nil {
			return nil, err
		}
		m.gateway = gateway.Serve(listener)
	}
	m.serving++
	return m.gateway, nil
}

// unserve says that a build does not need the gateway any more.
func (m *machine) unserve() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.serving--
	m.closeGateway()
}

// closeGateway closes the gateway, unless a build uses it, or will use it.
func (m *machine) closeGateway() {
	if m.serving == 0 && m.users <= 1 && m.gateway != nil {
		_ = m.gateway.Close() // an error says that the builder has ended before
		m.gateway = nil
	}
}

// bake builds all targets of bake files on one builder, beside each other.
func (r Run) bake(ctx context.Context) outcome {
	return again(ctx, r.builderOfAll(), func(o builder.Options) outcome {
		m := newMachine(o, len(r.Builds))
		m.shared, m.pool = together.New(), r.pool()
		names, parts, err := r.solveAll(ctx, func(ctx context.Context, b Build, display io.Writer) outcome {
			made := r.once(ctx, b, m, display)
			m.shared.Ended(b.Inputs.Bake.Target, made.err)
			return made
		})
		all := allOf(parts, err)
		all.result = baked(names, results(parts))
		all.result.Answer = r.answers(parts)
		return all
	})
}

// pool is what the builds import together; nil: none reads a cache.
func (r Run) pool() *cacheplan.Pool {
	n := 0
	for _, b := range r.Builds {
		if !b.asks() && cacheplan.Joins(b.Caches, b.Plan) {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return cacheplan.NewPool(n)
}

// builderOfAll are the settings of a builder that can do what each build asks for.
func (r Run) builderOfAll() builder.Options {
	o := r.Builds[0].Builder
	for _, b := range r.Builds[1:] {
		o.Platforms = addOnce(o.Platforms, b.Builder.Platforms...)
		o.Entitlements = addOnce(o.Entitlements, b.Builder.Entitlements...)
	}
	return o
}

// answers are what frontends said of targets, each under the target's name, as docker buildx bake prints them (v0.37.0,
// commands/bake.go).
func (r Run) answers(parts []outcome) string {
	said, inJSON := "", map[string]map[string]json.RawMessage{}
	for i, b := range r.Builds {
		text := parts[i].result.Answer
		switch {
		case text == "":
			continue
		case b.Inputs.CallFormat == "json":
			inJSON[b.Inputs.Bake.Target] = map[string]json.RawMessage{b.Inputs.Call: json.RawMessage(text)}
			continue
		case said != "":
			said += "\n"
		}
		said += b.Inputs.Bake.Target + "\n"
		if b.Inputs.Bake.Description != "" {
			said += b.Inputs.Bake.Description + "\n"
		}
		said += "\n" + text
	}
	if len(inJSON) == 0 {
		return said
	}
	text, err := json.MarshalIndent(map[string]any{"target": inJSON}, "", "  ")
	if err != nil {
		return said // impossible: the frontends' answers were read before
	}
	return said + string(text) + "\n"
}
