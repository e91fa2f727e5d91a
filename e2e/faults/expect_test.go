package faults

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// expectation is what a cell's build reports.
type expectation struct {
	source string // the states that the only source may have: "loaded"
	reason string // a pattern for its reason; "": it has none
	export string // the outcome of the only export
	failed string // a pattern for its reason; "": it has none
}

// strict is the exit code with cache-strict.
func (e expectation) strict() int {
	if e.reason != "" && e.source != "absent" || e.export == "failed" {
		return 3
	}
	return 0
}

// builders are the kinds of caches on servers, through a remote builder.
const builders = "remote registry|remote s3|remote azblob|remote gha"

var cured = expectation{source: "loaded", export: "written"}

// rows are the expectations, of which the first counts that has a cell. In lists "" has everything.
var rows = []struct {
	kinds, faults, phases string // "s3|azblob"
	expectation
}{
	// BuildKit sends no checksums to Azure's storage, which is behind GitHub's cache too. The next build
	// that needs the blob finds the damage out, and mends it.
	{"remote gha|remote azblob", "flipped bit", "upload", cured},
	// BuildKit's client of S3 does not repeat a 429, and that of GitHub's cache not the call that begins
	// an entry or ends it, which the service may have carried out.
	{"remote gha", "500 once", "upload|commit", expectation{"loaded", "", "failed", "internal"}},
	{"remote s3", "429 once", "extract", expectation{"failed", "^the server limits requests", "written", ""}},
	{"remote s3", "429 once", "upload|commit", expectation{"loaded", "", "failed", "^the server limits requests"}},
	{"", "429 once|500 once|every answer 200 ms late", "", cured},

	// The phase read. A registry's manifest is read again to attach the record.
	{"registry", "404", "read", expectation{"absent", "", "failed", "MANIFEST_UNKNOWN"}},
	{"registry", "connection refused", "read", expectation{"failed", "connection refused", "failed", "connection refused"}},
	{"registry", "reset at byte 0|reset at byte 100", "read", expectation{"failed", "connection reset", "failed", "connection reset"}},
	{"registry", "stall|drip", "read", expectation{"failed", "no answer within 3s", "failed", "not committed within 6s"}},
	{"registry", "401", "read", expectation{"failed", "^the credentials are missing", "failed", "^the credentials are missing"}},
	{"registry", "403", "read", expectation{"failed", "^the credentials do not permit it", "failed", "^the credentials do not permit it"}},
	{"registry", "409", "read", expectation{"failed", "CONFLICT", "failed", "CONFLICT"}},
	{"registry", "429", "read", expectation{"failed", "^the server limits requests", "failed", "^the server limits requests"}},
	{"registry", "500", "read", expectation{"failed", "UNKNOWN", "failed", "UNKNOWN"}},
	{"registry", "503", "read", expectation{"failed", "UNAVAILABLE", "failed", "UNAVAILABLE"}},
	{"registry", "short body|flipped bit|garbage manifest", "read", expectation{"failed", "parse manifest", "failed", "parse manifest"}},
	{"registry", "huge manifest", "read", expectation{"failed", "limit", "failed", "limit"}},

	{"registry", "connection refused", "extract", expectation{"failed", "was lost", "failed", "connection refused"}},
	{"registry", "token expires half-way", "extract", expectation{"failed", "was lost", "failed", "^the credentials are missing"}},
	{"registry", "", "extract", expectation{"failed", "was lost", "written", ""}},

	// GitHub's service is asked again for the last version, so what cannot be asked cannot be written.
	// Its words for a broken request, or one without a right, are the codes of Twirp.
	{"gha", "short body|flipped bit|garbage manifest", "read", expectation{"failed", "parse cache config", "written", ""}},
	{"gha", "reset at byte 100", "read", expectation{"failed", "connection reset|unexpected EOF", "written", ""}},
	{"gha", "huge manifest", "read", expectation{"failed", "it is larger than 16777216 bytes", "written", ""}},
	{"gha", "drip", "read", expectation{"failed", "no answer within 3s", "written", ""}},
	{"gha", "stall", "read", expectation{"failed", "no answer within 3s", "failed", "not committed within 6s"}},
	{"gha", "", "read", expectation{"failed", ".", "failed", "."}},
	{"gha", "blob deleted before it is read", "import", expectation{"failed", "blobs are gone", "written", ""}},
	{"gha", "stall", "import", expectation{"failed", "no answer within 3s", "failed", "no answer within 3s"}},
	{"gha", "429", "import", expectation{"failed", "no answer within 3s|resource_exhausted", "failed", "no answer within 3s|resource_exhausted"}},
	{"gha", "", "import", expectation{"failed", "stat cache entry", "failed", "stat cache entry"}},
	{"gha", "stall|drip", "extract", expectation{"failed", "was lost: the cache stalls", "written", ""}},
	{"gha", "blob deleted after it is verified", "extract", expectation{"failed", "was lost: ", "written", ""}},
	{"gha", "", "extract", expectation{"failed", "was lost: ", "failed", "."}},
	{"gha", "stall|drip", "upload", expectation{"loaded", "", "failed", "no data of blob .* was accepted for 3s"}},
	{"gha", "stall|drip", "commit", expectation{"loaded", "", "failed", "not committed within 6s"}},
	{"gha", "", "upload|commit", expectation{"loaded", "", "failed", "."}},

	// Remote builders: what the program cannot read BuildKit may. The program reads the scope again to
	// attach the record.
	{"remote gha", "token expires half-way", "extract", expectation{"loaded", "", "failed", "."}}, // the URLs are still valid
	{"remote gha", "404", "read", expectation{"loaded", "not_found", "failed", "attach the scope's record"}},
	{"remote gha", "404", "import", expectation{"failed", "not_found", "failed", "not_found"}},
	// BuildKit takes a key that is taken for a blob that is there. The program looks, and may not send it either.
	{"remote gha", "409", "upload", expectation{"loaded", "", "written", "results were left out: blob .* is not there: a build took its key"}},
	// BuildKit makes the client of an Azure cache before the build has a job, and its client gives up meanwhile.
	{"remote azblob", "connection refused", "read", expectation{"failed", "connection refused", "failed", "^BuildKit did not begin in time"}},
	{"remote azblob", "connection refused", "extract", expectation{"failed", "was lost", "failed", "^BuildKit did not begin in time"}},
	// BuildKit's client of Azure looks whether a blob is there. It runs the steps of one that it cannot look up.
	{"remote azblob", "token expires half-way", "extract", expectation{"loaded|failed", "was lost", "failed", "^the credentials are missing"}},
	// BuildKit shows a transfer only when Azure has answered.
	{"remote azblob", "stall", "extract", expectation{"failed", "^the cache stalls: no layer of", "written", ""}},
	{builders, "404", "read", expectation{"absent", "", "failed", "attach the scope's record: .*(absent|MANIFEST_UNKNOWN|not_found)"}},
	{builders, "connection refused", "read", expectation{"failed", "connection refused", "failed", "connection refused"}},
	{builders, "stall|drip", "read", expectation{"loaded", "no answer within 3s", "failed", "not (done|committed) within 6s"}},
	{builders, "", "read", expectation{"loaded", ".", "failed", "attach the scope's record"}},
	{builders, "404|blob deleted before it is read", "import", expectation{"failed", "blobs are gone", "written", ""}},
	{builders, "reset at byte 100|short body|flipped bit|garbage manifest|huge manifest", "import", expectation{"failed", "^BuildKit could not import it", "written", ""}},
	{builders, "", "import", expectation{"failed", ".", "failed", "."}},
	{builders, "connection refused", "extract", expectation{"failed", "was lost", "failed", "connection refused"}},
	{builders, "token expires half-way", "extract", expectation{"failed", "was lost", "failed", "."}},
	{builders, "", "extract", expectation{"failed", "was lost", "written", ""}},
	{builders, "stall|drip", "upload|commit", expectation{"loaded", "", "failed", "not (done|committed) within 6s"}},
	{builders, "", "upload|commit", expectation{"loaded", "", "failed", "."}},

	// Inline caches are pushed with the image, and tagged by the program, which reads the image before.
	{"inline", "404", "read", expectation{"absent", "", "failed", "MANIFEST_UNKNOWN"}},
	{"inline", "stall|drip", "read", expectation{"failed", "no answer within 3s", "failed", "not committed within 6s"}},
	{"inline", "", "read", expectation{"failed", ".", "failed", "."}},
	{"inline", "404|blob deleted before it is read", "import", expectation{"failed", "blobs are gone", "written", ""}},
	{"inline", "", "import", expectation{"failed", ".", "written", ""}},
	{"inline", "", "extract", expectation{"failed", "was lost", "written", ""}},
	{"inline", "stall|drip", "commit", expectation{"loaded", "", "failed", "not committed within 6s"}},
	{"inline", "", "commit", expectation{"loaded", "", "failed", "."}},

	// Stores of objects. What is written is written, although the scope could not be read.
	// The scope is there nevertheless, which the condition of the write finds out.
	{"s3|azblob", "404", "read", expectation{"absent", "", "written", "another build has written the scope, which has not changed"}},
	{"s3", "401", "read", expectation{"failed", "^the credentials are missing", "written", ""}},
	{"s3", "403", "read", expectation{"failed", "^the credentials do not permit it", "written", ""}},
	{"azblob", "401", "read", expectation{"failed", "^the server does not accept the key", "written", ""}},
	{"azblob", "403", "read", expectation{"failed", "^the account does not permit it", "written", ""}},
	{"s3", "503", "read", expectation{"failed", "^the server limits requests", "written", ""}},                         // SlowDown
	{"s3|azblob", "429", "read", expectation{"failed", "^the server limits requests|no answer within", "written", ""}}, // a busy machine may still wait between its tries
	{"s3|azblob", "stall|drip", "read", expectation{"failed", "no answer within 3s", "written", ""}},
	{"s3|azblob", "connection refused", "read", expectation{"failed", "connection refused", "failed", "connection refused"}},
	{"s3|azblob", "huge manifest", "read", expectation{"failed", "it is larger than 16777216 bytes", "written", ""}},
	{"s3|azblob", "garbage manifest", "read", expectation{"failed", "parse cache config", "written", ""}},
	{"s3|azblob", "short body|flipped bit", "read", expectation{"failed", "the cache config is damaged", "written", ""}},
	{"s3|azblob", "", "read", expectation{"failed", "^read ", "written", ""}},

	{"s3|azblob", "404|blob deleted before it is read", "import", expectation{"failed", "blobs are gone", "written", ""}},
	// S3 answers so for what is missing, too: the blobs are sent again.
	{"s3", "403", "import", expectation{"failed", "^the credentials do not permit it", "written", ""}},
	{"s3|azblob", "stall", "import", expectation{"failed", "no answer within 3s", "failed", "no answer within 3s"}},
	{"s3|azblob", "429", "import", expectation{"failed", "^the server limits requests", "failed", "^the server limits requests"}},
	{"s3|azblob", "401", "import", expectation{"failed", "^the (credentials are missing|server does not accept)", "failed", "^the (credentials are missing|server does not accept)"}},
	{"s3|azblob", "", "import", expectation{"failed", ".", "failed", "."}},

	// A blob that is lost is sent again, and read back: with the fault the copy counts as damaged.
	{"s3|azblob", "stall|drip", "extract", expectation{"failed", "was lost: the cache stalls", "written", ""}},
	{"s3|azblob", "blob deleted after it is verified", "extract", expectation{"failed", "was lost: ", "written", ""}},
	{"s3|azblob", "", "extract", expectation{"failed", "was lost: ", "failed", "."}},

	{"s3|azblob", "stall|drip", "upload", expectation{"loaded", "", "failed", "no data of blob .* was accepted for 3s"}},
	{"s3|azblob", "stall|drip", "commit", expectation{"loaded", "", "failed", "not committed within 6s"}},
	{"s3|azblob", "429", "upload|commit", expectation{"loaded", "", "failed", "^the server limits requests"}},
	// The blobs are looked up while the first of them is sent, so either may meet it.
	{"s3|azblob", "token expires half-way", "upload", expectation{"loaded", "", "failed", "^the (credentials are missing|server does not accept)"}},
	{"s3|azblob", "", "upload|commit", expectation{"loaded", "", "failed", "write "}},

	// Directories. BuildKit's client keeps a file that it finds.
	// BuildKit runs a step itself when its layer cannot be had, or gives up and is asked again.
	{"remote local", "layer with a flipped bit", "", expectation{"loaded|failed", "was lost", "written", ""}},
	{"remote local", "layer is a FIFO|layer unreadable", "", expectation{"failed", "1 of 7 blobs are gone", "failed", "write the scope's cache"}},
	{"remote local", "index locked", "", expectation{"loaded", "", "failed", "another process holds it: not done within 6s"}},
	{"remote local", "lock unreadable", "", expectation{"loaded", "", "failed", "could not lock"}},
	{"remote local", "dead mount", "", expectation{"failed", "no answer within 3s", "failed", "not done within 6s"}},
	{"local|remote local", "index cut off|index garbage|index huge", "", expectation{"failed", "index.json", "written", ""}},
	{"local|remote local", "index unreadable|index is a FIFO", "", expectation{"failed", "index.json", "failed", "index.json"}},
	{"local|remote local", "manifest cut off|manifest with a flipped bit|manifest deleted", "", expectation{"failed", "read b-main in", "written", ""}},
	{"local|remote local", "config cut off|config with a flipped bit|config deleted|config is a FIFO", "", expectation{"failed", "config sha256:", "written", ""}},
	{"local|remote local", "layer cut off|layer deleted|layer is a FIFO", "", expectation{"failed", "1 of 7 blobs are gone", "written", ""}},
	{"local|remote local", "layer unreadable", "", expectation{"failed", "1 of 7 blobs are gone", "failed", "rename"}},
	{"local|remote local", "layer with a flipped bit", "", expectation{"failed", "was lost: the store's copy is damaged", "written", ""}},
	{"local|remote local", "dead mount", "", expectation{"failed", "no answer within 3s", "failed", "no answer within 3s"}},
	{"local|remote local", "read-only file system", "", expectation{"loaded", "", "failed", "^the file system does not permit it"}},
	{"local|remote local", "full disk", "", expectation{"loaded", "", "failed", "^the disk is full"}},
	{"local|remote local", "ingest is a file", "", expectation{"loaded", "", "failed", "not a directory"}},
	{"local|remote local", "index locked", "", expectation{"loaded", "", "failed", "another process holds it: not committed within 6s"}},
	{"local|remote local", "lock unreadable", "", expectation{"loaded", "", "failed", "not a regular file"}},

	// Uploads and commits leave the former cache.
	{"registry", "stall|drip", "upload|commit", expectation{"loaded", "", "failed", "not (done|committed) within 6s"}},
	{"registry", "401|token expires half-way", "upload|commit", expectation{"loaded", "", "failed", "^the credentials are missing"}},
	{"registry", "403|token becomes read-only", "upload|commit", expectation{"loaded", "", "failed", "^the credentials do not permit it"}},
	{"registry", "429", "upload|commit", expectation{"loaded", "", "failed", "^the server limits requests"}},
	{"registry", "", "upload|commit", expectation{"loaded", "", "failed", "."}},
}

// failing are the cells whose builds a remote builder fails, with a pattern for the error.
var failing = []struct{ kinds, faults, phases, reason string }{
	// BuildKit does not cancel an import, which blocks its scheduler, and the program cannot restart this builder.
	{builders, "stall|drip", "import", "the import hangs"},
	{"remote s3|remote azblob|remote gha", "huge manifest", "import", "the import hangs"},
	{"remote gha", "429", "import", "the import hangs"}, // repeated for its own ten minutes
	// BuildKit reads from the storage behind GitHub's cache without a context (v0.34.2,
	// cache/remotecache/gha/gha.go, ReaderAt), and repeats requests for minutes. The second attempt on the
	// same builder waits for the same download.
	{"remote gha", "connection refused|reset at byte 0|stall|drip|429|500|503", "extract", "the cache stalls"},
}

// fails is the error of a build that fails; "": it succeeds.
func (c cell) fails() string {
	for _, r := range failing {
		if c.among(r.kinds, r.faults, r.phases) {
			return r.reason
		}
	}
	return ""
}

// expected is the expectation of a cell.
func (c cell) expected() (e expectation, known bool) {
	for _, r := range rows {
		if c.among(r.kinds, r.faults, r.phases) {
			return r.expectation, true
		}
	}
	return e, false
}

// among says whether lists have a cell.
func (c cell) among(kinds, faults, phases string) bool {
	within := func(list, text string) bool { return list == "" || slices.Contains(strings.Split(list, "|"), text) }
	return within(kinds, c.kind.name) && within(faults, c.name) && within(phases, string(c.phase))
}

// check compares a build with the fault with the expectation.
func (c cell) check(t *testing.T, out testkit.Output, strict bool) {
	t.Helper()
	e, known := c.expected()
	if !known && c.fails() == "" {
		t.Error("no row of the table has this cell")
		return
	}
	r := out.Report
	if reason := c.fails(); reason != "" {
		if out.Code != 1 || !matches(reason, r.Error) {
			t.Errorf("exit code %d, %q; want 1, %q:\n%s", out.Code, r.Error, reason, out.Text)
		}
		return
	}
	if code := e.strict(); strict && out.Code != code || !strict && out.Code != 0 {
		t.Errorf("exit code %d with cache-strict %t; in strict mode it should be %d:\n%s", out.Code, strict, code, out.Text)
	}
	if len(r.Sources) != 1 || len(r.Exports) != 1 {
		t.Fatalf("sources %+v, exports %+v", r.Sources, r.Exports)
	}
	source, export := r.Sources[0], r.Exports[0]
	if !slices.Contains(strings.Split(e.source, "|"), source.State) || !matches(e.reason, source.Error) {
		t.Errorf("the source is %s: %q, want %s: %q", source.State, source.Error, e.source, e.reason)
	}
	if export.Outcome != e.export || !matches(e.failed, export.Error) {
		t.Errorf("the export is %s: %q, want %s: %q", export.Outcome, export.Error, e.export, e.failed)
	}
	// The console has one row for each side, which is the warning where it has a reason.
	for row, reason := range map[string]string{
		strings.Join([]string{source.State, source.Why, source.Name, source.Cache}, "  "): source.Error,
		strings.Join([]string{export.Outcome, export.Name, export.Cache}, "  "):           export.Error,
	} {
		if source.State == "absent" {
			reason = ""
		}
		reason = strings.Join(strings.Fields(reason), " ") // one line
		reason = reason[:min(len(reason), 250)]
		// Between them are the time, and what the scope keeps, of an export that was written.
		rows := slices.DeleteFunc(strings.Split(out.Text, "\n"), func(line string) bool {
			_, after, found := strings.Cut(line, row)
			return !found || !strings.Contains(after, reason)
		})
		if len(rows) != 1 {
			t.Errorf("the report has %d times %q, with %q:\n%s", len(rows), row, reason, out.Text)
		}
	}
	if len(r.Warnings) > 0 {
		t.Errorf("more warnings: %q", r.Warnings)
	}
}

// matches reports whether an error has a pattern, or none is wanted and there is none.
func matches(pattern, text string) bool {
	if pattern == "" {
		return text == ""
	}
	return regexp.MustCompile(pattern).MatchString(text)
}

// certain are faults that a second try does not cure.
var certain = []string{"401", "403", "404", "409", "token expires half-way", "token becomes read-only", "garbage manifest"}

// checkTries checks that nothing is retried that should not be. A request is made for the build and
// once more for its export, a layer may be asked for before that, to be unpacked ahead, and several
// blobs begin their uploads by equal requests.
func (c cell) checkTries(t *testing.T, requests []string) {
	t.Helper()
	tries := map[string]int{}
	for _, r := range requests {
		tries[r]++
	}
	for r, n := range tries {
		most := 2
		// A conditional write of what another build has deleted or made meanwhile is repeated.
		if strings.HasPrefix(r, "POST") || c.name == "404" && c.phase == committing {
			most = 4
		} else if c.name == "404" && c.phase == reading {
			most = 5
		} else if c.phase == extracting && strings.HasPrefix(r, "GET") {
			most = 3
		}
		if slices.Contains(certain, c.name) && n > most {
			t.Errorf("%d times: %s", n, r)
		}
	}
}
