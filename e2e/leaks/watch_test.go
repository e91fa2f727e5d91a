package leaks

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// watcher collects the arguments and the environments of a process and of all that it starts.
type watcher struct {
	args    map[string]bool
	environ map[string]bool // of children
	buffer  []byte          // longer than the arguments or the environment of a run
	end     chan struct{}
	ended   sync.WaitGroup
}

// watch begins to collect, again and again until stop.
func watch(pid int) *watcher {
	w := &watcher{args: map[string]bool{}, environ: map[string]bool{}, buffer: make([]byte, 1<<20), end: make(chan struct{})}
	w.ended.Go(func() {
		for {
			w.collect(pid)
			select {
			case <-w.end:
				return
			default:
			}
		}
	})
	return w
}

// stop ends the collection, and returns the arguments of all and the environments of the children.
func (w *watcher) stop() (args, environ []byte) {
	close(w.end)
	w.ended.Wait()
	var a, e bytes.Buffer
	for text := range w.args {
		fmt.Fprintln(&a, text)
	}
	for text := range w.environ {
		fmt.Fprintln(&e, text)
	}
	return a.Bytes(), e.Bytes()
}

func (w *watcher) collect(root int) {
	parents := map[int]int{}
	started, _ := w.read(fmt.Sprintf("/proc/%d/cmdline", root)) // empty when it has ended
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		content, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(content[bytes.LastIndexByte(content, ')')+1:]))
		pid, _ := strconv.Atoi(strings.Split(name, "/")[2])
		parents[pid], _ = strconv.Atoi(fields[1])
	}
	for pid := range parents {
		at := pid
		for n := 0; at > 1 && at != root && n < 50; n++ {
			at = parents[at]
		}
		if at != root {
			continue
		}
		own, err := w.read(fmt.Sprintf("/proc/%d/cmdline", pid))
		w.keep(w.args, fmt.Sprintf("/proc/%d/cmdline", pid))
		// Until a child executes its program, both are those of the parent.
		if pid != root && err == nil && !bytes.Equal(own, started) {
			w.keep(w.environ, fmt.Sprintf("/proc/%d/environ", pid))
		}
	}
}

func (w *watcher) keep(in map[string]bool, file string) {
	if content, err := w.read(file); err == nil && len(content) > 0 {
		in[string(bytes.ReplaceAll(content, []byte{0}, []byte{'\n'}))] = true
	}
}

// read reads a file of /proc by one call. Where a process ends between two, the file seems to end
// after the first part (Linux, fs/proc/base.c, proc_pid_cmdline_read).
func (w *watcher) read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	n, err := f.Read(w.buffer)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return bytes.Clone(w.buffer[:n]), err
}
