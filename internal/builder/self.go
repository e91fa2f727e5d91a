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
	Network string  // the engine's name of the one that it is in, or "container:" and the ID of the one that it shares it with
	Alone   bool    // this program is what the container runs: all that is not mounted is lost with us
}

// Mount is a directory or file of the engine's machine that the container has.
type Mount struct {
	Source string // on the machine
	Target string // in the container
}

// FindSelf finds the container that this process runs in. Where it runs in none, or in
// one of another engine, it is an *Error.
func FindSelf(ctx context.Context, c *engine.Client) (Self, error) {
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	h, err := readHabitat()
	if err != nil {
		return Self{}, err
	}
	for _, name := range append(slices.Clone(h.ids), h.host) {
		found, err := c.ContainerInspect(ctx, name, engine.ContainerInspectOptions{})
		if err == nil && h.is(found.Container) {
			return describe(found.Container), nil
		}
	}
	return Self{}, &Error{What: "this process is in no container of the engine's, of which a builder could have the image", Hint: hintImage}
}

// Contained tells whether this process seems to run in a container of Docker's or Podman's.
// It asks nobody.
func Contained() bool {
	h, err := readHabitat()
	return err == nil && len(h.ids) > 0
}

// needsContainer tells whether this process is root of a container, as a step on GitHub is,
// and may not mount: a daemon needs another one.
func needsContainer() bool {
	if os.Geteuid() != 0 || !Contained() {
		return false
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	return unix.Capget(&header, &sets[0]) == nil && sets[0].Effective&(1<<unix.CAP_SYS_ADMIN) == 0
}

func describe(c container.InspectResponse) Self {
	s := Self{ID: c.ID, Image: c.Image, Alone: path.Base(c.Path) == "warmlayer"}
	if c.HostConfig != nil {
		s.Network = string(c.HostConfig.NetworkMode)
	}
	for _, m := range c.Mounts {
		s.Mounts = append(s.Mounts, Mount{Source: m.Source, Target: m.Destination})
	}
	return s
}

// habitat is what a process can see of the container that it runs in.
type habitat struct {
	ids   []string // what may be the container's, the likeliest first
	host  string   // the host's name
	upper string   // the layer on top of its root, on the machine; "" where it is not an overlay
	mount []string // where something is mounted
}

func readHabitat() (habitat, error) {
	groups, err := os.Open("/proc/self/cgroup")
	if err != nil {
		return habitat{}, err
	}
	defer groups.Close()
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return habitat{}, err
	}
	defer mounts.Close()
	host, err := os.Hostname()
	if err != nil {
		return habitat{}, err
	}
	return parseHabitat(groups, mounts, host), nil
}

var containerID = regexp.MustCompile(`\b[0-9a-f]{64}\b`)

// parseHabitat reads /proc/self/cgroup, which names the container unless it has a cgroup
// namespace, and /proc/self/mountinfo (proc(5)), where /etc/hostname and the like lie in the
// container's directory, unless they are another container's whose network it shares. The
// host's name is the container's, unless it was given another.
func parseHabitat(cgroup, mountinfo io.Reader, host string) habitat {
	h := habitat{host: host}
	add := func(text string) {
		for _, id := range containerID.FindAllString(text, -1) {
			if !slices.Contains(h.ids, id) {
				h.ids = append(h.ids, id)
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
		h.mount = append(h.mount, target)
		switch target {
		case "/":
			for option := range strings.SplitSeq(after, ",") {
				if upper, ok := strings.CutPrefix(option, "upperdir="); ok {
					h.upper = upper
				}
			}
		case "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/run/.containerenv":
			add(source)
		}
	}
	return h
}

// is tells whether the container is the one with this habitat.
func (h habitat) is(c container.InspectResponse) bool {
	if c.State == nil || !c.State.Running {
		return false
	}
	if c.GraphDriver != nil && c.GraphDriver.Data["UpperDir"] != "" && h.upper != "" {
		return c.GraphDriver.Data["UpperDir"] == h.upper
	}
	return !slices.ContainsFunc(c.Mounts, func(m container.MountPoint) bool { return !slices.Contains(h.mount, m.Destination) })
}
