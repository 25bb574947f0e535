package main

import (
	"fmt"
	"time"

	"knative.dev/serving/pkg/autoscaler/aggregation"
	"knative.dev/serving/pkg/autoscaler/config"
)

type windowsQuestion struct {
	Algorithm string     `json:"algorithm"`
	EpochS    int64      `json:"epoch_s"`
	WindowS   float64    `json:"window_s"`
	Ops       []windowOp `json:"ops"`
}

type windowOp struct {
	Op    string  `json:"op"`
	TMs   int64   `json:"t_ms"`
	Value float64 `json:"value"`
	// WindowS is the new length that "resize" gives the window.
	WindowS float64 `json:"window_s"`
}

// window is what both of Knative's kinds can do.
type window interface {
	Record(time.Time, float64)
	WindowAverage(time.Time) float64
	IsEmpty(time.Time) bool
	ResizeWindow(time.Duration)
}

func windows(q windowsQuestion) (map[string]any, error) {
	var w window
	switch q.Algorithm {
	case "linear":
		w = aggregation.NewTimedFloat64Buckets(seconds(q.WindowS), config.BucketSize)
	case "weighted-exponential":
		w = aggregation.NewWeightedFloat64Buckets(seconds(q.WindowS), config.BucketSize)
	default:
		return nil, fmt.Errorf("unknown algorithm %q", q.Algorithm)
	}
	reads := []map[string]any{}
	for _, op := range q.Ops {
		at := time.UnixMilli(q.EpochS*1000 + op.TMs)
		switch op.Op {
		case "record":
			w.Record(at, op.Value)
		case "resize":
			w.ResizeWindow(seconds(op.WindowS))
		case "read":
			reads = append(reads, map[string]any{"average": w.WindowAverage(at), "empty": w.IsEmpty(at)})
		default:
			return nil, fmt.Errorf("unknown window op %q", op.Op)
		}
	}
	return map[string]any{"reads": reads}, nil
}
