package cachemiss

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/solver/pb"
)

// Keys of facts. The rest of an operation is what has no key of its own.
const (
	factCommand  = "command"
	factPlatform = "platform"
	factVariable = "variable "
	factWorkdir  = "workdir"
	factUser     = "user"
	factNetwork  = "network"
	factSecurity = "security"
	factHost     = "host "
	factUlimit   = "ulimit "
	factDevice   = "device "
	factMount    = "mount "
	factContent  = "content "
	factTime     = "time"
	factRest     = "rest"
	factImage    = "image"
	factDigest   = "digest"
	factGit      = "git"
	factURL      = "url"
	factChecksum = "checksum"
	factLocal    = "local"
	factIgnored  = "ignored"
)

// exec has the facts that BuildKit's cache key of a command is made of (v0.34.2,
// solver/llbsolver/ops/exec.go, CacheMap): neither the values of secrets, nor proxies, nor addresses of hosts.
func (r reader) exec(op *pb.ExecOp, platform *pb.Platform) {
	op = op.CloneVT()
	meta := op.GetMeta()
	r.add(factCommand, strings.Join(shell(meta.GetArgs()), " "))
	r.add(factPlatform, platformText(platform))
	for _, pair := range meta.GetEnv() {
		name, value, _ := strings.Cut(pair, "=")
		r.hash(factVariable+name, value)
	}
	for _, s := range op.GetSecretenv() {
		r.add(factMount+"secret "+s.GetID(), s.GetName())
	}
	r.add(factUser, meta.GetUser())
	r.add(factWorkdir, meta.GetCwd())
	r.add(factNetwork, mode(op.GetNetwork() != pb.NetMode_UNSET, op.GetNetwork()))
	r.add(factSecurity, mode(op.GetSecurity() != pb.SecurityMode_SANDBOX, op.GetSecurity()))
	for _, h := range meta.GetExtraHosts() {
		r.add(factHost+h.GetHost(), h.GetHost())
	}
	for _, u := range meta.GetUlimit() {
		r.add(factUlimit+u.GetName(), fmt.Sprintf("%d:%d", u.GetSoft(), u.GetHard()))
	}
	for _, d := range op.GetCdiDevices() {
		r.add(factDevice+d.GetName(), d.GetName())
	}
	for _, m := range op.GetMounts() {
		r.mount(m)
	}
	meta.Args, meta.Env, meta.User, meta.Cwd, meta.ProxyEnv, meta.ExtraHosts, meta.Ulimit = nil, nil, "", "", nil, nil, nil
	op.Secretenv, op.Network, op.Security, op.CdiDevices, op.Mounts = nil, 0, 0, nil, nil
	r.rest(op)
}

// mode is the name of a mode, which may be the default one.
func mode(other bool, m fmt.Stringer) string {
	if !other {
		return "default"
	}
	return strings.ToLower(m.String())
}

// shell is a command without the default shell in front of it.
func shell(args []string) []string {
	if len(args) == 3 && args[0] == "/bin/sh" && args[1] == "-c" {
		return args[2:]
	}
	return args
}

func platformText(p *pb.Platform) string {
	return strings.Trim(strings.Join([]string{p.GetOS(), p.GetArchitecture(), p.GetVariant()}, "/"), "/")
}

// mount adds a mount. That of the root has no fact: it is the step before.
func (r reader) mount(m *pb.Mount) {
	if in := m.GetInput(); in >= 0 && int(in) < len(r.step.Inputs) {
		r.step.Uses = append(r.step.Uses, Use{Input: r.step.Inputs[in], Src: m.GetSelector()})
	}
	if m.GetDest() == "/" && m.GetMountType() == pb.MountType_BIND {
		return
	}
	kind, dest := strings.ToLower(m.GetMountType().String()), m.GetDest()
	text := []string{"target=" + dest}
	switch m.GetMountType() {
	case pb.MountType_SECRET:
		dest = m.GetSecretOpt().GetID()
		text = append(text, fmt.Sprintf("mode=%04o uid=%d gid=%d required=%t", m.GetSecretOpt().GetMode(), m.GetSecretOpt().GetUid(), m.GetSecretOpt().GetGid(), !m.GetSecretOpt().GetOptional()))
	case pb.MountType_SSH:
		dest = m.GetSSHOpt().GetID()
		text = append(text, fmt.Sprintf("mode=%04o uid=%d gid=%d required=%t", m.GetSSHOpt().GetMode(), m.GetSSHOpt().GetUid(), m.GetSSHOpt().GetGid(), !m.GetSSHOpt().GetOptional()))
	case pb.MountType_TMPFS:
		text = append(text, fmt.Sprintf("size=%d", m.GetTmpfsOpt().GetSize()))
	default: // an id or a sharing mode of a cache is in no key, unless both are the default
	}
	if m.GetReadonly() {
		text = append(text, "readonly")
	}
	r.add(factMount+kind+" "+dest, strings.Join(text, " "))
}

// file has the facts of a COPY, an ADD or a WORKDIR. What it copies is compared by content.
func (r reader) file(op *pb.FileOp) {
	op = op.CloneVT()
	r.add(factCommand, r.step.Name)
	for _, a := range op.GetActions() {
		switch is := a.GetAction().(type) {
		case *pb.FileAction_Copy:
			c := is.Copy
			if in := a.GetSecondaryInput(); in >= 0 && int(in) < len(r.step.Inputs) {
				r.step.Uses = append(r.step.Uses, Use{
					Input: r.step.Inputs[in], Src: c.GetSrc(), Wildcard: c.GetAllowWildcard(),
					Include: c.GetIncludePatterns(), Exclude: c.GetExcludePatterns(),
				})
			}
			c.Src = path.Base(c.GetSrc())
			c.Timestamp = r.time(c.GetTimestamp())
		case *pb.FileAction_Mkfile:
			r.hash(factContent+is.Mkfile.GetPath(), string(is.Mkfile.GetData()))
			is.Mkfile.Data, is.Mkfile.Timestamp = nil, r.time(is.Mkfile.GetTimestamp())
		case *pb.FileAction_Mkdir:
			is.Mkdir.Timestamp = r.time(is.Mkdir.GetTimestamp())
		case *pb.FileAction_Symlink:
			is.Symlink.Timestamp = r.time(is.Symlink.GetTimestamp())
		}
	}
	r.rest(op)
}

// time takes the time that files get, once for a step, and returns none.
func (r reader) time(at int64) int64 {
	has := slices.ContainsFunc(r.step.Facts, func(f Fact) bool { return f.Key == factTime })
	if at > 0 && !has {
		r.hash(factTime, fmt.Sprint(at))
	}
	return 0
}

// rest hashes what is left of an operation.
func (r reader) rest(op any) {
	text, err := json.Marshal(op)
	if err == nil {
		r.hash(factRest, string(text))
	}
}

// source has the facts of what a build starts from.
func (r reader) source(op *pb.SourceOp, platform *pb.Platform) {
	id, attrs := op.GetIdentifier(), op.GetAttrs()
	_, rest, _ := strings.Cut(id, "://")
	switch strings.TrimSuffix(id, rest) {
	case "docker-image://":
		name, digest, _ := strings.Cut(rest, "@")
		if ref, err := reference.ParseNormalizedNamed(name); err == nil {
			name = reference.FamiliarString(ref)
		}
		r.add(factImage, name)
		r.add(factDigest, digest)
		r.add(factPlatform, platformText(platform))
	case "oci-layout://":
		_, digest, _ := strings.Cut(rest, "@") // the rest is another one in every build
		r.add(factDigest, digest)
		r.add(factPlatform, platformText(platform))
	case "local://":
		l := Local{Name: rest, Include: list(attrs[pb.AttrIncludePatterns]), Exclude: list(attrs[pb.AttrExcludePatterns]), Follow: list(attrs[pb.AttrFollowPaths])}
		r.add(factLocal, l.Name)
		r.hash(factIgnored, strings.Join(l.Exclude, "\n"))
		if r.options.Files != nil {
			r.step.Files = r.options.Files(l)
		}
	case "git://":
		r.add(factGit, rest)
		r.add(factChecksum, attrs[pb.AttrGitChecksum])
	default:
		r.add(factURL, id)
		r.add(factChecksum, attrs[pb.AttrHTTPChecksum])
	}
}

// list is an attribute that is a list in JSON.
func list(text string) []string {
	var all []string
	_ = json.Unmarshal([]byte(text), &all) // empty where there is none
	return all
}
