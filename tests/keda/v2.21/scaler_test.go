package keda

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/kedacore/keda/v2/pkg/scalers"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"github.com/kedacore/keda/v2/pkg/scalers/scalersconfig"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	autoscaling "k8s.io/api/autoscaling/v2"
	"k8s.io/metrics/pkg/apis/external_metrics"
)

// config is what KEDA makes of a trigger of type external.
func config(metadata map[string]string, address string) *scalersconfig.ScalerConfig {
	all := map[string]string{"scalerAddress": address}
	for key, value := range metadata {
		all[key] = value
	}
	return &scalersconfig.ScalerConfig{
		ScalableObjectName:      "so-" + metadata["deployment"],
		ScalableObjectNamespace: shop,
		ScalableObjectType:      "ScaledObject",
		TriggerMetadata:         all,
		ResolvedEnv:             map[string]string{},
		AuthParams:              map[string]string{},
		MetricType:              autoscaling.AverageValueMetricType,
	}
}

func scaler(t *testing.T, config *scalersconfig.ScalerConfig) scalers.Scaler {
	t.Helper()
	made, err := scalers.NewExternalScaler(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = made.Close(context.Background()) })
	return made
}

func spec(t *testing.T, scaler scalers.Scaler) autoscaling.MetricSpec {
	t.Helper()
	var specs []autoscaling.MetricSpec
	// podswell was not told of the workload before the API server.
	eventually(t, "one spec", func() error {
		if specs = scaler.GetMetricSpecForScaling(short(t)); len(specs) != 1 {
			return fmt.Errorf("%v", specs)
		}
		return nil
	})
	return specs[0]
}

// reads waits until KEDA reads what good likes.
func reads(t *testing.T, scaler scalers.Scaler, what string, good func(milli int64, active bool) bool) {
	t.Helper()
	name := spec(t, scaler).External.Metric.Name
	eventually(t, what, func() error {
		values, active, err := scaler.GetMetricsAndActivity(short(t), name)
		if err != nil {
			return err
		}
		if len(values) != 1 {
			t.Fatalf("one value, not %v", values)
		}
		if !good(milli(values), active) {
			return fmt.Errorf("value %d m, active %t", milli(values), active)
		}
		return nil
	})
}

func milli(values []external_metrics.ExternalMetricValue) int64 { return values[0].Value.MilliValue() }

// C1, C2
func TestMetricSpec(t *testing.T) {
	t.Parallel()
	here := newWorkload(t, 1, 34)
	for _, index := range []int{0, 3} {
		config := config(here.metadata("value", "stable", "target", "12.5"), world.podswell.address)
		config.TriggerIndex = index
		scaler := scaler(t, config)
		spec := spec(t, scaler)
		form := regexp.MustCompile(fmt.Sprintf(`^s%d-[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?$`, index))
		if name := spec.External.Metric.Name; !form.MatchString(name) {
			t.Errorf("the name %q is no plain word", name)
		}
		target := spec.External.Target
		if target.Type != autoscaling.AverageValueMetricType || target.AverageValue.MilliValue() != 12500 {
			t.Errorf("target %v", target)
		}
		if _, _, err := scaler.GetMetricsAndActivity(short(t), "s9-"+spec.External.Metric.Name); err == nil {
			t.Error("KEDA itself refuses another trigger's name")
		}
	}
}

// C3
func TestMetricTypes(t *testing.T) {
	t.Parallel()
	config := config(newWorkload(t, 1, 34).metadata("value", "stable"), world.podswell.address)
	config.MetricType = autoscaling.ValueMetricType
	target := spec(t, scaler(t, config)).External.Target
	if target.Type != autoscaling.ValueMetricType || target.Value.MilliValue() != 10000 {
		t.Errorf("target %v", target)
	}
	config.MetricType = autoscaling.UtilizationMetricType
	if _, err := scalers.NewExternalScaler(config); err == nil {
		t.Error("KEDA knows no utilization of an external metric")
	}
}

// C4, C5
func TestLoadComesAndGoes(t *testing.T) {
	t.Parallel()
	here := newWorkload(t, 1, 34)
	scaler := scaler(t, config(here.metadata(), world.podswell.address))
	reads(t, scaler, "34 requests of 10 a pod are 4 replicas", func(milli int64, active bool) bool {
		return milli == 4000 && active
	})
	here.scale(4)
	here.set(0)
	reads(t, scaler, "idle is 0 and inactive", func(milli int64, active bool) bool {
		// podswell halves at most, so somebody has to follow it down.
		here.scale(max(1, int32(milli/1000)))
		return milli == 0 && !active
	})
	here.set(1)
	reads(t, scaler, "load is active again", func(milli int64, active bool) bool {
		return milli >= 1000 && active
	})
}

// The windows of Knative: a burst shows in the panic window at once, in the stable one later.
func TestRawValues(t *testing.T) {
	t.Parallel()
	here := newWorkload(t, 2, 10)
	read := func(value string) scalers.Scaler {
		return scaler(t, config(here.metadata("value", value, "window", "60s"), world.podswell.address))
	}
	stable, panicking, highest := read("stable"), read("panic"), read("max")
	for name, scaler := range map[string]scalers.Scaler{"stable": stable, "panic": panicking, "max": highest} {
		reads(t, scaler, name+" is the constant load", func(milli int64, _ bool) bool { return milli == 10000 })
	}
	here.set(50)
	// First, because it forgets within a minute.
	reads(t, stable, "the stable window remembers the past", func(milli int64, _ bool) bool {
		return 10000 < milli && milli < 45000
	})
	reads(t, panicking, "the panic window forgets it", func(milli int64, _ bool) bool { return milli == 50000 })
	reads(t, highest, "the higher of the two", func(milli int64, _ bool) bool { return milli == 50000 })
}

// C6
func TestFractions(t *testing.T) {
	t.Parallel()
	here := newWorkload(t, 1, 0.25)
	scaler := scaler(t, config(here.metadata("value", "stable", "target", "0.5"), world.podswell.address))
	if target := spec(t, scaler).External.Target.AverageValue.MilliValue(); target != 500 {
		t.Errorf("target %d m", target)
	}
	reads(t, scaler, "a quarter of a request", func(milli int64, active bool) bool { return milli == 250 && active })
}

// C7
func TestRefusalsReachKEDA(t *testing.T) {
	t.Parallel()
	here := newWorkload(t, 1, 10)
	for metadata, code := range map[[2]string]codes.Code{
		{"deployment", "nobody"}: codes.NotFound,
		{"window", "long"}:       codes.InvalidArgument,
	} {
		scaler := scaler(t, config(here.metadata(metadata[0], metadata[1]), world.podswell.address))
		if specs := scaler.GetMetricSpecForScaling(short(t)); specs != nil {
			t.Errorf("%v: specs %v", metadata, specs)
		}
		err := patiently(func() error {
			_, _, err := scaler.GetMetricsAndActivity(short(t), "s0-any")
			return err
		})
		if status.Code(err) != code {
			t.Errorf("%v: %v", metadata, err)
		}
	}
}

// C8
func TestKeysFromTheEnvironment(t *testing.T) {
	t.Parallel()
	here := newWorkload(t, 1, 34)
	metadata := here.metadata("deploymentFromEnv", "WORKLOAD")
	named := config(metadata, world.podswell.address)
	delete(named.TriggerMetadata, "deployment")
	named.ResolvedEnv["WORKLOAD"] = here.Deployment
	reads(t, scaler(t, named), "found by the variable", func(milli int64, _ bool) bool { return milli == 4000 })
	// KEDA drops what does not resolve; then only a ScaledObject could say which workload is meant.
	dropped := config(metadata, world.podswell.address)
	delete(dropped.TriggerMetadata, "deployment")
	if specs := scaler(t, dropped).GetMetricSpecForScaling(short(t)); specs != nil {
		t.Errorf("specs %v of nobody", specs)
	}
}

// push runs a push scaler and hands out what it says.
func push(t *testing.T, config *scalersconfig.ScalerConfig) (scalers.PushScaler, <-chan bool) {
	t.Helper()
	made, err := scalers.NewExternalPushScaler(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	active := make(chan bool)
	go made.Run(ctx, active)
	t.Cleanup(func() {
		cancel()
		_ = made.Close(context.Background())
	})
	return made, active
}

func expectTrue(t *testing.T, active <-chan bool, what string) {
	t.Helper()
	select {
	case one, open := <-active:
		if !open || !one {
			t.Fatalf("%s: %t, open %t", what, one, open)
		}
	case <-time.After(limit):
		t.Fatalf("%s: nothing in %v", what, limit)
	}
}

// C10, C11: pushed when load appears and again each second at zero, silent for half a minute while
// replicas run.
func TestPush(t *testing.T) {
	t.Parallel()
	here := newWorkload(t, 0, 0)
	_, active := push(t, config(here.metadata(), world.podswell.address))
	select {
	case one := <-active:
		t.Fatalf("%t without load", one)
	case <-time.After(3 * time.Second):
	}
	// Pushes that wait for a reader who was kept from reading were spaced all the same.
	began := time.Now()
	here.set(1)
	expectTrue(t, active, "the first request")
	for range 10 {
		expectTrue(t, active, "again, while there is no replica")
	}
	if took := time.Since(began); took < 8*time.Second {
		t.Errorf("ten repetitions within %v: every one costs KEDA a write", took)
	}
	_, late := push(t, config(here.metadata(), world.podswell.address))
	expectTrue(t, late, "already active when the stream opens")
	here.scale(2)
	// A process that loses the lease for a moment says it once more.
	err := within(4*limit, func() error {
		select {
		case <-active:
			return errors.New("a push within 30 s")
		case <-time.After(30 * time.Second):
			return nil
		}
	})
	if err != nil {
		t.Fatalf("no silence while replicas run: %v", err)
	}
}

// C12, C13
func TestDrainAndReturn(t *testing.T) {
	t.Parallel()
	own, err := start("podswell-drained", "--keda-insecure")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.kill() })
	here := newWorkload(t, 0, 5)
	client := pb.NewExternalScalerClient(dial(t, own.address))
	var streams []pb.ExternalScaler_StreamIsActiveClient
	// Each waits for the one before it, which is long on a busy machine.
	if err := within(4*limit, func() error {
		ctx, cancel := context.WithCancel(context.Background())
		t.Cleanup(cancel)
		stream, err := client.StreamIsActive(ctx, ref(here.metadata()))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			return err
		}
		streams = append(streams, stream)
		if len(streams) < 100 {
			return errNotYet
		}
		return nil
	}); err != nil {
		t.Fatalf("%d streams are open: %v", len(streams), err)
	}
	pushScaler, active := push(t, config(here.metadata(), own.address))
	expectTrue(t, active, "before the end")
	if err := own.terminate(); err != nil {
		t.Fatal(err)
	}
	for number, stream := range streams {
		for err = error(nil); err == nil; {
			_, err = stream.Recv()
		}
		if !endedWell(err) {
			t.Fatalf("stream %d of %d ends with %v", number, len(streams), err)
		}
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
	expectTrue(t, active, "KEDA comes back")
	specs := pushScaler.(scalers.MetricSpecStreamer).MetricSpecChan()
	select {
	case one := <-specs:
		if len(one) != 1 {
			t.Fatalf("specs %v", one)
		}
	case <-time.After(limit):
		t.Fatal("no spec is streamed")
	}
	// Gone without a word: KEDA comes back on its own schedule.
	own.kill()
	if err := own.run(); err != nil {
		t.Fatal(err)
	}
	// It waits up to a minute then.
	deadline := time.After(3 * limit)
	for seen := 0; seen < 2; {
		select {
		case <-active:
			seen++
		case <-deadline:
			t.Fatal("KEDA does not come back")
		}
	}
}

// C13
func TestSpecStreamReachesKEDA(t *testing.T) {
	t.Parallel()
	here := newWorkload(t, 1, 34, "autoscaling.knative.dev/target", "10")
	metadata := here.metadata("target", "", "value", "stable")
	made, _ := push(t, config(metadata, world.podswell.address))
	specs := made.(scalers.MetricSpecStreamer).MetricSpecChan()
	for _, target := range []int64{10, 25} {
		here.annotate("autoscaling.knative.dev/target", fmt.Sprint(target))
		deadline := time.After(limit)
		for seen := int64(0); seen != 1000*target; {
			select {
			case one := <-specs:
				if len(one) != 1 {
					t.Fatalf("specs %v", one)
				}
				seen = one[0].External.Target.AverageValue.MilliValue()
			case <-deadline:
				t.Fatalf("target %d never came; last %d m", target, seen)
			}
		}
		if asked := spec(t, made).External.Target.AverageValue.MilliValue(); asked != 1000*target {
			t.Fatalf("streamed %d, answered %d m", target, asked)
		}
	}
}

// C14: as KEDA's own test of 2,500 push scalers on five servers.
func TestManyPushScalers(t *testing.T) {
	t.Parallel()
	const servers, each = 5, 500
	here := newWorkload(t, 0, 0)
	all := make([]*process, servers)
	for number := range servers {
		own, err := start(fmt.Sprintf("podswell-crowd-%d", number), "--keda-insecure")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(own.kill)
		all[number] = own
	}
	var waiting sync.WaitGroup
	failed := make(chan string, servers*each)
	ready := make(chan struct{}, servers*each)
	for number := range servers * each {
		config := config(here.metadata(), all[number%servers].address)
		_, active := push(t, config)
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			ready <- struct{}{}
			select {
			case one, open := <-active:
				if !one || !open {
					failed <- fmt.Sprintf("scaler %d of server %d: %t, open %t", number, number%servers, one, open)
				}
			case <-time.After(2 * limit):
				failed <- fmt.Sprintf("scaler %d of server %d hears nothing", number, number%servers)
			}
		}()
	}
	for range servers * each {
		<-ready
	}
	here.set(7)
	waiting.Wait()
	close(failed)
	for why := range failed {
		t.Error(why)
	}
	if !t.Failed() {
		return
	}
	// Which process, what it says of the workload, and what it said meanwhile.
	for number, own := range all {
		client := pb.NewExternalScalerClient(dial(t, own.address))
		answer, err := client.IsActive(short(t), ref(here.metadata()))
		t.Logf("server %d, alive %t: active %v, %v; the end of its log:\n%s", number, own.alive(), answer, err, own.log(3000))
	}
}

// C15
func TestHungSource(t *testing.T) {
	// Not parallel: it stops the source of everybody.
	here := newWorkload(t, 1, 34)
	scaler := scaler(t, config(here.metadata(), world.podswell.address))
	reads(t, scaler, "4 replicas", func(milli int64, _ bool) bool { return milli == 4000 })
	name := spec(t, scaler).External.Metric.Name
	thaw := world.feed.Hang()
	defer thaw()
	lost, began := false, time.Now()
	for looks := 0; looks < 20 || !lost && time.Since(began) < limit; looks++ {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		values, active, err := scaler.GetMetricsAndActivity(ctx, name)
		cancel()
		// The spec needs no data.
		spec(t, scaler)
		switch {
		case err == nil && !lost && (milli(values) != 4000 || !active):
			t.Fatalf("the last value, not %d m, active %t", milli(values), active)
		case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
			t.Fatal("a handler waits for the source")
		case err != nil && status.Code(err) != codes.Unavailable:
			t.Fatalf("%v", err)
		case err != nil:
			lost = true
		}
		time.Sleep(500 * time.Millisecond)
	}
	if !lost {
		t.Fatal("a value that is older than its limit is still handed out")
	}
	thaw()
	reads(t, scaler, "4 replicas again", func(milli int64, active bool) bool { return milli == 4000 && active })
}

// C16
func TestTwoReplicasAgree(t *testing.T) {
	t.Parallel()
	pair := newPair(t, "podswell-pair")
	pair.join()
	here := newWorkload(t, 1, 34)
	scaler := scaler(t, config(here.metadata(), pair.address))
	ready := func(milli int64, active bool) bool { return milli == 4000 && active }
	for range 4 {
		reads(t, scaler, "both are warm", ready)
	}
	name := spec(t, scaler).External.Metric.Name
	// Silence is no other opinion.
	asked := func() (values []external_metrics.ExternalMetricValue, active bool, err error) {
		err = patiently(func() (err error) {
			values, active, err = scaler.GetMetricsAndActivity(short(t), name)
			return err
		})
		return values, active, err
	}
	agree := func(what string, replicas int64) {
		for range 500 {
			values, active, err := asked()
			if err != nil || milli(values) != 1000*replicas || active != (replicas > 0) {
				t.Fatalf("%s: %v, active %t, %v", what, values, active, err)
			}
		}
	}
	agree("under load", 4)
	here.set(0)
	// Two calls that lie apart may fall on both sides of a decision.
	alike := 0
	eventually(t, "both are idle", func() error {
		values, active, err := asked()
		if err != nil {
			t.Fatal(err)
		}
		if active || milli(values) > 0 {
			alike = 0
			return fmt.Errorf("%d m, active %t", milli(values), active)
		}
		if alike++; alike < 20 {
			return errNotYet
		}
		return nil
	})
	agree("idle", 0)
}

// C17
func TestLastCloseEndsTheConnection(t *testing.T) {
	t.Parallel()
	proxy := countConnections(t, world.podswell.address)
	here := newWorkload(t, 1, 34)
	first, second := config(here.metadata(), proxy.address), config(here.metadata(), proxy.address)
	one, err := scalers.NewExternalScaler(first)
	if err != nil {
		t.Fatal(err)
	}
	two, err := scalers.NewExternalScaler(second)
	if err != nil {
		t.Fatal(err)
	}
	spec(t, one)
	spec(t, two)
	if open := proxy.open.Load(); open != 1 {
		t.Fatalf("%d connections for one address", open)
	}
	_ = one.Close(context.Background())
	spec(t, two)
	_ = two.Close(context.Background())
	eventually(t, "the connection ends", func() error {
		if open := proxy.open.Load(); open != 0 {
			return fmt.Errorf("%d open", open)
		}
		return nil
	})
}
