package solve

import (
	"fmt"

	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth/authprovider"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/moby/buildkit/session/sshforward/sshprovider"
	"github.com/moby/buildkit/util/gitutil"

	"github.com/warmlayer/warmlayer/inputs"
)

// attachables are what the daemon may ask of us while it solves.
func (b *run) attachables() ([]session.Attachable, error) {
	secrets := map[string][]byte{}
	for _, s := range b.Inputs.Secrets {
		secrets[s.ID] = []byte(s.Value)
	}
	all := []session.Attachable{
		authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{AuthConfigProvider: b.Auth}),
		secretsprovider.FromMap(secrets),
	}
	var agents []sshprovider.AgentConfig
	for _, s := range agentsOf(b.Inputs) {
		agents = append(agents, sshprovider.AgentConfig{ID: s.ID, Paths: s.Paths})
	}
	if len(agents) == 0 {
		return all, nil
	}
	ssh, err := sshprovider.NewSSHAgentProvider(agents)
	if err != nil {
		return nil, fmt.Errorf("hand in ssh: %w", err)
	}
	return append(all, ssh), nil
}

// agentsOf are those that were asked for; without any, a Git repository over SSH is
// fetched with the environment's own (docker buildx v0.37.0, commands/build.go).
func agentsOf(in inputs.Values) []inputs.SSH {
	if len(in.SSH) > 0 || !in.Remote {
		return in.SSH
	}
	if u, err := gitutil.ParseURL(in.Context); err != nil || u.Scheme != gitutil.SSHProtocol {
		return nil
	}
	return []inputs.SSH{{ID: "default"}}
}
