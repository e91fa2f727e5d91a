package testkit

import (
	"encoding/xml"
	"errors"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// S3Error answers with an error of S3 (Amazon S3 API, "Error responses"). The answer to a HEAD has
// no body.
func S3Error(status int, code, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			_ = xml.NewEncoder(w).Encode(struct {
				XMLName       xml.Name `xml:"Error"`
				Code, Message string
			}{Code: code, Message: message})
		}
	}
}

// s3NotImplemented is S3's answer to what a server does not know.
var s3NotImplemented = S3Error(http.StatusNotImplemented, "NotImplemented", "A header you provided implies functionality that is not implemented.")

// WithoutChecksums is a server that knows none of the checksums that newer SDKs send by default:
// Google's, MinIO before 2025 behind a proxy, Dell ECS and others (aws/aws-sdk-go-v2#2960,
// versity/versitygw#1867, storj/gateway-st#89).
func WithoutChecksums(r *http.Request) http.HandlerFunc {
	for name := range r.Header {
		lower := strings.ToLower(name)
		if strings.HasPrefix(lower, "x-amz-checksum-") || lower == "x-amz-sdk-checksum-algorithm" || lower == "x-amz-trailer" {
			return s3NotImplemented
		}
	}
	if strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") || strings.Contains(r.Header.Get("Content-Encoding"), "aws-chunked") {
		return s3NotImplemented
	}
	return nil
}

// WithoutConditions is a server that knows no conditional writes, as Amazon's did not before
// August 2024 (Amazon S3 user guide, "Conditional writes").
func WithoutConditions(r *http.Request) http.HandlerFunc {
	if r.Method == http.MethodPut && (r.Header.Get("If-Match") != "" || r.Header.Get("If-None-Match") != "") {
		return s3NotImplemented
	}
	return nil
}

// WithoutMultipart is a server that takes each object in one request, as Google's did before 2021
// (Google Cloud Storage, "XML API multipart uploads").
func WithoutMultipart(r *http.Request) http.HandlerFunc {
	if r.URL.Query().Has("uploads") || r.URL.Query().Has("uploadId") {
		return s3NotImplemented
	}
	return nil
}

// RewritesEncoding is a proxy that changes Accept-Encoding on the way to the server, like Google's
// front end, so that a signature that covers the header is wrong (aws/aws-sdk-go-v2#1816).
func RewritesEncoding(r *http.Request) http.HandlerFunc {
	if was := r.Header.Get("Accept-Encoding"); was != "" {
		r.Header.Set("Accept-Encoding", was+",gzip(gfe)")
	}
	return nil
}

// HidesMissing answers requests for objects that are missing with 403, as S3 does where the
// credentials may not list the bucket (Amazon S3 API, HeadObject and GetObject, "Permissions").
func HidesMissing(address string) Quirk {
	through := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: address})
			r.Out.Host = r.In.Host
		},
		ModifyResponse: func(a *http.Response) error {
			if a.StatusCode == http.StatusNotFound {
				return errors.New("missing")
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, _ error) {
			S3Error(http.StatusForbidden, "AccessDenied", "Access Denied")(w, r)
		},
	}
	return func(r *http.Request) http.HandlerFunc {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			return through.ServeHTTP
		}
		return nil
	}
}

// maxClockSkew is how much the time of a request may differ from that of S3 (Amazon S3 API,
// "Error responses", RequestTimeTooSkewed).
const maxClockSkew = 15 * time.Minute

// ClockAhead is a server whose clock is ahead of this machine's. It signs requests of the right
// time anew, since the server behind has this machine's clock.
func ClockAhead(server S3, by time.Duration) Quirk {
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	through := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: server.Address()})
			r.Out.Header.Del("Authorization")
			r.Out.Header.Del("X-Amz-Date")
			who := aws.Credentials{AccessKeyID: server.Key, SecretAccessKey: server.Secret}
			_ = signer.SignHTTP(r.In.Context(), who, r.Out, r.Out.Header.Get("X-Amz-Content-Sha256"), "s3", region, time.Now())
		},
		ModifyResponse: func(a *http.Response) error {
			a.Header.Set("Date", time.Now().Add(by).UTC().Format(http.TimeFormat))
			return nil
		},
	}
	return func(r *http.Request) http.HandlerFunc {
		at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		now := time.Now().Add(by)
		if err == nil && now.Sub(at).Abs() < maxClockSkew {
			return through.ServeHTTP
		}
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
			S3Error(http.StatusForbidden, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")(w, r)
		}
	}
}
