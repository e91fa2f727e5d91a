#!/bin/sh
# Writes the file system of the test app's base image, from Debian's
# busybox-static, as a tar file: rootfs.sh FILE
set -eu
busybox=$(command -v busybox) || {
	echo "rootfs: busybox is not on PATH: apt-get install busybox-static" >&2
	exit 1
}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/bin" "$dir/tmp" "$dir/etc" "$dir/root"
cp "$busybox" "$dir/bin/busybox"
for applet in $("$busybox" --list); do
	[ "$applet" = busybox ] || ln -s busybox "$dir/bin/$applet"
done
echo 'root:x:0:0:root:/root:/bin/sh' > "$dir/etc/passwd"
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$dir" -cf "$1" .
