// Command ghacache serves version 1 of the GitHub Actions cache, with the server that act and
// the runners of Gitea and Forgejo contain.
//
//	ghacache 127.0.0.1:8080 /tmp/cache
//
// It prints the URL that a runner sets as ACTIONS_CACHE_URL, and runs until it is killed. It
// requires no token, and does not separate branches.
package main

import (
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/nektos/act/pkg/artifactcache"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ghacache:", err)
		os.Exit(1)
	}
	select {}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: ghacache ADDRESS DIRECTORY")
	}
	host, port, err := net.SplitHostPort(args[0])
	if err != nil {
		return err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return err
	}
	server, err := artifactcache.StartHandler(args[1], "", host, uint16(number), nil)
	if err != nil {
		return err
	}
	fmt.Println(server.ExternalURL() + "/")
	return nil
}
