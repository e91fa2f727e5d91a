package builder

import (
	"slices"
	"strings"
)

// Error says why there is no builder, or why it cannot build, and what to do about it.
type Error struct {
	What string // what is wrong: "buildkitd is not on PATH"
	Hint string // what to do next
	Err  error  // the cause; may be nil
	Log  string // the daemon's last lines; may be empty
}

// Error returns the whole text for the user, of several lines:
//
//	builder: buildkitd exited while it started: exit status 1
//	  | mount: /proc: permission denied.
//	hint: an embedded builder needs the rights to mount and to make namespaces ...
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

// Unwrap returns the cause: context.Canceled for a start that was cancelled.
func (e *Error) Unwrap() error { return e.Err }

// refusals are the errors of a client whose certificate the builder refuses. With TLS 1.3 the
// refusal arrives after the first request, or the connection breaks before.
var refusals = []string{"certificate required", "bad certificate", "unknown certificate authority", "broken pipe", "connection reset"}

// connectHint tells what to do about a connection, secured by TLS or not, that failed. gRPC
// passes on the text of the TLS library's errors only.
func connectHint(err error, secured bool) string {
	text := err.Error()
	has := func(part string) bool { return strings.Contains(text, part) }
	switch {
	case has("certificate signed by unknown authority"):
		return "set builder-cacert to the authority of the builder's certificate"
	case has("x509: certificate is"), has("x509: cannot validate"):
		return "give the builder a certificate for the host in its address"
	case secured && slices.ContainsFunc(refusals, has):
		return "set builder-cert and builder-key to a pair that the builder's authority has signed"
	case has("first record does not look like a TLS handshake"):
		return "the builder does not use TLS: start it with --tlscert, --tlskey and --tlscacert, or leave the certificates out"
	case has("error reading server preface"):
		return "check that it is a BuildKit, and whether it requires TLS (builder-cacert, builder-cert, builder-key)"
	}
	return "check that it runs and that this machine may connect to it, or set builder to embedded to start one"
}

const (
	hintAddress = "or set builder to the address of a BuildKit that runs"

	hintPrivileged = "an embedded builder needs the rights to mount and to make namespaces (CAP_SYS_ADMIN): " +
		"run the container with --privileged, " + hintAddress

	hintUserNamespaces = "allow this user to make user namespaces " +
		"(sysctl user.max_user_namespaces=28633; on Ubuntu also kernel.apparmor_restrict_unprivileged_userns=0; " +
		"in a container --security-opt seccomp=unconfined --security-opt apparmor=unconfined), " + hintAddress

	hintSubordinateIDs = "give this user subordinate ids, as root: " +
		"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER, " + hintAddress

	// In shadow 4.13 the setuid program newuidmap opens the map as a user who needs
	// CAP_SYS_ADMIN for that.
	hintMapping = "in a container newuidmap and newgidmap need file capabilities instead of the setuid bit " +
		"(chmod u-s; setcap cap_setuid+ep newuidmap; setcap cap_setgid+ep newgidmap), as in warmlayer's image, " + hintAddress

	hintEngine = "mount the engine's socket into this container (-v /var/run/docker.sock:/var/run/docker.sock) or set DOCKER_HOST; " +
		"without an engine use builder=embedded in a container with --privileged, builder=rootless, or the address of a BuildKit that runs"

	hintNotInEngine = "use an engine with BuildKit, as Docker 20.10 and later have, or set builder to container or to embedded"

	hintInContainer = "check that BuildKit runs in the container, and that its image has buildctl, as moby/buildkit has: docker logs " // and its name

	hintImage = "set driver-opts to image= and the name of warmlayer's image"

	hintContainer = "allow privileged containers, or containers with SYS_ADMIN, NET_ADMIN and no seccomp profile, " + hintAddress

	hintNoName = "give this user id a name in /etc/passwd, and that name subordinate ids in /etc/subuid and /etc/subgid, " + hintAddress
)

// programs tells how to get the programs that a managed builder needs.
var programs = map[string]string{
	"buildkitd":   "buildkitd comes with BuildKit (github.com/moby/buildkit, releases)",
	"runc":        "runc is a package of that name (apt-get install runc, apk add runc)",
	"rootlesskit": "rootlesskit comes with RootlessKit (github.com/rootless-containers/rootlesskit, releases)",
	"newuidmap":   "newuidmap is in a package (apt-get install uidmap, apk add shadow-uidmap)",
	"newgidmap":   "newgidmap is in a package (apt-get install uidmap, apk add shadow-uidmap)",
	"sh":          "sh is in a package (apt-get install dash, apk add busybox)",
	"mount":       "mount is in a package (apt-get install mount, apk add busybox)",
}

// notFound reports all programs that are missing.
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

// causes maps texts in the log of a daemon that exited (RootlessKit v3, BuildKit v0.34, runc,
// mount of util-linux and of busybox) to hints. The first one that fits is used.
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

// hintFor derives from a daemon's log what to do.
func hintFor(log string) string {
	for _, c := range causes {
		if strings.Contains(log, c.text) {
			return c.hint
		}
	}
	return "see the last lines of buildkitd's log above, " + hintAddress
}
