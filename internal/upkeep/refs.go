package upkeep

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/warmlayer/warmlayer/internal/storage"
	"github.com/warmlayer/warmlayer/scope"
)

// Refs are what exists in a repository.
type Refs struct {
	names map[scope.Name]bool // branches and tags, as scopes without a key
	pulls map[int]bool        // open pull requests; nil: not known
}

// Gone says that what a scope belongs to does not exist any more, "" where it does or where that is not known: "the branch is gone".
func (r Refs) Gone(n scope.Name) string {
	kind, slug := n.Ref()
	ref, _ := n.Cut()
	switch kind {
	case "b":
		if !r.names[ref] {
			return "the branch is gone"
		}
	case "t":
		if !r.names[ref] {
			return "the tag is gone"
		}
	case "q":
		if !r.names[scope.Name("b-"+slug)] {
			return "the branch of the merge queue is gone"
		}
	case "pr":
		if number, err := strconv.Atoi(slug); err == nil && r.pulls != nil && !r.pulls[number] {
			return closed
		}
	}
	return ""
}

// closed is why the scope of a pull request is gone.
const closed = "the pull request is closed"

// Remote is a Git repository whose refs are asked for.
type Remote struct {
	URL     string   // what git ls-remote takes: a URL, a path, or the name of a remote of the checkout in Dir
	Dir     string   // working directory
	Token   string   // for URL over HTTPS; "": git's own credentials
	Environ []string // of git
}

// maxPage is the largest page of pull requests in bytes that is read.
const maxPage = 64 << 20

// Branches asks a repository for its branches and tags. A repository without any branch is an error, since that is more often a mistake.
func Branches(ctx context.Context, from Remote) (Refs, error) {
	git := exec.CommandContext(ctx, "git", "-c", "safe.directory=*", "ls-remote", "--heads", "--tags", "--refs", "--", from.URL)
	git.Dir = from.Dir
	git.Env = append(slices.Clip(from.Environ), "GIT_TERMINAL_PROMPT=0")
	if from.Token != "" {
		basic := base64.StdEncoding.EncodeToString([]byte("x-access-token:" + from.Token))
		git.Env = append(git.Env, "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=http.extraHeader", "GIT_CONFIG_VALUE_0=Authorization: Basic "+basic)
	}
	var out, said bytes.Buffer
	git.Stdout, git.Stderr = &out, &said
	if err := git.Run(); err != nil {
		return Refs{}, fmt.Errorf("git ls-remote: %s", strings.Join(strings.Fields(firstOf(said.String(), err.Error())), " "))
	}
	found := Refs{names: map[scope.Name]bool{}}
	branches := 0
	for line := range strings.Lines(out.String()) {
		_, ref, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if strings.HasPrefix(ref, "refs/heads/") {
			branches++
		}
		if name := scope.RefName(ref); name != "" {
			found.names[name] = true
		}
	}
	if branches == 0 {
		return Refs{}, errors.New("git ls-remote: the repository has no branch, so nothing is taken for gone")
	}
	return found, nil
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if strings.TrimSpace(t) != "" {
			return t
		}
	}
	return ""
}

// List is where a server lists the open pull requests of a repository, as a JSON array of objects with a number or an iid.
type List struct{ URL, Header, Value string }

// pageSize is the most that GitHub, GitLab and Gitea all list at once: Gitea's default is 50.
const pageSize = 50

// WithPulls adds the open pull requests.
func (r Refs) WithPulls(ctx context.Context, list List) (Refs, error) {
	r.pulls = map[int]bool{}
	for page := 1; ; page++ {
		numbers, err := list.page(ctx, page)
		if err != nil {
			r.pulls = nil
			return r, fmt.Errorf("list the open pull requests: %w", err)
		}
		for _, n := range numbers {
			r.pulls[n] = true
		}
		if len(numbers) == 0 {
			return r, nil
		}
	}
}

// page is one page of open pull requests; none after the last.
func (l List) page(ctx context.Context, page int) ([]int, error) {
	at := l.URL + fmt.Sprintf("&per_page=%d&limit=%[1]d&page=%d", pageSize, page)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, errors.New("the API's URL is not one")
	}
	request.Header.Set(l.Header, l.Value)
	request.Header.Set("User-Agent", storage.UserAgent)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", request.URL.Host, answer.Status)
	}
	var found []struct {
		Number int `json:"number"`
		IID    int `json:"iid"`
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxPage)).Decode(&found); err != nil {
		return nil, fmt.Errorf("%s answers something else than a list", request.URL.Host)
	}
	var numbers []int
	for _, f := range found {
		numbers = append(numbers, max(f.Number, f.IID))
	}
	return numbers, nil
}
