package stepnet

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/warmlayer/warmlayer/internal/crash"
)

const (
	// maxFlows is how many connections, and pairs of addresses that exchange datagrams, one step
	// may have at once: each takes a descriptor of this process.
	maxFlows = 4096
	// connectTimeout is longer than the kernel's own, which decides.
	connectTimeout = 3 * time.Minute
	// datagramTimeout is how long two addresses may exchange nothing before they are forgotten.
	// RFC 4787 requires two minutes of an address translator.
	datagramTimeout = 2 * time.Minute
	// copyBuffer is the size of one read of a connection, in bytes.
	copyBuffer = 128 << 10
)

// forwarder connects what a step sends with the machine's network.
type forwarder struct {
	metadata bool
	flows    *flows
}

// target is where a step's packets for an address and a port go; false: nowhere.
func (f forwarder) target(id stack.TransportEndpointID) (string, bool) {
	addr, ok := netip.AddrFromSlice(id.LocalAddress.AsSlice())
	if !ok {
		return "", false
	}
	to := netip.AddrPortFrom(addr.Unmap(), id.LocalPort)
	if resolver, is := nameServer(to); is {
		to = resolver
	} else if !reachable(to.Addr(), f.metadata) {
		return "", false
	}
	return net.JoinHostPort(to.Addr().String(), strconv.Itoa(int(to.Port()))), true
}

// connection connects where a step wants to connect, and then accepts the step's connection: what
// is refused there is refused here.
func (f forwarder) connection(ctx context.Context, r *tcp.ForwarderRequest) {
	to, ok := f.target(r.ID())
	if !ok || !f.flows.take() {
		r.Complete(true)
		return
	}
	defer f.flows.give()
	dialer := net.Dialer{Timeout: connectTimeout}
	outside, err := dialer.DialContext(ctx, "tcp", to)
	if err != nil {
		r.Complete(true)
		return
	}
	defer outside.Close()
	var queue waiter.Queue
	endpoint, problem := r.CreateEndpoint(&queue)
	r.Complete(problem != nil)
	if problem != nil {
		return
	}
	inside, tcpConn := gonet.NewTCPConn(&queue, endpoint), outside.(*net.TCPConn)
	defer inside.Close()
	reset := func() {
		endpoint.Abort()
		_ = tcpConn.SetLinger(0)
		tcpConn.Close()
	}
	defer context.AfterFunc(ctx, func() {
		defer crash.Catch()
		reset()
	})()
	relay(inside, tcpConn, reset)
}

// half is a connection of which each direction ends on its own.
type half interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// relay copies between two connections until both directions have ended. When one fails, both are
// reset, so that what was cut off does not look complete.
func relay(inside, outside half, reset func()) {
	var copying sync.WaitGroup
	for _, way := range [][2]half{{inside, outside}, {outside, inside}} {
		copying.Go(func() {
			defer crash.Catch()
			to, from := way[0], way[1]
			// Only Read and Write: the connections' own ways to copy have smaller buffers.
			_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, copyBuffer))
			if err == nil {
				err = to.CloseWrite()
			}
			if err != nil {
				reset()
			}
		})
	}
	copying.Wait()
}

// datagrams forwards what a step sends from one address to another, and the answers.
func (f forwarder) datagrams(ctx context.Context, r *udp.ForwarderRequest) {
	to, ok := f.target(r.ID())
	if !ok || !f.flows.take() {
		return
	}
	var queue waiter.Queue
	endpoint, problem := r.CreateEndpoint(&queue)
	if problem != nil {
		f.flows.give()
		return
	}
	inside := gonet.NewUDPConn(&queue, endpoint)
	// The stack calls this for each packet in turn, so that it must not wait.
	go func() {
		defer crash.Catch()
		defer f.flows.give()
		defer inside.Close()
		outside, err := new(net.Dialer).DialContext(ctx, "udp", to)
		if err != nil {
			return
		}
		defer outside.Close()
		end := func() {
			inside.Close()
			outside.Close()
		}
		defer context.AfterFunc(ctx, func() {
			defer crash.Catch()
			end()
		})()
		exchange(inside, outside, end)
	}()
}

// exchange copies datagrams both ways until there are none for a while.
func exchange(inside, outside net.Conn, end func()) {
	idle := time.AfterFunc(datagramTimeout, func() {
		defer crash.Catch()
		end()
	})
	defer idle.Stop()
	var copying sync.WaitGroup
	for _, way := range [][2]net.Conn{{inside, outside}, {outside, inside}} {
		copying.Go(func() {
			defer crash.Catch()
			defer end()
			datagram := make([]byte, 64<<10)
			for {
				length, err := way[1].Read(datagram)
				if err == nil {
					_, err = way[0].Write(datagram[:length])
				}
				if err != nil {
					return
				}
				idle.Reset(datagramTimeout)
			}
		})
	}
	copying.Wait()
}
