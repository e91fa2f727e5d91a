package solve

import (
	"fmt"

	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/moby/buildkit/session/sshforward/sshprovider"

	"github.com/warmlayer/warmlayer/internal/tokenauth"
)

// attachables are the services that the daemon may use in this process during a solve.
func (b *run) attachables() ([]session.Attachable, error) {
	secrets := map[string][]byte{}
	for _, s := range b.Inputs.Secrets {
		secrets[s.ID] = []byte(s.Value)
	}
	all := []session.Attachable{
		tokenauth.New(b.seed, b.Auth),
		secretsprovider.FromMap(secrets),
	}
	var agents []sshprovider.AgentConfig
	for _, s := range b.Inputs.SSH {
		agents = append(agents, sshprovider.AgentConfig{ID: s.ID, Paths: s.Paths})
	}
	if len(agents) == 0 {
		return all, nil
	}
	ssh, err := sshprovider.NewSSHAgentProvider(agents)
	if err != nil {
		return nil, fmt.Errorf("forward ssh: %w", err)
	}
	return append(all, ssh), nil
}
