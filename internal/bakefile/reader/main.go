// Command reader reads bake files with docker buildx's package bake (v0.37.0), and says what they ask for as
// docker buildx bake --print does. It is a program of its own, since that package would make every start of
// warmlayer slower, and warmlayer twice as large. Package bakefile runs it.
//
// Standard input has a question in JSON, standard output gets the answer; paths start from the working
// directory. After an error the exit code is 1, and standard error says why.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/docker/buildx/bake"
	"github.com/docker/buildx/build"
)

// question is what package bakefile asks.
type question struct {
	Files   []string          // none: those of BUILDX_BAKE_FILE, or the files that buildx looks for
	Targets []string          // and groups, and patterns; none: default
	Set     []string          // TARGET.ATTRIBUTE=VALUE, as for --set
	Vars    map[string]string // values of variables of the files
	Allow   []string          // entitlements, as for --allow
}

// answer is what the files ask for.
type answer struct {
	Target  map[string]target `json:"target"`
	Missing []string          `json:"missing"` // entitlements that the targets need and Allow does not have
}

// target is a target as docker buildx bake --print shows it, without the escapes of HCL, and what is not shown there.
type target struct {
	*plain
	File string `json:"file"` // path of the Dockerfile from the working directory, or in a context that is no directory here
}

// plain has no method that escapes texts.
type plain bake.Target

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var q question
	if err := json.NewDecoder(os.Stdin).Decode(&q); err != nil {
		return fmt.Errorf("read question: %w", err)
	}
	a, err := q.answer(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(a)
}

func (q question) answer(ctx context.Context) (answer, error) {
	files, err := bake.ReadLocalFiles(q.files(), nil, nil)
	if err != nil {
		return answer{}, err
	}
	if len(files) == 0 {
		return answer{}, errors.New("there is no bake file: docker-bake.hcl, docker-bake.json, compose.yaml, or one that bake names")
	}
	if len(q.Targets) == 0 {
		q.Targets = []string{"default"}
	}
	allowed, err := q.entitlements()
	if err != nil {
		return answer{}, err
	}
	relative, err := fromFiles()
	if err != nil {
		return answer{}, err
	}
	builtin := map[string]string{"BAKE_CMD_CONTEXT": "cwd://", "BAKE_LOCAL_PLATFORM": platforms.Format(platforms.DefaultSpec())}
	targets, _, err := bake.ReadTargets(ctx, files, q.Targets, q.Set, builtin, q.Vars, &allowed, bake.ParseOpt{FileRelativePaths: relative})
	if err != nil {
		return answer{}, err
	}
	builds, err := options(targets)
	if err != nil {
		return answer{}, err
	}
	missing, err := allowed.Validate(builds)
	a := answer{Target: map[string]target{}, Missing: names(missing)}
	for name, b := range builds {
		a.Target[name] = target{(*plain)(targets[name]), b.Inputs.DockerfilePath}
	}
	return a, err
}

// options are the targets' options for a build. The contexts get their last form. Secrets and agents are not looked for:
// warmlayer does that itself, and says more of what is missing.
func options(targets map[string]*bake.Target) (map[string]build.Options, error) {
	builds := map[string]build.Options{}
	for name, t := range targets {
		secrets, agents := t.Secrets, t.SSH
		t.Secrets, t.SSH = nil, nil
		made, err := bake.TargetsToBuildOpt(map[string]*bake.Target{name: t}, nil)
		if err != nil {
			return nil, fmt.Errorf("target %s: %w", name, err)
		}
		t.Secrets, t.SSH = secrets, agents
		one := made[name]
		one.SecretSpecs, one.SSHSpecs = secrets.Normalize(), append(one.SSHSpecs, agents...)
		builds[name] = one
	}
	return builds, nil
}

// files are the names of the bake files, as docker buildx finds them (v0.37.0, commands/bake.go).
func (q question) files() []string {
	if len(q.Files) > 0 {
		return q.Files
	}
	separator := os.Getenv("BUILDX_BAKE_PATH_SEPARATOR")
	if separator == "" {
		separator = string(os.PathListSeparator)
	}
	return strings.FieldsFunc(os.Getenv("BUILDX_BAKE_FILE"), func(c rune) bool { return string(c) == separator })
}

// entitlements are the given ones, and the files below the working directory.
func (q question) entitlements() (bake.EntitlementConf, error) {
	allowed, err := bake.ParseEntitlements(q.Allow)
	if err != nil {
		return allowed, fmt.Errorf("allow: %w", err)
	}
	dir, err := os.Getwd()
	allowed.FSRead, allowed.FSWrite = append(allowed.FSRead, dir), append(allowed.FSWrite, dir)
	return allowed, err
}

// fromFiles tells whether paths start from the bake file that has them.
func fromFiles() (bool, error) {
	const name = "BUILDX_BAKE_FILE_RELATIVE_PATHS"
	text := strings.TrimSpace(os.Getenv(name))
	if text == "" {
		return false, nil
	}
	yes, err := strconv.ParseBool(text)
	if err != nil {
		return false, fmt.Errorf("%s: %q is neither true nor false", name, text)
	}
	return yes, nil
}

// names are entitlements as the input allow has them.
func names(c bake.EntitlementConf) []string {
	var all []string
	flag := func(set bool, key bake.EntitlementKey) {
		if set {
			all = append(all, string(key))
		}
	}
	list := func(key bake.EntitlementKey, values []string) {
		for _, v := range slices.Compact(slices.Sorted(slices.Values(values))) {
			all = append(all, string(key)+"="+v)
		}
	}
	flag(c.NetworkHost, bake.EntitlementKeyNetworkHost)
	flag(c.SecurityInsecure, bake.EntitlementKeySecurityInsecure)
	flag(c.SSH, bake.EntitlementKeySSH)
	flag(c.LocalOutputDelete, bake.EntitlementKeyBuildxLocalDelete)
	if d := c.Devices; d != nil {
		flag(d.All, bake.EntitlementKeyDevice)
		list(bake.EntitlementKeyDevice, slices.Collect(maps.Keys(d.Devices)))
	}
	list(bake.EntitlementKeyFSRead, c.FSRead)
	list(bake.EntitlementKeyFSWrite, c.FSWrite)
	return all
}
