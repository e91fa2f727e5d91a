package explain

import (
	"regexp"
	"strings"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// request is something that was asked of another host.
type request struct {
	what string // "pull", "push" or "fetch"
	of   string // "ghcr.io/owner/app:1", or a URL
	host string // "ghcr.io"; "" where only the error names it
	user Login  // for a registry
	// known: the login is known, so that a registry's refusal can be explained by it
	known bool
}

var (
	pulled  = regexp.MustCompile(`failed to resolve source metadata for (\S+): `)
	pushed  = regexp.MustCompile(`failed to push (\S+): `)
	sums    = regexp.MustCompile(`digest mismatch (\S+): (\S+)`)
	status  = regexp.MustCompile(`invalid response status (\d+)`)
	noRef   = regexp.MustCompile(`repository does not contain ref (\S+),`)
	noFetch = regexp.MustCompile(`failed to fetch remote (\S+): git stderr:\n(?:fatal: )?(.*)`)
)

// push explains a push that failed.
func push(f failure) Explanation {
	found := f.find(pushed)
	if found == nil {
		return Explanation{}
	}
	q := f.request("push", found[1])
	what, next := f.last(), ""
	if r, ok := whyNot(f.text); ok {
		what, next = r.explained(q, f.text)
	}
	return Explanation{What: "pushing " + found[1] + ": " + what, Next: next}
}

// request is one to the registry of an image.
func (f failure) request(what, image string) request {
	q := request{what: what, of: image, host: hostOf(image)}
	if f.Login != nil {
		q.user, q.known = f.Login(repositoryOf(image), what == "push"), true
	}
	return q
}

// frontendImage explains a frontend that could not be pulled.
func frontendImage(f failure) Explanation {
	image := f.frontend()
	r, ok := whyNot(f.text)
	if image == "" || !ok || f.Vertex != "" && f.at != nil {
		return Explanation{}
	}
	what, next := r.explained(f.request("pull", image), f.text)
	return Explanation{What: "the frontend " + image + " (# syntax=): " + what, Next: next}
}

// image explains a base image, or one of --from, that could not be pulled.
func image(f failure) Explanation {
	name := ""
	if found := f.find(pulled); found != nil {
		name = found[1]
	} else if f.at != nil && strings.Contains(f.text, "failed to fetch anonymous token") {
		name = f.at.source()
	}
	if name == "" {
		return Explanation{}
	}
	r, ok := whyNot(f.text)
	if !ok {
		return Explanation{}
	}
	what, next := r.explained(f.request("pull", name), f.text)
	if f.at == nil {
		return Explanation{What: "pulling " + name + ": " + what, Next: next}
	}
	if stage := f.meant(); stage != "" {
		return f.at.explained("no stage is called "+syntax.Quoted(f.at.source())+", and as an image: "+what, "did you mean the stage "+syntax.Quoted(stage)+"?")
	}
	return f.at.explained(what, next)
}

// meant is the stage that the instruction may have meant by the name of what became an image.
func (f failure) meant() string {
	if source := f.at.source(); !strings.ContainsAny(source, "/:@.") {
		return syntax.Nearest(source, f.dockerfile.stages())
	}
	return ""
}

// added explains a URL of ADD, or of the context, that could not be fetched.
func added(f failure) Explanation {
	if found := f.find(sums); found != nil {
		return f.at.explained("the file's checksum is "+found[1]+", and --checksum says "+found[2],
			"find out why the file has changed; if that is right, write the new checksum")
	}
	if found := f.find(noRef); found != nil {
		return f.fetched("the Git repository has no branch, tag or commit "+syntax.Quoted(found[1]), "check the part after # in the URL")
	}
	if found := f.find(noFetch); found != nil {
		return f.fetched("the Git repository cannot be read: "+syntax.Short(found[2], longestText),
			"check the URL; a private repository needs github-token, the secret GIT_AUTH_TOKEN, or ssh")
	}
	if f.at == nil || f.at.name != "ADD" {
		return Explanation{}
	}
	r, ok := whyNot(f.text)
	if found := f.find(status); found != nil && found[1] != "404" {
		return f.at.explained("the server answers "+found[1], "open the URL elsewhere, and check whether it needs a login")
	} else if !ok {
		return Explanation{}
	}
	what, next := r.explained(request{what: "fetch", of: f.at.text}, f.text)
	return f.at.explained(what, next)
}

// fetched is an explanation of the instruction that fetches, or of the context.
func (f failure) fetched(what, next string) Explanation {
	if f.at == nil {
		what = "the context: " + what
	}
	return f.at.explained(what, next)
}

// hostOf is the registry of an image, as people call it: "Docker Hub" for names without one.
func hostOf(image string) string {
	host, rest, ok := strings.Cut(image, "/")
	if !ok || rest == "" || !strings.ContainsAny(host, ".:") && host != "localhost" || host == "docker.io" || strings.HasSuffix(host, ".docker.io") {
		return "Docker Hub"
	}
	return host
}

// repositoryOf is an image's name without tag and digest.
func repositoryOf(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if colon := strings.LastIndex(image, ":"); colon > strings.LastIndex(image, "/") {
		image = image[:colon]
	}
	return image
}

// outside explains a failure whose subject is not known, by the network alone.
func outside(f failure) Explanation {
	r, ok := whyNot(f.text)
	if !ok || r.kind != Unreachable {
		return Explanation{}
	}
	what, next := r.explained(request{what: "fetch"}, f.text)
	return Explanation{What: what, Next: next}
}
