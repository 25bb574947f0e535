// Command knative-oracle answers questions about Knative's autoscaler with
// Knative's own code (knative.dev/serving v0.42.2): it reads one JSON object a
// line from standard input and writes one JSON object a line to standard
// output, in the same order, each with the "id" of its question (if any).
//
//	{"op":"decisions","id":…,"created_unix_ms":…,"created_ready":…,"spec":{…},"steps":[{"t_ms":…,"ready":…,"stable":…,"panic":…}|{…,"no_data":true}]}
//	→ {"id":…,"created_unix_ms":…,"steps":[{"valid":…,"desired":…,"excess_burst_capacity":…}]}
//	{"op":"windows","id":…,"algorithm":"linear"|"weighted-exponential","epoch_s":…,"window_s":…,"ops":[{"op":"record","t_ms":…,"value":…}|{"op":"read","t_ms":…}]}
//	→ {"id":…,"reads":[{"average":…,"empty":…}]}
//	{"op":"duration","id":…,"text":"1h2m"}
//	→ {"id":…,"ns":3720000000000}
//
//	{"op":"float","id":…,"text":"0x1p3"}
//	→ {"id":…,"bits":"4020000000000000"}
//	{"op":"annotations","id":…,"annotations":{…},"config_map":{…}}
//	→ {"id":…,"refused":"…"|null}
//
// A question that cannot be answered gives {"id":…,"error":"…"}; for durations,
// floats and ConfigMaps that is Go's or Knative's own error text.
//
// Creation time: Knative takes the wall clock as the start of the panic mode of
// a decider that is created with more than one ready pod. The answer's
// created_unix_ms is the creation time that was really used (the question's,
// where Knative never looks at it, else now) and the steps are relative to it.
//
// Two known differences between v0.42.2 and today's Knative, which whoever
// compares has to allow for: the average of a linear window was cut, not
// rounded, at 6 digits, and the scale-down delay also applied to a workload
// that is not reachable.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// question is what is common to all questions.
type question struct {
	Op string          `json:"op"`
	ID json.RawMessage `json:"id"`
}

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 1 {
			write(out, answer(line))
			// One who waits for each answer before the next question gets it at once.
			if in.Buffered() == 0 {
				out.Flush()
			}
		}
		if err != nil {
			out.Flush()
			return
		}
	}
}

func write(out *bufio.Writer, value map[string]any) {
	text, err := json.Marshal(value)
	if err != nil {
		// A number that JSON cannot hold.
		text, _ = json.Marshal(map[string]any{"id": value["id"], "error": err.Error()})
	}
	out.Write(append(text, '\n'))
}

func answer(line []byte) (result map[string]any) {
	var q question
	defer func() {
		if p := recover(); p != nil {
			result = map[string]any{"error": fmt.Sprintf("panic: %v", p)}
		}
		if q.ID != nil {
			result["id"] = q.ID
		}
	}()
	if err := json.Unmarshal(line, &q); err != nil {
		return map[string]any{"error": err.Error()}
	}
	switch q.Op {
	case "decisions":
		return ask(line, decisions)
	case "windows":
		return ask(line, windows)
	case "duration":
		return ask(line, duration)
	case "float":
		return ask(line, float)
	case "annotations":
		return ask(line, annotations)
	}
	return map[string]any{"error": fmt.Sprintf("unknown op %q", q.Op)}
}

// ask decodes the question as the function wants it.
func ask[Q any](line []byte, function func(Q) (map[string]any, error)) map[string]any {
	var q Q
	if err := json.Unmarshal(line, &q); err != nil {
		return map[string]any{"error": err.Error()}
	}
	result, err := function(q)
	if err != nil {
		return map[string]any{"error": err.Error()}
	}
	return result
}

type durationQuestion struct {
	Text string `json:"text"`
}

func duration(q durationQuestion) (map[string]any, error) {
	d, err := time.ParseDuration(q.Text)
	if err != nil {
		return nil, err
	}
	return map[string]any{"ns": d.Nanoseconds()}, nil
}
