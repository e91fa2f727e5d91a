package login

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/docker/cli/cli/config/types"

	"github.com/warmlayer/warmlayer/internal/hosted"
)

// TestClouds: only hosts that a cloud owns get a token of that cloud.
func TestClouds(t *testing.T) {
	t.Parallel()
	all := allClouds(variables(), nil)
	for host, want := range map[string]string{
		"123456789012.dkr.ecr.eu-west-1.amazonaws.com":          "AWS",
		"123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com": "AWS",
		"123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn":      "AWS",
		"123456789012.dkr-ecr.eu-west-1.on.aws":                 "AWS",
		"public.ecr.aws":                                        "AWS",
		"gcr.io":                                                "Google",
		"eu.gcr.io":                                             "Google",
		"europe-west3-docker.pkg.dev":                           "Google",
		"team.azurecr.io":                                       "Azure",

		"123456789012.dkr.ecr.eu-west-1.amazonaws.com.example": "",
		"x.123456789012.dkr.ecr.eu-west-1.amazonaws.com":       "",
		"123456789012.dkr.ecr.evil.example/x.amazonaws.com":    "",
		"123456789012.dkr.ecr.eu-west-1.amazonaws.com:8443":    "",
		"evil-public.ecr.aws":                                  "",
		"gcr.io.example":                                       "",
		"notgcr.io":                                            "",
		"a.b.pkg.dev":                                          "",
		"team.azurecr.io:443":                                  "",
		"a.team.azurecr.io":                                    "",
		"ghcr.io":                                              "",
	} {
		if c, ok := all.find(host); c.name != want || ok != (want != "") {
			t.Errorf("%s belongs to %q, want %q", host, c.name, want)
		}
	}
}

// service replaces the services of the clouds: it answers the requests for all hosts.
type service struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string // METHOD host/path body
	headers  []http.Header
}

func newService(t *testing.T, answer func(w http.ResponseWriter, host string)) *service {
	t.Helper()
	s := &service{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		s.requests = append(s.requests, r.Method+" "+r.Host+r.URL.Path+" "+string(body))
		s.headers = append(s.headers, r.Header)
		s.mu.Unlock()
		answer(w, r.Host)
	}))
	t.Cleanup(s.Close)
	return s
}

// client sends every request to the service.
func (s *service) client() *http.Client {
	return &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
		to := r.Clone(r.Context())
		to.Host, to.URL.Scheme, to.URL.Host = r.URL.Host, "http", strings.TrimPrefix(s.URL, "http://")
		return http.DefaultTransport.RoundTrip(to)
	})}
}

type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

// reply answers in JSON.
func reply(w http.ResponseWriter, body any) { _ = json.NewEncoder(w).Encode(body) }

// TestECR: one signed request to the region of the registry gives the password.
func TestECR(t *testing.T) {
	s := newService(t, func(w http.ResponseWriter, host string) {
		data := map[string]string{"authorizationToken": basic("AWS", "hunter2")}
		if strings.HasPrefix(host, "api.ecr-public") {
			reply(w, map[string]any{"authorizationData": data})
			return
		}
		reply(w, map[string]any{"authorizationData": []any{data}})
	})
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDENVIRONMENT")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
	t.Setenv("AWS_CONFIG_FILE", "/none")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/none")
	const private, public = "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "public.ecr.aws"
	for _, test := range []struct {
		host   string
		logins Inputs
		url    string // of the only request; "": no request
		key    string
		want   string
	}{
		{host: private, url: "api.ecr.cn-north-1.amazonaws.com.cn/", key: "AKIDENVIRONMENT", want: "AWS:hunter2"},
		{host: public, url: "api.ecr-public.us-east-1.amazonaws.com/", key: "AKIDENVIRONMENT", want: "AWS:hunter2"},
		{host: private, logins: Inputs{Registry: private, Username: "AKIDINPUT", Password: "x"}, url: "api.ecr.cn-north-1.amazonaws.com.cn/", key: "AKIDINPUT", want: "AWS:hunter2"},
		{host: private, logins: Inputs{Registry: private}, url: "api.ecr.cn-north-1.amazonaws.com.cn/", key: "AKIDENVIRONMENT", want: "AWS:hunter2"},
		{host: private, logins: Inputs{Registry: private, Username: "AWS", Password: "x"}, want: "AWS:x"},
		{host: private, logins: Inputs{RegistryAuth: "- {registry: " + private + ", username: u, password: x, ecr: false}"}, want: "u:x"},
	} {
		s.requests, s.headers = nil, nil
		r := newRegistries(t, Options{Inputs: test.logins, clouds: allClouds(variables(), s.client())})
		for range 2 {
			if got := asked(t, r, test.host); got != test.want {
				t.Errorf("%s gets %s (%v)", test.host, got, r.Warnings())
			}
		}
		if test.url == "" {
			if len(s.requests) > 0 {
				t.Errorf("requests %q", s.requests)
			}
			continue
		}
		if !slices.Equal(s.requests, []string{"POST " + test.url + " {}"}) {
			t.Fatalf("requests %q", s.requests)
		}
		h := s.headers[0]
		if !strings.HasSuffix(h.Get("X-Amz-Target"), ".GetAuthorizationToken") || !strings.Contains(h.Get("Authorization"), "Credential="+test.key+"/") {
			t.Errorf("headers %v", h)
		}
	}
}

// TestACR: the registry exchanges the token of the identity for one of its own.
func TestACR(t *testing.T) {
	identity := newService(t, func(w http.ResponseWriter, _ string) {
		reply(w, map[string]string{"access_token": "of-the-identity", "expires_on": "4000000000", "token_type": "Bearer"})
	})
	// App Service's identity (learn.microsoft.com, "How to use managed identities for App Service").
	t.Setenv("IDENTITY_ENDPOINT", identity.URL+"/identity")
	t.Setenv("IDENTITY_HEADER", "x")
	registry := newService(t, func(w http.ResponseWriter, host string) {
		if host == "team.azurecr.io" {
			reply(w, map[string]string{"refresh_token": "hunter2"})
			return
		}
		http.Error(w, "of-the-identity is not welcome", http.StatusForbidden)
	})
	through := transport(func(r *http.Request) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Host, ".azurecr.io") {
			return registry.client().Transport.RoundTrip(r)
		}
		return http.DefaultTransport.RoundTrip(r)
	})
	r := newRegistries(t, Options{clouds: allClouds(variables(), &http.Client{Transport: through})})
	if got := asked(t, r, "team.azurecr.io"); got != acrUser+":hunter2" {
		t.Errorf("got %s (%v)", got, r.Warnings())
	}
	const want = "POST team.azurecr.io/oauth2/exchange access_token=of-the-identity&grant_type=access_token&service=team.azurecr.io"
	if !slices.Equal(registry.requests, []string{want}) {
		t.Errorf("requests %q", registry.requests)
	}
	if got := asked(t, r, "other.azurecr.io"); got != ":" {
		t.Errorf("got %s", got)
	}
	const warning = "other.azurecr.io is used anonymously: Azure gave no credentials: other.azurecr.io: 403 Forbidden"
	if !slices.Equal(r.Warnings(), []string{warning}) {
		t.Errorf("warnings %q", r.Warnings())
	}
}

// TestGoogle: the password is an access token of the default credentials.
func TestGoogle(t *testing.T) {
	s := newService(t, func(w http.ResponseWriter, _ string) {
		reply(w, map[string]any{"access_token": "hunter2", "token_type": "Bearer", "expires_in": 3600})
	})
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	account, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "a@b.example", "token_uri": s.URL + "/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "account.json")
	if err := os.WriteFile(file, account, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
	r := newRegistries(t, Options{clouds: allClouds(os.Getenv, nil)})
	if got := asked(t, r, "europe-docker.pkg.dev"); got != "oauth2accesstoken:hunter2" {
		t.Errorf("got %s (%v)", got, r.Warnings())
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "/none")
	r = newRegistries(t, Options{clouds: allClouds(os.Getenv, nil)})
	if got := asked(t, r, "gcr.io"); got != ":" || len(r.Warnings()) != 1 || !strings.Contains(r.Warnings()[0], "GOOGLE_APPLICATION_CREDENTIALS") {
		t.Errorf("got %s, warnings %q", got, r.Warnings())
	}
}

// fakeCloud gives credentials for Azure's hosts, and counts the requests for them.
func fakeCloud(open bool, err error, asked *int) clouds {
	c := allClouds(variables(), nil)[3]
	c.open = open
	c.login = func(context.Context, string, hosted.AccessKey) (types.AuthConfig, error) {
		*asked++
		return types.AuthConfig{Username: "machine", Password: "token"}, err
	}
	return clouds{c}
}

// TestIdentity: which runs use the machine's identity, and the warnings of the others.
func TestIdentity(t *testing.T) {
	t.Parallel()
	const host, untrusted = "team.azurecr.io", "a fork's pull request"
	named := Inputs{RegistryAuth: "- registry: " + host}
	for name, test := range map[string]struct {
		options Options
		open    bool
		err     error
		want    string
		asked   int
		warning string // a part of the only one
	}{
		"trusted":                  {want: "machine:token", asked: 1},
		"untrusted":                {options: Options{Untrusted: untrusted}, want: ":", warning: "this run is not trusted (a fork's pull request)"},
		"untrusted, open to all":   {options: Options{Untrusted: untrusted}, open: true, want: ":"},
		"untrusted, named":         {options: Options{Untrusted: untrusted, Inputs: named}, want: "machine:token", asked: 1},
		"configured":               {options: Options{Docker: docker(t, `{"auths":{"`+host+`":{"auth":"`+basic("file", "1")+`"}}}`)}, want: "file:1"},
		"no identity":              {err: errNoIdentity, want: ":", asked: 1, warning: "no identity was found"},
		"no identity, open to all": {open: true, err: errNoIdentity, want: ":", asked: 1},
		"refused":                  {open: true, err: errors.New("one\n\ttwo " + strings.Repeat("x", 400)), want: ":", asked: 1, warning: ": one two xxx"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := 0
			test.options.clouds = fakeCloud(test.open, test.err, &n)
			r := newRegistries(t, test.options)
			for range 2 {
				if got := asked(t, r, host); got != test.want {
					t.Errorf("got %s", got)
				}
			}
			if n != test.asked {
				t.Errorf("asked %d times", n)
			}
			warnings := strings.Join(r.Warnings(), "\n")
			if (warnings == "") != (test.warning == "") || !strings.Contains(warnings, test.warning) || strings.Contains(warnings, "\n") || len(warnings) > 500 {
				t.Errorf("warnings %q", warnings)
			}
		})
	}
}
