package inputs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/settings"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// attribute is the name of an attribute of a cache that a text ends with, and the beginning of its value.
var attribute = regexp.MustCompile(`(?i)([a-z_.-]+)=[^,\n]*$`)

// public tells whether what follows a text is the value of a cache's attribute that takes no credential.
// Problems show such values, as in: type "s4" is unknown.
func public(input, before string) bool {
	found := attribute.FindStringSubmatch(before)
	return strings.HasPrefix(input, "cache") && found != nil && !slices.ContainsFunc([]string{"secret", "token", "password", "key", "url"}, func(part string) bool {
		return strings.Contains(strings.ToLower(found[1]), part)
	})
}

// Parse never panics, and no problem contains a credential, with a mistake at any place in the text
// around it.
func FuzzParse(f *testing.F) {
	f.Add("secrets", "a=", "\nb")
	f.Add("secrets", "\"a=", "")
	f.Add("cache", "type=s3,secret_access_key=", ",foo")
	f.Add("cache-to", "type=azblob,account_url=https://u:", "@h")
	f.Add("outputs", "type=image,name=a,", "")
	f.Add("builder", "tcp://u:", "@h:1")
	f.Add("context", "https://u:", "@h/r.git#main")
	f.Add("secrets", "type=env,id=a,src=", "")
	f.Add("secret-envs", "a=", ",b")
	f.Add("secret-files", "a=", "\n")
	f.Add("github-token", "", "\n")
	dir := checkout(f)
	f.Fuzz(func(t *testing.T, name, before, after string) {
		secret := "secrets=x=" + canary
		_, problems := Parse(
			[]string{"--" + name + "=" + before + canary + after},
			[]string{"WARMLAYER_" + secret, "PLUGIN_" + strings.ToUpper(name) + "=" + before + after}, dir)
		holds := slices.Contains([]string{"secrets", "secret-envs", "secret-files", "github-token", "cache", "cache-from", "cache-to", "build-args", "labels"}, name)
		if holds && !public(name, before) && strings.Contains(strings.ToLower(problems.Error()), strings.ToLower(canary)) {
			t.Errorf("a problem shows the credential:\n%v", problems)
		}
	})
}

// seeds are texts for inputs, by the input.
var seeds = map[string][]string{
	"context": {".", "https://u:p@h/r.git#main:sub", "a.tar.gz", "-"}, "file": {"-", "Dockerfile", "../x"}, "build-contexts": {"a=docker-image://b@sha256:00", "a=.\nb=oci-layout://x:y"},
	"build-args": {"A=b\nPATH", "BUILDKIT_SYNTAX=docker/dockerfile"}, "labels": {"\"a=b\nc\"", "a"}, "annotations": {"index,manifest:a=b", "index[linux/amd64]:a=b"},
	"tags": {"o/a:b,c", "ghcr.io/O/a"}, "push": {"true", "T", "x"}, "outputs": {"type=local,dest=out", "type=image,\"name=a,b\",push=true", "type=oci,dest=-,tar=false"},
	"platforms": {"linux/amd64,linux/arm/v7"}, "provenance": {"mode=max,version=v1", "false"}, "sbom": {"generator=x/y"}, "attests": {"type=sbom", "type=provenance,mode=min\ntype=provenance"},
	"call": {"check,format=json", "outline", "lint"}, "secrets": {"a=b\n\"c=d\ne\"", "a"}, "secret-envs": {"a=PATH,b"}, "secret-files": {"a=Dockerfile"}, "ssh": {"default", "a=Dockerfile"},
	"github-token": {"default:x", "y"}, "add-hosts": {"a=10.0.0.1,b:::1"}, "allow": {"network.host,device=x", "security.insecure"}, "shm-size": {"64m", "1.5g", "-1"}, "ulimit": {"nofile=1024:2048", "cpu=-1"},
	"cache": {"type=s3,bucket=b,region=r", "inline\ntype=local,dest=x"}, "cache-to": {"type=inline", "o/a"}, "cache-from": {"type=gha,scope=x"}, "fallback-branches": {"a,b"},
	"pull-request": {"7", "-1"}, "trusted": {"true", "maybe"}, "probe-timeout": {"5s", "0"}, "builder": {"tcp://h:1 linux/amd64\nunix:///s", "auto"}, "builder-cacert": {"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----"},
	"buildkitd-flags": {"--oci-max-parallelism 2 --debug"}, "buildkitd-config-inline": {"debug = true\n[registry.\"a\"]\nca = [\"x\"]"}, "driver-opts": {"env.A=b,memory=1g"}, "registry-auth": {"- registry: a\n  username: b"},
}

// FuzzInputs gives the value of each input in the variables of three CIs. They mean the same, and
// the same each time.
func FuzzInputs(f *testing.F) {
	for at, field := range Fields {
		for _, text := range append(seeds[field.Name], "x") {
			f.Add(uint8(at), text)
		}
	}
	dir := checkout(f)
	f.Fuzz(func(t *testing.T, at uint8, text string) {
		name := Fields[int(at)%len(Fields)].Name
		if strings.Contains(text, "/dev/") || strings.Contains(text, "/proc/") {
			t.Skip("files without an end")
		}
		values, problems := Parse(nil, []string{"INPUT_" + strings.ToUpper(name) + "=" + text}, dir)
		for _, p := range problems {
			if p.What == "" || strings.ContainsAny(p.What+p.Input, "\n\x00") {
				t.Errorf("a problem %+v", p)
			}
		}
		plugin, err := json.Marshal(map[string]string{name: text})
		if err != nil {
			t.Fatal(err)
		}
		var sent map[string]string
		if json.Unmarshal(plugin, &sent) != nil || sent[name] != text {
			plugin = nil // JSON has no invalid UTF-8
		}
		for _, variable := range []string{"INPUT_" + strings.ReplaceAll(name, "-", "_") + "=" + text, "WARMLAYER_" + name + "=" + text, settings.BuildkiteConfig + "=" + string(plugin)} {
			if plugin == nil && strings.HasPrefix(variable, settings.BuildkiteConfig) {
				continue
			}
			again, found := Parse(nil, []string{variable}, dir)
			if !reflect.DeepEqual(found, problems) {
				t.Errorf("%q: %v, and as a variable of GitHub %v", variable, found, problems)
			}
			if len(problems) == 0 && !reflect.DeepEqual(again, values) {
				t.Errorf("%q is not what it is as a variable of GitHub: %s", variable, differing(again, values))
			}
		}
	})
}

// FuzzBuildkite reads the configuration of Buildkite's plugin. It means the same in another order,
// with other spaces and escapes, and what is no object is one problem, which does not show it.
func FuzzBuildkite(f *testing.F) {
	for _, text := range []string{
		`{"tags": ["o/a", "o/b"], "push": true, "cache": [{"type": "inline"}]}`, `{"secrets": {"a": "b", "c": 1e3}}`, `{"image": 7, "push": null}`,
		`{"cache": "type=gha\ninline", "pull-request": 7}`, `[]`, `{"tags": [["x"]]}`, `{"no_cache": "1", "NO-CACHE": "1"}`, `{"registry-auth": [{"registry": "a"}]}`, `{"build-args": ["A=\u00e9", {"B": false}]}`,
		`{"push": "true"} {}`, `{"push": 1}`, `{"push": {"a": 1}}`, `{"labels": [null, "", " a=b "]}`,
	} {
		f.Add([]byte(text))
	}
	dir := checkout(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		if bytes.ContainsRune(text, 0) || bytes.Contains(text, []byte("/dev/")) {
			t.Skip("no environment has it, or a file without an end")
		}
		values, problems := Parse(nil, []string{settings.BuildkiteConfig + "=" + string(text)}, dir)
		var object map[string]json.RawMessage
		if json.Unmarshal(text, &object) != nil {
			if len(bytes.TrimSpace(text)) > 0 && len(problems) != 1 {
				t.Errorf("%q is no object, with the problems %v", text, problems)
			}
			return
		}
		for key, value := range object {
			if settings.InputName(key) == "registry-auth" && value[0] != '"' {
				t.Skip("its text is kept as it is")
			}
		}
		sorted, err := json.MarshalIndent(object, "", "  ") // sorts the keys
		if err != nil {
			t.Fatal(err)
		}
		again, found := Parse(nil, []string{settings.BuildkiteConfig + "=" + string(sorted)}, dir)
		if !reflect.DeepEqual(found, problems) || len(problems) == 0 && !reflect.DeepEqual(again, values) {
			t.Errorf("%s: %v; indented: %v; %s", text, problems, found, differing(again, values))
		}
	})
}

// FuzzPlugin reads the variables of Woodpecker and Drone: a JSON list means what it means in
// Buildkite's configuration.
func FuzzPlugin(f *testing.F) {
	for at, field := range Fields {
		if field.Kind.List() {
			f.Add(uint8(at), []byte(`["a=b", {"type": "local"}, 7]`))
			f.Add(uint8(at), []byte(`[]`))
		}
	}
	dir := checkout(f)
	f.Fuzz(func(t *testing.T, at uint8, list []byte) {
		field := Fields[int(at)%len(Fields)]
		list = bytes.TrimSpace(list)
		if !field.Kind.List() || len(list) == 0 || list[0] != '[' || !json.Valid(list) || bytes.Contains(list, []byte("/dev/")) {
			t.Skip("no list")
		}
		values, problems := Parse(nil, []string{"PLUGIN_" + strings.ToUpper(settings.InputName(field.Name)) + "=" + string(list)}, dir)
		again, found := Parse(nil, []string{settings.BuildkiteConfig + `={"` + field.Name + `":` + string(list) + "}"}, dir)
		if !reflect.DeepEqual(texted(found), texted(problems)) || len(problems) == 0 && !reflect.DeepEqual(again, values) {
			t.Errorf("%s as %s: %v; for Buildkite: %v; %s", list, field.Name, problems, found, differing(again, values))
		}
	})
}

// texted are problems without what differs by their source.
func texted(all syntax.Problems) []string {
	var texts []string
	for _, p := range all {
		texts = append(texts, p.Input+p.What)
	}
	return texts
}

// differing shows the fields in which values differ.
func differing(a, b Values) string {
	var out strings.Builder
	one, other := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range one.NumField() {
		if one.Type().Field(i).IsExported() && !reflect.DeepEqual(one.Field(i).Interface(), other.Field(i).Interface()) {
			fmt.Fprintf(&out, "%s is %+v and %+v ", one.Type().Field(i).Name, one.Field(i), other.Field(i))
		}
	}
	return out.String()
}
