// Package stepnet gives the RUN steps of a managed builder a network of their own, which ends in
// a TCP/IP stack in this process: gVisor's. What a step sends to another machine, this process
// sends for it, from the machine's network. Loopback addresses are the step's own: nothing that
// listens on the machine's loopback interface is reachable.
//
//	n, err := stepnet.New(stepnet.Options{Dir: private, Program: "/usr/local/bin/warmlayer"})
//	if err != nil {
//		return err
//	}
//	defer n.Close()
//	// buildkitd runs with networkMode = "cni", cniConfigPath = n.Config(), cniBinaryPath = n.Plugins()
//
// For each network namespace that buildkitd makes, it runs the plugin in that directory (CNI,
// github.com/containernetworking/cni, SPEC.md 1.0.0), which runs [Attach] in a process of the
// builder. It makes a pair of virtual Ethernet interfaces, one in the namespace of the step and
// one in a namespace without a name, and hands a packet socket of the latter to this process.
// Everything disappears with the step's namespace, or with this process. The machine's own
// interfaces, routes and firewall stay as they are.
package stepnet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/warmlayer/warmlayer/internal/crash"
)

// Command is the argument with which the plugin runs the program: its main function calls [Attach].
const Command = "attach-step"

const (
	socketFile = "socket"
	configFile = "network.json"
	pluginsDir = "plugins"
	pluginName = "warmlayer-step"
	// loopbackName is libcni's name of the plugin for the loopback interface.
	loopbackName = "loopback"

	// attachTimeout bounds one exchange with a plugin.
	attachTimeout = 20 * time.Second
)

// Options say how a network is made. Dir and Program are required.
type Options struct {
	// Dir is an empty directory for the socket and for what buildkitd reads. Only this user, and
	// root of the builder's user namespace, may enter it.
	Dir string
	// Program is the absolute path of a program that calls [Attach] for [Command].
	Program string
	// Shell is the absolute path of a POSIX shell.
	Shell string
	// Metadata lets steps reach the addresses at which clouds give a machine its identity.
	Metadata bool
}

// Network serves the steps of one builder.
type Network struct {
	options  Options
	listener *net.UnixListener
	ctx      context.Context // ends with Close
	cancel   func()
	serving  sync.WaitGroup

	mu     sync.Mutex
	closed bool
	steps  map[*step]bool
}

// New writes the files for buildkitd, and waits for plugins until Close.
func New(o Options) (*Network, error) {
	if err := writeFiles(o); err != nil {
		return nil, err
	}
	listener, err := net.ListenUnix("unixpacket", &net.UnixAddr{Net: "unixpacket", Name: filepath.Join(o.Dir, socketFile)})
	if err != nil {
		return nil, err
	}
	n := &Network{options: o, listener: listener, steps: map[*step]bool{}}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.serving.Go(func() {
		defer crash.Catch()
		n.serve()
	})
	return n, nil
}

// Config is the path of the CNI configuration.
func (n *Network) Config() string { return filepath.Join(n.options.Dir, configFile) }

// Plugins is the directory of the CNI plugins.
func (n *Network) Plugins() string { return filepath.Join(n.options.Dir, pluginsDir) }

// configuration is what the plugin reads from its standard input.
type configuration struct {
	CNIVersion string `json:"cniVersion"`
	Name       string `json:"name"`
	Type       string `json:"type"`
	Socket     string `json:"socket"`
	IPv6       bool   `json:"ipv6"` // the machine has a route for IPv6
}

// writeFiles writes the configuration and the plugins. A namespace needs nothing when it ends, so
// the plugins are shell scripts that start the program only to add one. buildkitd adds a network
// for the loopback interface too, which [Attach] sets up with the other one.
func writeFiles(o Options) error {
	plugins := filepath.Join(o.Dir, pluginsDir)
	if err := os.Mkdir(plugins, 0o700); err != nil {
		return err
	}
	config, err := json.Marshal(configuration{cniVersion, "steps", pluginName, filepath.Join(o.Dir, socketFile), hasIPv6()})
	if err == nil {
		err = os.WriteFile(filepath.Join(o.Dir, configFile), config, 0o600)
	}
	loopback := fmt.Sprintf("#!%s\necho '{\"cniVersion\":\"0.3.1\"}'\n", o.Shell)
	step := fmt.Sprintf("#!%s\n[ \"$CNI_COMMAND\" = ADD ] || exit 0\nexec '%s' %s\n", o.Shell, quote(o.Program), Command)
	for name, script := range map[string]string{loopbackName: loopback, pluginName: step} {
		if err == nil {
			err = os.WriteFile(filepath.Join(plugins, name), []byte(script), 0o700)
		}
	}
	return err
}

// quote returns the text between single quotes of a shell.
func quote(text string) string {
	var quoted []byte
	for _, c := range []byte(text) {
		if c == '\'' {
			quoted = append(quoted, `'\'`...)
		}
		quoted = append(quoted, c)
	}
	return string(quoted)
}

// hasIPv6 tells whether the machine has a route to the Internet's IPv6 addresses. Without one a
// step gets no IPv6 address, so that its programs do not try.
func hasIPv6() bool {
	conn, err := net.Dial("udp6", "[2001:4860:4860::8888]:53") // sends nothing
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// serve attaches each namespace for which a plugin connects.
func (n *Network) serve() {
	for {
		conn, err := n.listener.AcceptUnix()
		if err != nil {
			return
		}
		n.serving.Go(func() {
			defer crash.Catch()
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(attachTimeout))
			answer := ""
			if err := n.attach(conn); err != nil {
				answer = err.Error()
			}
			_, _ = conn.Write([]byte("\x00" + answer)) // a plugin that has ended needs no answer
		})
	}
}

// attach connects a stack to the packet socket that a plugin sends.
func (n *Network) attach(conn *net.UnixConn) error {
	socket, err := receive(conn)
	if err != nil {
		return err
	}
	s := &step{network: n, socket: socket}
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return errors.Join(net.ErrClosed, unix.Close(socket))
	}
	n.steps[s] = true
	n.mu.Unlock()
	if err := s.start(n.ctx, forwarder{metadata: n.options.Metadata}); err != nil {
		n.forget(s)
		return errors.Join(err, unix.Close(socket))
	}
	return nil
}

// receive returns the descriptor in a message.
func receive(conn *net.UnixConn) (int, error) {
	data, control := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, length, _, _, err := conn.ReadMsgUnix(data, control)
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:length])
	if err != nil || len(messages) != 1 {
		return -1, errors.New("the message has no descriptor")
	}
	descriptors, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(descriptors) != 1 {
		return -1, errors.New("the message has no descriptor")
	}
	unix.CloseOnExec(descriptors[0])
	return descriptors[0], nil
}

func (n *Network) forget(s *step) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.steps, s)
}

// Detach ends the networks of all steps: their builder has ended, and may be started again.
func (n *Network) Detach() {
	n.mu.Lock()
	steps := n.steps
	n.steps = map[*step]bool{}
	n.mu.Unlock()
	for s := range steps {
		s.close()
	}
}

// Close ends the networks of all steps, and waits for no new ones. Further calls do nothing.
func (n *Network) Close() error {
	n.mu.Lock()
	closed := n.closed
	n.closed = true
	n.mu.Unlock()
	if closed {
		return nil
	}
	n.cancel()
	err := n.listener.Close()
	n.serving.Wait()
	n.Detach()
	return err
}
