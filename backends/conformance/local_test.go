package conformance

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

func TestLocal(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: directories(t)})
}

func TestLocalRemote(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: directories(t), remote: true, eager: true})
}

// directories have a repository for the images of each.
func directories(t *testing.T) func(*testing.T) store {
	t.Helper()
	registry := testkit.StartRegistry(t)
	return func(t *testing.T) store {
		dir := filepath.Join(testkit.Temp(t), "cache")
		return store{
			line: "type=local,dest=" + dir, image: registry.Repository(),
			names: func(t testing.TB) []string {
				index, err := os.ReadFile(filepath.Join(dir, "index.json"))
				if err != nil {
					t.Fatal(err)
				}
				return []string{string(index)}
			},
		}
	}
}
