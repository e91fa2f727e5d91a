package hosted

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// to sends every request to a stand-in, whatever its host is.
type to struct{ http.Handler }

// RoundTrip implements [http.RoundTripper].
func (s to) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Result(), nil
}

// hub stands in for Docker Hub, with the requests and answers of docs.docker.com, "Docker Hub API" (a token for a login), and of
// docker/hub-tool, pkg/hub/tags.go (a tag's removal).
type hub struct {
	mu       sync.Mutex
	tags     []string // of acme/shop
	readOnly bool
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	tag, ok := strings.CutPrefix(r.URL.Path, "/v2/repositories/acme/shop/tags/")
	switch {
	case r.URL.Host != "hub.docker.com" || r.URL.Scheme != "https":
		http.Error(w, "the wrong host", http.StatusBadGateway)
	case r.Method == http.MethodPost && r.URL.Path == "/v2/auth/token":
		var login struct{ Identifier, Secret string }
		if json.NewDecoder(r.Body).Decode(&login) != nil || login.Identifier != "acme" || login.Secret != "dckr_pat_x" {
			http.Error(w, `{"message": "incorrect authentication credentials"}`, http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"access_token": "of the API"}`)
	case r.Header.Get("Authorization") != "Bearer of the API":
		http.Error(w, "{}", http.StatusUnauthorized)
	case r.Method != http.MethodDelete || !ok || !strings.HasSuffix(tag, "/"):
		http.Error(w, "{}", http.StatusMethodNotAllowed)
	case h.readOnly:
		http.Error(w, `{"detail": "access to the resource is forbidden with personal access token"}`, http.StatusForbidden)
	case !slices.Contains(h.tags, strings.TrimSuffix(tag, "/")):
		http.Error(w, `{"message": "httperror 404: tag not found"}`, http.StatusNotFound)
	default:
		h.tags = slices.DeleteFunc(h.tags, func(t string) bool { return t+"/" == tag })
		w.WriteHeader(http.StatusNoContent)
	}
}

// TestDockerHub: a tag alone is removed, with a token for the registry's login, and a token without that right is explained.
func TestDockerHub(t *testing.T) {
	t.Parallel()
	h := &hub{tags: []string{"latest", "cache-pr-1", "cache-pr-2"}}
	repository := hubRepository{&http.Client{Transport: to{h}}, "acme/shop", Credentials{Username: "acme", Password: "dckr_pat_x"}}
	var gone []string
	count := func(tag string) { gone = append(gone, tag) }
	if err := repository.Remove(t.Context(), []string{"cache-pr-1", "cache-pr-9", "cache-pr-2"}, count); err != nil || len(gone) != 3 {
		t.Errorf("removed %q, %v", gone, err)
	}
	if got := strings.Join(h.tags, " "); got != "latest" {
		t.Errorf("left %q", got)
	}
	h.readOnly, gone = true, nil
	if err := repository.Remove(t.Context(), []string{"latest"}, count); err == nil || !strings.Contains(err.Error(), "Read, Write, Delete") || len(gone) > 0 {
		t.Errorf("removed %q, %v", gone, err)
	}
	repository.login.Password = "wrong"
	if err := repository.Remove(t.Context(), []string{"latest"}, count); err == nil || !strings.Contains(err.Error(), "log in to Docker Hub") || strings.Contains(err.Error(), "wrong") {
		t.Error(err)
	}
}

// ecr stands in for Amazon ECR, with the request and the answer of BatchDeleteImage (docs.aws.amazon.com/AmazonECR/latest/APIReference).
type ecr struct {
	t        *testing.T
	host     string
	target   string
	account  string
	tags     []string
	requests int
	refuses  bool
}

func (e *ecr) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.requests++
	body, err := io.ReadAll(r.Body)
	var request struct {
		RegistryID     string
		RepositoryName string
		ImageIDs       []struct{ ImageTag string }
	}
	if err != nil || json.Unmarshal(body, &request) != nil || r.URL.Host != e.host || r.Header.Get("X-Amz-Target") != e.target ||
		!strings.Contains(r.Header.Get("Authorization"), "Credential=AKIDINPUT/") || request.RegistryID != e.account || request.RepositoryName != "shop/web" || len(request.ImageIDs) > 100 {
		e.t.Errorf("%s %s %v %s", r.Method, r.URL, r.Header, body)
	}
	type image = map[string]string
	answer := struct {
		ImageIDs []image          `json:"imageIds"`
		Failures []map[string]any `json:"failures"`
	}{[]image{}, []map[string]any{}}
	for _, asked := range request.ImageIDs {
		failure := map[string]any{"imageId": image{"imageTag": asked.ImageTag}, "failureCode": "ImageNotFound", "failureReason": "Requested image not found"}
		switch {
		case e.refuses:
			failure["failureCode"], failure["failureReason"] = "ImageReferencedByManifestList", "Requested image referenced by manifest list"
		case slices.Contains(e.tags, asked.ImageTag):
			answer.ImageIDs = append(answer.ImageIDs, image{"imageTag": asked.ImageTag, "imageDigest": "sha256:0"})
			e.tags = slices.DeleteFunc(e.tags, func(t string) bool { return t == asked.ImageTag })
			continue
		}
		answer.Failures = append(answer.Failures, failure)
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		e.t.Error(err)
	}
}

// TestECR: tags are removed a hundred at a time at the service of the registry's region, signed with the access key; one that is
// not there is gone, and any other failure is told.
func TestECR(t *testing.T) {
	t.Parallel()
	for registry, e := range map[string]*ecr{
		"123456789012.dkr.ecr.eu-west-1.amazonaws.com": {host: "api.ecr.eu-west-1.amazonaws.com", target: "AmazonEC2ContainerRegistry_V20150921.BatchDeleteImage", account: "123456789012"},
		"public.ecr.aws": {host: "api.ecr-public.us-east-1.amazonaws.com", target: "SpencerFrontendService.BatchDeleteImage"},
	} {
		e.t, e.tags = t, []string{"latest"}
		path := "shop/web"
		if e.account == "" {
			path = "alias/" + path
		}
		remover, ok := Of(registry, path, Credentials{Key: AccessKey{"AKIDINPUT", "x"}})
		r, isECR := remover.(ecrRepository)
		if !ok || !isECR {
			t.Fatalf("%s: %T", registry, remover)
		}
		r.Client = &http.Client{Transport: to{e}}
		tags := []string{"never-there"}
		for i := range 149 {
			tags = append(tags, fmt.Sprintf("cache-pr-%d", i))
		}
		e.tags = append(e.tags, tags[1:]...)
		gone := map[string]bool{}
		if err := r.Remove(t.Context(), tags, func(tag string) { gone[tag] = true }); err != nil || len(gone) != 150 || e.requests != 2 {
			t.Errorf("%s: removed %d in %d requests, %v", registry, len(gone), e.requests, err)
		}
		if got := strings.Join(e.tags, " "); got != "latest" {
			t.Errorf("%s: left %q", registry, got)
		}
		e.refuses = true
		clear(gone)
		if err := r.Remove(t.Context(), []string{"latest"}, func(tag string) { gone[tag] = true }); err == nil || !strings.Contains(err.Error(), "referenced by manifest list") || len(gone) > 0 {
			t.Errorf("%s: removed %v, %v", registry, gone, err)
		}
	}
}

// TestOf: GitHub, Docker Hub and AWS have an API; every other registry removes tags itself.
func TestOf(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"ghcr.io": true, "index.docker.io": true, "docker.io": true, "123456789012.dkr.ecr.eu-west-1.amazonaws.com": true, "public.ecr.aws": true,
		"registry.gitlab.com": false, "quay.io": false, "ghcr.io.example": false, "x.public.ecr.aws": false, "123456789012.dkr.ecr.eu-west-1.amazonaws.com.example": false,
	} {
		if got := Has(host); got != want {
			t.Errorf("%s: %v", host, got)
		}
	}
}
