#!/bin/sh
# Turns a page of plain text into HTML: the first line is the title.
set -eu
if [ "$1" = --version ]; then
	echo render 1
	exit
fi
awk '
	function escape(s) { gsub(/&/, "\\&amp;", s); gsub(/</, "\\&lt;", s); return s }
	NR == 1 { printf "<!doctype html><title>%s</title><h1>%s</h1>\n", escape($0), escape($0); next }
	NF == 0 { print "<p>"; next }
	{ print escape($0) }
' "$1"
