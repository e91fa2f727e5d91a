package refusal_test

import (
	"testing"

	"github.com/warmlayer/warmlayer/internal/refusal"
)

// TestAnswers: a number is a status where it stands alone, and neither a port nor a part of a digest.
func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text   string
		answer *refusal.Answer
		want   bool
	}{
		{"unexpected status from HEAD request to http://h/v2/: 401 Unauthorized", refusal.Unauthorized, true},
		{"HEAD http://h/v2/: unexpected status code 401 (status 401)", refusal.Unauthorized, true},
		{"dial tcp 192.0.2.1:401: connect: connection refused", refusal.Unauthorized, false},
		{"dial tcp 192.0.2.1:403: connect: connection refused", refusal.Denied, false},
		{"POST http://h/token: (status 403)", refusal.Denied, true},
		{"sha256:4034294134014034294134014034294134014034294134014034294134014034: not found", refusal.Denied, false},
		{"failed to authorize: failed to fetch anonymous token: lookup auth.invalid: no such host", refusal.Unauthorized, false},
		{"dial tcp 192.0.2.1:443: connect: permission denied", refusal.Denied, false},
		{"push access denied, repository does not exist", refusal.Denied, true},
		{"denied: permission denied", refusal.Denied, true},
		{"error writing layer blob: denied: quota", refusal.Denied, true},
		{"AccessDenied: Access Denied", refusal.Denied, true},
		{"permission_denied: write_package", refusal.Denied, true},
		{"http://h:429/v2/: EOF", refusal.RateLimit, false},
		{"unexpected status: 429", refusal.RateLimit, true},
	} {
		if got := tt.answer.In(tt.text); got != tt.want {
			t.Errorf("%s: %t", tt.text, got)
		}
	}
}
