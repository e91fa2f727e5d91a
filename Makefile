# Everything that the targets need is built into bin/ or installed by .ci/setup.
BIN     := $(CURDIR)/bin
BUILDKIT = $(shell go list -m -f '{{.Version}}' github.com/moby/buildkit)
REQUIRE := buildkitd,dockerd,rootless,registry,s3,azblob,gha,buildx,git,busybox,qemu,gitlab,bats,node,python,image,act,fuse
# Tests of a package at a time: some wait for a timeout, and four keep two cores busy.
PARALLEL := 4
# The output has the figures.
SOAK = WARMLAYER_REQUIRE=$(REQUIRE) WARMLAYER_SOAK=1 go test -v -count 1 -parallel $(PARALLEL) -timeout 3h
SERVERS := testdata/servers
GITLAB  := testdata/gitlab

export PATH := $(BIN):$(PATH)

.PHONY: help demo test race soak fuzz lint bench generate pictures image setup tools clean

help: ## Show this list.
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/\1\t\2/' | expand -t 12

demo: setup ## Build the test app as main, and then as a branch on an empty builder.
	testdata/demo.sh

test: setup ## Run all tests; a missing program or server is a failure.
	go vet ./...
	WARMLAYER_REQUIRE=$(REQUIRE) go test -parallel $(PARALLEL) -timeout 30m ./...

race: setup ## Run all tests under the race detector.
	WARMLAYER_REQUIRE=$(REQUIRE) go test -race -timeout 40m ./...

soak: setup ## Run the long forms of tests, and fuzz; FUZZTIME=10s each.
	$(SOAK) ./e2e -run 'TestInterrupted$$'
	$(SOAK) ./e2e/load
	$(SOAK) ./e2e/faults
	$(SOAK) ./e2e/leaks
	$(SOAK) ./backends/conformance -run '^Test(Local|Registry|Inline|S3|Azblob|GHA|GHA1)(Remote)?$$/several_exports'
	$(SOAK) ./internal/cacheplan -run '^TestConcurrentWriters$$'
	$(SOAK) ./backends/conformance -run '^Test(Sequences|Growth)$$'
	testdata/fuzz.sh

fuzz: ## Fuzz every target; FUZZTIME=10s each.
	testdata/fuzz.sh

lint: ## Check Go, its modules and known faults in them, workflows and shell scripts.
	go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.12.2 run ./...
	go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 $(VULNDB:%=-db %) ./... tool
	go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
	shellcheck $$(git ls-files '*.sh') .ci/run .ci/setup hooks/command

bench: setup ## Compare with docker buildx and buildctl, for docs/benchmarks.md; ROUNDS=5 ONLY=registry/app.
	WARMLAYER_REQUIRE=$(REQUIRE) go test ./bench -run '^$$' -bench 'Peers/$(ONLY)' -v -benchtime $(or $(ROUNDS),5)x -timeout 6h -results $(CURDIR)/docs/benchmarks.json
	go run ./bench/page docs/benchmarks.json docs

generate: ## Write the files that are generated from inputs/fields.go.
	go generate ./...

pictures: setup ## Make docs/summary.png from the summary of a build, with chromium.
	internal/report/picture/picture.sh

image: setup ## Build the image and load it into this machine's engine, as warmlayer:dev.
	warmlayer build --builder embedded --cache none --provenance=false --load --tags warmlayer:dev .

setup: tools ## Install and build everything that demo, test and bench need.
	.ci/setup

tools: $(SERVERS)/node_modules/.package-lock.json $(GITLAB)/node_modules/.package-lock.json $(BIN)/image/buildkitd
	go generate ./internal/mountprogram ./internal/bakefile
	go build -o $(BIN)/ .
	go build -o $(BIN)/ -ldflags '-s -w -X github.com/moby/buildkit/version.Version=$(BUILDKIT)' tool
	go build -C $(SERVERS) -o $(BIN)/ -ldflags '-s -w' tool
	CGO_ENABLED=0 go build -C internal/bakefile/reader -o $(BIN)/ -trimpath -ldflags '-s -w' tool
	go build -C testdata/dockerd -o $(BIN)/moby-dockerd -ldflags '-s -w' github.com/moby/moby/v2/cmd/dockerd
	ln -sf ../$(SERVERS)/node_modules/.bin/azurite-blob $(BIN)/

# The daemon as the image has it, with the changes of internal/patch.
$(BIN)/image/buildkitd: go.mod go.sum $(wildcard internal/patch/*.go internal/patch/*/*.go)
	modfile=$$(go run ./internal/patch $(BIN)/patched) && \
	go build -modfile "$$modfile" -o $@ -trimpath -tags seccomp -ldflags '-s -w -X github.com/moby/buildkit/version.Version=$(BUILDKIT)' github.com/moby/buildkit/cmd/buildkitd

# Packages of npm, verified by the digests in the lock files. Their install scripts do not run.
%/node_modules/.package-lock.json: %/package-lock.json
	npm ci --prefix $* --ignore-scripts --no-audit --no-fund
	touch $@

clean: ## Remove bin/, the packages of npm, and the base images of the image's test.
	rm -rf $(BIN) $(SERVERS)/node_modules $(GITLAB)/node_modules /dev/shm/warmlayer-bases
