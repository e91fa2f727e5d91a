package engineapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/docker/cli/cli/config/types"
	buildkit "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/identity"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"
	digest "github.com/opencontainers/go-digest"
)

// Display shows the progress of a build.
type Display chan<- *buildkit.SolveStatus

// load sends an archive to the engine.
func (e Engine) load(ctx context.Context, archive io.Reader, d Display) error {
	// The HTTP client would close a pipe when the engine stops reading, before the reason is known.
	answer, err := e.ImageLoad(ctx, struct{ io.Reader }{archive})
	if err == nil {
		defer answer.Close()
		_, err = d.follow(answer, "importing to docker", "loading layer ")
	}
	if err != nil {
		return fmt.Errorf("load image into engine: %w", err)
	}
	return nil
}

// Push lets the engine push an image that it has, and returns the digest that the registry knows it
// by. The docker driver of buildx pushes in this way where the engine's BuildKit cannot (v0.37.0,
// build/build.go, pushWithMoby). The error is in the form of BuildKit's.
func (e Engine) Push(ctx context.Context, name string, auth types.AuthConfig, d Display) (digest.Digest, error) {
	pushed, err := e.push(ctx, name, auth, d)
	if err != nil {
		return "", fmt.Errorf("failed to push %s: %w", name, err)
	}
	return pushed, nil
}

func (e Engine) push(ctx context.Context, name string, auth types.AuthConfig, d Display) (digest.Digest, error) {
	encoded, err := authconfig.Encode(registry.AuthConfig{
		Username: auth.Username, Password: auth.Password, Auth: auth.Auth, ServerAddress: auth.ServerAddress,
		IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken,
	})
	if err != nil {
		return "", err
	}
	answer, err := e.ImagePush(ctx, name, client.ImagePushOptions{RegistryAuth: encoded})
	if err != nil {
		return "", err
	}
	defer answer.Close()
	last, err := d.follow(answer, "pushing "+name+" with docker", "pushing layer ")
	if err != nil {
		return "", err
	}
	var pushed struct{ Digest digest.Digest }
	if err := json.Unmarshal(last, &pushed); err != nil || pushed.Digest.Validate() != nil {
		return "", errors.New("the engine does not say under which digest")
	}
	return pushed.Digest, nil
}

// follow shows a request to the engine as a step with a name, until its messages end. It returns the
// last data in them that are not for people.
func (d Display) follow(messages io.Reader, name, layer string) (json.RawMessage, error) {
	vertex := buildkit.Vertex{Digest: digest.FromString(identity.NewID()), Name: name, Started: now()}
	d <- &buildkit.SolveStatus{Vertexes: []*buildkit.Vertex{&vertex}}
	last, err := d.progress(messages, vertex.Digest, layer)
	ended := vertex
	ended.Completed = now()
	if err != nil {
		ended.Error = err.Error()
	}
	d <- &buildkit.SolveStatus{Vertexes: []*buildkit.Vertex{&ended}}
	return last, err
}

// progress reads the engine's messages, which say how much of each layer it has unpacked or sent, to
// their end. Only the first and the last message of each layer are shown.
func (d Display) progress(messages io.Reader, vertex digest.Digest, layer string) (json.RawMessage, error) {
	layers := map[string]*buildkit.VertexStatus{}
	var failure error
	var last json.RawMessage
	for decoder := json.NewDecoder(messages); ; {
		var m jsonstream.Message
		if err := decoder.Decode(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, errors.Join(failure, err)
		}
		if m.Error != nil {
			failure = m.Error
		}
		if m.Aux != nil {
			last = *m.Aux
		}
		if m.ID == "" || m.Progress == nil {
			continue
		}
		known := layers[m.ID]
		if known == nil {
			known = &buildkit.VertexStatus{ID: layer + m.ID, Vertex: vertex, Started: now()}
			layers[m.ID] = known
			d.status(*known)
		}
		known.Current, known.Total = m.Progress.Current, m.Progress.Total
	}
	for _, known := range layers {
		known.Completed = now()
		d.status(*known)
	}
	return last, failure
}

func (d Display) status(s buildkit.VertexStatus) {
	s.Timestamp = time.Now()
	d <- &buildkit.SolveStatus{Statuses: []*buildkit.VertexStatus{&s}}
}

func now() *time.Time {
	t := time.Now()
	return &t
}
