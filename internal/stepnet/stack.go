package stepnet

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/waiting"
)

const (
	nic = 1

	// segment is the largest segment that passes the packet socket in one piece, in bytes.
	segment = 64 << 10
	// maxConnecting is how many connections of one step may be in the making.
	maxConnecting = 1024
	// receiveBuffer is how much a step may send of one connection before this process has read
	// it, in bytes. What the buffers of a packet socket cannot take would be lost and sent again.
	receiveBuffer = 256 << 10
	// sendBuffer is how much may wait for a step in one connection, in bytes.
	sendBuffer = 1 << 20
)

// step is the network of one namespace: the stack at its end.
type step struct {
	network *Network
	socket  int // the packet socket
	stack   *stack.Stack
	ctx     context.Context // ends with cancel
	cancel  func()

	flows flows
	once  sync.Once
}

// start connects a stack to the socket. After an error the socket is still open.
func (s *step) start(ctx context.Context, f forwarder) error {
	link, err := s.create(ctx)
	if err != nil {
		return err
	}
	s.handle(s.ctx, f)
	if err := s.configure(link); err != nil {
		s.destroy()
		return err
	}
	return nil
}

// create makes a stack without an interface, and the link for it, which reads the socket once it is
// the stack's interface.
func (s *step) create(ctx context.Context) (stack.LinkEndpoint, error) {
	link, err := fdbased.New(&fdbased.Options{
		FDs: []int{s.socket}, MTU: mtu, EthernetHeader: true, Address: tcpip.LinkAddress(gatewayMAC),
		GSOMaxSize: segment, RXChecksumOffload: true, PacketDispatchMode: fdbased.RecvMMsg,
		// With more, goroutines of a dispatcher that is not used stay for ever.
		ProcessorsPerChannel: 1,
		// The socket fails when the namespace of the step has ended, and with it the interface.
		ClosedFunc: func(tcpip.Error) {
			go func() {
				defer crash.Catch()
				s.end()
			}()
		},
	})
	if err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(ctx)
	s.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})
	return silent{link, link.(stack.GSOEndpoint)}, nil
}

// handle sets what becomes of connections and datagrams.
func (s *step) handle(ctx context.Context, f forwarder) {
	f.flows = &s.flows
	s.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, tcp.NewForwarder(s.stack, 0, maxConnecting, func(r *tcp.ForwarderRequest) {
		defer crash.Catch()
		f.connection(ctx, r)
	}).HandlePacket)
	s.stack.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(s.stack, func(r *udp.ForwarderRequest) {
		defer crash.Catch()
		f.datagrams(ctx, r)
	}).HandlePacket)
}

// configure gives the stack its interface, which answers for all addresses.
func (s *step) configure(link stack.LinkEndpoint) error {
	sack, cubic := tcpip.TCPSACKEnabled(true), tcpip.CongestionControlOption("cubic")
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: receiveBuffer, Max: receiveBuffer}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: sendBuffer, Max: sendBuffer}
	for _, option := range []tcpip.SettableTransportProtocolOption{&sack, &cubic, &receive, &send} {
		if err := s.stack.SetTransportProtocolOption(tcp.ProtocolNumber, option); err != nil {
			return fmt.Errorf("set up the stack: %s", err)
		}
	}
	if err := s.stack.CreateNIC(nic, link); err != nil {
		return fmt.Errorf("connect the stack: %s", err)
	}
	for _, one := range []struct {
		protocol tcpip.NetworkProtocolNumber
		address  string
		prefix   int
	}{{ipv4.ProtocolNumber, gateway4, prefix4}, {ipv6.ProtocolNumber, gateway6, prefix6}} {
		address := tcpip.AddrFromSlice(netip.MustParseAddr(one.address).AsSlice())
		if err := s.stack.AddProtocolAddress(nic, tcpip.ProtocolAddress{
			Protocol: one.protocol, AddressWithPrefix: tcpip.AddressWithPrefix{Address: address, PrefixLen: one.prefix},
		}, stack.AddressProperties{}); err != nil {
			return fmt.Errorf("set the stack's address: %s", err)
		}
	}
	s.stack.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}, {Destination: header.IPv6EmptySubnet, NIC: nic}})
	for _, set := range []func(tcpip.NICID, bool) tcpip.Error{s.stack.SetPromiscuousMode, s.stack.SetSpoofing} {
		if err := set(nic, true); err != nil {
			return fmt.Errorf("set up the stack's interface: %s", err)
		}
	}
	return nil
}

// end is called when the namespace of the step has ended.
func (s *step) end() {
	s.network.forget(s)
	s.close()
}

// close ends all connections, and closes the socket. Further calls wait until it is done.
func (s *step) close() {
	s.once.Do(func() {
		s.destroy()
		_ = unix.Close(s.socket) // nothing was written that could be lost
	})
}

// destroy ends the stack, and abandons it when that takes too long: gVisor's packet socket waits for its
// reader with a lock that the reader needs for a packet that has just arrived (v0.0.0-20240916094835,
// pkg/tcpip/link/fdbased, Attach and recvMMsgDispatcher.dispatch).
func (s *step) destroy() {
	s.cancel()
	s.flows.end()
	_, _ = waiting.Patiently(s.ctx, time.Second, func() (struct{}, error) { // the context has ended
		s.stack.Destroy()
		return struct{}{}, nil
	})
}

// flows counts what a step has open.
type flows struct {
	mu      sync.Mutex
	count   int
	ended   bool
	forward sync.WaitGroup // the goroutines of flows
}

// take begins a flow, unless there are too many.
func (f *flows) take() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended || f.count == maxFlows {
		return false
	}
	f.count++
	f.forward.Add(1)
	return true
}

// give ends a flow.
func (f *flows) give() {
	f.mu.Lock()
	f.count--
	f.mu.Unlock()
	f.forward.Done()
}

// end allows no new flow, and returns when those that are open have ended.
func (f *flows) end() {
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()
	f.forward.Wait()
}
