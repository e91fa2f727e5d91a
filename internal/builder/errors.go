package builder

import (
	"slices"
	"strings"
)

// Error says why there is no builder, and what to do about it.
type Error struct {
	What string // what is wrong: "buildkitd is not on PATH"
	Hint string // what to do next
	Err  error  // the cause; may be nil
	Log  string // the daemon's last lines; may be empty
}

// Error returns the whole text for the user, of several lines:
//
//	builder: buildkitd died at its start: exit status 1
//	  | mount: /proc: permission denied.
//	hint: run the container with --privileged, ...
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("builder: " + e.What)
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	for line := range strings.Lines(e.Log) {
		b.WriteString("\n  | " + strings.TrimRight(line, "\n"))
	}
	if e.Hint != "" {
		b.WriteString("\nhint: " + e.Hint)
	}
	return b.String()
}

// Unwrap returns the cause: context.Canceled for a start that was given up.
func (e *Error) Unwrap() error { return e.Err }

// refusals are what is left of a daemon's word that it does not know our certificate: with
// TLS 1.3 it comes after the first request, if that finds the connection still there.
var refusals = []string{"certificate required", "bad certificate", "unknown certificate authority", "broken pipe", "connection reset"}

// connectHint tells what to do about a connection, over TLS or not, that did not come
// about. gRPC hands on the TLS library's words, not its errors.
func connectHint(err error, secured bool) string {
	text := err.Error()
	has := func(part string) bool { return strings.Contains(text, part) }
	switch {
	case has("certificate signed by unknown authority"):
		return "set builder-cacert to the authority of the builder's certificate"
	case has("x509: certificate is"), has("x509: cannot validate"):
		return "give the builder a certificate for the name that its address has"
	case secured && slices.ContainsFunc(refusals, has):
		return "set builder-cert and builder-key to a pair that the builder's authority has signed"
	case has("first record does not look like a TLS handshake"):
		return "the builder speaks no TLS: start it with --tlscert, --tlskey and --tlscacert, or leave the certificates out"
	case has("error reading server preface"):
		return "check that it is a BuildKit, and whether it wants TLS (builder-cacert, builder-cert, builder-key)"
	}
	return "check that it runs and that you may connect, or use embedded to have one started"
}

const (
	hintAddress = "or set builder to the address of a BuildKit that runs"

	hintPrivileged = "an embedded daemon needs the rights to mount and to make namespaces (CAP_SYS_ADMIN): " +
		"run the container with --privileged, " + hintAddress

	hintUserNamespaces = "this user may not make user namespaces: allow them " +
		"(sysctl user.max_user_namespaces=28633; on Ubuntu also kernel.apparmor_restrict_unprivileged_userns=0; " +
		"in a container --security-opt seccomp=unconfined --security-opt apparmor=unconfined), " + hintAddress

	hintSubordinateIDs = "give this user subordinate ids, as root: " +
		"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER, " + hintAddress

	// Seen with shadow 4.13: as a setuid program newuidmap opens the map as somebody who
	// needs CAP_SYS_ADMIN for it.
	hintMapping = "in a container newuidmap and newgidmap need file capabilities instead of the setuid bit " +
		"(chmod u-s; setcap cap_setuid+ep newuidmap; setcap cap_setgid+ep newgidmap), as in warmlayer's image, " + hintAddress

	hintEngine = "hand the engine's socket to this container (-v /var/run/docker.sock:/var/run/docker.sock) or set DOCKER_HOST; " +
		"without an engine use builder=embedded in a container with --privileged, builder=rootless, or the address of a BuildKit that runs"

	hintInContainer = "check that BuildKit runs there, and that buildctl is beside it, as in moby/buildkit: docker logs " // and its name

	hintImage = "name the builder's image in driver-opts: image=, this program's own"

	hintContainer = "let the engine run privileged containers, or ones with SYS_ADMIN, NET_ADMIN and no seccomp profile, " + hintAddress

	hintNoName = "give this user id a name in /etc/passwd, and it subordinate ids in /etc/subuid and /etc/subgid, " + hintAddress
)

// programs tells how to get what a daemon of our own needs.
var programs = map[string]string{
	"buildkitd":   "buildkitd comes with BuildKit (github.com/moby/buildkit, releases)",
	"runc":        "runc is a package of that name (apt-get install runc, apk add runc)",
	"rootlesskit": "rootlesskit comes with RootlessKit (github.com/rootless-containers/rootlesskit, releases)",
	"newuidmap":   "newuidmap is in a package (apt-get install uidmap, apk add shadow-uidmap)",
	"newgidmap":   "newgidmap is in a package (apt-get install uidmap, apk add shadow-uidmap)",
	"sh":          "sh is in a package (apt-get install dash, apk add busybox)",
	"mount":       "mount is in a package (apt-get install mount, apk add busybox)",
}

// notFound reports programs that are missing, all at once.
func notFound(missing []string) *Error {
	var hints []string
	for _, name := range missing {
		hints = append(hints, programs[name])
	}
	verb := " is"
	if len(missing) > 1 {
		verb = " are"
	}
	return &Error{
		What: strings.Join(missing, ", ") + verb + " not on PATH",
		Hint: strings.Join(hints, "; ") + "; " + hintAddress,
	}
}

// causes maps what a daemon that died said (RootlessKit v3, BuildKit v0.33, runc,
// mount of util-linux and of busybox) to a hint; the first that fits holds.
var causes = []struct{ text, hint string }{
	{"unknown userid", hintNoName},
	{"subuid", hintSubordinateIDs},
	{"subgid", hintSubordinateIDs},
	{"write to uid_map failed: Operation not permitted", hintMapping},
	{"write to gid_map failed: Operation not permitted", hintMapping},
	{"newuidmap", hintSubordinateIDs},
	{"newgidmap", hintSubordinateIDs},
	{"/proc/self/exe", hintUserNamespaces},
	{"no space left on device", "make room in the temporary directory, or set TMPDIR to another one"},
	{"operation not permitted", hintPrivileged},
	{"permission denied", hintPrivileged},
}

// hintFor guesses from a daemon's last words what to do.
func hintFor(log string) string {
	for _, c := range causes {
		if strings.Contains(log, c.text) {
			return c.hint
		}
	}
	return "read the daemon's last lines above, " + hintAddress
}
