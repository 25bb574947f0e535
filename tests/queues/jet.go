package main

import (
	"errors"
	"log"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// workers is the name of the durable consumer of each stream.
const workers = "workers"

// patience is how long the server may take to answer: generous, the machine may be busy.
const patience = time.Minute

// jet is NATS JetStream: a stream with one durable pull consumer for each queue.
type jet struct {
	url string

	mu   sync.Mutex
	main *nats.Conn
}

func (j *jet) stream() (nats.JetStreamContext, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.main == nil {
		connection, err := nats.Connect(j.url, nats.Timeout(patience))
		if err != nil {
			return nil, err
		}
		j.main = connection
	}
	return j.main.JetStream(nats.PublishAsyncMaxPending(batch), nats.MaxWait(patience))
}

func (j *jet) declare(queue string) error {
	js, err := j.stream()
	if err != nil {
		return err
	}
	stream := &nats.StreamConfig{Name: queue, Subjects: []string{queue}, Storage: nats.MemoryStorage}
	if _, err := js.AddStream(stream); err != nil {
		return err
	}
	consumer := &nats.ConsumerConfig{
		Durable: workers, AckPolicy: nats.AckExplicitPolicy, AckWait: 10 * time.Second, MaxAckPending: -1,
	}
	_, err = js.AddConsumer(queue, consumer)
	return err
}

func (j *jet) publish(queue string, first, items int) error {
	js, err := j.stream()
	if err != nil {
		return err
	}
	sent := make([]nats.PubAckFuture, 0, items)
	for item := first; item < first+items; item++ {
		future, err := js.PublishAsync(queue, []byte(strconv.Itoa(item)))
		if err != nil {
			return err
		}
		sent = append(sent, future)
	}
	for _, future := range sent {
		select {
		case <-future.Ok():
		case err := <-future.Err():
			return err
		}
	}
	return nil
}

func (j *jet) consume(queue string, prefetch int, work func(item int)) (func(), error) {
	connection, err := nats.Connect(j.url, nats.Timeout(patience))
	if err != nil {
		return nil, err
	}
	js, err := connection.JetStream(nats.MaxWait(patience))
	if err != nil {
		connection.Close()
		return nil, err
	}
	subscription, err := js.PullSubscribe("", workers, nats.Bind(queue, workers))
	if err != nil {
		connection.Close()
		return nil, err
	}
	stopped := make(chan struct{})
	go func() {
		defer connection.Close()
		for fetch(subscription, prefetch, work, stopped) {
		}
	}()
	return func() { close(stopped) }, nil
}

// fetch works off one batch and says whether to go on. Once stopped, what is left of the batch goes back.
func fetch(s *nats.Subscription, prefetch int, work func(item int), stopped <-chan struct{}) bool {
	messages, err := s.Fetch(prefetch, nats.MaxWait(time.Second))
	if err != nil && !errors.Is(err, nats.ErrTimeout) {
		select {
		case <-stopped:
			return false
		case <-time.After(100 * time.Millisecond):
			log.Printf("fetch: %v", err)
			return true
		}
	}
	ended := false
	for _, message := range messages {
		select {
		case <-stopped:
			ended = true
			// Not heard, it comes back after the consumer's wait for an acknowledgement.
			_ = message.Nak()
			continue
		default:
		}
		item, err := strconv.Atoi(string(message.Data))
		if err != nil {
			log.Printf("a foreign item: %v", err)
			continue
		}
		work(item)
		if err := message.Ack(); err != nil {
			log.Printf("acknowledge: %v", err)
		}
	}
	select {
	case <-stopped:
		ended = true
	default:
	}
	if ended {
		_ = s.Unsubscribe()
	}
	return !ended
}
