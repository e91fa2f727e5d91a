package engineapi

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"

	dockercontext "github.com/docker/cli/cli/context"
	"github.com/docker/cli/cli/context/docker"
	"github.com/docker/cli/cli/context/store"
	"github.com/moby/moby/client"
)

// Place says which container engine to use, in the docker program's terms. The zero value is
// the one at this machine's usual socket.
type Place struct {
	Host      string // DOCKER_HOST: unix:///run/docker.sock, tcp://docker:2376, ssh://user@host; "": that of Context
	Context   string // name of a docker context; "" and "default": none
	ConfigDir string // the docker config's directory, which holds the contexts
	CertDir   string // DOCKER_CERT_PATH: directory of ca.pem, cert.pem and key.pem for a Host with TLS; "": no TLS
	Verify    bool   // DOCKER_TLS_VERIFY: the Host's certificate must be valid
}

// Address is the Host, or that of the context: the key of the engine's proxies in the docker
// config. It is the usual socket when the context cannot be read.
func (p Place) Address() string {
	if found, err := p.endpoint(""); err == nil && found.Host != "" {
		return found.Host
	}
	return client.DefaultDockerHost
}

// Client is a client of the engine, or of that of a named context, and the engine's address. It
// connects with the first request.
func (p Place) Client(name string) (*client.Client, string, error) {
	found, err := p.endpoint(name)
	var options []client.Opt
	if err == nil {
		options, err = found.ClientOpts()
	}
	var c *client.Client
	if err == nil {
		c, err = client.New(options...)
	}
	if err != nil {
		return nil, "", fmt.Errorf("find container engine: %w", err)
	}
	return c, cmp.Or(found.Host, client.DefaultDockerHost), nil
}

// Plaintext tells whether requests to the engine cross a network without encryption.
func (p Place) Plaintext() bool {
	found, err := p.endpoint("")
	return err == nil && found.TLSData == nil && (strings.HasPrefix(found.Host, "tcp://") || strings.HasPrefix(found.Host, "http://"))
}

// endpoint is where the engine is, or that of a named context.
func (p Place) endpoint(name string) (docker.Endpoint, error) {
	if name == "" && p.Host == "" {
		name = p.Context
	}
	if name == "" || name == "default" {
		found := docker.Endpoint{EndpointMeta: docker.EndpointMeta{Host: p.Host}}
		if p.CertDir == "" {
			return found, nil
		}
		file := func(name string) string { return filepath.Join(p.CertDir, name) }
		var err error
		found.SkipTLSVerify = !p.Verify
		found.TLSData, err = dockercontext.TLSDataFromFiles(file("ca.pem"), file("cert.pem"), file("key.pem"))
		return found, err
	}
	contexts := store.New(filepath.Join(p.ConfigDir, "contexts"), store.NewConfig(
		func() any { return &map[string]any{} },
		store.EndpointTypeGetter(docker.DockerEndpoint, func() any { return &docker.EndpointMeta{} })))
	metadata, err := contexts.GetMetadata(name)
	if err != nil {
		return docker.Endpoint{}, err
	}
	found, err := docker.EndpointFromContext(metadata)
	if err != nil {
		return docker.Endpoint{}, err
	}
	return docker.WithTLSData(contexts, name, found)
}
