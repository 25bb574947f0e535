package keda

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kedacore/keda/v2/pkg/scalers"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	autoscaling "k8s.io/api/autoscaling/v2"
)

// The milliseconds of what KEDA's own client waits for; that it comes, and in which order, is tested in
// scaler_test.go. The letters are those tests'.
func TestMeasureCases(t *testing.T) {
	measuring(t)
	own, err := start("podswell-cases", "--keda-insecure")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.kill() })
	measureRefusals(t, own)
	measureWakes(t, own)
	measureSpecs(t, own)
	measureHungSource(t, own)
	measureReturn(t, own)
	measureManyPushScalers(t)
}

func row(what string, times []time.Duration) {
	slices.Sort(times)
	fmt.Printf("| %s | %d | %v | %v | %v |\n", what, len(times),
		quantile(times, 0.5).Round(10*time.Microsecond), quantile(times, 0.99).Round(10*time.Microsecond),
		times[len(times)-1].Round(10*time.Microsecond))
}

// C7
func measureRefusals(t *testing.T, own *process) {
	for what, metadata := range map[string]map[string]string{
		"an unknown Deployment is refused (C7)": {"deployment": "nobody"},
		"bad metadata is refused (C7)":          {"deployment": "nobody", "window": "long"},
	} {
		scaler := scaler(t, config(metadata, own.address))
		var times []time.Duration
		for range 100 {
			began := time.Now()
			if _, _, err := scaler.GetMetricsAndActivity(short(t), "s0-any"); err == nil {
				t.Fatal("an answer")
			}
			times = append(times, time.Since(began))
		}
		row(what, times)
	}
}

// C10
func measureWakes(t *testing.T, own *process) {
	const workloads = 100
	all := crowd(t, pb.NewExternalScalerClient(dial(t, own.address)), "wakes", workloads)
	hears := func(here workload, active <-chan bool) time.Time {
		expectTrue(t, active, here.Deployment)
		return time.Now()
	}
	heard := make([]<-chan bool, workloads)
	for number, here := range all {
		_, heard[number] = push(t, config(here.metadata(), own.address))
	}
	time.Sleep(3 * time.Second)
	var woken, late []time.Duration
	for number, here := range all {
		here.set(3)
		at := hears(here, heard[number])
		woken = append(woken, at.Sub(world.feed.Handed(here.Key)))
		began := time.Now()
		_, again := push(t, config(here.metadata(), own.address))
		late = append(late, hears(here, again).Sub(began))
		here.scale(1)
	}
	row("pushed, from the source's answer to KEDA's channel (C10)", woken)
	row("already active when the stream opens (C10)", late)
}

// C13
func measureSpecs(t *testing.T, own *process) {
	const annotation = "autoscaling.knative.dev/target"
	var first, changed []time.Duration
	for range 20 {
		here := newWorkload(t, 1, 34, annotation, "10")
		metadata := here.metadata("target", "", "value", "stable")
		// podswell has the workload; KEDA asks for the spec before it opens streams, too.
		spec(t, scaler(t, config(metadata, own.address)))
		began := time.Now()
		made, _ := push(t, config(metadata, own.address))
		specs := made.(scalers.MetricSpecStreamer).MetricSpecChan()
		hears := func(target int64) time.Time {
			deadline := time.After(limit)
			for {
				select {
				case one := <-specs:
					if milliTarget(one) == 1000*target {
						return time.Now()
					}
				case <-deadline:
					t.Fatalf("target %d never came", target)
				}
			}
		}
		first = append(first, hears(10).Sub(began))
		began = time.Now()
		here.annotate(annotation, "25")
		changed = append(changed, hears(25).Sub(began))
	}
	row("the first spec of a stream (C13)", first)
	row("a changed annotation is streamed, the API server's write included (C13)", changed)
}

func milliTarget(specs []autoscaling.MetricSpec) int64 {
	return specs[0].External.Target.AverageValue.MilliValue()
}

// C15
func measureHungSource(t *testing.T, own *process) {
	here := newWorkload(t, 1, 34)
	scaler := scaler(t, config(here.metadata(), own.address))
	reads(t, scaler, "4 replicas", func(milli int64, _ bool) bool { return milli == 4000 })
	name := spec(t, scaler).External.Metric.Name
	thaw := world.feed.Hang()
	defer thaw()
	var times []time.Duration
	for range 100 {
		began := time.Now()
		_, _, _ = scaler.GetMetricsAndActivity(short(t), name)
		times = append(times, time.Since(began))
		time.Sleep(100 * time.Millisecond)
	}
	row("GetMetrics, then IsActive, while the source hangs (C15)", times)
}

// C12
func measureReturn(t *testing.T, own *process) {
	here := newWorkload(t, 0, 5)
	_, active := push(t, config(here.metadata(), own.address))
	expectTrue(t, active, "before the end")
	var times []time.Duration
	for range 5 {
		if err := own.terminate(); err != nil {
			t.Fatal(err)
		}
		for drained := false; !drained; {
			select {
			case <-active:
			default:
				drained = true
			}
		}
		if err := own.run(); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		expectTrue(t, active, "KEDA comes back")
		times = append(times, time.Since(began))
	}
	row("pushed again since a new process was ready; KEDA itself waits 2 s (C12)", times)
}

// C14
func measureManyPushScalers(t *testing.T) {
	const servers, each = 5, 500
	here := newWorkload(t, 0, 0)
	var hearing sync.WaitGroup
	var mutex sync.Mutex
	var at []time.Time
	for number := range servers {
		own, err := start(fmt.Sprintf("podswell-many-%d", number), "--keda-insecure")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(own.kill)
		client := pb.NewExternalScalerClient(dial(t, own.address))
		metric(t, client, ref(here.metadata()), func(*pb.MetricValue) bool { return true })
		for range each {
			_, active := push(t, config(here.metadata(), own.address))
			hearing.Add(1)
			go func() {
				defer hearing.Done()
				ctx, cancel := context.WithTimeout(context.Background(), 2*limit)
				defer cancel()
				select {
				case <-active:
					mutex.Lock()
					defer mutex.Unlock()
					at = append(at, time.Now())
				case <-ctx.Done():
					t.Error("a scaler hears nothing")
				}
			}()
		}
	}
	time.Sleep(3 * time.Second)
	began := time.Now()
	here.set(7)
	hearing.Wait()
	var times []time.Duration
	for _, one := range at {
		times = append(times, one.Sub(began))
	}
	row("2,500 scalers on five processes, since the load came; sources are asked once a second (C14)", times)
}
