#!/bin/sh
# Makes docs/summary.png: the job summary of the first build of a pull request, which adds a
# page to the shop, as a browser shows it. It needs chromium, and the fonts that it names.
set -eu
cd "$(dirname "$0")/../../.."
if ! command -v chromium > /dev/null; then
	echo "picture: no chromium: apt-get install --no-install-recommends chromium fonts-noto-core fonts-noto-mono fonts-noto-color-emoji" >&2
	exit 1
fi

dir=/tmp/acme # the report shows it
mkdir "$dir"
trap 'rm -rf "$dir"' EXIT
cp -r testdata/app "$dir/shop"
testdata/rootfs.sh "$dir/shop/rootfs.tar"

build() { # build FLAG... in the shop's directory, which the report names
	(cd "$dir/shop" && warmlayer --builder embedded --trusted --progress quiet --report-dir "$dir/report" \
		--cache type=local,dest=cache --default-branch main "$@" > "$dir/log" 2>&1) || {
		cat "$dir/log"
		exit 1
	}
}
build --branch main --outputs type=cacheonly
echo 'Opening hours' > "$dir/shop/site/hours.txt"
build --pull-request 12 --branch feature/hours --base-branch main --trusted \
	--tags ghcr.io/acme/shop:pr-12 --outputs "type=oci,dest=$dir/image.tar"
go run ./internal/report/picture < "$dir/report/warmlayer.md" > "$dir/summary.html"

browse() { # browse FLAG... PAGE runs chromium without network services and with a temporary profile
	chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
		--disable-component-update --disable-sync --hide-scrollbars --user-data-dir="$dir/browser" "$@" 2> "$dir/log"
}
width=920
height=$(browse --window-size="$width,1000" --dump-dom "file://$dir/summary.html" | sed -n 's/.*<title>\([0-9]*\)<.*/\1/p')
browse --window-size="$width,$height" --force-device-scale-factor=1.25 --screenshot=docs/summary.png "file://$dir/summary.html"
echo "docs/summary.png: $(wc -c < docs/summary.png) bytes"
