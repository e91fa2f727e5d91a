package stepnet

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// silent is a link whose stack does not see echo requests. The stack answers for all addresses,
// so each would seem to be there.
type silent struct {
	stack.LinkEndpoint
	stack.GSOEndpoint // the stack looks for it
}

// Attach implements stack.LinkEndpoint.
func (l silent) Attach(d stack.NetworkDispatcher) {
	if d != nil {
		d = listener{d}
	}
	l.LinkEndpoint.Attach(d)
}

// listener passes packets on, without echo requests.
type listener struct{ stack.NetworkDispatcher }

// DeliverNetworkPacket implements stack.NetworkDispatcher.
func (l listener) DeliverNetworkPacket(protocol tcpip.NetworkProtocolNumber, p *stack.PacketBuffer) {
	if !echo(protocol, p) {
		l.NetworkDispatcher.DeliverNetworkPacket(protocol, p)
	}
}

// echo tells whether a packet asks for an echo.
func echo(protocol tcpip.NetworkProtocolNumber, p *stack.PacketBuffer) bool {
	switch protocol {
	case header.IPv4ProtocolNumber:
		data, ok := p.Data().PullUp(header.IPv4MinimumSize)
		if !ok || header.IPv4(data).TransportProtocol() != header.ICMPv4ProtocolNumber {
			return false
		}
		length := int(header.IPv4(data).HeaderLength())
		data, ok = p.Data().PullUp(length + header.ICMPv4MinimumSize)
		return ok && header.ICMPv4(data[length:]).Type() == header.ICMPv4Echo
	case header.IPv6ProtocolNumber:
		data, ok := p.Data().PullUp(header.IPv6MinimumSize + header.ICMPv6MinimumSize)
		return ok && header.IPv6(data).TransportProtocol() == header.ICMPv6ProtocolNumber &&
			header.ICMPv6(data[header.IPv6MinimumSize:]).Type() == header.ICMPv6EchoRequest
	}
	return false
}
