package backends_test

import (
	"testing"

	"github.com/warmlayer/warmlayer/internal/cachespec"
)

// BuildKit reads these two attributes from its environment; a remote builder gets them in its
// entries.
func TestS3Environment(t *testing.T) {
	t.Parallel()
	env := map[string]string{"AWS_BUCKET": "b", "AWS_REGION": "r"}
	c := backend(t, cachespec.Environment{Getenv: func(name string) string { return env[name] }}, "s3")
	if got := attrsText(c.Imports(plan("b-main"))[0].Attrs); got != " bucket=b name=b-main region=r" {
		t.Errorf("attributes%s", got)
	}
}
