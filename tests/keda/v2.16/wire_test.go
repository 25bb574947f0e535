// Package keda reads podswell's answers as KEDA 2.16.1 does, the last version that knows no fractions:
// the integers alone have to give the right replicas. It has that version's stubs and gRPC library; its
// scaler itself is one package with every other scaler of KEDA, too much to build for a second version.
package keda

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// limit is how long a state may take to come: generous, the machine may be busy.
const limit = 90 * time.Second

// The tests of 2.21 run this beside a podswell whose source reads 34 for the workload DEPLOYMENT. KEDA_TLS is
// the folder with what mutual TLS takes; without it podswell serves plain.
func dial(t *testing.T) pb.ExternalScalerClient {
	t.Helper()
	transport := insecure.NewCredentials()
	if folder := os.Getenv("KEDA_TLS"); folder != "" {
		pair, err := tls.LoadX509KeyPair(filepath.Join(folder, "client.crt"), filepath.Join(folder, "client.key"))
		if err != nil {
			t.Fatal(err)
		}
		authority, err := os.ReadFile(filepath.Join(folder, "ca.crt"))
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(authority)
		transport = credentials.NewTLS(&tls.Config{
			RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12,
		})
	}
	connection, err := grpc.NewClient(os.Getenv("PODSWELL_KEDA"), grpc.WithTransportCredentials(transport))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return pb.NewExternalScalerClient(connection)
}

func asked(metadata map[string]string) *pb.ScaledObjectRef {
	return &pb.ScaledObjectRef{Name: "so", Namespace: os.Getenv("NAMESPACE"), ScalerMetadata: metadata}
}

// patiently asks until the answer has none of these codes, or time is up.
func patiently(ctx context.Context, ask func() error, passing ...codes.Code) error {
	for {
		err := ask()
		if err == nil || ctx.Err() != nil || !slices.Contains(passing, status.Code(err)) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func TestPushAndRefusals(t *testing.T) {
	client := dial(t)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	known := map[string]string{"deployment": os.Getenv("DEPLOYMENT"), "source": "feed", "target": "10"}
	// podswell was not told of the workload before the API server.
	err := patiently(ctx, func() error {
		stream, err := client.StreamIsActive(ctx, asked(known))
		if err != nil {
			return err
		}
		first, err := stream.Recv()
		if err == nil && !first.Result {
			t.Fatal("inactive under load")
		}
		return err
	}, codes.Unavailable, codes.NotFound)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range []struct {
		key, value string
		code       codes.Code
	}{
		{"deployment", "nobody", codes.NotFound},
		{"target", "many", codes.InvalidArgument},
	} {
		metadata := map[string]string{"deployment": known["deployment"], one.key: one.value}
		err := patiently(ctx, func() error {
			_, err := client.GetMetricSpec(ctx, asked(metadata))
			return err
		}, codes.Unavailable)
		if status.Code(err) != one.code {
			t.Errorf("%s = %s: %v", one.key, one.value, err)
		}
	}
}

func TestIntegersAlone(t *testing.T) {
	client := dial(t)
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
			if seen := wanted(t, client, asked(metadata), one.replicas); seen != one.replicas {
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
		var spec *pb.GetMetricSpecResponse
		err := patiently(ctx, func() (err error) {
			spec, err = client.GetMetricSpec(ctx, ref)
			return err
		}, codes.Unavailable, codes.NotFound)
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
			if err != nil && status.Code(err) != codes.Unavailable {
				t.Fatal(err)
			}
			if err == nil && last == expected && active.Result {
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
