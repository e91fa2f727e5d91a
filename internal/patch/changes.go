package main

// changes are all changes to BuildKit v0.34.2.
var changes = []change{lazyCA}

// lazyCA makes the certificate authority of the proxy for RUN steps (buildkitd's --proxy-network)
// before the first such proxy, instead of at each start of the daemon. Its key of RSA with 2048 bits is more
// than half of the processor time of a start.
var lazyCA = change{
	file: "util/network/proxyprovider/provider_linux.go",
	edits: []edit{
		{`	certPEM, ca, key, err := newCA()
	if err != nil {
		return nil, err
	}
	p := &provider{
		root:                 opt.Root,
		caPEM:                certPEM,
		ca:                   ca,
		caKey:                key,
`, `	p := &provider{
		root:                 opt.Root,
`},
		{`func (p *provider) NewProxy(ctx context.Context, proxy *network.ProxyConfig) (_ network.ProxyNamespace, retErr error) {
`, `func (p *provider) NewProxy(ctx context.Context, proxy *network.ProxyConfig) (_ network.ProxyNamespace, retErr error) {
	if err := p.initCA(); err != nil {
		return nil, err
	}
`},
		{`func newCA() (`, `// initCA makes the certificate authority, once. It is a change by the warmlayer project.
func (p *provider) initCA() (err error) {
	p.certsMu.Lock()
	defer p.certsMu.Unlock()
	if p.caKey == nil {
		p.caPEM, p.ca, p.caKey, err = newCA()
	}
	return err
}

func newCA() (`},
	},
}
