// Package keda reads podswell's answers as KEDA 2.16.1 does, the last version that knows no fractions:
// the integers alone have to give the right replicas.
package keda

import (
	"context"
	"os"
	"testing"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// limit is how long a state may take to come: generous, the machine may be busy.
const limit = 90 * time.Second

// tests/keda/main.rs runs podswell with a source that reads LOAD for the workload DEPLOYMENT.
func TestIntegersAlone(t *testing.T) {
	connection, err := grpc.NewClient(os.Getenv("PODSWELL_KEDA"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	client := pb.NewExternalScalerClient(connection)
	for _, one := range []struct {
		name, target, value string
		replicas            int64
	}{
		{"wanted replicas", "10", "", 4},
		{"raw, whole", "10", "stable", 4},
		{"raw, a fraction of a target", "2.5", "stable", 14},
		{"raw, below one", "0.5", "stable", 68},
		{"raw, small", "0.3", "stable", 114},
	} {
		t.Run(one.name, func(t *testing.T) {
			metadata := map[string]string{
				"deployment": os.Getenv("DEPLOYMENT"), "source": "feed", "window": "10s", "max-scale": "1000",
				"target": one.target, "target-utilization-percentage": "100",
			}
			if one.value != "" {
				metadata["value"] = one.value
			}
			ref := &pb.ScaledObjectRef{Name: "so", Namespace: os.Getenv("NAMESPACE"), ScalerMetadata: metadata}
			if seen := wanted(t, client, ref, one.replicas); seen != one.replicas {
				t.Fatalf("%d replicas, not %d", seen, one.replicas)
			}
		})
	}
}

// wanted is what an HPA would ask for, read until it is the expected number or time is up.
func wanted(t *testing.T, client pb.ExternalScalerClient, ref *pb.ScaledObjectRef, expected int64) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	last := int64(-1)
	for {
		spec, err := client.GetMetricSpec(ctx, ref)
		if err != nil {
			t.Fatal(err)
		}
		name, target := spec.MetricSpecs[0].MetricName, spec.MetricSpecs[0].TargetSize
		answer, err := client.GetMetrics(ctx, &pb.GetMetricsRequest{ScaledObjectRef: ref, MetricName: name})
		switch {
		case err == nil:
			value := answer.MetricValues[0].MetricValue
			last = (value + target - 1) / target
			active, err := client.IsActive(ctx, ref)
			if err != nil {
				t.Fatal(err)
			}
			if last == expected && active.Result {
				return last
			}
		case ctx.Err() != nil:
			return last
		case status.Code(err) != codes.Unavailable:
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
