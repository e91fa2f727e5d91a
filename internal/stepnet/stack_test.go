package stepnet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"runtime/pprof"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// A packet that arrives while the stack is ended makes gVisor's reader wait for the lock with which its
// end waits for the reader. The step is closed nevertheless.
func TestStackThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(pair[0]) })
	send := func() {
		if _, err := unix.Write(pair[0], datagram()); err != nil {
			t.Fatal(err)
		}
	}
	s := &step{network: &Network{}, socket: pair[1]}
	link, err := s.create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	arrived, goOn := make(chan struct{}), make(chan struct{})
	s.stack.SetTransportProtocolHandler(udp.ProtocolNumber, func(stack.TransportEndpointID, *stack.PacketBuffer) bool {
		close(arrived)
		<-goOn
		return true
	})
	if err := s.configure(link); err != nil {
		t.Fatal(err)
	}
	send()
	<-arrived // the reader is busy with it
	send()    // and reads this one next
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		s.close()
	}()
	ends := func() bool { return goroutine(t, "fdbased.(*endpoint).Attach", "fdbased.(*endpoint).Wait") }
	testkit.Until(t, "the stack's end to wait for the reader", ends)
	close(goOn)
	testkit.Until(t, "the reader to wait for the lock: if gVisor no longer does, destroy need not abandon a stack", func() bool {
		return goroutine(t, "fdbased.(*endpoint).dispatchLoop", "sync.(*RWMutex).RLock")
	})
	testkit.Until(t, "the step to be closed nevertheless", func() bool {
		select {
		case <-closed:
			return true
		default:
			return false
		}
	})
	if !ends() {
		t.Error("the stack has ended")
	}
	if _, err := unix.Write(pair[0], []byte{0}); !errors.Is(err, unix.EPIPE) {
		t.Errorf("the socket is open: %v", err)
	}
}

// goroutine tells whether one goroutine is in all of the functions.
func goroutine(t *testing.T, functions ...string) bool {
	t.Helper()
	var all bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&all, 1); err != nil {
		t.Fatal(err)
	}
next:
	for one := range bytes.SplitSeq(all.Bytes(), []byte("\n\n")) {
		for _, f := range functions {
			if !bytes.Contains(one, []byte(f)) {
				continue next
			}
		}
		return true
	}
	return false
}

// datagram is a UDP datagram from a step to another machine, as a packet socket has it: with a header of
// virtio (10 bytes, all zero: one whole packet), and one of Ethernet.
func datagram() []byte {
	const virtio, payload = 10, 4
	b := make([]byte, virtio+header.EthernetMinimumSize+header.IPv4MinimumSize+header.UDPMinimumSize+payload)
	header.Ethernet(b[virtio:]).Encode(&header.EthernetFields{DstAddr: tcpip.LinkAddress(gatewayMAC), SrcAddr: "\x02\x00\x00\x00\x00\x01", Type: header.IPv4ProtocolNumber})
	ip := header.IPv4(b[virtio+header.EthernetMinimumSize:])
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(ip)), TTL: 64, Protocol: uint8(header.UDPProtocolNumber), SrcAddr: address4("192.0.0.2"), DstAddr: address4("203.0.113.7"),
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	u := header.UDP(ip[header.IPv4MinimumSize:])
	u.Encode(&header.UDPFields{SrcPort: 40001, DstPort: 53, Length: uint16(len(u))}) // a checksum of 0 is none
	binary.BigEndian.PutUint32(u.Payload(), 0xcafe)
	return b
}

func address4(text string) tcpip.Address { return tcpip.AddrFrom4(netip.MustParseAddr(text).As4()) }
