package builder

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/storage"
)

const (
	own   = "4e1f0a57be6fb12cb1b9a2cd3e9e2d8b0f6c1ab6a4f2b2b9f7d5f3c2e1d0a9b8"
	other = "99a0b1c2d3e4f5061728394a5b6c7d8e9f00112233445566778899aabbccddee"
)

func TestParseProc(t *testing.T) {
	t.Parallel()
	const overlay = "600 500 0:52 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/A:/l/B,upperdir=/var/lib/docker/overlay2/x/diff,workdir=/w\n"
	for _, test := range []struct {
		name, cgroup, mounts string
		want                 []string
		upper                string
	}{
		{"docker, a cgroup namespace", "0::/\n", overlay +
			"610 600 8:1 /var/lib/docker/containers/" + own + "/resolv.conf /etc/resolv.conf rw - ext4 /dev/sda1 rw\n" +
			"611 600 8:1 /var/lib/docker/containers/" + own + "/hostname /etc/hostname rw - ext4 /dev/sda1 rw\n",
			[]string{own}, "/var/lib/docker/overlay2/x/diff"},
		{"docker, cgroups of version 1, the network of another", "5:cpu:/docker/" + own + "\n1:name=systemd:/docker/" + own + "\n",
			overlay + "611 600 8:1 /var/lib/docker/containers/" + other + "/hosts /etc/hosts rw - ext4 /dev/sda1 rw\n",
			[]string{own, other}, "/var/lib/docker/overlay2/x/diff"},
		{"podman", "0::/\n", "700 600 0:40 /containers/overlay-containers/" + own + "/userdata/.containerenv /run/.containerenv rw - tmpfs tmpfs rw\n",
			[]string{own}, ""},
		{"systemd", "0::/system.slice/docker-" + own + ".scope\n", "", []string{own}, ""},
		{"a machine with containers", "0::/user.slice\n", "30 1 8:1 / / rw - ext4 /dev/sda1 rw\n" +
			"90 30 0:52 / /var/lib/docker/containers/" + other + "/mounts/shm rw - tmpfs shm rw\n", nil, ""},
	} {
		p := parseProc(strings.NewReader(test.cgroup), strings.NewReader(test.mounts), "host")
		if !slices.Equal(p.ids, test.want) || p.upperDir != test.upper {
			t.Errorf("%s: %v, %q", test.name, p.ids, p.upperDir)
		}
	}
}

func TestMatches(t *testing.T) {
	t.Parallel()
	p := procInfo{upperDir: "/x/diff", mountPoints: []string{"/", "/work", "/etc/hosts"}}
	running := func(upper string, mounts ...string) container.InspectResponse {
		c := container.InspectResponse{State: &container.State{Running: true}}
		if upper != "" {
			c.GraphDriver = &storage.DriverData{Data: map[string]string{"UpperDir": upper}}
		}
		for _, m := range mounts {
			c.Mounts = append(c.Mounts, container.MountPoint{Destination: m})
		}
		return c
	}
	for _, test := range []struct {
		name string
		c    container.InspectResponse
		want bool
	}{
		{"its own layer", running("/x/diff"), true},
		{"the layer of another container", running("/y/diff", "/work"), false},
		{"unknown layer, its own mounts", running("", "/work"), true},
		{"unknown layer, other mounts", running("", "/data"), false},
		{"a container that has ended", container.InspectResponse{State: &container.State{}}, false},
	} {
		if got := p.matches(test.c); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func TestIsLeftover(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) string { return now.Add(-d).Format(time.RFC3339Nano) }
	current := Job{ID: "run 2", Runner: "r"}
	ended := processNamespace() + " 1 never" // the process 1 that runs is another one
	for _, test := range []struct {
		name        string
		job, runner string
		started     time.Duration
		running     bool
		programs    []string
		want        bool
		owner       string
		network     container.NetworkMode
	}{
		{"its creator has ended", "", "", time.Hour, true, nil, true, "", ""},
		{"its creator uses it", "", "", time.Hour, true, []string{"x"}, false, "", ""},
		{"its creator has not connected yet", "", "", time.Second, true, nil, false, "", ""},
		{"just created, not started", "", "", time.Second, false, nil, false, "", ""},
		{"created and never started", "", "", time.Hour, false, nil, true, "", ""},
		{"this job's", "run 2", "r", time.Hour, true, nil, false, "", ""},
		{"of an earlier job of this runner", "run 1", "r", time.Hour, true, nil, true, "", ""},
		{"of another runner", "run 1", "other", time.Hour, true, nil, false, "", ""},
		{"of another runner, older than a job can be", "run 1", "other", 6 * 24 * time.Hour, true, nil, true, "", ""},
		{"of a job that old, in use", "run 1", "other", 6 * 24 * time.Hour, true, []string{"x"}, false, "", ""},
		{"its owner has just been killed", "", "", time.Second, true, []string{"x"}, true, ended, ""},
		{"its owner has been killed before the start", "", "", time.Second, false, nil, true, ended, ""},
		{"its owner runs", "", "", time.Second, true, nil, false, thisProcess(), ""},
		{"its owner is in another namespace", "", "", time.Second, true, nil, false, "boot pid:[1] 1 1", ""},
		{"the container of its job runs", "run 1", "", time.Hour, true, nil, false, "", "container:alive"},
		{"the container of its job has ended", "run 1", "", time.Hour, true, nil, true, "", "container:gone"},
		{"the container of its job has ended, in use", "run 1", "", time.Hour, true, []string{"x"}, false, "", "container:gone"},
		{"a runner without a name runs another job", "run 1", "", time.Hour, true, nil, false, "", "bridge"},
	} {
		c := container.InspectResponse{
			Created: ago(test.started), ExecIDs: test.programs, State: &container.State{Running: test.running},
			Config: &container.Config{Labels: map[string]string{labelJob: test.job, labelRunner: test.runner, labelOwner: test.owner}},
		}
		c.HostConfig = &container.HostConfig{NetworkMode: test.network}
		if test.running {
			c.State.StartedAt = ago(test.started)
		}
		if got := isLeftover(c, current, now, func(id string) bool { return id == "gone" }); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func TestSource(t *testing.T) {
	t.Parallel()
	s := Self{Mounts: []Mount{{"/runner/_temp", "/github"}, {"/runner/_temp/commands", "/github/commands"}, {"/volume", "/var/run/act"}}}
	for path, want := range map[string]string{
		"/github/commands/set_output_1":          "/runner/_temp/commands",
		"/github/commands":                       "/runner/_temp/commands",
		"/github/commandsets":                    "/runner/_temp",
		"/var/run/act/workflow/../outputcmd.txt": "/volume",
		"/var/run":                               "",
		"":                                       "",
	} {
		if got := s.Source(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
