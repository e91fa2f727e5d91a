package solve

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	provenance "github.com/moby/buildkit/solver/llbsolver/provenance/types"
	"github.com/moby/buildkit/util/grpcerrors"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc/codes"

	"github.com/warmlayer/warmlayer/internal/cacheplan"
)

// The keys that docker buildx v0.37.0 adds to BuildKit's answer (build/build.go,
// build/provenance.go, commands/build.go). With several platforms each has its own provenance, with
// the platform after a slash.
const (
	keyRef        = "buildx.build.ref"
	KeyProvenance = "buildx.build.provenance"
	KeyWarnings   = "buildx.build.warnings" // a list; see [Encode]
)

// keyCacheManifest is BuildKit's key for the manifest of an exported cache.
const keyCacheManifest = "cache.manifest"

// lookupTimeout bounds the requests to the daemon about a finished build.
const lookupTimeout = 10 * time.Second

// describe adds buildx's keys to the metadata. When the daemon does not return a value, that
// becomes a warning, since the build itself has succeeded.
func (b *run) describe(ctx context.Context, ref string, w *watch) {
	metadata := b.result.Metadata
	metadata[keyRef] = b.recordName(ref)
	if b.Inputs.MetadataProvenance != "disabled" {
		found, err := b.provenance(ctx, ref)
		maps.Copy(metadata, found)
		if err != nil {
			b.result.Warnings = append(b.result.Warnings, Warning{Text: fmt.Sprintf("metadata without provenance: %v", err)})
		}
	}
	if b.Inputs.MetadataWarnings && len(w.warnings) > 0 {
		metadata[KeyWarnings] = Encode(plain(w.sorted()))
	}
}

// plain are the warnings without the definition with which the Dockerfile was sent, as in docker
// buildx.
func plain(warnings []*client.VertexWarning) []*client.VertexWarning {
	all := make([]*client.VertexWarning, len(warnings))
	for i, w := range warnings {
		one := *w
		if one.SourceInfo != nil {
			one.SourceInfo = one.SourceInfo.CloneVT()
			one.SourceInfo.Definition = nil
		}
		all[i] = &one
	}
	return all
}

// recordName is the name of the build in buildx's form, builder/node/ref. The ref is that in the
// daemon's build history; the node of a managed builder, and of an engine's, is its address.
func (b *run) recordName(ref string) string {
	node := "remote"
	if b.Builder.Managed || b.Builder.Inside != nil {
		node = b.Builder.Address
	}
	return "warmlayer/" + node + "/" + ref
}

// Encode is JSON in base64, the form of structured values in BuildKit's answers.
func Encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return "" // impossible: the values were decoded from JSON or from protocol buffers
	}
	return base64.StdEncoding.EncodeToString(text)
}

// history calls each with the versions of a build's record in the daemon's history.
func (b *run) history(ctx context.Context, ref string, each func(*controlapi.BuildHistoryRecord) error) error {
	events, err := b.Builder.Client.ControlClient().ListenBuildHistory(ctx, &controlapi.BuildHistoryRequest{Ref: ref, EarlyExit: true})
	if err != nil {
		return fmt.Errorf("read build history: %w", err)
	}
	for {
		event, err := events.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read build history: %w", err)
		}
		if err := each(event.GetRecord()); err != nil {
			return err
		}
	}
}

// provenance reads the provenance in the build's record.
func (b *run) provenance(ctx context.Context, ref string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found := map[string]string{}
	err := b.history(ctx, ref, func(record *controlapi.BuildHistoryRecord) error {
		results := map[string]*controlapi.BuildResultInfo{}
		for platform, r := range record.GetResults() {
			results[KeyProvenance+"/"+platform] = r
		}
		if r := record.GetResult(); r != nil && len(results) == 0 {
			results[KeyProvenance] = r
		}
		for key, r := range results {
			if err := b.addProvenance(ctx, found, key, r); err != nil {
				return err
			}
		}
		return nil
	})
	if grpcerrors.Code(err) == codes.Unimplemented {
		err = nil // a BuildKit older than v0.11, such as Docker's before 23.0, keeps no history
	}
	return found, err
}

// addProvenance adds the provenance of one result, if it has one, in buildx's form: SLSA 0.2,
// without its long parts except in mode max.
func (b *run) addProvenance(ctx context.Context, to map[string]string, key string, r *controlapi.BuildResultInfo) error {
	i := slices.IndexFunc(r.Attestations, func(d *controlapi.Descriptor) bool {
		return d.MediaType == "application/vnd.in-toto+json" && strings.HasPrefix(predicate(d), slsa)
	})
	if i < 0 {
		return nil
	}
	d := r.Attestations[i]
	text, err := b.blob(ctx, ocispecs.Descriptor{MediaType: d.MediaType, Digest: digest.Digest(d.Digest), Size: d.Size})
	if err != nil {
		return fmt.Errorf("read provenance: %w", err)
	}
	var p *provenance.ProvenancePredicateSLSA02
	if predicate(d) == slsa+"v1" {
		var newer *provenance.ProvenancePredicateSLSA1
		if err = json.Unmarshal(text, &newer); err == nil {
			p = newer.ConvertToSLSA02()
		}
	} else {
		err = json.Unmarshal(text, &p)
	}
	if err != nil {
		return fmt.Errorf("read provenance: %w", err)
	}
	b.recall.provenance(key, p)
	if b.Inputs.MetadataProvenance != "max" {
		p.BuildConfig, p.Metadata = nil, nil
	}
	to[key] = Encode(p)
	return nil
}

// slsa is the beginning of the types of provenance.
const slsa = "https://slsa.dev/provenance/"

func predicate(d *controlapi.Descriptor) string { return d.Annotations["in-toto.io/predicate-type"] }

// tell adds BuildKit's response for a line of cache-to to the metadata, where it also is when
// BuildKit exports cache and image in one solve.
func (x *exports) tell(i int, d cacheplan.Destination) {
	if d.Name != "" || x.sent[i] == nil || x.results[i][0].Outcome != Written {
		return
	}
	if manifest := x.sent[i].ExporterResponse[keyCacheManifest]; manifest != "" {
		x.run.result.Metadata[keyCacheManifest] = manifest
	}
}
