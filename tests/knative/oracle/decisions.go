package main

import (
	"context"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/serving/pkg/autoscaler/metrics"
	"knative.dev/serving/pkg/autoscaler/scaling"
)

type decisionsQuestion struct {
	CreatedUnixMs int64       `json:"created_unix_ms"`
	CreatedReady  int         `json:"created_ready"`
	Spec          deciderSpec `json:"spec"`
	Steps         []step      `json:"steps"`
}

type deciderSpec struct {
	ActivationScale     int32   `json:"activation_scale"`
	InitialScale        int32   `json:"initial_scale"`
	MaxScaleDownRate    float64 `json:"max_scale_down_rate"`
	MaxScaleUpRate      float64 `json:"max_scale_up_rate"`
	Metric              string  `json:"metric"`
	PanicThreshold      float64 `json:"panic_threshold"`
	Reachable           bool    `json:"reachable"`
	ScaleDownDelayS     float64 `json:"scale_down_delay_s"`
	StableWindowS       float64 `json:"stable_window_s"`
	Target              float64 `json:"target"`
	TargetBurstCapacity float64 `json:"target_burst_capacity"`
	Total               float64 `json:"total"`
}

type step struct {
	TMs    int64   `json:"t_ms"`
	Ready  int     `json:"ready"`
	Stable float64 `json:"stable"`
	Panic  float64 `json:"panic"`
	NoData bool    `json:"no_data"`
}

// world is all that a decider sees of the cluster: the metric client and the
// counter of endpoints in one.
type world struct{ step }

func (w *world) read() (float64, float64, error) {
	if w.NoData {
		return 0, 0, metrics.ErrNoData
	}
	return w.Stable, w.Panic, nil
}

func (w *world) StableAndPanicConcurrency(types.NamespacedName, time.Time) (float64, float64, error) {
	return w.read()
}

func (w *world) StableAndPanicRPS(types.NamespacedName, time.Time) (float64, float64, error) {
	return w.read()
}

func (w *world) ReadyCount() (int, error)    { return w.Ready, nil }
func (w *world) NotReadyCount() (int, error) { return 0, nil }

func decisions(q decisionsQuestion) (map[string]any, error) {
	decider, w, created := create(q)
	logger := zap.NewNop().Sugar()
	steps := make([]map[string]any, 0, len(q.Steps))
	for _, s := range q.Steps {
		w.step = s
		result := decider.Scale(logger, time.UnixMilli(created+s.TMs))
		if !result.ScaleValid {
			steps = append(steps, map[string]any{"valid": false})
			continue
		}
		steps = append(steps, map[string]any{
			"valid":                 true,
			"desired":               result.DesiredPodCount,
			"excess_burst_capacity": result.ExcessBurstCapacity,
		})
	}
	return map[string]any{"created_unix_ms": created, "steps": steps}, nil
}

// create makes the decider and tells the millisecond in which that happened.
// Steps are whole milliseconds after it, and Knative only asks whether more
// than the stable window has passed, so the fraction makes no difference.
func create(q decisionsQuestion) (scaling.UniScaler, *world, int64) {
	for {
		w := &world{step{Ready: q.CreatedReady}}
		before := time.Now().UnixMilli()
		decider := scaling.New(context.Background(), "ns", "revision", w, w, q.Spec.knative())
		after := time.Now().UnixMilli()
		if q.CreatedReady <= 1 && q.CreatedUnixMs != 0 {
			return decider, w, q.CreatedUnixMs
		}
		if before == after {
			return decider, w, before
		}
	}
}

func (s deciderSpec) knative() *scaling.DeciderSpec {
	return &scaling.DeciderSpec{
		MaxScaleUpRate:      s.MaxScaleUpRate,
		MaxScaleDownRate:    s.MaxScaleDownRate,
		ScalingMetric:       s.Metric,
		TargetValue:         s.Target,
		TotalValue:          s.Total,
		TargetBurstCapacity: s.TargetBurstCapacity,
		PanicThreshold:      s.PanicThreshold,
		StableWindow:        seconds(s.StableWindowS),
		ScaleDownDelay:      seconds(s.ScaleDownDelayS),
		InitialScale:        s.InitialScale,
		Reachable:           s.Reachable,
		ActivationScale:     s.ActivationScale,
	}
}

// seconds keeps the milliseconds, the finest that Knative's settings have.
func seconds(s float64) time.Duration {
	return time.Duration(s*1000+0.5) * time.Millisecond
}
