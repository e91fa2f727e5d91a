package builderspec

import "testing"

func TestParseAddress(t *testing.T) {
	t.Parallel()
	const (
		names = "the address names no builder\nhint: write it like unix:///run/buildkit/buildkitd.sock or docker-container://name"
		kinds = " is not a kind of address\nhint: use one of unix, tcp, docker-container, podman-container, nerdctl-container, kube-pod, ssh"
	)
	for text, test := range map[string]struct {
		want    Address
		problem string
	}{
		"auto":                              {want: Address{}},
		"rootless":                          {want: Address{Kind: Rootless}},
		"engine":                            {want: Address{Kind: Engine}},
		"unix:///run/buildkitd.sock":        {want: Address{Kind: Remote, Scheme: "unix", URL: "unix:///run/buildkitd.sock"}},
		"tcp://:1234":                       {want: Address{Kind: Remote, Scheme: "tcp", URL: "tcp://:1234"}},
		"nerdctl-container://b?namespace=n": {want: Address{Kind: Remote, Scheme: "nerdctl-container", URL: "nerdctl-container://b?namespace=n"}},
		"podman-container://b":              {want: Address{Kind: Remote, Scheme: "podman-container", URL: "podman-container://b"}},
		"docker-container://b?context=c":    {want: Address{Kind: Remote, Scheme: "docker-container", URL: "docker-container://b?context=c", Container: "b", Engine: "c"}},
		"unix:///":                          {problem: names},
		"docker-container:///b":             {problem: names},
		"nerdctl-container://":              {problem: names},
		"kube-pod://?namespace=n":           {problem: names},
		"ssh://me:sec%ret@host":             {problem: "the address is not a URL\nhint: write it like tcp://host:1234, and special characters in it as %20"},
		"/run/buildkitd.sock":               {problem: `"/run/buildkitd.sock"` + kinds},
		"https://me:secret@host":            {problem: `"https"` + kinds},
	} {
		got, problem := ParseAddress(text)
		said := ""
		if problem != nil {
			said = problem.String()
		}
		if got != test.want || said != test.problem {
			t.Errorf("%s: %+v\n%s", text, got, said)
		}
	}
}

func TestAddressIsShownWithoutPassword(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"embedded":                       "embedded",
		"engine":                         "engine",
		"ssh://me:secret@host":           "ssh://me:***@host",
		"docker-container://b?context=c": "docker-container://b",
	} {
		a, problem := ParseAddress(text)
		if problem != nil || a.String() != want {
			t.Errorf("%s is shown as %s, %v", text, a, problem)
		}
	}
}
