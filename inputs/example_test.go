package inputs_test

import (
	"fmt"

	"github.com/warmlayer/warmlayer/inputs"
)

func ExampleParse() {
	values, problems := inputs.Parse(
		[]string{"--tags", "ghcr.io/o/app:1", "--push", "app"},
		[]string{"WARMLAYER_CACHE=type=registry,ref=ghcr.io/o/app", "INPUT_CACHE-MODE=maxi"},
		"testdata")
	fmt.Println(values.Dockerfile.Name, values.Pushed(), values.Caches[0].Type)
	fmt.Println(problems)
	// Output:
	// app/Dockerfile [ghcr.io/o/app:1] registry
	// cache-mode: "maxi" is none of max, min
	// hint: did you mean "max"?
}
