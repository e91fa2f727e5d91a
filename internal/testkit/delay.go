package testkit

import (
	"net"
	"testing"
	"time"
)

// Delay is the address of a proxy for a server that makes a round trip longer by the given time.
// Bytes are delayed, not throttled; connecting is not delayed.
func Delay(t testing.TB, server string, roundTrip time.Duration) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return // closed at the end of the test
			}
			far, err := net.Dial("tcp", server)
			if err != nil {
				near.Close()
				continue
			}
			go late(far, near, roundTrip/2)
			go late(near, far, roundTrip/2)
		}
	}()
	return l.Addr().String()
}

type parcel struct {
	due     time.Time
	content []byte
}

// late copies one direction of a connection until that ends.
func late(to, from net.Conn, delay time.Duration) {
	defer to.Close()
	defer from.Close()
	underWay := make(chan parcel, 1024)
	go func() {
		defer close(underWay)
		for {
			buffer := make([]byte, 32<<10)
			n, err := from.Read(buffer)
			underWay <- parcel{time.Now().Add(delay), buffer[:n]}
			if err != nil {
				return
			}
		}
	}()
	for p := range underWay {
		<-time.After(time.Until(p.due))
		if _, err := to.Write(p.content); err != nil {
			from.Close() // which ends the reader
		}
	}
}
