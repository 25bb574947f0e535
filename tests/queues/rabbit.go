package main

import (
	"context"
	"fmt"
	"log"
	"strconv"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"
)

// rabbit is RabbitMQ: one durable queue, one connection for each consumer.
type rabbit struct {
	url string

	mu sync.Mutex
	// publishers are channels in confirm mode that stay open, as a real publisher's do: their counters
	// are per channel.
	publishers map[string]*amqp.Channel
}

func (r *rabbit) open() (*amqp.Connection, *amqp.Channel, error) {
	connection, err := amqp.Dial(r.url)
	if err != nil {
		return nil, nil, err
	}
	channel, err := connection.Channel()
	if err != nil {
		connection.Close()
	}
	return connection, channel, err
}

func (r *rabbit) declare(queue string) error {
	connection, channel, err := r.open()
	if err != nil {
		return err
	}
	defer connection.Close()
	_, err = channel.QueueDeclare(queue, true, false, false, false, nil)
	return err
}

func (r *rabbit) publisher(queue string) (*amqp.Channel, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if channel := r.publishers[queue]; channel != nil {
		return channel, nil
	}
	_, channel, err := r.open()
	if err != nil {
		return nil, err
	}
	if err := channel.Confirm(false); err != nil {
		return nil, err
	}
	if r.publishers == nil {
		r.publishers = map[string]*amqp.Channel{}
	}
	r.publishers[queue] = channel
	return channel, nil
}

func (r *rabbit) publish(queue string, first, items int) error {
	channel, err := r.publisher(queue)
	if err != nil {
		return err
	}
	sent := make([]*amqp.DeferredConfirmation, 0, items)
	for item := first; item < first+items; item++ {
		message := amqp.Publishing{Body: []byte(strconv.Itoa(item))}
		confirmation, err := channel.PublishWithDeferredConfirmWithContext(
			context.Background(), "", queue, true, false, message)
		if err != nil {
			return err
		}
		sent = append(sent, confirmation)
	}
	for _, confirmation := range sent {
		if !confirmation.Wait() {
			return fmt.Errorf("an item was not confirmed")
		}
	}
	return nil
}

func (r *rabbit) consume(queue string, prefetch int, work func(item int)) (func(), error) {
	connection, channel, err := r.open()
	if err != nil {
		return nil, err
	}
	if err := channel.Qos(prefetch, 0, false); err != nil {
		connection.Close()
		return nil, err
	}
	deliveries, err := channel.Consume(queue, "", false, false, false, false, nil)
	if err != nil {
		connection.Close()
		return nil, err
	}
	stopped := make(chan struct{})
	go func() {
		for delivery := range deliveries {
			select {
			case <-stopped:
				return
			default:
			}
			item, err := strconv.Atoi(string(delivery.Body))
			if err != nil {
				log.Printf("a foreign item in %s: %v", queue, err)
				continue
			}
			work(item)
			if delivery.Ack(false) != nil {
				// The connection is gone, and with it what was not acknowledged.
				return
			}
		}
	}()
	return func() { close(stopped); connection.Close() }, nil
}
