package keda

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"podswell.dev/tests/keda/feed"
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

func startMinimal(t *testing.T) (address string, pid int) {
	t.Helper()
	address = freeAddress("127.0.0.1")
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
	return address, command.Process.Pid
}

// spent is the processor time that a process has had so far.
func spent(t *testing.T, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	// Behind the name, which may hold anything; in hundredths of a second.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var user, system int64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// onOneCore is a command line that stays on the first core.
func onOneCore(command ...string) []string {
	return append([]string{"taskset", "-c", "0"}, command...)
}

// pairs asks GetMetrics and IsActive in turn from some goroutines over one connection for a while.
func pairs(t *testing.T, client pb.ExternalScalerClient, ref *pb.ScaledObjectRef, name string) (rate float64, all []time.Duration) {
	t.Helper()
	const askers, span = 16, 10 * time.Second
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
	type server struct {
		name, address string
		pid           int
	}
	other, pid := startMinimal(t)
	servers := []server{
		{"podswell", own.address, own.command.Process.Pid}, {"a map behind the same stubs (Go)", other, pid},
	}
	// In turn, so that a moment of noise does not meet one of them only.
	for range 3 {
		for _, server := range servers {
			before := spent(t, server.pid)
			client := pb.NewExternalScalerClient(dial(t, server.address))
			rate, times := pairs(t, client, ref(here.metadata()), name)
			// What the client takes of both cores bounds the rate, too; this is the server's part alone.
			each := (spent(t, server.pid) - before) / time.Duration(max(1, len(times)))
			fmt.Printf("| GetMetrics + IsActive, %s | %.0f calls/s | p50 %v | p99 %v | %v of the server's core a call |\n",
				server.name, rate, quantile(times, 0.5), quantile(times, 0.99), each)
		}
	}
}

// crowd makes Deployments without replicas and load, and waits until podswell answers for all of them.
// Nobody else asks for them, so that it is podswell alone who reads their load.
func crowd(t *testing.T, client pb.ExternalScalerClient, prefix string, count int) []workload {
	t.Helper()
	all := make([]workload, count)
	for number := range all {
		name := fmt.Sprintf("%s-%d", prefix, number)
		all[number] = workload{t, feed.Key{Namespace: shop, Deployment: name}}
		world.feed.Fill(all[number].Key, 0, time.Minute)
		_, err := world.client.AppsV1().Deployments(shop).Create(context.Background(),
			deployment(name, 0), metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, here := range all {
		metricSpec(t, client, ref(here.metadata()))
	}
	for _, here := range all {
		metric(t, client, ref(here.metadata()), func(*pb.MetricValue) bool { return true })
	}
	return all
}

func TestMeasureStreams(t *testing.T) {
	measuring(t)
	const workloads, each, addOn = 100, 100, 5
	own, err := start("podswell-streams", "--keda-insecure")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.kill)
	client := pb.NewExternalScalerClient(dial(t, own.address))
	all := crowd(t, client, "crowd", workloads)
	before, err := own.resident()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var messages atomic.Int64
	heard := make(chan time.Time, each)
	for _, here := range all {
		for range each {
			stream, err := client.StreamIsActive(ctx, ref(here.metadata()))
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				for first := true; ; first = false {
					if _, err := stream.Recv(); err != nil {
						return
					}
					now := time.Now()
					messages.Add(1)
					if first {
						heard <- now
					}
				}
			}()
		}
	}
	silence := func(what string) {
		const span = 10 * time.Second
		time.Sleep(5 * time.Second)
		until := messages.Load()
		time.Sleep(span)
		fmt.Printf("| 10 s of 10,000 %s streams | %d messages | http-add-on's cadence: %d |\n", what,
			messages.Load()-until, workloads*each*addOn*int(span/time.Second))
	}
	silence("idle")
	after, err := own.resident()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("| 10,000 open streams | %.1f KiB a stream | |\n", float64(after-before)/workloads/each/1024)
	asked := ref(all[0].metadata())
	rate, times := pairs(t, client, asked, metricName(t, client, asked))
	fmt.Printf("| GetMetrics + IsActive on the connection of these streams | %.0f calls/s | p50 %v | p99 %v |\n",
		rate, quantile(times, 0.5), quantile(times, 0.99))
	var late []time.Duration
	// One after the other, so that what is measured is a push to a hundred and not to a crowd.
	for _, here := range all {
		here.set(3)
		for range each {
			select {
			case now := <-heard:
				late = append(late, now.Sub(world.feed.Handed(here.Key)))
			case <-time.After(limit):
				t.Fatalf("a stream of %s hears nothing", here.Deployment)
			}
		}
		here.scale(1)
	}
	slices.Sort(late)
	fmt.Printf("| push, from the answer of the source to the client | p50 %v | p99 %v |\n",
		quantile(late, 0.5), quantile(late, 0.99))
	silence("active")
}
