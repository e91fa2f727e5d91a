# The image that a CI runs a step from, and that a builder in a container runs from:
#
#   docker build .                       the slim one
#   docker build --target emulation .    with emulators for the programs of other platforms
#
# Go cross-compiles; what Debian packs is installed on each platform. With SOURCE_DATE_EPOCH
# and rewrite-timestamp=true two builds of one state of Debian are equal to the byte.
ARG GO=docker.io/library/golang:1.26.8-bookworm
ARG DEBIAN=docker.io/library/debian:bookworm-slim

FROM --platform=$BUILDPLATFORM $GO AS programs
ARG TARGETOS TARGETARCH
ENV CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH
WORKDIR /src
# BuildKit and RootlessKit change with go.mod alone: their layer, with what is downloaded, is
# a cached one most of the time.
COPY go.mod go.sum ./
RUN version=$(go list -m -f '{{.Version}}' github.com/moby/buildkit) && \
    go build -o /out/ -trimpath -buildvcs=false -tags seccomp -ldflags "-s -w -X github.com/moby/buildkit/version.Version=$version" \
    github.com/moby/buildkit/cmd/buildkitd github.com/rootless-containers/rootlesskit/v3/cmd/rootlesskit
COPY . .
ARG VERSION=unreleased
RUN go build -o /out/ -trimpath -buildvcs=false -ldflags "-s -w -X main.release=$VERSION" .

FROM $DEBIAN AS packages
# git has perl for commands that nobody uses here; it is a third of what is installed.
RUN apt-get update -qq && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ca-certificates git isal libcap2-bin mount runc uidmap && \
    chmod u-s /usr/bin/newuidmap /usr/bin/newgidmap && \
    setcap cap_setuid+ep /usr/bin/newuidmap && setcap cap_setgid+ep /usr/bin/newgidmap && \
    dpkg --purge --force-depends $(dpkg-query -W -f '${Package}\n' | grep -E '^(perl|perl-modules-.*|libperl5.*|liberror-perl|libgdbm.*|git-man|libcap2-bin)$') && \
    rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* /usr/share/doc /usr/share/man
# A user for builds without root, and the ids that they are mapped to. In a container without
# CAP_SYS_ADMIN the mappers do their work with capabilities, not with the setuid bit.
RUN echo 'warmlayer:x:1000:1000::/home/warmlayer:/bin/sh' >> /etc/passwd && \
    echo 'warmlayer:x:1000:' >> /etc/group && \
    echo 'warmlayer:100000:65536' | tee /etc/subuid > /etc/subgid && \
    install -d -o 1000 -g 1000 /home/warmlayer

FROM $DEBIAN AS emulators
RUN apt-get update -qq && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends qemu-user-static && \
    mkdir /out && cd /usr/bin && \
    cp qemu-x86_64-static qemu-i386-static qemu-aarch64-static qemu-arm-static qemu-riscv64-static qemu-ppc64le-static qemu-s390x-static /out/

FROM packages AS image
COPY --from=programs /out/ /usr/local/bin/
# GitHub's runner runs an entrypoint of one word when the job ends.
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
