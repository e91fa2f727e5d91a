#!/bin/sh
# Shows what warmlayer is for: the test app is built as branch main with a cache in a directory, and
# then as a feature branch on an empty builder.
set -eu
cd "$(dirname "$0")"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cp -r app "$dir/app"
./rootfs.sh "$dir/app/rootfs.tar"
cd "$dir/app"

build() {
	echo
	echo "$ warmlayer --trusted --cache type=local,dest=cache --branch $1"
	warmlayer --builder embedded --trusted --progress plain --report-dir "$dir/$2" \
		--cache "type=local,dest=$dir/cache" --default-branch main --branch "$1" \
		--outputs "type=oci,dest=$dir/$2.tar" > "$dir/log" 2>&1 || {
		cat "$dir/log"
		exit 1
	}
	sed -n '/^warmlayer: /,$p' "$dir/log"
}

build main first
build feature/search second

report=$dir/second/warmlayer.json
for want in '"ratio": 1' '"state": "absent"' '"state": "loaded"'; do
	grep -q "$want" "$report" || {
		echo "demo: the second build must report $want:" >&2
		cat "$report" >&2
		exit 1
	}
done
echo
echo "The branch's first build ran no step: main's cache had them all."
