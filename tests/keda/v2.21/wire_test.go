package keda

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

func dial(t testing.TB, address string, more ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	more = append(more, grpc.WithTransportCredentials(insecure.NewCredentials()))
	connection, err := grpc.NewClient(address, more...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

func stub(t testing.TB) pb.ExternalScalerClient {
	return pb.NewExternalScalerClient(dial(t, world.podswell.address))
}

// ref is a ScaledObject that is in nobody's cluster: the trigger's metadata names the workload.
func ref(metadata map[string]string) *pb.ScaledObjectRef {
	return &pb.ScaledObjectRef{Name: "so-" + metadata["deployment"], Namespace: shop, ScalerMetadata: metadata}
}

func metricName(t *testing.T, client pb.ExternalScalerClient, ref *pb.ScaledObjectRef) string {
	t.Helper()
	return metricSpec(t, client, ref).MetricName
}

// metricSpec asks until podswell knows the workload, which it was not told of before the API server.
func metricSpec(t *testing.T, client pb.ExternalScalerClient, ref *pb.ScaledObjectRef) *pb.MetricSpec {
	t.Helper()
	var answer *pb.GetMetricSpecResponse
	eventually(t, "the spec", func() (err error) {
		answer, err = client.GetMetricSpec(short(t), ref)
		return err
	})
	if len(answer.MetricSpecs) != 1 {
		t.Fatalf("one spec a trigger, not %v", answer)
	}
	return answer.MetricSpecs[0]
}

// metric asks until there is a value that good likes.
func metric(t *testing.T, client pb.ExternalScalerClient, ref *pb.ScaledObjectRef, good func(*pb.MetricValue) bool) *pb.MetricValue {
	t.Helper()
	name := metricName(t, client, ref)
	var found *pb.MetricValue
	eventually(t, "the value", func() error {
		answer, err := client.GetMetrics(short(t), &pb.GetMetricsRequest{ScaledObjectRef: ref, MetricName: name})
		if isSilence(err) {
			return err
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(answer.MetricValues) != 1 {
			t.Fatalf("one value a trigger, not %v", answer)
		}
		found = answer.MetricValues[0]
		if found.MetricName != name {
			t.Fatalf("named %q, asked for %q", found.MetricName, name)
		}
		if !good(found) {
			return fmt.Errorf("%v", found)
		}
		return nil
	})
	return found
}

// replicas is what an HPA makes of a value and a target, both of type AverageValue.
func replicas(value, target float64) float64 { return math.Ceil(value/target - 1e-9) }

// The default exports the wanted replicas with target 1: all versions of KEDA read the same number.
func TestWantedReplicasHaveTargetOne(t *testing.T) {
	t.Parallel()
	client, ref := stub(t), ref(newWorkload(t, 1, 34).metadata())
	spec := metricSpec(t, client, ref)
	if spec.TargetSize != 1 || spec.TargetSizeFloat != 1 {
		t.Fatalf("target 1 in both fields, not %v", spec)
	}
	metric(t, client, ref, func(value *pb.MetricValue) bool {
		return value.MetricValue == 4 && value.MetricValueFloat == 4
	})
}

// With a raw value the target is the user's, and the integers alone give the same replicas.
func TestIntegersAndFloatsAgree(t *testing.T) {
	t.Parallel()
	for _, one := range []struct{ target, load float64 }{
		{10, 34}, {2.5, 7.25}, {0.5, 0.25}, {0.5, 0.4}, {0.01, 0.07}, {1000, 12345.5}, {0.3, 0.9}, {10, 0},
	} {
		t.Run(fmt.Sprintf("%v of %v", one.load, one.target), func(t *testing.T) {
			t.Parallel()
			metadata := newWorkload(t, 1, one.load).metadata("value", "stable", "target", fmt.Sprint(one.target))
			client, ref := stub(t), ref(metadata)
			spec := metricSpec(t, client, ref)
			if spec.TargetSizeFloat != one.target || spec.TargetSize < 1 {
				t.Fatalf("target %v: %v", one.target, spec)
			}
			value := metric(t, client, ref, func(value *pb.MetricValue) bool {
				return math.Abs(value.MetricValueFloat-one.load) < 1e-3
			})
			floats := replicas(value.MetricValueFloat, spec.TargetSizeFloat)
			integers := replicas(float64(value.MetricValue), float64(spec.TargetSize))
			if floats != integers {
				t.Fatalf("%v replicas by floats, %v by integers: %v %v", floats, integers, spec, value)
			}
		})
	}
}

// calls makes every kind of call and returns its status; one to which there is silence is made again.
func calls(t *testing.T, client pb.ExternalScalerClient, ref *pb.ScaledObjectRef) map[string]*status.Status {
	t.Helper()
	all := map[string]*status.Status{}
	note := func(name string, ask func() error) { all[name] = status.Convert(patiently(ask)) }
	note("GetMetricSpec", func() error {
		_, err := client.GetMetricSpec(short(t), ref)
		return err
	})
	note("GetMetrics", func() error {
		_, err := client.GetMetrics(short(t), &pb.GetMetricsRequest{ScaledObjectRef: ref, MetricName: "any"})
		return err
	})
	note("IsActive", func() error {
		_, err := client.IsActive(short(t), ref)
		return err
	})
	note("StreamIsActive", func() error {
		stream, err := client.StreamIsActive(short(t), ref)
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	})
	note("StreamMetricSpec", func() error {
		specs, err := client.StreamMetricSpec(short(t), ref)
		if err == nil {
			_, err = specs.Recv()
		}
		return err
	})
	return all
}

func TestUnknownWorkloads(t *testing.T) {
	t.Parallel()
	client := stub(t)
	here := newWorkload(t, 1, 10)
	absent := here.metadata("deployment", "nobody")
	nameless := here.metadata("deployment", "")
	for name, metadata := range map[string]map[string]string{"no Deployment": absent, "no ScaledObject": nameless} {
		for call, got := range calls(t, client, ref(metadata)) {
			if got.Code() != codes.NotFound {
				t.Errorf("%s, %s: %v", name, call, got)
			}
		}
	}
}

func TestBadMetadataIsNamed(t *testing.T) {
	t.Parallel()
	client := stub(t)
	here := newWorkload(t, 1, 10)
	for key, value := range map[string]string{
		"target": "ten", "window": "10 parsecs", "metric": "happiness", "value": "median",
		"target-utilization-percentage": "-3", "max-scale": "many",
	} {
		for call, got := range calls(t, client, ref(here.metadata(key, value))) {
			named := strings.Contains(got.Message(), key) && strings.Contains(got.Message(), value)
			if got.Code() != codes.InvalidArgument || !named {
				t.Errorf("%s=%s, %s: %v", key, value, call, got)
			}
		}
	}
	if !world.podswell.alive() {
		t.Fatal("podswell is gone")
	}
}

func TestKeysOfKnativeCountInBothSpellings(t *testing.T) {
	t.Parallel()
	client := stub(t)
	here := newWorkload(t, 1, 34, "autoscaling.knative.dev/target", "1000")
	metadata := here.metadata("target", "", "autoscaling.knative.dev/target", "17", "value", "stable")
	if spec := metricSpec(t, client, ref(metadata)); spec.TargetSizeFloat != 17 {
		t.Errorf("metadata wins over the annotation, also with its prefix: %v", spec)
	}
	if spec := metricSpec(t, client, ref(here.metadata("target", "", "value", "stable"))); spec.TargetSizeFloat != 1000 {
		t.Errorf("the annotation counts where the metadata says nothing: %v", spec)
	}
}

// A source that sees nobody who waits for a pod would never wake the workload: it is never let go of.
func TestNothingWouldWakeIt(t *testing.T) {
	t.Parallel()
	client, ref := stub(t), ref(newWorkload(t, 1, 0).metadata("source", "blind"))
	metric(t, client, ref, func(value *pb.MetricValue) bool { return value.MetricValue == 1 })
	// Longer than the window and the grace period together.
	always(t, 25*time.Second, "active, with one replica", func() error {
		answer, err := client.IsActive(short(t), ref)
		if err != nil || !answer.Result {
			return fmt.Errorf("%v, %v", answer, err)
		}
		name := &pb.GetMetricsRequest{ScaledObjectRef: ref, MetricName: "podswell-replicas"}
		// Nothing lower is answered; that nothing is known at a moment of a busy machine is no answer.
		values, err := client.GetMetrics(short(t), name)
		if err == nil && values.MetricValues[0].MetricValue < 1 {
			return fmt.Errorf("%v", values)
		}
		return nil
	})
}

// KEDA 2.5 and 2.6 send the name as the HPA knows it.
func TestIndexedMetricNames(t *testing.T) {
	t.Parallel()
	client, ref := stub(t), ref(newWorkload(t, 1, 34).metadata())
	value := metric(t, client, ref, func(*pb.MetricValue) bool { return true })
	for _, prefix := range []string{"s0-", "s17-"} {
		var answer *pb.GetMetricsResponse
		err := patiently(func() (err error) {
			answer, err = client.GetMetrics(short(t),
				&pb.GetMetricsRequest{ScaledObjectRef: ref, MetricName: prefix + value.MetricName})
			return err
		})
		if err != nil || len(answer.MetricValues) != 1 {
			t.Errorf("%s: %v, %v", prefix, answer, err)
		}
	}
}

// The image of KEDA's own tests knows a fourth field that never became part of the contract.
func TestUnknownFieldsAreIgnored(t *testing.T) {
	t.Parallel()
	client, ref := stub(t), ref(newWorkload(t, 1, 34).metadata())
	raw := protowire.AppendTag(nil, 4, protowire.BytesType)
	ref.ProtoReflect().SetUnknown(protowire.AppendString(raw, "AverageValue"))
	metric(t, client, ref, func(value *pb.MetricValue) bool { return value.MetricValue == 4 })
}

func TestSpecsAreStreamed(t *testing.T) {
	t.Parallel()
	client := stub(t)
	here := newWorkload(t, 1, 34, "autoscaling.knative.dev/target", "10")
	ref := ref(here.metadata("target", "", "value", "stable"))
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	stream, err := client.StreamMetricSpec(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []float64{10, 20, 12.5} {
		here.annotate("autoscaling.knative.dev/target", fmt.Sprint(target))
		for {
			answer, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if len(answer.MetricSpecs) != 1 {
				t.Fatalf("never empty: %v", answer)
			}
			if answer.MetricSpecs[0].TargetSizeFloat == target {
				break
			}
		}
		// The unary answer may lag behind by a moment only in the other direction.
		if spec := metricSpec(t, client, ref); spec.TargetSizeFloat != target {
			t.Fatalf("streamed %v, answered %v", target, spec)
		}
	}
}

func TestActivityIsStreamed(t *testing.T) {
	t.Parallel()
	client := stub(t)
	here := newWorkload(t, 0, 0)
	received := pushed(t, client, ref(here.metadata()))
	select {
	case active := <-received:
		t.Fatalf("%v without load", active)
	case <-time.After(5 * time.Second):
	}
	here.set(3)
	// At zero it is repeated, since KEDA may have dropped the first.
	for range 3 {
		if active, open := <-received; !active || !open {
			t.Fatalf("%v, %v under load", active, open)
		}
	}
	here.scale(1)
	// Some may be under way, and podswell has to hear of the replica.
	eventually(t, "silence while replicas run", func() error {
		select {
		case active, open := <-received:
			if !active || !open {
				t.Fatalf("%v, %v under load", active, open)
			}
			return errors.New("a push within 5 s")
		case <-time.After(5 * time.Second):
			return nil
		}
	})
}

func TestHealthAndReflection(t *testing.T) {
	t.Parallel()
	connection := dial(t, world.podswell.address)
	for _, service := range []string{"", "externalscaler.ExternalScaler"} {
		eventually(t, "it is healthy", func() error {
			answer, err := health.NewHealthClient(connection).Check(short(t), &health.HealthCheckRequest{Service: service})
			if err != nil || answer.Status != health.HealthCheckResponse_SERVING {
				return fmt.Errorf("health of %q: %v, %v", service, answer, err)
			}
			return nil
		})
	}
	stream, err := reflection.NewServerReflectionClient(connection).ServerReflectionInfo(short(t))
	if err != nil {
		t.Fatal(err)
	}
	request := &reflection.ServerReflectionRequest_ListServices{}
	if err := stream.Send(&reflection.ServerReflectionRequest{MessageRequest: request}); err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil || !strings.Contains(fmt.Sprint(answer.GetListServicesResponse()), "externalscaler.ExternalScaler") {
		t.Fatalf("reflection: %v, %v", answer, err)
	}
}

func TestForbiddenNamespaces(t *testing.T) {
	t.Parallel()
	elsewhere := newWorkload(t, 1, 10).metadata("namespace", "kube-system")
	for call, got := range calls(t, stub(t), ref(elsewhere)) {
		if got.Code() != codes.PermissionDenied {
			t.Errorf("a tenant asks for another's workload, %s: %v", call, got)
		}
	}
	guarded, err := start("podswell-guarded", "--keda-insecure", "--keda-namespaces", "elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(guarded.kill)
	client := pb.NewExternalScalerClient(dial(t, guarded.address))
	here := newWorkload(t, 1, 10)
	for _, metadata := range []map[string]string{here.metadata(), here.metadata("namespace", "kube-system")} {
		for call, got := range calls(t, client, ref(metadata)) {
			if got.Code() != codes.PermissionDenied {
				t.Errorf("%s: %v", call, got)
			}
		}
	}
}

// Clients that ask for too much, read nothing or break off, and somebody who wants an answer meanwhile.
func TestGreedyClientsHarmNobody(t *testing.T) {
	t.Parallel()
	here := newWorkload(t, 1, 34)
	good := stub(t)
	metric(t, good, ref(here.metadata()), func(*pb.MetricValue) bool { return true })
	done := make(chan struct{})
	defer close(done)

	reader := pb.NewExternalScalerClient(dial(t, world.podswell.address))
	huge := here.metadata("comment", strings.Repeat("x", 5<<20))
	if _, err := reader.GetMetricSpec(short(t), ref(huge)); status.Code(err) == codes.OK {
		t.Error("5 MiB of trigger metadata are taken")
	}
	headers := metadata.AppendToOutgoingContext(short(t), "x-comment", strings.Repeat("x", 2<<20))
	if _, err := reader.GetMetricSpec(headers, ref(here.metadata())); err == nil {
		t.Error("2 MiB of headers are taken")
	}
	silent := pb.NewExternalScalerClient(dial(t, world.podswell.address, grpc.WithInitialWindowSize(1<<16)))
	for range 1000 {
		ctx, cancel := context.WithCancel(context.Background())
		t.Cleanup(cancel)
		if _, err := silent.StreamIsActive(ctx, ref(here.metadata())); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			ctx, cancel := context.WithCancel(context.Background())
			_, _ = silent.StreamMetricSpec(ctx, ref(here.metadata()))
			cancel()
		}
	}()
	name := metricName(t, good, ref(here.metadata()))
	always(t, 5*time.Second, "the other client gets its answers", func() error {
		return patiently(func() error {
			_, err := good.GetMetrics(short(t),
				&pb.GetMetricsRequest{ScaledObjectRef: ref(here.metadata()), MetricName: name})
			return err
		})
	})
	if !world.podswell.alive() {
		t.Fatal("podswell is gone")
	}
}

// A stream that ended as it should says so with io.EOF.
func endedWell(err error) bool { return errors.Is(err, io.EOF) }
