package keda

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// serveNames answers every DNS question for an IPv4 address with all of these, as a headless Service
// does; it returns where it is asked.
func serveNames(t *testing.T, addresses ...string) string {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	go func() {
		packet := make([]byte, 1500)
		for {
			length, from, err := socket.ReadFrom(packet)
			if err != nil {
				return
			}
			var message dnsmessage.Message
			if message.Unpack(packet[:length]) != nil || len(message.Questions) == 0 {
				continue
			}
			message.Response, message.Authoritative = true, true
			message.Additionals = nil
			if question := message.Questions[0]; question.Type == dnsmessage.TypeA {
				for _, address := range addresses {
					message.Answers = append(message.Answers, dnsmessage.Resource{
						Header: dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: 1},
						Body:   &dnsmessage.AResource{A: [4]byte(net.ParseIP(address).To4())},
					})
				}
			}
			if answer, err := message.Pack(); err == nil {
				_, _ = socket.WriteTo(answer, from)
			}
		}
	}()
	return socket.LocalAddr().String()
}

// proxy passes connections on and counts those that are open.
type proxy struct {
	address string
	open    atomic.Int64
}

func countConnections(t *testing.T, to string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	this := &proxy{address: listener.Addr().String()}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			this.open.Add(1)
			go func() {
				defer this.open.Add(-1)
				defer client.Close()
				server, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer server.Close()
				join(client, server)
			}()
		}
	}()
	return this
}

// join passes bytes both ways until one side ends.
func join(one, other net.Conn) {
	var ending sync.WaitGroup
	ending.Add(2)
	pass := func(to, from net.Conn) {
		defer ending.Done()
		_, _ = io.Copy(to, from)
		_ = to.Close()
		_ = from.Close()
	}
	go pass(one, other)
	go pass(other, one)
	ending.Wait()
}
