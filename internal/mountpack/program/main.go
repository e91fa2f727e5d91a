// Command program is what runs in the builder, in a container that has a cache mount:
//
//	program mount-pack save|restore DIRECTORY
//
// A signal ends it at any moment, which leaves the mount as it was.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/warmlayer/warmlayer/internal/mountpack"
)

func main() {
	if len(os.Args) < 2 || os.Args[1] != mountpack.Command {
		fmt.Fprintln(os.Stderr, "the first argument must be", mountpack.Command)
		os.Exit(2)
	}
	if err := mountpack.Serve(context.Background(), os.Args[2:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
