// Command ghaserver is version 2 of the GitHub Actions cache for experiments in a shell: the server
// of the tests, with its contents in an Azurite that it starts.
//
//	go run ./internal/testkit/ghaserver refs/heads/feature refs/heads/main > env &
//	. ./env && warmlayer --cache gha --branch feature
//
// Its arguments are the Git refs of the token, which may write the first and read all of them. It
// prints the environment of a job, and runs until it is interrupted.
package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		log.Fatal("ghaserver: ", err)
	}
}

const account = "account"

func run(ctx context.Context, refs []string) error {
	if len(refs) == 0 {
		refs = []string{"refs/heads/main"}
	}
	secret := base64.StdEncoding.EncodeToString([]byte("of no worth"))
	const storage = "127.0.0.1:10000"
	azurite := exec.CommandContext(ctx, "azurite-blob", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent")
	azurite.Env = append(azurite.Environ(), "AZURITE_ACCOUNTS="+account+":"+secret)
	if err := azurite.Start(); err != nil {
		return err
	}
	defer azurite.Wait() //nolint:errcheck // it is killed
	credential, err := container.NewSharedKeyCredential(account, secret)
	if err != nil {
		return err
	}
	blobs, err := container.NewClientWithSharedKeyCredential("http://"+storage+"/"+account+"/cache", credential, nil)
	if err != nil {
		return err
	}
	if err := created(ctx, blobs, storage); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	g := testkit.GHA{ActionsCache: testkit.NewActionsCache(blobs), URL: "http://" + listener.Addr().String()}
	env := g.Env(g.Token(refs[0], refs[1:]...))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		fmt.Printf("export %s='%s'\n", name, env[name])
	}
	server := &http.Server{Handler: g, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	_ = server.Serve(listener) // it ends when it is closed
	return nil
}

// created creates the container when Azurite accepts connections.
func created(ctx context.Context, blobs *container.Client, address string) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			conn.Close()
			_, err = blobs.Create(ctx, nil)
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
