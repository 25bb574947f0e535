package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"time"
)

// jsz is what of the answer of NATS' monitoring page /jsz?consumers=true is read.
type jsz struct {
	AccountDetails []struct {
		Name    string `json:"name"`
		ID      string `json:"id"`
		Streams []struct {
			Name  string `json:"name"`
			State struct {
				Messages float64 `json:"messages"`
				LastSeq  float64 `json:"last_seq"`
			} `json:"state"`
			Consumers []struct {
				Name           string  `json:"name"`
				NumAckPending  float64 `json:"num_ack_pending"`
				NumPending     float64 `json:"num_pending"`
				NumRedelivered float64 `json:"num_redelivered"`
				NumWaiting     float64 `json:"num_waiting"`
			} `json:"consumer_detail"`
		} `json:"stream_detail"`
	} `json:"account_details"`
}

var client = http.Client{Timeout: 5 * time.Second}

// metrics answers with the names and labels that prometheus-nats-exporter has for streams and consumers of
// a single server; the exporter itself cannot be had as a module. They are those of its newer versions; the
// older ones' (consumer_created, no stream_raft_group) are in tests/e2e/sources/fixtures. As there, a server
// that does not answer is left out of a page that is otherwise fine: its series are gone, and that must not
// look like an empty queue.
func (a *app) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	var page jsz
	if err := a.read(&page); err != nil {
		log.Printf("ignoring the server: %v", err)
		return
	}
	for _, family := range []string{
		"stream_total_messages", "stream_last_seq",
		"consumer_num_ack_pending", "consumer_num_pending", "consumer_num_redelivered", "consumer_num_waiting",
	} {
		fmt.Fprintf(w, "# TYPE jetstream_%s gauge\n", family)
		page.print(w, family, a.monitor)
	}
}

func (a *app) read(page *jsz) error {
	response, err := client.Get(a.monitor + "/jsz?consumers=true&config=true")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the monitoring page answers %s", response.Status)
	}
	return json.NewDecoder(response.Body).Decode(page)
}

func (page *jsz) print(w io.Writer, family, server string) {
	for _, account := range page.AccountDetails {
		for _, stream := range account.Streams {
			labels := fmt.Sprintf("server_id=%q,server_name=\"nats-0\",cluster=\"\",domain=\"\",meta_leader=\"\","+
				"is_meta_leader=\"true\",account=%q,account_id=%q,stream_name=%q,stream_leader=\"\","+
				"is_stream_leader=\"true\",stream_raft_group=\"\"", server, account.Name, account.ID, stream.Name)
			switch family {
			case "stream_total_messages":
				fmt.Fprintf(w, "jetstream_%s{%s} %v\n", family, labels, stream.State.Messages)
			case "stream_last_seq":
				fmt.Fprintf(w, "jetstream_%s{%s} %v\n", family, labels, stream.State.LastSeq)
			}
			for _, consumer := range stream.Consumers {
				labels := fmt.Sprintf("%s,consumer_name=%q,consumer_leader=\"\",is_consumer_leader=\"true\","+
					"consumer_desc=\"\"", labels, consumer.Name)
				switch family {
				case "consumer_num_ack_pending":
					fmt.Fprintf(w, "jetstream_%s{%s} %v\n", family, labels, consumer.NumAckPending)
				case "consumer_num_pending":
					fmt.Fprintf(w, "jetstream_%s{%s} %v\n", family, labels, consumer.NumPending)
				case "consumer_num_redelivered":
					fmt.Fprintf(w, "jetstream_%s{%s} %v\n", family, labels, consumer.NumRedelivered)
				case "consumer_num_waiting":
					fmt.Fprintf(w, "jetstream_%s{%s} %v\n", family, labels, consumer.NumWaiting)
				}
			}
		}
	}
}
