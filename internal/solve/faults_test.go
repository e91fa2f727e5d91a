package solve

import "github.com/warmlayer/warmlayer/inputs"

const someDigest = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"

// pushing makes a build push an image.
func pushing(image string) func(*Request) { return func(r *Request) { r.pushes(image) } }

// fetching makes a Git URL a build's context.
func fetching(url string) func(*Request) {
	return func(r *Request) {
		r.Inputs.Context = inputs.Context{Kind: inputs.Git, Source: url}
		r.Inputs.Dockerfile = inputs.Dockerfile{InContext: "Dockerfile", Name: "Dockerfile"}
	}
}

var faults = []fault{
	// Files.
	{name: "COPY of a missing file", dockerfile: "COPY nofile /\n", line: 4,
		what: "COPY nofile: not in the context (e/)", next: "starts from e/", words: `"/nofile": not found`},
	{name: "COPY of an excluded file", dockerfile: "COPY ./made.txt /\n", line: 4,
		what: "COPY ./made.txt: not in the context (e/); excluded by e/.dockerignore line 3", next: "!made.txt", words: `"/made.txt": not found`},
	{name: "COPY of a misspelled file", dockerfile: "COPY sit garbage /x/\n", line: 4,
		what: "COPY sit: not in the context (e/)", next: "did you mean site?", words: `not found`},
	{name: "COPY of a file that is elsewhere", dockerfile: "COPY index.txt /\n", line: 4,
		what: "COPY index.txt: not in the context (e/); excluded by e/.dockerignore line 3", next: "remove the pattern", words: "not found"},
	{name: "COPY from outside", dockerfile: "COPY ../garbag /\n", line: 4,
		what: "COPY ../garbag: paths cannot leave the context (e/)", next: "build-contexts", words: "not found"},
	{name: "COPY of what a stage lacks", dockerfile: "COPY --from=base /nothing /\n", line: 4,
		what: "COPY --from=base /nothing: not in base", next: "an earlier step of base", words: "no such file or directory"},
	{name: "COPY from a named context", dockerfile: "COPY --from=programs conect /\n", line: 4,
		what: "COPY --from=programs conect: not in the build context programs (programs/)", next: "did you mean connect?", words: "not found"},
	{name: "mount of a missing file", dockerfile: "RUN --mount=type=bind,source=nofile,target=/x true\n", line: 4,
		what: "RUN --mount=type=bind,source=nofile,target=/x true: not in the context (e/)", next: "starts from e/", words: "not found"},

	// Commands.
	{name: "exit code", dockerfile: "RUN exit 3\n", line: 4, what: "RUN exit 3: exit code 3", words: "exit code: 3"},
	{name: "killed", dockerfile: "RUN sh -c 'kill -9 $$'; exit $?\n", line: 4,
		what: "RUN sh -c 'kill -9 $$'; exit $?: the command was killed; most often the memory ran out (exit code 137)", next: "more memory", words: "exit code: 137"},
	{name: "full disk", dockerfile: "RUN --mount=type=tmpfs,target=/t,size=64k \\\n  dd if=/dev/zero of=/t/x bs=1k count=100\n", line: 4,
		what: "RUN --mount=type=tmpfs,target=/t,size=64k dd if=/dev/zero of=/t/x bs=1k count=1…: the disk is full (exit code 1)", next: "free space", words: "exit code: 1"},
	{name: "another platform's program", dockerfile: "COPY garbage /bad\nRUN [\"/bad\"]\n", line: 5,
		what: `RUN ["/bad"]: the program is made for another platform, or is no program (exit code 1)`, next: "emulators", words: "exit code: 1"},
	{name: "missing program", dockerfile: "RUN make all\n", line: 4,
		what: "RUN make all: the image has no program make (exit code 127)", next: "install it", words: "exit code: 127"},
	{name: "program that may not be executed", dockerfile: "RUN echo > /s && /s\n", line: 4,
		what: "RUN echo > /s && /s: /s may not be executed (exit code 126)", next: "chmod", words: "exit code: 126"},
	{name: "image without a shell", dockerfile: "FROM scratch\nCOPY garbage /\nRUN true\n", line: 3,
		what: "RUN true: the image has no program /bin/sh (exit code 1)", next: "needs no shell", words: "exit code: 1"},
	{name: "no network", dockerfile: "COPY --from=programs connect /\nRUN --network=none /connect 192.0.2.7:80\n", line: 5,
		what: "RUN --network=none /connect 192.0.2.7:80: the step has no network (exit code 1)", next: "--network=none", words: "exit code: 1"},
	{name: "no such host in a step", dockerfile: "COPY --from=programs connect /\nRUN /connect files.invalid:80\n", line: 5,
		what: "RUN /connect files.invalid:80: the step did not reach a host on the network (exit code 1)", next: "[dns]", words: "exit code: 1"},
	{name: "unknown user", dockerfile: "USER nobodyhere\nRUN true\n", line: 5,
		what: `RUN true: the image has no user "nobodyhere"`, next: "add it", words: "no matching entries in passwd file"},
	{name: "WORKDIR that is a file", dockerfile: "RUN echo > /f\nWORKDIR /f\nRUN true\n", line: 5,
		what: "WORKDIR /f: /f is a file, and not a directory", next: "another path", words: "not a directory"},

	// What the build was not given.
	{name: "missing secret", dockerfile: "RUN --mount=type=secret,id=token,required true\n", line: 4,
		what: "RUN --mount=type=secret,id=token,required true: the secret token is not set", next: "secrets (token=value)", words: "secret token: not found"},
	{name: "missing SSH agent", dockerfile: "RUN --mount=type=ssh,required true\n", line: 4,
		what: "RUN --mount=type=ssh,required true: the build was given no SSH agent or key with the id default", next: "input ssh", words: "no SSH key"},
	{name: "entitlement", dockerfile: "RUN --security=insecure true\n", line: 4,
		what: "RUN --security=insecure true: the entitlement security.insecure is not granted", next: "allow to security.insecure", words: "not allowed"},

	// The Dockerfile.
	{name: "unknown instruction", dockerfile: "RUNN x\n", line: 4,
		what: "RUNN x: unknown instruction: RUNN (did you mean RUN?)", words: "parse error on line 4"},
	{name: "unknown flag", dockerfile: "RUN --mnt=x y\n", line: 4,
		what: "RUN --mnt=x y: unknown flag: --mnt (did you mean mount?)", words: "unknown flag"},
	{name: "no FROM", dockerfile: "ARG A\nRUN x\n", line: 2, what: "RUN x: no FROM precedes it", next: "begin the Dockerfile with FROM", words: "no build stage"},
	{name: "empty build argument", dockerfile: "ARG BASE\nFROM $BASE\n", line: 2,
		what: "FROM $BASE: the name of the base image is empty; it has the build argument BASE", next: "set BASE in build-args", words: "should not be blank"},
	{name: "empty tag", dockerfile: "ARG TAG\nFROM REGISTRY/x:${TAG}\n", line: 2,
		what: `FROM REGISTRY/x:${TAG}: "REGISTRY/x:" is not the name of an image (invalid reference format); it has the build argument TAG`, next: "set TAG", words: "invalid reference format"},
	{name: "upper case", dockerfile: "FROM Upper/Case:1\n", line: 1,
		what: `FROM Upper/Case:1: "Upper/Case:1" is not the name of an image (invalid reference format: repository name (Case) must be lowercase)`, next: "write it like", words: "must be lowercase"},
	{name: "unknown target", dockerfile: "", change: func(r *Request) { r.Inputs.Target = "bas" },
		what: `target: no stage is called "bas"`, next: `did you mean "base"?`, words: "could not be found"},

	// Images.
	{name: "missing base image", dockerfile: "FROM REGISTRY/x:1\n", line: 1,
		what: "FROM REGISTRY/x:1: REGISTRY does not have it", next: "check the name and the tag", words: "not found"},
	{name: "missing image of Docker Hub", dockerfile: "FROM nope:1\n", line: 1,
		what: "FROM nope:1: Docker Hub does not accept the login (401), or there is no such repository", next: "no login for Docker Hub was found", words: "pull access denied"},
	{name: "unknown stage", dockerfile: "FROM scratch AS build\nCOPY garbage /\nFROM biuld\n", line: 3,
		what: `FROM biuld: no stage is called "biuld", and as an image: Docker Hub does not accept the login (401), or there is no such repository`, next: `did you mean the stage "build"?`, words: "pull access denied"},
	{name: "unknown stage in COPY", dockerfile: "COPY --from=bas /x /\n", line: 4,
		what: `COPY --from=bas /x /: no stage is called "bas", and as an image: Docker Hub does not accept the login (401), or there is no such repository`, next: `did you mean the stage "base"?`, words: "pull access denied"},
	{name: "base image refused", dockerfile: "FROM PLAIN/s403/private\n", line: 1,
		what: "FROM PLAIN/s403/private: PLAIN refuses access (403)", next: "the user was bob, from the input registry-auth, line 2", words: "403 Forbidden"},
	{name: "rate limit", dockerfile: "FROM s429/x\n", line: 1,
		what: "FROM s429/x: Docker Hub limits the number of requests (429)", next: "log in to Docker Hub", words: "429 Too Many Requests"},
	{name: "registry with a fault", dockerfile: "FROM PLAIN/s500/x\n", line: 1,
		what: "FROM PLAIN/s500/x: PLAIN has a fault of its own (5xx)", next: "try again later", words: "500 Internal Server Error"},
	{name: "no such host", dockerfile: "FROM registry.invalid/x\n", line: 1,
		what: "FROM registry.invalid/x: there is no host registry.invalid", next: "DNS of the builder", words: "no such host"},
	{name: "no registry", dockerfile: "FROM 127.0.0.1:1/x\n", line: 1,
		what: "FROM 127.0.0.1:1/x: nothing listens at 127.0.0.1:1 (connection refused)", next: "the port", words: "connection refused"},
	{name: "unknown certificate", dockerfile: "FROM selfsigned.test/x\n", line: 1,
		what: "FROM selfsigned.test/x: the certificate of selfsigned.test is not trusted", next: `ca = ["PATH"] under [registry."selfsigned.test"]`, words: "unknown authority"},
	{name: "HTTP registry", dockerfile: "FROM plain.test/x\n", line: 1,
		what: "FROM plain.test/x: plain.test speaks HTTP, and HTTPS was expected", next: "http = true", words: "HTTP response to HTTPS client"},
	{name: "another platform's image", dockerfile: "FROM REGISTRY/arm:1\nCOPY garbage /\n", line: 1,
		what: "FROM REGISTRY/arm:1: it is not made for the platform of the build", next: "set platforms", words: "no match for platform"},
	{name: "missing frontend", dockerfile: "# syntax=nope/frontend:1\nFROM scratch\n", line: 1,
		what: "the frontend nope/frontend:1 (# syntax=): Docker Hub does not accept the login (401), or there is no such repository", next: "check the name", words: "pull access denied"},

	// Downloads.
	{name: "ADD of a missing URL", dockerfile: "ADD http://PLAIN/s404/x /\n", line: 4,
		what: "ADD http://PLAIN/s404/x /: the server does not have it", next: "check the name", words: "invalid response status 404"},
	{name: "ADD of a refused URL", dockerfile: "ADD http://PLAIN/s403/x /\n", line: 4,
		what: "ADD http://PLAIN/s403/x /: the server answers 403", next: "a login", words: "invalid response status 403"},
	{name: "ADD from an unknown host", dockerfile: "ADD http://files.invalid/x /\n", line: 4,
		what: "ADD http://files.invalid/x /: there is no host files.invalid", next: "check the name", words: "no such host"},
	{name: "ADD with a wrong checksum", dockerfile: "ADD --checksum=" + someDigest + " http://PLAIN/file /\n", line: 4,
		what: "ADD --checksum=sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886…: the file's checksum is sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73, and --checksum says " + someDigest,
		next: "the new checksum", words: "digest mismatch"},
	{name: "ADD of a missing Git ref", dockerfile: "ADD GITHOST/app.git#nobranch /\n", line: 4,
		what: `ADD GITHOST/app.git#nobranch /: the Git repository has no branch, tag or commit "nobranch"`, next: "after #", words: "does not contain ref"},
	{name: "ADD of a missing Git repository", dockerfile: "ADD GITHOST/nope.git#main /\n", line: 4,
		what: "ADD GITHOST/nope.git#main /: the Git repository cannot be read: remote error: access denied or repository not exported: /nope.git", next: "GIT_AUTH_TOKEN", words: "exit status 128"},
	{name: "context of a missing Git ref", change: fetching("GITHOST/app.git#nocontext"),
		what: `the context: the Git repository has no branch, tag or commit "nocontext"`, next: "after #", words: "does not contain ref"},

	// Pushes, and other outputs.
	{name: "push without a login", change: pushing("PLAIN/app"),
		what: "pushing PLAIN/app: PLAIN does not accept the login (401), or there is no such repository", next: "registry, username and password", words: "push access denied"},
	{name: "push refused", change: pushing("PLAIN/s403/private"),
		what: "pushing PLAIN/s403/private: PLAIN refuses access (403)", next: "the user was bob", words: "denied"},
	{name: "push to an unknown host", change: pushing("registry.invalid/app"),
		what: "pushing registry.invalid/app: there is no host registry.invalid", next: "check the name", words: "no such host"},
	{name: "push to no registry", change: pushing("127.0.0.1:1/app"),
		what: "pushing 127.0.0.1:1/app: nothing listens at 127.0.0.1:1 (connection refused)", next: "the port", words: "connection refused"},
	{name: "push to an unknown certificate", change: pushing("selfsigned.test/app"),
		what: "pushing selfsigned.test/app: the certificate of selfsigned.test is not trusted", next: "set ca-certificates", words: "unknown authority"},
	{name: "unknown output", change: func(r *Request) { r.Inputs.Outputs = []inputs.Output{{Type: "image2", Attrs: map[string]string{}}} },
		what: `outputs: this builder does not support the type "image2"`, next: "use one of", words: "image2"},
}
