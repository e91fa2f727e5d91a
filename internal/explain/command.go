package explain

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// command explains why a RUN failed: by the end of what it wrote, or by its exit code.
func command(f failure) Explanation {
	code, ok := f.exitCode()
	if !ok {
		return notStarted(f)
	}
	for _, sign := range signs {
		found := sign.pattern.FindStringSubmatch(f.Log)
		if found == nil || sign.code != 0 && sign.code != code {
			continue
		}
		e := Explanation{What: sign.what, Next: sign.next}
		if strings.Contains(e.What, "%s") {
			e.What = fmt.Sprintf(e.What, syntax.Short(found[1], longestInstruction))
		}
		if sign.network && (f.Network == "none" || f.at != nil && f.at.flag("network") == "none") {
			e = Explanation{What: "the step has no network", Next: "remove --network=none, or the input network: none, if the step may use the network; or COPY what it needs"}
		}
		return f.at.explained(fmt.Sprintf("%s (exit code %d)", e.What, code), e.Next)
	}
	if strings.Contains(f.text, "cannot allocate memory") {
		return f.at.explained(fmt.Sprintf("the memory ran out (exit code %d)", code), moreMemory)
	}
	if e, ok := codes[code]; ok {
		return f.at.explained(fmt.Sprintf("%s (exit code %d)", e[0], code), e[1])
	}
	return f.at.explained(fmt.Sprintf("exit code %d", code), "")
}

const moreMemory = "give the builder more memory, or let the step use less of it, such as with fewer parallel jobs"

// signs are words in a step's output that tell why it failed. With a code they count only for
// commands with that exit code.
var signs = []struct {
	pattern *regexp.Regexp
	code    uint32
	what    string // with the first group of the pattern for %s
	next    string
	network bool // the step may have no network at all
}{
	{pattern: regexp.MustCompile(`(?i)no space left on device|disk quota exceeded`),
		what: "the disk is full",
		next: "free space where the builder keeps its data, or use a larger runner; a tmpfs has the size that the mount gives it"},
	{pattern: regexp.MustCompile(`(?i)exec format error`),
		what: "the program is made for another platform, or is no program",
		next: "build it for the step's platform; begin a script with #!/bin/sh; to run other platforms' programs use the image with emulators"},
	{pattern: regexp.MustCompile(`unable to start container process: exec: "([^"]+)": (?:stat|executable file)`),
		what: "the image has no program %s",
		next: `install it in an earlier step, or run another program; RUN ["program", "argument"] needs no shell`},
	{pattern: regexp.MustCompile(`unable to start container process: exec: "([^"]+)": permission denied`),
		what: "%s may not be executed",
		next: "make it executable: COPY --chmod=755, or chmod +x in an earlier step"},
	{pattern: regexp.MustCompile(`(?i)network is unreachable|temporary failure in name resolution|could not resolve host|temporary failure resolving|bad address '|no such host|server misbehaving|EAI_AGAIN`),
		what: "the step did not reach a host on the network", network: true,
		next: "check the host's name, and the DNS of the builder (buildkitd-config, [dns]); behind a proxy set HTTP_PROXY and HTTPS_PROXY in build-args"},
	{pattern: regexp.MustCompile(`(?i)certificate signed by unknown authority|unable to get local issuer certificate|self.signed certificate`),
		what: "the step does not trust a server's certificate",
		next: "install the authority's certificate in the image before this step, or ca-certificates where the image has none"},
	{pattern: regexp.MustCompile(`(?m)^(?:.*: )?([^\s:]+): (?:command )?not found$`), code: 127,
		what: "the image has no program %s",
		next: "install it in an earlier step, or check its name and PATH"},
	{pattern: regexp.MustCompile(`(?m)^(?:.*: )?([^\s:]+): Permission denied$`), code: 126,
		what: "%s may not be executed",
		next: "make it executable: COPY --chmod=755, or chmod +x in an earlier step"},
}

// codes are exit codes that say something by themselves: what, and what to do next. Those above
// 128 are signals (POSIX shells, 2.8.2).
var codes = map[uint32][2]string{
	126: {"the command is no program that may be executed", "make the file executable, and check that it is made for the step's platform"},
	127: {"a command was not found", "install it in an earlier step, or check its name and PATH"},
	134: {"the command aborted", ""},
	137: {"the command was killed; most often the memory ran out", moreMemory},
	139: {"the command crashed with a memory fault", "where the step is emulated, build its platform on a machine of that platform; otherwise look for a fault in the program"},
	143: {"the command was ended with SIGTERM", "look for what ended it, such as a timeout of the job"},
}

// notStarted explains a RUN whose command could not begin.
func notStarted(f failure) Explanation {
	if found := f.find(noUser); found != nil {
		return f.at.explained("the image has no "+found[1]+" "+syntax.Quoted(found[2]), "add it in an earlier step, or use its number in USER")
	}
	if found := f.find(notDirectory); found != nil {
		return f.at.explained(found[1]+" is a file, and not a directory", "choose another path, or remove the file in an earlier step")
	}
	return Explanation{}
}

var (
	noUser       = regexp.MustCompile(`unable to find (user|group) ([^\s:]+):`)
	notDirectory = regexp.MustCompile(`mkdir (\S+): not a directory`)
)
