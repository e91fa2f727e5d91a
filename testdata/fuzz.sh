#!/bin/sh
# Fuzzes every target of the module, one after the other, FUZZTIME (10s) each. The arguments are names of
# targets; without any, all are fuzzed. A failing input is written to testdata/fuzz/TARGET of its package,
# where it stays as a test; other inputs of interest are kept in Go's cache.
set -eu
cd "$(dirname "$0")/.."
git grep -oE '^func Fuzz[A-Za-z0-9]+' -- '*_test.go' | while IFS=: read -r file found; do
	target=${found#func }
	if [ $# -gt 0 ]; then
		case " $* " in *" $target "*) ;; *) continue ;; esac
	fi
	echo "$(dirname "$file") $target"
	go test "./$(dirname "$file")" -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-10s}" -fuzzminimizetime 1s -parallel "${FUZZPARALLEL:-1}" </dev/null
done
