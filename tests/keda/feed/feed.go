// Package feed answers instant queries as Prometheus does, from a script instead of a scrape, so
// that a test decides at any moment what load podswell reads.
package feed

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// spacing lies between two samples of a series.
const spacing = time.Second

// kept is how far back a series goes.
const kept = 10 * time.Minute

// Key names the workload that a series belongs to.
type Key struct{ Namespace, Deployment string }

// Feed is a running server.
type Feed struct {
	mutex  sync.Mutex
	series map[Key]*series
	// asked counts the answers given.
	asked int
	// hung is closed when the server answers again; nil while it does.
	hung     chan struct{}
	listener net.Listener
	stop     chan struct{}
}

type series struct {
	value   float64
	samples []sample
	// handed is when the current value first left in an answer; zero before.
	handed time.Time
}

type sample struct {
	at    time.Time
	value float64
}

// Start serves on address, such as 127.0.0.1:0.
func Start(address string) (*Feed, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	feed := &Feed{series: map[Key]*series{}, listener: listener, stop: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("/api/v1/query", feed.query)
	go func() { _ = http.Serve(listener, mux) }()
	go feed.tick()
	return feed, nil
}

// Address is where it is served.
func (f *Feed) Address() string { return f.listener.Addr().String() }

// Stop ends it.
func (f *Feed) Stop() {
	close(f.stop)
	_ = f.listener.Close()
}

// Set gives a series this value from now on; the sample is there at once.
func (f *Feed) Set(key Key, value float64) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	one := f.series[key]
	if one == nil {
		one = &series{}
		f.series[key] = one
	}
	one.value = value
	one.handed = time.Time{}
	one.add(time.Now())
}

// Fill is Set for a series that had the value for span already.
func (f *Feed) Fill(key Key, value float64, span time.Duration) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	one := &series{value: value}
	f.series[key] = one
	now := time.Now()
	for at := now.Add(-span); at.Before(now); at = at.Add(spacing) {
		one.add(at)
	}
	one.add(now)
}

// Remove ends a series as if it had never been.
func (f *Feed) Remove(key Key) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	delete(f.series, key)
}

// Hang accepts questions and answers none of them until the returned function is called.
func (f *Feed) Hang() (thaw func()) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	hung := make(chan struct{})
	f.hung = hung
	return sync.OnceFunc(func() {
		f.mutex.Lock()
		f.hung = nil
		f.mutex.Unlock()
		close(hung)
	})
}

// Asked is how many answers were given.
func (f *Feed) Asked() int {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return f.asked
}

// Handed is when the value that was set last first left in an answer; zero if it did not yet.
func (f *Feed) Handed(key Key) time.Time {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if one := f.series[key]; one != nil {
		return one.handed
	}
	return time.Time{}
}

func (f *Feed) tick() {
	ticks := time.NewTicker(spacing)
	defer ticks.Stop()
	for {
		select {
		case <-f.stop:
			return
		case now := <-ticks.C:
			f.mutex.Lock()
			for _, one := range f.series {
				one.add(now)
			}
			f.mutex.Unlock()
		}
	}
}

// add keeps stamps apart by a millisecond, as Prometheus stores them.
func (s *series) add(at time.Time) {
	at = at.Truncate(time.Millisecond)
	if last := len(s.samples) - 1; last >= 0 && !at.After(s.samples[last].at) {
		at = s.samples[last].at.Add(time.Millisecond)
	}
	s.samples = append(s.samples, sample{at, s.value})
	if s.samples[0].at.Before(at.Add(-kept)) {
		s.samples = s.samples[1:]
	}
}

var selector = regexp.MustCompile(`^(\w+)\[(\d+)s\]$`)

type answer struct {
	Status string `json:"status"`
	Data   data   `json:"data"`
}

type data struct {
	ResultType string   `json:"resultType"`
	Result     []result `json:"result"`
}

type result struct {
	Metric map[string]string `json:"metric"`
	Values [][2]any          `json:"values"`
}

func (f *Feed) query(response http.ResponseWriter, request *http.Request) {
	f.mutex.Lock()
	hung := f.hung
	f.mutex.Unlock()
	if hung != nil {
		select {
		case <-hung:
		case <-request.Context().Done():
			return
		}
	}
	found := selector.FindStringSubmatch(request.FormValue("query"))
	if found == nil {
		http.Error(response, "only SELECTOR[SECONDSs] is understood", http.StatusBadRequest)
		return
	}
	seconds, _ := strconv.Atoi(found[2])
	result := f.matrix(found[1], time.Now().Add(-time.Duration(seconds)*time.Second))
	response.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(response).Encode(answer{"success", data{"matrix", result}})
	now := time.Now()
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.asked++
	for _, one := range f.series {
		if one.handed.IsZero() {
			one.handed = now
		}
	}
}

func (f *Feed) matrix(name string, since time.Time) []result {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	all := make([]result, 0, len(f.series))
	for key, one := range f.series {
		metric := map[string]string{
			"__name__": name, "namespace": key.Namespace, "deployment": key.Deployment,
		}
		values := [][2]any{}
		for _, sample := range one.samples {
			if sample.at.After(since) {
				stamp := json.Number(fmt.Sprintf("%.3f", float64(sample.at.UnixMilli())/1000))
				text := strconv.FormatFloat(sample.value, 'g', -1, 64)
				values = append(values, [2]any{stamp, text})
			}
		}
		if len(values) > 0 {
			all = append(all, result{metric, values})
		}
	}
	return all
}
