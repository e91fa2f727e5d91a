# The image in which a CI runs warmlayer. A managed builder in a container uses it too.
#
#   docker build .                       the slim image
#   docker build --target emulation .    with emulators for other platforms
#
# The base images are stages of their own, which build contexts replace (debian=docker-image://…).
# Go programs are cross-compiled; Debian's packages are installed on each platform. With
# SOURCE_DATE_EPOCH and rewrite-timestamp=true, builds from the same state of Debian are equal
# byte for byte.
FROM --platform=$BUILDPLATFORM docker.io/library/golang:1.26.8-bookworm@sha256:a688600ca24f8a4d3ca77f95b0dd40704a9fc787c826660eb7ba0b641b8b175d AS golang

FROM docker.io/library/debian:bookworm-slim@sha256:3783cc01769c7b2b1b83a5c5ad96c815348e28ed7da68e2e3687004faa906251 AS debian

FROM golang AS programs
ARG TARGETOS TARGETARCH
ENV CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH
WORKDIR /src
# BuildKit and RootlessKit change only with go.mod and the changes to BuildKit, so their layer, which
# downloads all modules, is mostly cached.
COPY go.mod go.sum ./
COPY internal/patch internal/patch
RUN version=$(go list -m -f '{{.Version}}' github.com/moby/buildkit) && \
    modfile=$(GOOS= GOARCH= go run ./internal/patch /tmp/patched) && \
    go build -modfile "$modfile" -o /daemons/usr/local/bin/ -trimpath -buildvcs=false -tags seccomp -ldflags "-s -w -X github.com/moby/buildkit/version.Version=$version" \
    github.com/moby/buildkit/cmd/buildkitd github.com/rootless-containers/rootlesskit/v3/cmd/rootlesskit && \
    find /daemons -exec touch -d @0 {} +
# So does the reader of bake files with its own go.mod.
COPY internal/packed internal/packed
COPY internal/bakefile/reader internal/bakefile/reader
RUN GOOS= GOARCH= go run ./internal/packed/generate internal/bakefile/reader '/reader-*.zst' $TARGETARCH
COPY . .
ARG VERSION=unreleased
RUN GOOS= GOARCH= go generate ./internal/mountprogram && \
    mkdir -p internal/bakefile/programs/$TARGETARCH && mv /reader-$TARGETARCH.zst internal/bakefile/programs/$TARGETARCH/reader.zst && \
    go build -o /out/ -trimpath -buildvcs=false -ldflags "-s -w -X main.release=$VERSION" .

FROM debian AS packages
# git depends on perl only for commands that warmlayer does not use. Removing perl makes the
# packages a third smaller. Its servers and senders, each of which contains a large part of git, are
# half of what remains of it.
RUN apt-get update -qq && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ca-certificates git isal libcap2-bin mount runc uidmap && \
    chmod u-s /usr/bin/newuidmap /usr/bin/newgidmap && \
    setcap cap_setuid+ep /usr/bin/newuidmap && setcap cap_setgid+ep /usr/bin/newgidmap && \
    dpkg --purge --force-depends $(dpkg-query -W -f '${Package}\n' | grep -E '^(perl|perl-modules-.*|libperl5.*|liberror-perl|libgdbm.*|git-man|libcap2-bin)$') && \
    rm /usr/bin/git-shell /usr/bin/scalar && cd /usr/lib/git-core && \
    rm git-daemon git-http-backend git-http-fetch git-http-push git-imap-send git-shell scalar && ln -sf ../../bin/git git && \
    rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* /usr/share/doc /usr/share/man
# A user for rootless builds, and the ids that are mapped for them. The mappers have capabilities
# in place of the setuid bit, so they work in a container without CAP_SYS_ADMIN.
RUN echo 'warmlayer:x:1000:1000::/home/warmlayer:/bin/sh' >> /etc/passwd && \
    echo 'warmlayer:x:1000:' >> /etc/group && \
    echo 'warmlayer:100000:65536' | tee /etc/subuid > /etc/subgid && \
    install -d -o 1000 -g 1000 /home/warmlayer && \
    mkdir -p /run/runc /var/lib/cni

FROM debian AS emulators
RUN apt-get update -qq && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends qemu-user-static && \
    mkdir /out && cd /usr/bin && \
    cp qemu-x86_64-static qemu-i386-static qemu-aarch64-static qemu-arm-static qemu-riscv64-static qemu-ppc64le-static qemu-s390x-static /out/

FROM packages AS image
# The daemons are a layer that a release leaves as it is: its files have a fixed time, and with --link it
# has no time of another layer's directories.
COPY --link --from=programs /daemons/ /
COPY --from=programs /out/ /usr/local/bin/
# GitHub's runner runs post-entrypoint when the job ends. It takes a single word, without arguments.
COPY --chmod=755 <<EOF /usr/local/bin/warmlayer-post
#!/bin/sh
exec warmlayer post
EOF
ARG VERSION=unreleased REVISION
LABEL org.opencontainers.image.title="warmlayer" \
      org.opencontainers.image.description="Container builds that start warm on every branch" \
      org.opencontainers.image.source="https://github.com/warmlayer/warmlayer" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
ENTRYPOINT ["warmlayer"]

FROM image AS emulation
COPY --from=emulators /out/ /usr/local/bin/

FROM image
