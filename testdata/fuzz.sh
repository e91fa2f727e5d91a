#!/bin/sh
# Fuzzes every target of the module, one after the other, FUZZTIME (10s) each. The arguments are names of
# targets; without any, all are fuzzed. A failing input is written to testdata/fuzz/TARGET of its package,
# where it stays as a test; other inputs of interest are kept in Go's cache. A failure does not stop the
# targets after it.
set -eu
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
targets=$(git grep -oE '^func Fuzz[A-Za-z0-9]+' -- '*_test.go')
failed=
for found in $(echo "$targets" | sed 's/:func /:/'); do
	package=./$(dirname "${found%%:*}") target=${found#*:}
	if [ $# -gt 0 ]; then
		case " $* " in *" $target "*) ;; *) continue ;; esac
	fi
	echo "$package $target"
	go test "$package" -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-10s}" -fuzzminimizetime 1s -parallel "${FUZZPARALLEL:-1}" </dev/null 2>&1 | tee "$log"
	# The end of the time is no failure, though Go before 1.27 may take it for one (golang/go#75804).
	if ! grep -q "^ok[[:space:]]" "$log" && { grep -q "Failing input" "$log" || ! grep -qx "    context deadline exceeded" "$log"; }; then
		failed="$failed $target"
	fi
done
if [ -n "$failed" ]; then
	echo "failed:$failed"
	exit 1
fi
