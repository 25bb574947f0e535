package main

import "sync"

// ledger counts what was published to one queue and what was worked off, item by item.
type ledger struct {
	mu sync.Mutex
	// published is the number of items that the server confirmed; they are numbered from 0.
	published int
	// publishing tells that a publisher is at work.
	publishing bool
	// done says for each number how often it was worked off.
	done map[int]int
	// deliveries is the sum of done.
	deliveries int
}

// Counts is what /counts answers.
type Counts struct {
	Published  int  `json:"published"`
	Publishing bool `json:"publishing"`
	// Distinct is how many different items were worked off.
	Distinct int `json:"distinct"`
	// Deliveries counts repetitions, too.
	Deliveries int `json:"deliveries"`
	// Foreign counts items that nobody published.
	Foreign int `json:"foreign"`
	// Consumers run now.
	Consumers int `json:"consumers"`
}

func (l *ledger) worked(number int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done[number]++
	l.deliveries++
}

func (l *ledger) confirmed(items int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.published += items
}

func (l *ledger) counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	counts := Counts{Published: l.published, Publishing: l.publishing, Deliveries: l.deliveries}
	for number := range l.done {
		if number < l.published {
			counts.Distinct++
		} else {
			counts.Foreign++
		}
	}
	return counts
}
