#!/bin/sh
# Writes replacements of base images as tar files, for tests and benchmarks:
#
#   bases.sh DIR [runtime | caching | service]
#
#   (none)    those of the Dockerfile: debian.tar is made from Debian's packages, golang.tar has this machine's Go, and the modules
#             and compiled packages of the image's programs
#   runtime   runtime.tar: Debian with git, curl and Python
#   caching   caching.tar: Debian with programs that keep caches, pip and ccache, and what they need
#   service   service.tar: this machine's Go and the modules
#
# Existing files are kept; those of Go are made again when go.sum has changed. Of several at once, one works.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
reader=$root/internal/bakefile/reader # the program that reads bake files
mkdir -p "$1" && cd "$1"
dir=$(pwd)
exec 9> lock
flock 9

debian() { # debian FILE PACKAGES: like the slim image, without documentation and translations
	[ ! -e "$1" ] || return 0
	mmdebstrap --quiet --format=tar --variant=minbase ${2:+--include="$2"} --aptopt='Acquire::Check-Valid-Until "false"' \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
		bookworm "$1.part"
	mv "$1.part" "$1"
}

case "${2:-}" in
runtime) packages=git,curl,python3-minimal ;;
caching) packages=python3-pip,ccache,tcc,libc6-dev ;;
*) packages= ;;
esac
if [ -n "$packages" ]; then
	debian "$2.tar" "$packages"
	exit
fi
# golang FILE [gocache]: this machine's Go, the modules of the programs, and what was compiled of them if that is asked for.
golang() {
	programs=". github.com/moby/buildkit/cmd/buildkitd github.com/rootless-containers/rootlesskit/v3/cmd/rootlesskit"
	export CGO_ENABLED=0 GOFLAGS=''
	modules=$(go env GOMODCACHE)
	# shellcheck disable=SC2086 # a list of packages
	(cd "$root" && go list -deps -tags seccomp -f '{{with .Module}}{{.Dir}}{{end}}' $programs; cd "$reader" && go list -deps -f '{{with .Module}}{{.Dir}}{{end}}') |
		sort -u | sed -n "s|^$modules/||p" > modules.list
	# The files from which Go reads the module graph, and those that it verifies modules with.
	(cd "$root" && go list -m -f '{{.GoMod}}' all; cd "$reader" && go list -m -f '{{.GoMod}}' all) |
		sort -u | sed -n "s|^$modules/\(cache/.*\)\.mod$|\1|p" | while read -r module; do
		for kind in mod info ziphash; do
			[ ! -e "$modules/$module.$kind" ] || echo "$module.$kind"
		done
	done >> modules.list
	printf '%s\n' GOPROXY=off GOFLAGS=-mod=mod GOSUMDB=off > goenv
	# Go's and the modules' tests are a third of the files, and no build reads them.
	tests="--exclude=*_test.go --exclude=testdata"
	# shellcheck disable=SC2086 # two options
	tar -cf "$1.part" $tests --transform 's|^|usr/local/go/|' -C "$(go env GOROOT)" bin lib pkg src VERSION go.env
	# shellcheck disable=SC2086 # two options
	tar -rf "$1.part" $tests --transform 's|^|go/pkg/mod/|' -C "$modules" -T modules.list
	tar -rf "$1.part" --transform 's|^goenv|root/.config/go/env|' goenv
	if [ "${2:-}" = gocache ]; then
		# shellcheck disable=SC2086 # a list of packages
		(cd "$root" && GOCACHE="$dir/gocache" go build -o "$dir/programs/" -trimpath -buildvcs=false -tags seccomp $programs)
		GOCACHE="$dir/gocache" go build -C "$reader" -o "$dir/programs/" -trimpath -buildvcs=false .
		tar -rf "$1.part" --transform 's|^gocache|root/.cache/go-build|' gocache
	fi
	rm -rf gocache programs modules.list goenv
	mv "$1.part" "$1"
	sums > "$1.sum"
}
# sums tell whether the modules are others than before.
sums() { cat "$root/go.sum" "$reader/go.sum"; }

if [ "${2:-}" = service ]; then
	sums | cmp -s service.tar.sum - || golang service.tar
	exit
fi
debian debian.tar ''
sums | cmp -s golang.tar.sum - || golang golang.tar gocache
