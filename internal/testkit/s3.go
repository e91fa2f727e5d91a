package testkit

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// S3 is a bucket of Versity's S3 server, which stores it in a directory.
type S3 struct {
	Endpoint string // "http://127.0.0.1:7070"
	Bucket   string
	Key      string // of the server's root user
	Secret   string
	Client   *s3.Client
	Dir      string // the server's directory, with a directory for each bucket
}

// StartS3 starts a server that runs until the end of the test.
func StartS3(t testing.TB) S3 {
	t.Helper()
	program, err := exec.LookPath("versitygw")
	Need(t, "s3", err)
	address := freeAddress(t)
	s := S3{Endpoint: "http://" + address, Bucket: "cache", Key: "key-of-root", Secret: "canary-7c41f2-of-root"}
	s.Dir = Temp(t)
	cmd := exec.Command(program, "--port", address, "--access", s.Key, "--secret", s.Secret,
		"--quiet", "--keep-alive", "--health", "/health", "posix", s.Dir)
	start(t, cmd, func() bool { return answers(s.Endpoint + "/health") })
	s.Client = s3.New(s3.Options{
		BaseEndpoint: &s.Endpoint, UsePathStyle: true, Region: region,
		Credentials:                credentials.NewStaticCredentialsProvider(s.Key, s.Secret, ""),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
	})
	s.create(t)
	return s
}

func (s S3) create(t testing.TB) {
	t.Helper()
	if _, err := s.Client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &s.Bucket}); err != nil {
		t.Fatal(err)
	}
}

// New is a new bucket of the same server.
func (s S3) New(t testing.TB) S3 {
	t.Helper()
	s.Bucket = unique("cache")
	s.create(t)
	return s
}

// region is the region that the server accepts in signatures.
const region = "us-east-1"

// Line implements [ObjectServer].
func (s S3) Line(attrs string) string {
	return s.WithoutCredentials() + ",access_key_id=" + s.Key + ",secret_access_key=" + s.Secret + attrs
}

// WithoutCredentials implements [ObjectServer].
func (s S3) WithoutCredentials() string {
	return "type=s3,bucket=" + s.Bucket + ",region=" + region + ",endpoint_url=" + s.Endpoint + ",use_path_style=true"
}

// Denied implements [ObjectServer].
func (s S3) Denied() string {
	return s.WithoutCredentials() + ",access_key_id=" + s.Key + ",secret_access_key=canary-of-no-user"
}

// Elsewhere implements [ObjectServer].
func (s S3) Elsewhere() string {
	s.Bucket = "other"
	return s.Line("")
}

// At implements [ObjectServer]. It makes no second try.
func (s S3) At(address string) string {
	s.Endpoint = "http://" + address
	return s.Line(",retry_max_attempts=1")
}

// Address implements [ObjectServer].
func (s S3) Address() string { return strings.TrimPrefix(s.Endpoint, "http://") }

// Uploads are the multipart uploads that have begun and not ended.
func (s S3) Uploads(t testing.TB) []string {
	t.Helper()
	all, err := s.Client.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &s.Bucket})
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, u := range all.Uploads {
		keys = append(keys, *u.Key)
	}
	return keys
}

// Objects implements [ObjectServer].
func (s S3) Objects(t testing.TB, prefix string) []string {
	t.Helper()
	var all []string
	pages := s3.NewListObjectsV2Paginator(s.Client, &s3.ListObjectsV2Input{Bucket: &s.Bucket, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Contents {
			all = append(all, *o.Key+" "+strings.Trim(aws.ToString(o.ETag), `"`))
		}
	}
	slices.Sort(all)
	return all
}

// Write implements [ObjectServer].
func (s S3) Write(t testing.TB, key, content string) {
	t.Helper()
	if _, err := s.Client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &s.Bucket, Key: &key, Body: strings.NewReader(content)}); err != nil {
		t.Fatal(err)
	}
}

// Remove implements [ObjectServer].
func (s S3) Remove(t testing.TB, key string) {
	t.Helper()
	if _, err := s.Client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &s.Bucket, Key: &key}); err != nil {
		t.Fatal(err)
	}
}

// Copy is a new bucket with copies of all objects.
func (s S3) Copy(t testing.TB) S3 {
	t.Helper()
	all, copied := s.Objects(t, ""), s.New(t)
	for _, o := range all {
		key, _, _ := strings.Cut(o, " ")
		from := s.Bucket + "/" + key
		if _, err := s.Client.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: &copied.Bucket, Key: &key, CopySource: &from}); err != nil {
			t.Fatal(err)
		}
	}
	return copied
}
