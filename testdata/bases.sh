#!/bin/sh
# Writes replacements of base images as tar files, for tests and benchmarks:
#
#   bases.sh DIR [runtime]
#
# Without "runtime" they are those of the Dockerfile: debian.tar is made from Debian's packages, golang.tar has this machine's Go, and the modules and
# compiled packages of the image's programs. "runtime" makes runtime.tar: Debian with git, curl and Python. Existing files are kept; golang.tar is made again when
# go.sum has changed.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1" && cd "$1"

debian() { # debian FILE PACKAGES: like the slim image, without documentation and translations
	[ ! -e "$1" ] || return 0
	mmdebstrap --quiet --format=tar --variant=minbase --include="$2" --aptopt='Acquire::Check-Valid-Until "false"' \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
		bookworm "$1.part"
	mv "$1.part" "$1"
}

if [ "${2:-}" = runtime ]; then
	debian runtime.tar git,curl,python3-minimal
	exit
fi
debian debian.tar ''

if ! cmp -s go.sum "$root/go.sum"; then
	programs=". github.com/moby/buildkit/cmd/buildkitd github.com/rootless-containers/rootlesskit/v3/cmd/rootlesskit"
	export CGO_ENABLED=0 GOFLAGS='' GOCACHE="$1/gocache"
	# shellcheck disable=SC2086 # a list of packages
	cd "$root" && go build -o "$1/programs/" -trimpath -buildvcs=false -tags seccomp $programs
	modules=$(go env GOMODCACHE)
	# shellcheck disable=SC2086 # a list of packages
	go list -deps -tags seccomp -f '{{with .Module}}{{.Dir}}{{end}}' $programs | sort -u | sed -n "s|^$modules/||p" > "$1/modules"
	# The files from which Go reads the module graph, and those that it verifies modules with.
	go list -m -f '{{.GoMod}}' all | sed -n "s|^$modules/\(cache/.*\)\.mod$|\1|p" | while read -r module; do
		for kind in mod info ziphash; do
			[ ! -e "$modules/$module.$kind" ] || echo "$module.$kind"
		done
	done >> "$1/modules"
	printf '%s\n' GOPROXY=off GOFLAGS=-mod=mod GOSUMDB=off > "$1/env"
	cd "$1"
	# Go's and the modules' tests are a third of the files, and no build reads them.
	tests="--exclude=*_test.go --exclude=testdata"
	# shellcheck disable=SC2086 # two options
	tar -cf golang.tar.part $tests --transform 's|^|usr/local/go/|' -C "$(go env GOROOT)" bin lib pkg src VERSION go.env
	# shellcheck disable=SC2086 # two options
	tar -rf golang.tar.part $tests --transform 's|^|go/pkg/mod/|' -C "$modules" -T "$1/modules"
	tar -rf golang.tar.part --transform 's|^gocache|root/.cache/go-build|' -C "$1" gocache
	tar -rf golang.tar.part --transform 's|^|root/.config/go/|' -C "$1" env
	rm -rf gocache programs modules env
	mv golang.tar.part golang.tar
	cp "$root/go.sum" go.sum
fi
