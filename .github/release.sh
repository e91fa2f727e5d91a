#!/bin/sh
# The steps of a release that are more than a line; .github/workflows/release.yml runs them.
#
#   release.sh check v1.2.3            whether this may be the next release
#   release.sh notes v1.2.3            its part of CHANGELOG.md
#   release.sh tags v1.2.3 [SUFFIX]    the image's tags that it moves: 1.2, 1, latest
#   release.sh programs v1.2.3 DIR     static programs, and their checksums
#   release.sh pin v1.2.3 DIGEST       names the image by digest in the packages for CIs
#   release.sh tag v1.2.3              commits that, on no branch, and pushes v1.2.3 and v1
set -eu
cd "$(dirname "$0")/.."

image=ghcr.io/warmlayer/warmlayer

die() {
	echo "release: $*" >&2
	exit 1
}

# is TEXT PATTERN: whether all of a text is the extended expression.
is() {
	printf '%s' "$1" | tr '\n' ' ' | grep -qxE -- "$2"
}

# replace FILE BEFORE AFTER: once, or not at all.
replace() {
	[ "$(grep -cF -- "$2" "$1")" = 1 ] || die "$1 does not say \"$2\" on one line"
	sed -i "s|$2|$3|" "$1"
}

command=${1:-} version=${2:-}
number='(0|[1-9][0-9]*)'
is "$version" "v$number\.$number\.$number" || die "\"$version\" is no version such as v1.2.3"
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
	for arch in amd64 arm64; do
		CGO_ENABLED=0 GOOS=linux GOARCH=$arch go build -o "$3/warmlayer-linux-$arch" \
			-trimpath -buildvcs=false -ldflags "-s -w -X main.release=$version" .
	done
	cd "$3"
	sha256sum warmlayer-linux-* > SHA256SUMS
	;;
pin)
	digest=${3:-}
	is "$digest" 'sha256:[0-9a-f]{64}' || die "\"$digest\" is no digest"
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
	die "there is no command \"$command\""
	;;
esac
