package main

import (
	"context"
	"fmt"
	"math"
	"strconv"

	"knative.dev/serving/pkg/apis/autoscaling"
	asconfig "knative.dev/serving/pkg/autoscaler/config"
)

type annotationsQuestion struct {
	Annotations map[string]string `json:"annotations"`
	ConfigMap   map[string]string `json:"config_map"`
}

// annotations answers with what the webhook would say. A ConfigMap that
// Knative refuses is an error.
func annotations(q annotationsQuestion) (map[string]any, error) {
	config, err := asconfig.NewConfigFromMap(q.ConfigMap)
	if err != nil {
		return nil, err
	}
	if refused := autoscaling.ValidateAnnotations(context.Background(), config, q.Annotations); refused != nil {
		return map[string]any{"refused": refused.Error()}, nil
	}
	return map[string]any{"refused": nil}, nil
}

type floatQuestion struct {
	Text string `json:"text"`
}

// float answers with the bits of the number, or "nan".
func float(q floatQuestion) (map[string]any, error) {
	value, err := strconv.ParseFloat(q.Text, 64)
	if err != nil {
		return nil, err
	}
	if math.IsNaN(value) {
		return map[string]any{"bits": "nan"}, nil
	}
	return map[string]any{"bits": fmt.Sprintf("%x", math.Float64bits(value))}, nil
}
