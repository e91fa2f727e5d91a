package bench

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// workloads are Dockerfiles whose base image is BASE. Files named code and deps in the context stand
// for the source and the list of dependencies: their content changes.
var workloads = map[string]string{
	// An application of three stages: 270 MB of dependencies in many files, of which the image has 110 MB, and what
	// is made of the code, 20 MB.
	"app": `FROM BASE AS deps
COPY deps /deps.lock
RUN mkdir /deps && cp -a /usr /deps/a && cp -a /usr/lib /deps/b && cp /deps.lock /deps/b/
FROM deps AS build
COPY code /src/code
RUN mkdir /out && cat /usr/bin/git /src/code /usr/bin/p* /usr/bin/curl > /out/app
FROM BASE
COPY --from=deps /deps/b /deps
COPY --from=build /out /app
`,
	"many": many(60),
	// One layer of 1 GB.
	"fat": `FROM BASE
COPY deps /deps
RUN mkdir /fat && for i in 1 2 3 4 5; do cp -a /usr /fat/$i; done && cp /deps /fat/
COPY code /code
RUN cat /code > /built
`,
	"mono": mono(20),
}

// many is an image of n small layers, of which the last tenth is made from the code.
func many(n int) string {
	var b strings.Builder
	b.WriteString("FROM BASE\nCOPY deps /deps\n")
	for i := range n {
		if i == n*9/10 {
			b.WriteString("COPY code /code\n")
		}
		fmt.Fprintf(&b, "RUN mkdir -p /many/%d && cp /usr/bin/c* /many/%[1]d/\n", i)
	}
	return b.String()
}

// mono has n targets beside each other, each with its own program, and an image of them all.
func mono(n int) string {
	var b, last strings.Builder
	b.WriteString("FROM BASE AS base\nCOPY deps /deps\nRUN cp -a /usr/lib/git-core /tools\n")
	last.WriteString("FROM base\n")
	for i := range n {
		fmt.Fprintf(&b, "FROM base AS s%d\nCOPY code /code\nRUN mkdir /out && cat /usr/bin/git /code /usr/bin/[k-p]* > /out/s%[1]d && echo %[1]d >> /out/s%[1]d\n", i)
		fmt.Fprintf(&last, "COPY --from=s%d /out /app\n", i)
	}
	return b.String() + last.String()
}

// app is the directory of a workload.
type app struct {
	t   testing.TB
	dir string
}

func newApp(t testing.TB, workload, base string) app {
	t.Helper()
	a := app{t, filepath.Join(testkit.Temp(t), "app")}
	if err := os.MkdirAll(a.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	testkit.Write(t, filepath.Join(a.dir, "Dockerfile"), strings.ReplaceAll(workloads[workload], "BASE", base))
	a.change("deps")
	a.change("code")
	return a
}

func (a app) change(file string) { testkit.Write(a.t, filepath.Join(a.dir, file), rand.Text()) }
