package inputs

import (
	"crypto/ed25519"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"golang.org/x/crypto/ssh"
)

// listen is a socket in a directory whose name is short enough for sockets.
func listen(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ssh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	listener, err := net.Listen("unix", filepath.Join(dir, "agent"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return filepath.Join(dir, "agent")
}

// writeKey writes a private key; an empty passphrase leaves it unencrypted.
func writeKey(t *testing.T, file, passphrase string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	var block *pem.Block
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(key, "")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSSH(t *testing.T) {
	t.Parallel()
	agent, dir := listen(t), checkout(t)
	writeKey(t, filepath.Join(dir, "key"), "")
	writeKey(t, filepath.Join(dir, "key2"), "")
	writeKey(t, filepath.Join(dir, "locked"), "hunter2")
	const (
		noAgent = "there is no agent: SSH_AUTH_SOCK is not set\nhint: start an agent before this step, or name a key: default=path"
		quoting = "expected default, id or id=path\nhint: put quotes around several paths: \"id=a,b\""
	)
	for _, tt := range []struct {
		ssh, context, socket string
		want                 []SSH
		problems             string
	}{
		{ssh: "default", socket: agent, want: []SSH{{"default", nil}}},
		{ssh: "default,work=key\n\"home=key,key2\"", socket: agent, want: []SSH{{"default", nil}, {"work", []string{"key"}}, {"home", []string{"key", "key2"}}}},
		{ssh: "default=" + agent, want: []SSH{{"default", []string{agent}}}},
		{ssh: "=" + dir + "/key", want: []SSH{{"default", []string{dir + "/key"}}}},
		{context: "git@example.com:o/r.git", socket: agent, want: []SSH{{"default", nil}}},
		{context: "https://example.com/o/r.git"},

		{ssh: "default", problems: "ssh: line 1: " + noAgent},
		{context: "ssh://git@example.com/o/r.git", problems: "context: the repository is read over ssh, and " + noAgent},
		{ssh: "default", socket: "gone", problems: "ssh: line 1: there is no agent at the path in SSH_AUTH_SOCK\nhint: start an agent before this step, or name a key: default=path"},
		{ssh: "a=key,/other/key", problems: "ssh: line 1: " + quoting},
		{ssh: "a=nokey", problems: "ssh: line 1: no key or socket at \"nokey\"\nhint: relative paths start from the working directory"},
		{ssh: "a=~/key", problems: "ssh: line 1: no key or socket at \"~/key\"\nhint: write the whole path: ~ is not expanded"},
		{ssh: "a=locked", problems: "ssh: line 1: \"locked\" is a key with a passphrase\nhint: add it to an agent, and name the agent's socket"},
		{ssh: "a=Dockerfile", problems: "ssh: line 1: \"Dockerfile\" is not a private key"},
		{ssh: "a=.", problems: "ssh: line 1: the file cannot be read\nhint: check the path and its permissions"},
		{ssh: "a=key,a=key2", problems: "ssh: line 1: agent \"a\" is given twice\nhint: give one of them another id"},
		{ssh: "\"a=key," + agent + "\"", problems: "ssh: line 1: an agent's socket cannot be combined with other paths\nhint: give it its own id"},
	} {
		t.Run(tt.ssh+" "+tt.context, func(t *testing.T) {
			t.Parallel()
			v, problems := Parse(nil, []string{"INPUT_SSH=" + tt.ssh, "INPUT_CONTEXT=" + tt.context, "SSH_AUTH_SOCK=" + tt.socket}, dir)
			if got := problems.Error(); got != tt.problems {
				t.Fatalf("got:\n%s\nwant:\n%s", got, tt.problems)
			}
			if tt.problems == "" && !reflect.DeepEqual(v.SSH, tt.want) {
				t.Errorf("agents are %q, want %q", v.SSH, tt.want)
			}
		})
	}
}
