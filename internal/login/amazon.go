package login

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/docker/cli/cli/config/types"
)

// ecrUser is the username in every login that ECR issues.
const ecrUser = "AWS"

// amazon logs in to the registries of AWS. It signs its one request with the core of the SDK:
// the modules for ECR would require a later version of that core.
type amazon struct{ client *http.Client }

// private logs in to Amazon ECR: GetAuthorizationToken of
// docs.aws.amazon.com/AmazonECR/latest/APIReference, at the endpoints of
// docs.aws.amazon.com/general/latest/gr/ecr.html.
func (a amazon) private(ctx context.Context, host []string, key *accessKey) (types.AuthConfig, error) {
	fips, region, suffix := host[1], host[2], host[3]
	endpoint := "https://api.ecr." + region + ".amazonaws.com"
	if fips != "" {
		endpoint = "https://ecr-fips." + region + ".amazonaws.com"
	}
	if strings.HasSuffix(suffix, ".cn") {
		endpoint += ".cn"
	}
	var body struct {
		AuthorizationData []struct{ AuthorizationToken string }
	}
	err := a.call(ctx, endpoint, "ecr", region, "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken", key, &body)
	if err == nil && len(body.AuthorizationData) == 0 {
		err = errors.New("the answer has no token")
	}
	if err != nil {
		return types.AuthConfig{}, err
	}
	return ecrLogin(body.AuthorizationData[0].AuthorizationToken)
}

// public logs in to Amazon's public registry: GetAuthorizationToken of
// docs.aws.amazon.com/AmazonECRPublic/latest/APIReference. The service has one region.
func (a amazon) public(ctx context.Context, _ []string, key *accessKey) (types.AuthConfig, error) {
	var body struct {
		AuthorizationData struct{ AuthorizationToken string }
	}
	const region = "us-east-1"
	err := a.call(ctx, "https://api.ecr-public."+region+".amazonaws.com", "ecr-public", region, "SpencerFrontendService.GetAuthorizationToken", key, &body)
	if err != nil {
		return types.AuthConfig{}, err
	}
	return ecrLogin(body.AuthorizationData.AuthorizationToken)
}

// ecrLogin decodes a token, which is user:password in base64.
func ecrLogin(token string) (types.AuthConfig, error) {
	pair, err := base64.StdEncoding.DecodeString(token)
	user, password, ok := strings.Cut(string(pair), ":")
	if err != nil || !ok {
		return types.AuthConfig{}, errors.New("the answer's token is not user:password in base64")
	}
	return types.AuthConfig{Username: user, Password: password}, nil
}

// call makes a request of AWS's JSON protocol and decodes the answer into to. It signs with the
// key or, where that is nil, with what the SDK's default chain finds.
func (a amazon) call(ctx context.Context, endpoint, service, region, target string, key *accessKey, to any) error {
	found, err := a.credentials(ctx, region, key)
	if err != nil {
		return err
	}
	const body = "{}"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint+"/", strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-amz-json-1.1")
	request.Header.Set("X-Amz-Target", target)
	sum := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(ctx, found, request, hex.EncodeToString(sum[:]), service, region, time.Now()); err != nil {
		return err
	}
	text, err := answer(a.client, request)
	if err != nil {
		return err
	}
	if json.Unmarshal(text, to) != nil {
		return fmt.Errorf("%s: the answer is malformed", request.URL.Host)
	}
	return nil
}

// credentials are the key or, where that is nil, what the SDK's default chain finds.
func (a amazon) credentials(ctx context.Context, region string, key *accessKey) (aws.Credentials, error) {
	if key != nil {
		return aws.Credentials{AccessKeyID: key.id, SecretAccessKey: key.secret}, nil
	}
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(region))
	if err != nil {
		return aws.Credentials{}, err
	}
	found, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("%w: %w", errNoIdentity, err)
	}
	return found, nil
}
