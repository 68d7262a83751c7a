package interop

import (
	"errors"
	"net"
	"testing"

	"github.com/pion/stun/v3"
)

// serveSTUN answers binding requests (RFC 8489) in a namespace until the test
// ends, and returns the server's URL.
func serveSTUN(t testing.TB, place *Namespace, address string) string {
	t.Helper()
	var conn net.PacketConn
	err := place.Do(func() (err error) {
		conn, err = net.ListenPacket("udp4", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		answerSTUN(conn)
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return "stun:" + address
}

// answerSTUN ends when conn is closed.
func answerSTUN(conn net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // about a packet that was sent
		}
		if response, ok := bindingResponse(buf[:n], from); ok {
			_, _ = conn.WriteTo(response, from)
		}
	}
}

// bindingResponse tells the sender of a binding request its address.
func bindingResponse(packet []byte, from net.Addr) ([]byte, bool) {
	request := &stun.Message{Raw: packet}
	addr, ok := from.(*net.UDPAddr)
	if !ok || request.Decode() != nil || request.Type != stun.BindingRequest {
		return nil, false
	}
	response, err := stun.Build(request, stun.BindingSuccess, &stun.XORMappedAddress{IP: addr.IP, Port: addr.Port}, stun.Fingerprint)
	if err != nil {
		return nil, false
	}
	return response.Raw, true
}
