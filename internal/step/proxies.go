package step

import (
	"net/url"
	"slices"
)

// proxies are the build arguments for proxies in the Docker config: those for its engine, or else
// the default ones.
func (r Run) proxies() map[string]string {
	proxies := map[string]string{}
	for name, value := range r.docker.ParseProxyConfig(r.engine().Address(), nil) {
		proxies[name] = *value
	}
	return proxies
}

// proxyVariables are those of this process and of managed builders.
var proxyVariables = []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"}

// proxyPasswords are the passwords in the addresses of proxies, of the Docker config and of the
// environment.
func (r Run) proxyPasswords() []string {
	var all []string
	for _, name := range proxyVariables {
		all = append(all, password(r.host.Environ.Get(name))...)
	}
	for _, address := range r.proxies() {
		all = append(all, password(address)...)
	}
	return all
}

func password(address string) []string {
	if u, err := url.Parse(address); err == nil && u.User != nil {
		if p, ok := u.User.Password(); ok {
			return []string{p, u.User.String()}
		}
	}
	return nil
}

// withoutProxies keeps the passwords of proxies out of the provenance, which has all build arguments
// in its mode max and is published with the image.
func (r Run) withoutProxies(b Build) Build {
	secret := false
	for _, address := range r.proxies() {
		secret = secret || len(password(address)) > 0
	}
	if !secret {
		return b
	}
	attests, changed := b.Inputs.Attests.WithoutBuildArgs()
	if changed {
		b.Inputs.Attests = attests
		b.Warnings = append(slices.Clip(b.Warnings), "the provenance is made with mode=min: a proxy of the Docker config has a password, and mode=max would publish it")
	}
	return b
}
