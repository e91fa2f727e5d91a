package testkit

import (
	_ "embed"
	"encoding/base64"
	"errors"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
)

// Azblob is a container in Azurite, Microsoft's emulator of Azure Blob Storage.
type Azblob struct {
	Service   string // the account's address: "http://127.0.0.1:10000/account"
	Account   string
	Secret    string // the key of the account, in Base64
	Container string
	Client    *azblob.Client
}

// StartAzblob starts a server that runs until the end of the test.
func StartAzblob(t testing.TB) Azblob {
	t.Helper()
	return startAzblob(t, "http://", nil, nil)
}

// clock has each Date of a program of Node's as many milliseconds in the future as a file says.
//
//go:embed clock.cjs
var clock []byte

// StartAzblobWithClock is [StartAzblob] with a clock that can be set: blobs that are written while it is two days slow are two days old
// when it is right again. It is right at first.
func StartAzblobWithClock(t testing.TB) (a Azblob, set func(fast time.Duration)) {
	t.Helper()
	dir := Temp(t)
	file, program := filepath.Join(dir, "fast"), filepath.Join(dir, "clock.cjs")
	set = func(fast time.Duration) { Write(t, file, strconv.FormatInt(fast.Milliseconds(), 10)) }
	set(0)
	Write(t, program, string(clock))
	return startAzblob(t, "http://", nil, []string{"NODE_OPTIONS=--require=" + program, "CLOCK=" + file}), set
}

// startAzblob starts a server with more variables and flags. A nil client is the default one of the SDK.
func startAzblob(t testing.TB, scheme string, client *http.Client, env []string, flags ...string) Azblob {
	t.Helper()
	program, err := exec.LookPath("azurite-blob")
	Need(t, "azblob", err)
	address := freeAddress(t)
	host, port, _ := strings.Cut(address, ":")
	a := Azblob{
		Service: scheme + address + "/account", Account: "account", Container: "cache",
		Secret: base64.StdEncoding.EncodeToString([]byte("canary-58d02e-of-the-account")),
	}
	cmd := exec.Command(program, append([]string{"--blobHost", host, "--blobPort", port,
		"--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"}, flags...)...)
	cmd.Env = append(cmd.Environ(), "AZURITE_ACCOUNTS="+a.Account+":"+a.Secret)
	cmd.Env = append(cmd.Env, env...)
	start(t, cmd, func() bool { return listens(address) })
	credential, err := azblob.NewSharedKeyCredential(a.Account, a.Secret)
	if err != nil {
		t.Fatal(err)
	}
	options := &azblob.ClientOptions{}
	if client != nil {
		options.Transport = client
	}
	if a.Client, err = azblob.NewClientWithSharedKeyCredential(a.Service, credential, options); err != nil {
		t.Fatal(err)
	}
	a.create(t)
	return a
}

func (a Azblob) create(t testing.TB) {
	t.Helper()
	if _, err := a.Client.CreateContainer(t.Context(), a.Container, nil); err != nil {
		t.Fatal(err)
	}
}

// New is a new container of the same server, whose start takes a second.
func (a Azblob) New(t testing.TB) Azblob {
	t.Helper()
	a.Container = unique("cache")
	a.create(t)
	return a
}

// Line implements [ObjectServer].
func (a Azblob) Line(attrs string) string {
	return a.WithoutCredentials() + ",secret_access_key=" + a.Secret + attrs
}

// WithoutCredentials implements [ObjectServer].
func (a Azblob) WithoutCredentials() string {
	return "type=azblob,account_url=" + a.Service + ",account_name=" + a.Account + ",container=" + a.Container
}

// Denied implements [ObjectServer].
func (a Azblob) Denied() string {
	a.Secret = base64.StdEncoding.EncodeToString([]byte("canary-of-no-user"))
	return a.Line("")
}

// Elsewhere implements [ObjectServer].
func (a Azblob) Elsewhere() string {
	a.Container = "other"
	return a.Line("")
}

// At implements [ObjectServer].
func (a Azblob) At(address string) string {
	a.Service = "http://" + address + "/" + a.Account
	return a.Line("")
}

// Address implements [ObjectServer].
func (a Azblob) Address() string {
	return strings.TrimSuffix(strings.TrimPrefix(a.Service, "http://"), "/"+a.Account)
}

// Objects implements [ObjectServer].
func (a Azblob) Objects(t testing.TB, prefix string) []string {
	t.Helper()
	var all []string
	pages := a.Client.NewListBlobsFlatPager(a.Container, &container.ListBlobsFlatOptions{Prefix: to.Ptr(prefix)})
	for pages.More() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range page.Segment.BlobItems {
			all = append(all, *b.Name+" "+string(*b.Properties.ETag))
		}
	}
	slices.Sort(all)
	return all
}

// Write implements [ObjectServer].
func (a Azblob) Write(t testing.TB, key, content string) {
	t.Helper()
	if _, err := a.Client.UploadBuffer(t.Context(), a.Container, key, []byte(content), nil); err != nil {
		t.Fatal(err)
	}
}

// Remove implements [ObjectServer].
func (a Azblob) Remove(t testing.TB, key string) {
	t.Helper()
	if _, err := a.Client.DeleteBlob(t.Context(), a.Container, key, nil); err != nil {
		t.Fatal(err)
	}
}

// Copy is a new container with copies of all blobs.
func (a Azblob) Copy(t testing.TB) Azblob {
	t.Helper()
	all, copied := a.Objects(t, ""), a.New(t)
	for _, o := range all {
		key, _, _ := strings.Cut(o, " ")
		from, err := a.Client.DownloadStream(t.Context(), a.Container, key, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.Client.UploadStream(t.Context(), copied.Container, key, from.Body, &azblob.UploadStreamOptions{Metadata: from.Metadata})
		if err = errors.Join(err, from.Body.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return copied
}
