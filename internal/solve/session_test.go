package solve

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// listKeys is a program that prints the agent's answer to a request for its keys
// (draft-miller-ssh-agent, SSH_AGENTC_REQUEST_IDENTITIES), without the length at its beginning.
const listKeys = `package main

import (
	"io"
	"net"
	"os"
)

func main() {
	agent, err := net.Dial("unix", os.Getenv("SSH_AUTH_SOCK"))
	if err != nil {
		panic(err)
	}
	agent.Write([]byte{0, 0, 0, 1, 11})
	length := make([]byte, 4)
	io.ReadFull(agent, length)
	io.CopyN(os.Stdout, agent, int64(length[2])<<8|int64(length[3]))
}
`

// TestSSH: a step lists the keys of the user's agent, and of an agent that is made from a key file.
func TestSSH(t *testing.T) {
	t.Parallel()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key")
	testkit.Write(t, file, string(pem.EncodeToMemory(block)))
	public, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}

	r := request(t, testkit.StartBuildkitd(t), app(t, `COPY list-keys /
RUN --mount=type=ssh,required /list-keys > /one
RUN --mount=type=ssh,id=other,required /list-keys > /two
FROM scratch
COPY --from=base /one /two /
`))
	program := filepath.Join(t.TempDir(), "main.go")
	testkit.Write(t, program, listKeys)
	compile := exec.Command("go", "build", "-o", filepath.Join(r.Inputs.Dir, "list-keys"), program)
	compile.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r.Inputs.SSH = []inputs.SSH{{ID: "default", Paths: []string{serveAgent(t, key)}}, {ID: "other", Paths: []string{file}}}
	for _, name := range []string{"one", "two"} {
		if got := r.file(t, name); !containsKey(got, public) {
			t.Errorf("%s: the agent answers %q", name, got)
		}
	}
}

func containsKey(answer string, key ssh.PublicKey) bool {
	const identities = 12 // SSH_AGENT_IDENTITIES_ANSWER
	blob := string(key.Marshal())
	return len(answer) > 9+len(blob) && answer[0] == identities && answer[9:9+len(blob)] == blob
}

// serveAgent is the socket of an agent with one key.
func serveAgent(t *testing.T, key ed25519.PrivateKey) string {
	t.Helper()
	keys := agent.NewKeyring()
	if err := keys.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		t.Fatal(err)
	}
	return testkit.StartSSHAgent(t, keys)
}
