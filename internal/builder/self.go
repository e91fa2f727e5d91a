package builder

import (
	"bufio"
	"context"
	"io"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	engine "github.com/moby/moby/client"
	"golang.org/x/sys/unix"
)

// Self is the container that this process runs in, as its engine knows it.
type Self struct {
	ID      string
	Image   string  // by ID
	Mounts  []Mount // without the engine's own files
	Network string  // the engine's name of its network, or "container:" and the ID of the container whose network it shares

	// Ephemeral tells that the container runs this program only: files outside its mounts are
	// lost when the program ends.
	Ephemeral bool
}

// Mount is a directory or file of the engine's machine that the container has.
type Mount struct {
	Source string // on the machine
	Target string // in the container
}

// Source is the machine's directory or file of the mount that has a path of the container, or the
// volume of that mount; "" when no mount has it.
func (s Self) Source(path string) string {
	var found Mount
	for _, m := range s.Mounts {
		if strings.HasPrefix(path+"/", m.Target+"/") && len(m.Target) > len(found.Target) {
			found = m
		}
	}
	return found.Source
}

// FindSelf finds the container that this process runs in. It returns an *Error when that is none
// of the engine's.
func FindSelf(ctx context.Context, c *engine.Client) (Self, error) {
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	p, err := readProc()
	if err != nil {
		return Self{}, err
	}
	for _, name := range append(slices.Clone(p.ids), p.hostname) {
		found, err := c.ContainerInspect(ctx, name, engine.ContainerInspectOptions{})
		if err == nil && p.matches(found.Container) {
			return describe(found.Container), nil
		}
	}
	return Self{}, &Error{What: "this process does not run in a container of the engine, whose image the builder would use", Hint: hintImage}
}

// Contained tells whether this process seems to run in a container of Docker or Podman. It asks
// no engine.
func Contained() bool {
	p, err := readProc()
	return err == nil && len(p.ids) > 0
}

// needsContainer tells whether this process is root of a container, as a container action on
// GitHub is, and may not mount: a managed builder needs a container of its own.
func needsContainer() bool {
	if os.Geteuid() != 0 || !Contained() {
		return false
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	return unix.Capget(&header, &sets[0]) == nil && sets[0].Effective&(1<<unix.CAP_SYS_ADMIN) == 0
}

// describe is a container as its engine describes it.
func describe(c container.InspectResponse) Self {
	s := Self{ID: c.ID, Image: c.Image, Ephemeral: path.Base(c.Path) == "warmlayer"}
	if c.HostConfig != nil {
		s.Network = string(c.HostConfig.NetworkMode)
	}
	for _, m := range c.Mounts {
		s.Mounts = append(s.Mounts, Mount{Source: m.Source, Target: m.Destination})
	}
	return s
}

// procInfo is what /proc tells about the container that a process runs in.
type procInfo struct {
	ids         []string // one of which may be the container's, the most likely first
	hostname    string
	upperDir    string   // of the overlay that is its root, on the machine; "" for another file system
	mountPoints []string // in the container
}

func readProc() (procInfo, error) {
	groups, err := os.Open("/proc/self/cgroup")
	if err != nil {
		return procInfo{}, err
	}
	defer groups.Close()
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return procInfo{}, err
	}
	defer mounts.Close()
	host, err := os.Hostname()
	if err != nil {
		return procInfo{}, err
	}
	return parseProc(groups, mounts, host), nil
}

var containerID = regexp.MustCompile(`\b[0-9a-f]{64}\b`)

// parseProc reads /proc/self/cgroup and /proc/self/mountinfo (proc(5)). The first has the
// container's ID unless the container has a cgroup namespace. In the second /etc/hostname and
// similar files are mounted from the container's directory, or from that of the container whose
// network it shares. The host name is the start of the ID unless another one was set.
func parseProc(cgroup, mountinfo io.Reader, host string) procInfo {
	p := procInfo{hostname: host}
	add := func(text string) {
		for _, id := range containerID.FindAllString(text, -1) {
			if !slices.Contains(p.ids, id) {
				p.ids = append(p.ids, id)
			}
		}
	}
	for lines := bufio.NewScanner(cgroup); lines.Scan(); {
		add(lines.Text())
	}
	for lines := bufio.NewScanner(mountinfo); lines.Scan(); {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if len(fields) < 5 {
			continue
		}
		source, target := fields[3], fields[4]
		p.mountPoints = append(p.mountPoints, target)
		switch target {
		case "/":
			for option := range strings.SplitSeq(after, ",") {
				if upper, ok := strings.CutPrefix(option, "upperdir="); ok {
					p.upperDir = upper
				}
			}
		case "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/run/.containerenv":
			add(source)
		}
	}
	return p
}

// matches tells whether the container is the one that /proc describes.
func (p procInfo) matches(c container.InspectResponse) bool {
	if c.State == nil || !c.State.Running {
		return false
	}
	if c.GraphDriver != nil && c.GraphDriver.Data["UpperDir"] != "" && p.upperDir != "" {
		return c.GraphDriver.Data["UpperDir"] == p.upperDir
	}
	return !slices.ContainsFunc(c.Mounts, func(m container.MountPoint) bool { return !slices.Contains(p.mountPoints, m.Destination) })
}
