package inputs

import (
	"maps"
	"testing"
)

// github is a job on GitHub, whose repository may be private.
var github = Job{Repository: Repository{Server: "https://github.com", Actions: true, Context: repository + "#abc"}}

func TestAttests(t *testing.T) {
	t.Parallel()
	type attests = map[string]string
	const (
		page = "https://github.com/o/r/actions/runs/7/attempts/2"
		run  = "builder-id=" + page
		min  = "mode=min,inline-only=true"
	)
	public, private, none := github, github, Job{}
	public.Repository.Public = true
	for _, tt := range []struct {
		name    string
		job     Job
		environ []string
		want    attests
	}{
		{"public", public, nil, attests{"provenance": "mode=max," + run}},
		{"private", private, nil, attests{"provenance": min + "," + run}},
		{"no CI", none, nil, attests{"provenance": min}},
		{"no default", public, []string{"BUILDX_NO_DEFAULT_ATTESTATIONS=1"}, attests{}},
		{"no default, but asked for", public, []string{"BUILDX_NO_DEFAULT_ATTESTATIONS=true", "INPUT_PROVENANCE=mode=max"}, attests{"provenance": "mode=max," + run}},
		{"load", public, []string{"INPUT_LOAD=true"}, attests{}},
		{"load and push", public, []string{"INPUT_LOAD=true", "INPUT_PUSH=true", "INPUT_TAGS=o/app"}, attests{}},
		{"load, but asked for", public, []string{"INPUT_LOAD=true", "INPUT_PROVENANCE=true"}, attests{"provenance": run}},
		{"archive", public, []string{"INPUT_OUTPUTS=type=docker,dest=x.tar"}, attests{}},

		{"true", public, []string{"INPUT_PROVENANCE=true"}, attests{"provenance": run}},
		{"true without a CI", none, []string{"INPUT_PROVENANCE=true"}, attests{"provenance": ""}},
		{"false", public, []string{"INPUT_PROVENANCE=False"}, attests{}},
		{"own builder", public, []string{"INPUT_PROVENANCE=builder-id=me,mode=min"}, attests{"provenance": "builder-id=me,mode=min"}},
		{"quotes", public, []string{`INPUT_PROVENANCE="builder-id=a,b",version=v0.2`}, attests{"provenance": `"builder-id=a,b",version=v0.2`}},
		{"quotes alone", public, []string{`INPUT_ATTESTS=type=provenance,"builder-id=a,b"`}, attests{"provenance": `"builder-id=a,b"`}},
		{"sbom", none, []string{"INPUT_SBOM=true", "INPUT_PROVENANCE=false"}, attests{"sbom": ""}},
		{"no sbom", none, []string{"INPUT_SBOM=false", "INPUT_PROVENANCE=false", "INPUT_ATTESTS=type=sbom"}, attests{}},
		{"generator", none, []string{"INPUT_SBOM=generator=r.example/scan,SELECT_Catalogers=x", "INPUT_PROVENANCE=false"}, attests{"sbom": "generator=r.example/scan,SELECT_Catalogers=x"}},
		{"attests", public, []string{"INPUT_ATTESTS=type=provenance,mode=min\ntype=sbom,generator=x"}, attests{"provenance": "mode=min," + run, "sbom": "generator=x"}},
		{"attests, disabled", public, []string{"INPUT_ATTESTS=type=provenance,disabled=true\nType=sbom,false"}, attests{}},
		{"inputs come first", public, []string{"INPUT_ATTESTS=type=provenance,mode=min\ntype=sbom,generator=x", "INPUT_PROVENANCE=mode=max", "INPUT_SBOM=true"}, attests{"provenance": "mode=max," + run, "sbom": ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v, problems := ParseJob(nil, tt.environ, checkout(t), tt.job)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			id := ""
			if tt.job.Repository.Actions {
				id = page
			}
			got := attests{}
			for _, a := range v.Attests.WithBuilderID(id) {
				got[a.Type] = a.String()
			}
			if !maps.Equal(got, tt.want) {
				t.Errorf("attestations are %q, want %q", got, tt.want)
			}
		})
	}
}

func TestAttestProblems(t *testing.T) {
	t.Parallel()
	for variable, want := range map[string]string{
		"INPUT_PROVENANCE=yes":                          "provenance: expected true, false or attributes\nhint: write it like mode=max",
		"INPUT_PROVENANCE=mode=maxi":                    "provenance: mode: \"maxi\" is none of min, max\nhint: did you mean \"max\"?",
		"INPUT_PROVENANCE=mod=max":                      "provenance: attribute \"mod\" is unknown\nhint: did you mean \"mode\"?",
		"INPUT_PROVENANCE=\"mode=max":                   "provenance: quotes are not balanced at column 2\nhint: put quotes around a whole field: \"builder-id=a,b\"",
		"INPUT_PROVENANCE=inline-only=yes":              "provenance: inline-only: \"yes\" is neither true nor false",
		"INPUT_SBOM=docker/scanner":                     "sbom: expected true, false or attributes\nhint: write it like generator=docker/buildkit-syft-scanner",
		"INPUT_ATTESTS=mode=max":                        "attests: line 1: the type is missing\nhint: begin with type=",
		"INPUT_ATTESTS=type=provenence":                 "attests: line 1: type \"provenence\" is unknown\nhint: did you mean \"provenance\"?",
		"INPUT_ATTESTS=type=sbom\ntype=sbom":            "attests: line 2: type sbom is given twice\nhint: leave one of the lines out",
		"INPUT_ATTESTS=type=sbom,disabled=yes":          "attests: line 1: disabled: \"yes\" is neither true nor false",
		"BUILDX_NO_DEFAULT_ATTESTATIONS=yes":            "BUILDX_NO_DEFAULT_ATTESTATIONS: \"yes\" is neither true nor false",
		"INPUT_ATTESTS=type=provenance,version=v1,mode": "attests: line 1: expected true, false or attributes\nhint: write it like type=provenance,mode=max",
	} {
		t.Run(variable, func(t *testing.T) {
			t.Parallel()
			_, problems := Parse(nil, []string{variable}, checkout(t))
			if got := problems.Error(); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}
