package inputs

import (
	"encoding/json"
	"os"
	"strconv"

	policy "github.com/moby/buildkit/sourcepolicy/pb"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// envBool reads a variable of docker's tools that strconv.ParseBool understands. An empty one
// is unset.
func (p *parser) envBool(name string, unset bool) bool {
	text := p.env[name]
	if text == "" {
		return unset
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		p.report(name, 0, syntax.Quoted(text)+" is neither true nor false", "")
		return unset
	}
	return b
}

// metadataProvenance reads how much provenance the metadata has, as buildx's util/confutil
// does. Words that buildx takes for min because it does not know them are problems here.
func (p *parser) metadataProvenance() string {
	const name = "BUILDX_METADATA_PROVENANCE"
	modes := []string{"min", "max", "disabled"}
	switch text := p.env[name]; text {
	case "":
		return "min"
	case "min", "max", "disabled":
		return text
	default:
		b, err := strconv.ParseBool(text)
		if err != nil {
			p.report(name, 0, syntax.Quoted(text)+" is none of min, max, disabled", syntax.NearestHint(text, modes))
		}
		if err == nil && !b {
			return "disabled"
		}
		return "min"
	}
}

// sourcePolicy reads the file that EXPERIMENTAL_BUILDKIT_SOURCE_POLICY names: JSON or,
// as in buildx (build/build.go), the message itself.
func (p *parser) sourcePolicy() *policy.Policy {
	const name = "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY"
	file := p.env[name]
	if file == "" {
		return nil
	}
	content, err := os.ReadFile(locate(p.dir, file))
	if err != nil {
		p.report(name, 0, "the file of the source policy cannot be read", unreadable.Hint)
		return nil
	}
	fromJSON, fromMessage := &policy.Policy{}, &policy.Policy{}
	if json.Unmarshal(content, fromJSON) == nil {
		return fromJSON
	}
	if fromMessage.UnmarshalVT(content) == nil {
		return fromMessage
	}
	p.report(name, 0, "the file is not a source policy", `write JSON such as {"rules": [{"action": "DENY", "selector": {"identifier": "docker-image://…"}}]}`)
	return nil
}
