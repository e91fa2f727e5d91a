package solve

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/buildkit/client"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// ociArtifact is the attribute of image outputs that stores attestations as OCI artifacts, whose
// manifests name the image as their subject. BuildKit v0.32 and later do so by default
// (exporter/containerimage, DefaultOCIArtifact).
const ociArtifact = "oci-artifact"

// manifestRefused are the messages of registries that refuse an attestation as an OCI artifact:
// "blob unknown to registry" of GitLab, which refuses a manifest before its subject
// (moby/buildkit#7007), and those of registries that accept only images (moby/buildkit#6171).
// containerd shows only the message of an error, and leaves out its code in the distribution
// specification.
var manifestRefused = regexp.MustCompile(`(?i)failed to push (\S+): .*(blob unknown|manifest (blob )?unknown|manifest invalid|invalid manifest|media ?type|artifact ?type|unexpected status from PUT request to \S+/manifests/\S+: (400|404|415|422) )`)

// buildAndPush is the build solve. When a registry refuses attestations as OCI artifacts, and no
// input requires that form, it pushes the image again with attestations in the form of an image.
// The steps do not run again. It returns the solve whose response it returns.
func (b *run) buildAndPush(ctx context.Context, a target) (target, *client.SolveResponse, error) {
	response, err := b.solve(ctx, a)
	if err == nil {
		err = b.pushInside(ctx, response)
	}
	again := b.withoutArtifacts(a.exports)
	if err == nil || again == nil {
		return a, response, err
	}
	refused := manifestRefused.FindStringSubmatch(err.Error())
	if refused == nil {
		return a, response, err
	}
	second := b.target(a.mounts, a.imports)
	second.exports, second.cacheExports, second.show, second.span = again, a.cacheExports, a.show, a.span
	second.watch = func(*client.SolveStatus) {} // the first has seen the steps
	response, err = b.solve(ctx, second)
	if err == nil {
		registry, _, _ := strings.Cut(strings.TrimSuffix(refused[1], ":"), "/")
		b.notes = append(b.notes, Warning{Text: fmt.Sprintf("%s refuses attestations as OCI artifacts (%s), so they were pushed in the form of an image; "+
			"set BUILDX_NO_DEFAULT_OCI_ARTIFACT=true, or oci-artifact=false in outputs, to do so at once", registry, refused[2])})
	}
	return second, response, err
}

// withoutArtifacts are the exports with attestations in the form of an image, without those to
// standard output, which has been written. The result is nil when it would push the same again.
func (b *run) withoutArtifacts(exports []client.ExportEntry) []client.ExportEntry {
	isPushed := func(o inputs.Output) bool {
		return o.Pushes() && o.Attrs[ociArtifact] == "" && !syntax.IsFalse(o.Attrs["oci-mediatypes"])
	}
	if len(b.Inputs.Attests) == 0 || !slices.ContainsFunc(b.Inputs.Outputs, isPushed) {
		return nil
	}
	var again []client.ExportEntry
	for i, e := range exports {
		if i < len(b.Inputs.Outputs) && b.Inputs.Outputs[i].Dest == "-" {
			continue
		}
		e.Attrs = maps.Clone(e.Attrs)
		if _, asked := e.Attrs[ociArtifact]; !asked && (e.Type == client.ExporterImage || e.Type == exporterMoby || e.Type == client.ExporterOCI) {
			e.Attrs[ociArtifact] = "false"
		}
		again = append(again, e)
	}
	return again
}
