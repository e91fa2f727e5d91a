package testkit

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// identitySecret is what a program sends to get the token of its machine's identity.
const identitySecret = "canary-91c3ab-of-the-machine"

// StartAzblobWithIdentity starts a server that accepts tokens of identities, and returns the
// environment in which the Azure SDK finds such an identity: that of Azure's App Service
// (Microsoft, "How to use managed identities for App Service", REST endpoint).
func StartAzblobWithIdentity(t testing.TB) (Azblob, map[string]string) {
	t.Helper()
	identity := httptest.NewTLSServer(http.HandlerFunc(handOutToken))
	t.Cleanup(identity.Close)
	dir, pair := t.TempDir(), identity.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	Write(t, certFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})))
	Write(t, keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	a := startAzblob(t, "https://", identity.Client(), nil, "--cert", certFile, "--key", keyFile, "--oauth", "basic")
	return a, map[string]string{
		"IDENTITY_ENDPOINT": identity.URL, "IDENTITY_HEADER": identitySecret, "SSL_CERT_FILE": certFile,
	}
}

// handOutToken answers with a token that Azurite accepts: it checks the claims, and ignores the
// signature (v3.35.0, src/blob/authentication/BlobTokenAuthenticator.ts).
func handOutToken(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-IDENTITY-HEADER") != identitySecret {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	now := time.Now()
	part := func(v map[string]any) string {
		content, _ := json.Marshal(v) // strings and numbers
		return base64.RawURLEncoding.EncodeToString(content)
	}
	token := part(map[string]any{"alg": "HS256", "typ": "JWT"}) + "." + part(map[string]any{
		"aud": r.URL.Query().Get("resource"), "iss": "https://sts.windows.net/ab1f708d-50f6-404c-a006-d71b2ac7a606/",
		"iat": now.Unix(), "nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(time.Hour).Unix(),
	}) + ".c2lnbmF0dXJl"
	_ = json.NewEncoder(w).Encode(map[string]string{
		"access_token": token, "token_type": "Bearer", "resource": r.URL.Query().Get("resource"),
		"expires_on": strconv.FormatInt(now.Add(time.Hour).Unix(), 10),
	})
}
