// Command hello serves a greeting on port 8080, or prints it.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"runtime"
)

func greeting() string { return "hello from " + runtime.Version() }

func main() {
	if len(os.Args) > 1 && os.Args[1] == "print" {
		fmt.Println(greeting())
		return
	}
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, greeting())
	})
	log.Fatal(http.ListenAndServe(":8080", nil))
}
