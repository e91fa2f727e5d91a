package hosted

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
)

// ECRHosts and PublicECRHosts match whole host names, since a host that AWS does not own must not receive a token. The groups of
// ECRHosts are the account, "-fips" or "", the region and the domain.
var (
	ECRHosts       = regexp.MustCompile(`^([0-9]{12})\.dkr[.-]ecr(-fips)?\.([a-z0-9-]+)\.(amazonaws\.com|amazonaws\.com\.cn|on\.aws|on\.amazonwebservices\.com\.cn)$`)
	PublicECRHosts = regexp.MustCompile(`^public\.ecr\.aws$`)
)

// AccessKey is an AWS access key. The zero value stands for what the SDK's default chain finds.
type AccessKey struct{ ID, Secret string }

// ECR is Amazon's service for registries. It signs its requests with the core of the SDK: the modules for ECR would require a
// later version of that core.
type ECR struct {
	Client *http.Client // must not be nil
	Key    AccessKey
}

// ecrService is one of Amazon's two services, at an endpoint of docs.aws.amazon.com/general/latest/gr/ecr.html.
type ecrService struct {
	endpoint, name, region, target string
	account                        string // "" for the public service
}

// ecrAt is the service of a registry's host.
func ecrAt(host string) (ecrService, bool) {
	if PublicECRHosts.MatchString(host) {
		return ecrService{"https://api.ecr-public.us-east-1.amazonaws.com", "ecr-public", "us-east-1", "SpencerFrontendService", ""}, true
	}
	m := ECRHosts.FindStringSubmatch(host)
	if m == nil {
		return ecrService{}, false
	}
	account, fips, region, suffix := m[1], m[2], m[3], m[4]
	endpoint := "https://api.ecr." + region + ".amazonaws.com"
	if fips != "" {
		endpoint = "https://ecr-fips." + region + ".amazonaws.com"
	}
	if strings.HasSuffix(suffix, ".cn") {
		endpoint += ".cn"
	}
	return ecrService{endpoint, "ecr", region, "AmazonEC2ContainerRegistry_V20150921", account}, true
}

// repository is the API's name of a repository: the public registry's paths begin with an alias of the account.
func (s ecrService) repository(path string) string {
	if _, name, ok := strings.Cut(path, "/"); ok && s.account == "" {
		return name
	}
	return path
}

// Login returns a username and a password for a registry such as "123456789012.dkr.ecr.eu-west-1.amazonaws.com": GetAuthorizationToken of docs.aws.amazon.com/AmazonECR/latest/APIReference and of
// docs.aws.amazon.com/AmazonECRPublic/latest/APIReference. Without an identity the error is [ErrNoIdentity].
func (e ECR) Login(ctx context.Context, host string) (username, password string, err error) {
	s, ok := ecrAt(host)
	if !ok {
		return "", "", fmt.Errorf("%s is no registry of AWS", host)
	}
	type data struct{ AuthorizationToken string }
	var token string
	if s.account == "" {
		var body struct{ AuthorizationData data }
		err = e.call(ctx, s, "GetAuthorizationToken", struct{}{}, &body)
		token = body.AuthorizationData.AuthorizationToken
	} else {
		var body struct{ AuthorizationData []data }
		if err = e.call(ctx, s, "GetAuthorizationToken", struct{}{}, &body); err == nil && len(body.AuthorizationData) == 0 {
			err = errors.New("the answer has no token")
		}
		for _, d := range body.AuthorizationData {
			token = d.AuthorizationToken
		}
	}
	if err != nil {
		return "", "", err
	}
	pair, err := base64.StdEncoding.DecodeString(token)
	username, password, ok = strings.Cut(string(pair), ":")
	if err != nil || !ok {
		return "", "", errors.New("the answer's token is not user:password in base64")
	}
	return username, password, nil
}

// ecrRepository is a repository of ECR. The plain protocol is not documented to remove anything; BatchDeleteImage removes a tag
// alone, and with the last tag the image.
type ecrRepository struct {
	ECR
	service ecrService
	name    string
}

// ecrBatch is how many images one request removes at most.
const ecrBatch = 100

// Remove implements [Remover].
func (r ecrRepository) Remove(ctx context.Context, tags []string, gone func(tag string)) error {
	type image struct {
		ImageTag string `json:"imageTag"`
	}
	type request struct {
		Account    string  `json:"registryId,omitempty"`
		Repository string  `json:"repositoryName"`
		Images     []image `json:"imageIds"`
	}
	for some := range slices.Chunk(tags, ecrBatch) {
		asked := request{Account: r.service.account, Repository: r.name}
		for _, tag := range some {
			asked.Images = append(asked.Images, image{tag})
		}
		var answer struct {
			ImageIDs []image
			Failures []struct {
				FailureCode, FailureReason string
				ImageID                    image
			}
		}
		if err := r.call(ctx, r.service, "BatchDeleteImage", asked, &answer); err != nil {
			return fmt.Errorf("remove tags of %s (this needs ecr:BatchDeleteImage): %w", r.name, err)
		}
		for _, removed := range answer.ImageIDs {
			gone(removed.ImageTag)
		}
		var failed error
		for _, f := range answer.Failures {
			if f.FailureCode == "ImageNotFound" {
				gone(f.ImageID.ImageTag)
				continue
			}
			failed = errors.Join(failed, fmt.Errorf("remove %s:%s: %s: %s", r.name, f.ImageID.ImageTag, f.FailureCode, f.FailureReason))
		}
		if failed != nil {
			return failed
		}
	}
	return nil
}

// call makes a request of AWS's JSON protocol and decodes the answer into to.
func (e ECR) call(ctx context.Context, s ecrService, action string, body, to any) error {
	found, err := e.credentials(ctx, s.region)
	if err != nil {
		return err
	}
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.endpoint+"/", bytes.NewReader(text))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-amz-json-1.1")
	request.Header.Set("X-Amz-Target", s.target+"."+action)
	sum := sha256.Sum256(text)
	if err := v4.NewSigner().SignHTTP(ctx, found, request, hex.EncodeToString(sum[:]), s.name, s.region, time.Now()); err != nil {
		return err
	}
	answer, err := Answer(e.Client, request)
	if err != nil {
		return err
	}
	if json.Unmarshal(answer, to) != nil {
		return fmt.Errorf("%s: the answer is malformed", request.URL.Host)
	}
	return nil
}

// credentials are the key or, without one, what the SDK's default chain finds.
func (e ECR) credentials(ctx context.Context, region string) (aws.Credentials, error) {
	if e.Key != (AccessKey{}) {
		return aws.Credentials{AccessKeyID: e.Key.ID, SecretAccessKey: e.Key.Secret}, nil
	}
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(region))
	if err != nil {
		return aws.Credentials{}, err
	}
	found, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("%w: %w", ErrNoIdentity, err)
	}
	return found, nil
}
