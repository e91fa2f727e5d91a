#!/bin/sh
# Steps of a release, for .github/workflows/release.yml.
#
#   release.sh check v1.2.3            fails unless this can be the next release
#   release.sh notes v1.2.3            prints its section of CHANGELOG.md
#   release.sh tags v1.2.3 [SUFFIX]    prints the tags of the image that move to it: 1.2, 1, latest
#   release.sh programs v1.2.3 DIR     builds static programs, and their checksums
#   release.sh pin v1.2.3 DIGEST       writes the image's digest into the packages for CIs
#   release.sh tag v1.2.3              commits that, on a detached HEAD, and pushes the tags v1.2.3 and v1
set -eu
cd "$(dirname "$0")/.."

image=ghcr.io/warmlayer/warmlayer

die() {
	echo "release: $*" >&2
	exit 1
}

# is TEXT PATTERN tells whether the whole text matches an extended regular expression.
is() {
	printf '%s' "$1" | tr '\n' ' ' | grep -qxE -- "$2"
}

# replace FILE BEFORE AFTER replaces the only occurrence of a text in a file.
replace() {
	[ "$(grep -cF -- "$2" "$1")" = 1 ] || die "$1 must have \"$2\" on exactly one line"
	sed -i "s|$2|$3|" "$1"
}

command=${1:-} version=${2:-}
number='(0|[1-9][0-9]*)'
is "$version" "v$number\.$number\.$number" || die "\"$version\" is not a version such as v1.2.3"
minor=${version%.*}
major=${minor%.*}

case $command in
check)
	newest=$(git tag --list 'v*.*.*' --sort=-version:refname | head -n 1)
	[ "$newest" != "$version" ] || die "$version is released already"
	printf '%s\n' "$newest" "$version" | sort --version-sort --check=quiet || die "$version is older than $newest"
	grep -qxF "## $version" CHANGELOG.md || die "CHANGELOG.md has no \"## $version\""
	;;
notes)
	awk -v title="## $version" '/^## / { on = $0 == title; next } on' CHANGELOG.md
	;;
tags)
	printf '%s\n' "${minor#v}${3:-}" "${major#v}${3:-}" "latest${3:-}"
	;;
programs)
	mkdir -p "$3"
	go generate ./internal/mountprogram
	go run ./internal/packed/generate internal/bakefile/reader 'internal/bakefile/programs/*/reader.zst' amd64 arm64
	for arch in amd64 arm64; do
		CGO_ENABLED=0 GOOS=linux GOARCH=$arch go build -o "$3/warmlayer-linux-$arch" \
			-trimpath -buildvcs=false -ldflags "-s -w -X main.release=$version" .
	done
	cd "$3"
	sha256sum warmlayer-linux-* > SHA256SUMS
	;;
pin)
	digest=${3:-}
	is "$digest" 'sha256:[0-9a-f]{64}' || die "\"$digest\" is not a digest"
	replace action.yml "  image: Dockerfile" "  image: docker://$image@$digest"
	replace hooks/command "image:-$image:latest" "image:-$image:${version#v}@$digest"
	replace templates/build.yml "default: $image:latest" "default: $image:${version#v}@$digest"
	;;
tag)
	git checkout --quiet --detach
	git commit --quiet --all --message "Release $version" --message "The packages for CIs name the released image by its digest."
	git tag "$version"
	git tag --force "$major" > /dev/null
	git push --quiet --atomic origin "refs/tags/$version" "+refs/tags/$major"
	;;
*)
	die "unknown command \"$command\""
	;;
esac
