// Command queue-app publishes to and consumes from the real queues of the tests, told by HTTP:
//
//	queue-app -listen ADDRESS -amqp URL -nats URL -nats-monitor URL
//
//	GET /declare?system=S&queue=Q                       makes the queue
//	GET /publish?system=S&queue=Q&items=N[&rate=R]      publishes N items, R a second, in the background
//	GET /consume?system=S&queue=Q&pod=P&us=U&prefetch=N consumes until stopped, U microseconds an item
//	GET /stop?pod=P                                     ends a consumer; what it holds goes back
//	GET /counts?system=S&queue=Q                        what was published and worked off, as JSON
//	GET /metrics                                        NATS JetStream as prometheus-nats-exporter prints it
//
// S is rabbitmq or nats. An item is worked off before it is acknowledged, so it may be worked off twice
// but never be lost unnoticed.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// system is a kind of queue server.
type system interface {
	// declare makes an empty queue.
	declare(queue string) error
	// publish sends the items numbered from first on, and returns when the server has confirmed them.
	publish(queue string, first, items int) error
	// consume calls work for each item and then acknowledges it; closing the result ends it, and what was
	// not acknowledged is delivered again.
	consume(queue string, prefetch int, work func(item int)) (close func(), err error)
}

// batch is how many items are confirmed at once.
const batch = 1000

type consumer struct {
	queue string
	close func()
}

type app struct {
	systems map[string]system
	monitor string

	mu        sync.Mutex
	ledgers   map[string]*ledger
	consumers map[string]consumer
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to serve on")
	amqp := flag.String("amqp", "", "URL of RabbitMQ")
	nats := flag.String("nats", "", "URL of NATS")
	monitor := flag.String("nats-monitor", "", "URL of NATS' monitoring page")
	flag.Parse()
	a := &app{
		systems:   map[string]system{"rabbitmq": &rabbit{url: *amqp}, "nats": &jet{url: *nats}},
		monitor:   *monitor,
		ledgers:   map[string]*ledger{},
		consumers: map[string]consumer{},
	}
	for path, handle := range map[string]func(url.Values) (any, error){
		"/declare": a.declare, "/publish": a.publish, "/consume": a.consume, "/stop": a.stop, "/counts": a.counts,
	} {
		http.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { answer(w, r, handle) })
	}
	http.HandleFunc("/metrics", a.metrics)
	log.Fatal(http.ListenAndServe(*listen, nil))
}

func answer(w http.ResponseWriter, r *http.Request, handle func(url.Values) (any, error)) {
	value, err := handle(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if err := json.NewEncoder(w).Encode(value); err != nil {
		log.Print(err)
	}
}

// of returns the system and the ledger that a request is about.
func (a *app) of(query url.Values) (system, *ledger, string, error) {
	s, queue := a.systems[query.Get("system")], query.Get("queue")
	if s == nil || queue == "" {
		return nil, nil, "", fmt.Errorf("no system or no queue: %v", query)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	key := query.Get("system") + "/" + queue
	if a.ledgers[key] == nil {
		a.ledgers[key] = &ledger{done: map[int]int{}}
	}
	return s, a.ledgers[key], queue, nil
}

func (a *app) declare(query url.Values) (any, error) {
	s, _, queue, err := a.of(query)
	if err != nil {
		return nil, err
	}
	return "declared", s.declare(queue)
}

func (a *app) publish(query url.Values) (any, error) {
	s, l, queue, err := a.of(query)
	if err != nil {
		return nil, err
	}
	items, err := strconv.Atoi(query.Get("items"))
	if err != nil {
		return nil, err
	}
	rate, _ := strconv.Atoi(query.Get("rate"))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.publishing {
		return nil, fmt.Errorf("a publisher is at work")
	}
	l.publishing = true
	go func() {
		if err := publishAll(s, l, queue, items, rate); err != nil {
			log.Printf("publish to %s: %v", queue, err)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.publishing = false
	}()
	return "publishing", nil
}

func publishAll(s system, l *ledger, queue string, items, rate int) error {
	first, size := l.counts().Published, batch
	if rate > 0 {
		size = max(rate/10, 1)
	}
	for start := time.Now(); items > 0; {
		n := min(size, items)
		if err := s.publish(queue, first, n); err != nil {
			return err
		}
		l.confirmed(n)
		first, items = first+n, items-n
		if rate > 0 {
			start = start.Add(time.Duration(n) * time.Second / time.Duration(rate))
			time.Sleep(time.Until(start))
		}
	}
	return nil
}

func (a *app) consume(query url.Values) (any, error) {
	s, l, queue, err := a.of(query)
	if err != nil {
		return nil, err
	}
	us, err := strconv.Atoi(query.Get("us"))
	if err != nil {
		return nil, err
	}
	prefetch, err := strconv.Atoi(query.Get("prefetch"))
	if err != nil {
		return nil, err
	}
	end, err := s.consume(queue, prefetch, func(item int) {
		time.Sleep(time.Duration(us) * time.Microsecond)
		l.worked(item)
	})
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.consumers[query.Get("pod")] = consumer{queue: query.Get("system") + "/" + queue, close: end}
	return "consuming", nil
}

func (a *app) stop(query url.Values) (any, error) {
	a.mu.Lock()
	c, found := a.consumers[query.Get("pod")]
	delete(a.consumers, query.Get("pod"))
	a.mu.Unlock()
	if !found {
		return nil, fmt.Errorf("no consumer %s", query.Get("pod"))
	}
	c.close()
	return "stopped", nil
}

func (a *app) counts(query url.Values) (any, error) {
	_, l, queue, err := a.of(query)
	if err != nil {
		return nil, err
	}
	counts := l.counts()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.consumers {
		if c.queue == query.Get("system")+"/"+queue {
			counts.Consumers++
		}
	}
	return counts, nil
}
