package keda

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
)

// The measures of BENCHMARKS.md, which need a machine of their own: `make bench-keda`. Servers run on
// one core, the client on the others.
func measuring(t *testing.T) {
	t.Helper()
	if os.Getenv("KEDA_MEASURE") == "" {
		t.Skip("no test, a measure: make bench-keda")
	}
}

// minimal is the least that an external scaler can be: a look into a map.
type minimal struct {
	pb.UnimplementedExternalScalerServer
	mutex  sync.RWMutex
	values map[string]float64
}

func (m *minimal) value(ref *pb.ScaledObjectRef) float64 {
	m.mutex.RLock()
	defer m.mutex.RUnlock()
	return m.values[ref.Namespace+"/"+ref.ScalerMetadata["deployment"]]
}

func (m *minimal) IsActive(_ context.Context, ref *pb.ScaledObjectRef) (*pb.IsActiveResponse, error) {
	return &pb.IsActiveResponse{Result: m.value(ref) > 0}, nil
}

func (m *minimal) GetMetrics(_ context.Context, request *pb.GetMetricsRequest) (*pb.GetMetricsResponse, error) {
	value := m.value(request.ScaledObjectRef)
	return &pb.GetMetricsResponse{MetricValues: []*pb.MetricValue{
		{MetricName: request.MetricName, MetricValue: int64(value), MetricValueFloat: value},
	}}, nil
}

// serveMinimal is this program as the other server; it ends with its standard input.
func serveMinimal(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	values := map[string]float64{}
	for number := range 100 {
		values[fmt.Sprintf("%s/w%d", shop, number)] = 4
	}
	pb.RegisterExternalScalerServer(server, &minimal{values: values})
	return server.Serve(listener)
}

func startMinimal(t *testing.T) string {
	t.Helper()
	address := freeAddress("127.0.0.1")
	command := exec.Command(os.Getenv("PODSWELL_LEASH"), onOneCore(os.Args[0])...)
	command.Env = append(os.Environ(), "MINIMAL_SCALER="+address, "GOMAXPROCS=1")
	command.Stderr = os.Stderr
	leash, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		_ = leash.Close()
	})
	return address
}

// onOneCore is a command line that stays on the first core.
func onOneCore(command ...string) []string {
	return append([]string{"taskset", "-c", "0"}, command...)
}

// pairs asks GetMetrics and IsActive in turn from some goroutines over one connection for a while.
func pairs(t *testing.T, address string, ref *pb.ScaledObjectRef, name string) (rate float64, all []time.Duration) {
	t.Helper()
	const askers, span = 16, 10 * time.Second
	client := pb.NewExternalScalerClient(dial(t, address))
	eventually(t, "an answer", func() error {
		_, err := client.GetMetrics(short(t), &pb.GetMetricsRequest{ScaledObjectRef: ref, MetricName: name})
		return err
	})
	var asking sync.WaitGroup
	times := make([][]time.Duration, askers)
	deadline := time.Now().Add(span)
	for asker := range askers {
		asking.Add(1)
		go func() {
			defer asking.Done()
			request := &pb.GetMetricsRequest{ScaledObjectRef: ref, MetricName: name}
			for time.Now().Before(deadline) {
				began := time.Now()
				if _, err := client.GetMetrics(context.Background(), request); err != nil {
					t.Error(err)
					return
				}
				middle := time.Now()
				if _, err := client.IsActive(context.Background(), ref); err != nil {
					t.Error(err)
					return
				}
				times[asker] = append(times[asker], middle.Sub(began), time.Since(middle))
			}
		}()
	}
	asking.Wait()
	all = slices.Concat(times...)
	slices.Sort(all)
	return float64(len(all)) / span.Seconds(), all
}

func quantile(sorted []time.Duration, part float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(part*float64(len(sorted))))]
}

func TestMeasureCalls(t *testing.T) {
	measuring(t)
	own, err := start("podswell-measured", "--keda-insecure")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.kill)
	here := newWorkload(t, 1, 34)
	client := pb.NewExternalScalerClient(dial(t, own.address))
	name := metricName(t, client, ref(here.metadata()))
	metric(t, client, ref(here.metadata()), func(value *pb.MetricValue) bool { return value.MetricValue == 4 })
	for _, server := range []struct{ name, address string }{
		{"podswell", own.address}, {"a map behind the same stubs (Go)", startMinimal(t)},
	} {
		rate, times := pairs(t, server.address, ref(here.metadata()), name)
		fmt.Printf("| GetMetrics + IsActive, %s | %.0f calls/s | p50 %v | p99 %v |\n",
			server.name, rate, quantile(times, 0.5), quantile(times, 0.99))
	}
}

func TestMeasureStreams(t *testing.T) {
	measuring(t)
	const workloads, each = 100, 100
	own, err := start("podswell-streams", "--keda-insecure")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.kill)
	all := make([]workload, workloads)
	client := pb.NewExternalScalerClient(dial(t, own.address))
	for number := range all {
		all[number] = newWorkload(t, 0, 0)
		metric(t, client, ref(all[number].metadata()), func(*pb.MetricValue) bool { return true })
	}
	before, err := own.resident()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var received sync.WaitGroup
	var messages atomic.Int64
	var mutex sync.Mutex
	var late []time.Duration
	for _, here := range all {
		for range each {
			stream, err := client.StreamIsActive(ctx, ref(here.metadata()))
			if err != nil {
				t.Fatal(err)
			}
			received.Add(1)
			go func() {
				_, err := stream.Recv()
				now := time.Now()
				if err == nil {
					messages.Add(1)
					mutex.Lock()
					late = append(late, now.Sub(world.feed.Handed(here.Key)))
					mutex.Unlock()
				}
				received.Done()
				for err == nil {
					if _, err = stream.Recv(); err == nil {
						messages.Add(1)
					}
				}
			}()
		}
	}
	time.Sleep(5 * time.Second)
	after, err := own.resident()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("| 10,000 open streams | %.1f KiB a stream | %d messages meanwhile |\n",
		float64(after-before)/workloads/each/1024, messages.Load())
	// One after the other, so that what is measured is a push and not a crowd.
	for _, here := range all {
		here.set(3)
		time.Sleep(100 * time.Millisecond)
	}
	received.Wait()
	slices.Sort(late)
	fmt.Printf("| push, from the answer of the source to the client | p50 %v | p99 %v |\n",
		quantile(late, 0.5), quantile(late, 0.99))
	for _, here := range all {
		here.scale(1)
	}
	time.Sleep(10 * time.Second)
	quiet := messages.Load()
	time.Sleep(10 * time.Second)
	fmt.Printf("| 10 s of 10,000 active streams with replicas | %d messages | http-add-on's cadence: %d |\n",
		messages.Load()-quiet, workloads*each*5*10)
}
