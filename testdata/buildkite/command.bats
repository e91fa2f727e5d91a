#!/usr/bin/env bats
# Tests of the plugin's hook, with a program docker that records its arguments, one on each line.
# The environment is that of a command hook: buildkite.com/docs/plugins/writing.

bats_require_minimum_version 1.5.0

setup() {
	hook="$BATS_TEST_DIRNAME/../../hooks/command"
	dir=$(mktemp -d)
	mkdir "$dir/bin" "$dir/checkout" "$dir/home"
	printf '#!/bin/sh\nprintf "%%s\\n" "$@" > "%s/arguments"\n' "$dir" > "$dir/bin/docker"
	chmod +x "$dir/bin/docker"
	cd "$dir/checkout" || return 1
}

teardown() {
	rm -rf "$dir"
}

# hook runs the hook with only these variables.
hook() {
	env -i PATH="$dir/bin:/usr/bin:/bin" HOME="$dir/home" BUILDKITE=true "$@" "$hook"
}

# given tells whether docker got these arguments, one after the other.
given() {
	printf '%s\n' "$@" > "$dir/wanted"
	awk 'NR == FNR { want[++n] = $0; next } { got[++m] = $0 }
		END { for (i = 0; i + n <= m; i++) { for (j = 1; j <= n && got[i + j] == want[j]; j++); if (j > n) exit 0 } exit 1 }' \
		"$dir/wanted" "$dir/arguments"
}

# program puts a warmlayer on PATH that prints its arguments and exits with 3.
program() {
	printf '#!/bin/sh\necho "$# arguments, $BUILDKITE_PLUGIN_CONFIGURATION"; exit 3\n' > "$dir/bin/warmlayer"
	chmod +x "$dir/bin/warmlayer"
}

@test "the program on PATH is run, and the hook exits with its code" {
	program
	run hook BUILDKITE_PLUGIN_CONFIGURATION='{"push": true}'
	[ "$status" -eq 3 ]
	[ "$output" = '0 arguments, {"push": true}' ]
	[ ! -e "$dir/arguments" ]
}

@test "without the program its image is run, in the checkout" {
	run hook
	[ "$status" -eq 0 ]
	[ "$(head -n 1 "$dir/arguments")" = run ]
	given --volume "$dir/checkout:$dir/checkout" --workdir "$dir/checkout"
	[ "$(tail -n 1 "$dir/arguments")" = ghcr.io/warmlayer/warmlayer:latest ]
}

@test "an image that is set is run, even with the program on PATH" {
	program
	run hook BUILDKITE_PLUGIN_WARMLAYER_IMAGE=registry.example/warmlayer:1
	[ "$status" -eq 0 ]
	[ "$(tail -n 1 "$dir/arguments")" = registry.example/warmlayer:1 ]
}

@test "image none requires the program on PATH" {
	run -127 hook BUILDKITE_PLUGIN_WARMLAYER_IMAGE=none
	[ ! -e "$dir/arguments" ]
}

@test "the container is privileged, or gets the engine's socket" {
	run hook
	given --privileged
	run ! grep -q docker.sock "$dir/arguments"
	run hook BUILDKITE_PLUGIN_WARMLAYER_PRIVILEGED=true
	given --privileged
	run hook BUILDKITE_PLUGIN_WARMLAYER_PRIVILEGED=false
	[ "$status" -eq 0 ]
	run ! given --privileged
	given --volume /var/run/docker.sock:/var/run/docker.sock --env DOCKER_HOST=unix:///var/run/docker.sock
	run hook BUILDKITE_PLUGIN_WARMLAYER_PRIVILEGED=false DOCKER_HOST=unix:///run/user/7/docker.sock
	given --volume /run/user/7/docker.sock:/var/run/docker.sock
}

@test "the engine of docker's current context is used" {
	printf '#!/bin/sh\n[ "$1" != context ] || { echo unix:///home/me/docker.sock; exit; }\nprintf "%%s\\n" "$@" > "%s/arguments"\n' \
		"$dir" > "$dir/bin/docker"
	run hook BUILDKITE_PLUGIN_WARMLAYER_PRIVILEGED=false
	[ "$status" -eq 0 ]
	given --volume /home/me/docker.sock:/var/run/docker.sock
}

@test "an engine without a local socket is refused" {
	run hook BUILDKITE_PLUGIN_WARMLAYER_PRIVILEGED=false DOCKER_HOST=tcp://docker:2376
	[ "$status" -eq 2 ]
	[[ "$output" = *"docker's is at tcp://docker:2376"* ]]
	[ ! -e "$dir/arguments" ]
}

@test "the container's network can be set" {
	run hook
	run ! grep -qx -- --network "$dir/arguments"
	run hook BUILDKITE_PLUGIN_WARMLAYER_CONTAINER_NETWORK=host
	given --network host
}

@test "the job's variables are passed by name, with any value" {
	run hook BUILDKITE_PLUGIN_CONFIGURATION='{"tags": ["a"]}' WARMLAYER_CACHE_KEY=web CI=true OTHER=x \
		BUILDKITE_MESSAGE="two
lines"
	[ "$status" -eq 0 ]
	given --env BUILDKITE_PLUGIN_CONFIGURATION
	given --env WARMLAYER_CACHE_KEY
	given --env BUILDKITE_MESSAGE
	given --env CI
	run ! given --env OTHER
	run ! grep -q tags "$dir/arguments"
}

@test "pass and volumes are lists of any length" {
	run hook
	run ! given --env ''
	run ! given --volume ''
	run hook BUILDKITE_PLUGIN_WARMLAYER_PASS_0=AWS_PROFILE BUILDKITE_PLUGIN_WARMLAYER_PASS_1=TOKEN \
		BUILDKITE_PLUGIN_WARMLAYER_VOLUMES_0="/var/cache/my app:/cache"
	[ "$status" -eq 0 ]
	given --env AWS_PROFILE
	given --env TOKEN
	given --volume "/var/cache/my app:/cache"
	run hook BUILDKITE_PLUGIN_WARMLAYER_PASS='$(touch pwned)'
	given --env '$(touch pwned)'
	[ ! -e pwned ]
}

@test "docker's credentials are mounted read-only" {
	run hook
	run ! given --env DOCKER_CONFIG=/docker-config
	mkdir "$dir/home/.docker"
	echo '{}' > "$dir/home/.docker/config.json"
	run hook
	[ "$status" -eq 0 ]
	given --volume "$dir/home/.docker:/docker-config:ro" --env DOCKER_CONFIG=/docker-config
}

@test "the agent on PATH is mounted, for annotations" {
	run hook
	run ! grep -q buildkite-agent "$dir/arguments"
	ln -s /bin/true "$dir/bin/buildkite-agent"
	run hook
	[ "$status" -eq 0 ]
	given --volume "$dir/bin/buildkite-agent:/usr/local/bin/buildkite-agent:ro"
}
