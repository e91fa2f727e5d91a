package stepnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	cniVersion = "1.0.0"

	// mtu is that of both ends of the pair. Segments of TCP are larger: neither end cuts them.
	mtu = 1500

	// The addresses of all steps are the same, because each has a stack of its own. They are in a
	// range that is reserved for the two ends of such a link (RFC 7335), so that no other machine
	// has them, and in a unique local prefix (RFC 4193).
	stepAddress4, gateway4 = "192.0.0.2", "192.0.0.1"
	stepAddress6, gateway6 = "fd6c:7761:726d::2", "fd6c:7761:726d::1"
	prefix4, prefix6       = 29, 64
)

// gatewayMAC is the address of the stack's end. It is locally administered.
var gatewayMAC = net.HardwareAddr{0x02, 'w', 'l', 0, 0, 1}

// Attach is the CNI plugin: it adds a network to the namespace that CNI_NETNS names, and writes the
// result, or what is wrong, as CNI has it. Its error is that it has failed.
func Attach(getenv func(string) string, in io.Reader, out io.Writer) error {
	var config configuration
	err := json.NewDecoder(in).Decode(&config)
	if err == nil {
		err = attach(config, getenv("CNI_NETNS"), getenv("CNI_IFNAME"))
	}
	var answer any = map[string]any{"cniVersion": cniVersion, "interfaces": []map[string]string{{"name": getenv("CNI_IFNAME")}}}
	if err != nil {
		answer = map[string]any{"cniVersion": cniVersion, "code": 100, "msg": Failed + err.Error()}
	}
	return errors.Join(err, json.NewEncoder(out).Encode(answer))
}

// Failed begins the message of a plugin that failed. buildkitd's log contains it.
const Failed = "no network for steps: "

// attach makes the pair of interfaces, and hands the packet socket of one end over.
func attach(config configuration, netns, name string) error {
	// The thread changes its namespaces, and ends with the process.
	runtime.LockOSThread()
	ns, err := unix.Open(netns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the namespace: %w", err)
	}
	socket, err := add(ns, name, config.IPv6)
	if err != nil {
		return err
	}
	return handOver(config.Socket, socket)
}

// add makes the interfaces of a namespace, which the thread enters, and returns a packet socket of the other end of the pair.
func add(ns int, name string, ipv6 bool) (socket int, err error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return -1, fmt.Errorf("make a namespace: %w", err)
	}
	socket, err = pair(ns, name)
	if err != nil {
		return -1, err
	}
	if err = unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
		err = fmt.Errorf("enter the namespace: %w", err)
	} else {
		err = configure(name, ipv6)
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(socket))
	}
	return socket, nil
}

// pair makes a pair of interfaces between the thread's namespace and another one, and returns a
// packet socket of the end here. The namespace lives as long as that socket.
func pair(other int, name string) (socket int, err error) {
	link := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "step", MTU: mtu, TxQLen: 1000},
		PeerName:  name, PeerNamespace: netlink.NsFd(other), PeerMTU: mtu,
	}
	if err := netlink.LinkAdd(link); err != nil {
		return -1, fmt.Errorf("make a pair of interfaces (veth): %w", err)
	}
	made, err := netlink.LinkByName("step")
	if err != nil {
		return -1, err
	}
	if err := netlink.LinkSetUp(made); err != nil {
		return -1, fmt.Errorf("set the interface up: %w", err)
	}
	protocol := uint16(unix.ETH_P_ALL)<<8 | uint16(unix.ETH_P_ALL)>>8
	socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open a packet socket: %w", err)
	}
	// With the header of virtio, segments of up to 64 KiB pass, whose checksums are not computed.
	for _, option := range []int{unix.PACKET_VNET_HDR, unix.PACKET_IGNORE_OUTGOING} {
		if err := unix.SetsockoptInt(socket, unix.SOL_PACKET, option, 1); err != nil {
			return -1, fmt.Errorf("set up a packet socket: %w", err)
		}
	}
	if unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer) != nil {
		// Without the right to exceed the machine's limit the kernel takes what that allows.
		_ = unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_RCVBUF, socketBuffer)
	}
	if err := unix.Bind(socket, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: made.Attrs().Index}); err != nil {
		return -1, fmt.Errorf("bind a packet socket: %w", err)
	}
	return socket, nil
}

// socketBuffer is how much of what a step sends may wait in the kernel, in bytes.
const socketBuffer = 4 << 20

// configure sets up the interfaces of a step's namespace, in which the thread is.
func configure(name string, ipv6 bool) error {
	loopback, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(loopback)
	}
	if err != nil {
		return fmt.Errorf("set the loopback interface up: %w", err)
	}
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(link)
	}
	if err == nil {
		err = address(link, stepAddress4, gateway4, prefix4, 32, 0)
	}
	if err == nil && ipv6 {
		err = address(link, stepAddress6, gateway6, prefix6, 128, unix.IFA_F_NODAD)
	}
	if err != nil {
		return fmt.Errorf("set the interface up: %w", err)
	}
	return nil
}

// address gives an interface an address, and the default route through a gateway.
func address(link netlink.Link, own, gateway string, prefix, bits, flags int) error {
	network := &net.IPNet{IP: net.ParseIP(own), Mask: net.CIDRMask(prefix, bits)}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: network, Flags: flags}); err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(gateway)})
}

// handOver sends a descriptor to the process that listens at a socket, and waits for its answer.
func handOver(path string, descriptor int) error {
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Net: "unixpacket", Name: path})
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(attachTimeout))
	if _, _, err = conn.WriteMsgUnix([]byte{0}, unix.UnixRights(descriptor), nil); err != nil {
		return err
	}
	answer := make([]byte, 4<<10)
	length, err := conn.Read(answer)
	switch {
	case err != nil:
		return err
	case length == 0:
		return io.ErrUnexpectedEOF
	case length > 1:
		return errors.New(strings.TrimPrefix(string(answer[:length]), "\x00"))
	}
	return nil
}
