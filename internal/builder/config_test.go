package builder

import "testing"

// TestConfig: what the user sets stays, and is joined with what a managed builder needs.
func TestConfig(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "[system]\nmaxRegistryConcurrency = 16\n",
		"debug = true\n[system]\nplatformsCacheMaxAge = \"1h\"\n": "debug = true\n\n[system]\nmaxRegistryConcurrency = 16\nplatformsCacheMaxAge = '1h'\n",
		"[system]\nmaxRegistryConcurrency = 2\n":                  "[system]\nmaxRegistryConcurrency = 2\n",
		"system = 7\n":                                            "system = 7\n",
		"[system\n":                                               "[system\n",
	} {
		if got, err := config(text, nil); err != nil || string(got) != want {
			t.Errorf("%q is %q, %v, want %q", text, got, err, want)
		}
	}
}
