package keda

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// pair is two processes of one podswell behind one name.
type pair struct {
	t           *testing.T
	system      string
	port        string
	holder, two *process
	// address is that of a headless Service: KEDA takes turns between both.
	address string
}

// newPair starts the first of two processes, which holds the lease then.
func newPair(t *testing.T, system string) *pair {
	t.Helper()
	_, port, _ := strings.Cut(freeAddress("127.0.0.2"), ":")
	names := serveNames(t, "127.0.0.2", "127.0.0.3")
	this := &pair{t: t, system: system, port: port}
	this.address = fmt.Sprintf("dns://%s/podswell.test:%s", names, port)
	this.holder = this.start("127.0.0.2")
	eventually(t, "the first leads", func() error { return gauge(this.holder, "podswell_leader", 1) })
	return this
}

// join starts the second, which stands by.
func (p *pair) join() {
	p.t.Helper()
	p.two = p.start("127.0.0.3")
	eventually(p.t, "the second stands by", func() error { return gauge(p.two, "podswell_leader", 0) })
}

func (p *pair) start(host string) *process {
	p.t.Helper()
	own, err := startAt(host+":"+p.port, p.system, "--keda-insecure", "--keda-addresses", p.address)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(own.kill)
	return own
}

// announce makes the ScaledObject of a trigger, by which every process has a decider for it. KEDA itself
// does not run here.
func (p *pair) announce(ref *pb.ScaledObjectRef) {
	p.t.Helper()
	metadata := map[string]string{"scalerAddress": p.address}
	maps.Copy(metadata, ref.ScalerMetadata)
	object, err := json.Marshal(v1alpha1.ScaledObject{
		TypeMeta:   metav1.TypeMeta{APIVersion: "keda.sh/v1alpha1", Kind: "ScaledObject"},
		ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: ref.Name},
		Spec: v1alpha1.ScaledObjectSpec{
			ScaleTargetRef: &v1alpha1.ScaleTarget{Name: metadata["deployment"]},
			Triggers:       []v1alpha1.ScaleTriggers{{Type: "external-push", Metadata: metadata}},
		},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	made := world.client.AppsV1().RESTClient().Post().
		AbsPath("/apis/keda.sh/v1alpha1/namespaces", shop, "scaledobjects").
		Body(object).Do(context.Background())
	if err := made.Error(); err != nil {
		p.t.Fatal(err)
	}
}

// gauge complains unless a process shows this number in all series of a family whose labels hold all parts.
func gauge(of *process, family string, wanted float64, parts ...string) error {
	answer, err := http.Get("http://" + of.health + "/metrics")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	found := 0
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name != family && !strings.HasPrefix(name, family+"{") {
			continue
		}
		matches := true
		for _, part := range parts {
			matches = matches && strings.Contains(name, part)
		}
		if !matches {
			continue
		}
		found++
		var number float64
		if _, err := fmt.Sscan(value, &number); err != nil || number != wanted {
			return fmt.Errorf("%s, not %v", strings.TrimSpace(line), wanted)
		}
	}
	if found == 0 {
		return fmt.Errorf("no %s with %v", family, parts)
	}
	return nil
}

// answered is what one of several processes says: wanted replicas, or why there are none.
func answered(client pb.ExternalScalerClient, ref *pb.ScaledObjectRef, patience time.Duration) (int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request := &pb.GetMetricsRequest{ScaledObjectRef: ref, MetricName: "podswell-replicas"}
	answer, err := client.GetMetrics(ctx, request)
	if err != nil {
		return 0, err
	}
	return answer.MetricValues[0].MetricValue, nil
}

// isSilence is no answer at all, which KEDA leaves the replicas alone for: nobody to ask, or a frozen
// process, which is not podswell's to answer for.
func isSilence(err error) bool {
	return status.Code(err) == codes.Unavailable || status.Code(err) == codes.DeadlineExceeded
}

// The other process answers with what the holder decided, also where it would decide otherwise itself.
// The holder is lost: nothing lower is ever answered because of that, and the heir's decisions count.
func TestHolderIsKilled(t *testing.T) {
	t.Parallel()
	holderIsLost(t, "podswell-killed", func(holder *process) { holder.kill() },
		func(holder *process, _ func() []int64) []int64 {
			if err := holder.run(); err != nil {
				t.Fatal(err)
			}
			return nil
		})
}

// As above, and a holder that wakes finds questions waiting: it answers none of them with what it had
// decided when it fell asleep.
func TestHolderIsFrozen(t *testing.T) {
	t.Parallel()
	signal := func(process *process, signal syscall.Signal) {
		if err := process.command.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
	}
	holderIsLost(t, "podswell-frozen",
		func(holder *process) { signal(holder, syscall.SIGSTOP) },
		func(holder *process, waiting func() []int64) []int64 {
			time.Sleep(time.Second)
			signal(holder, syscall.SIGCONT)
			return waiting()
		})
}

func holderIsLost(t *testing.T, system string, lose func(*process), wake func(*process, func() []int64) []int64) {
	t.Helper()
	pair := newPair(t, system)
	here, idle := newWorkload(t, 1, 74), newWorkload(t, 0, 0)
	ref, sleeper := ref(here.metadata("scale-down-delay", "10m")), ref(idle.metadata())
	pair.announce(ref)
	holder := pb.NewExternalScalerClient(dial(t, pair.holder.address))
	says := func(client pb.ExternalScalerClient, replicas int64) func() error {
		return func() error {
			seen, err := answered(client, ref, 10*time.Second)
			if err == nil && seen != replicas {
				err = fmt.Errorf("%d replicas", seen)
			}
			return err
		}
	}
	eventually(t, "8 replicas for 74 requests", says(holder, 8))
	here.set(34)
	labels := []string{here.Deployment}
	eventually(t, "the load is seen to fall", func() error {
		return gauge(pair.holder, "podswell_concurrency_stable", 34, labels...)
	})
	pair.join()
	heir := pb.NewExternalScalerClient(dial(t, pair.two.address))
	both := scaler(t, config(ref.ScalerMetadata, pair.address))
	spec(t, both)
	// An API server that is away for seconds moves the lease too soon, and what the delay remembers is not handed
	// over; that cannot be looked at then.
	moved := func() bool { return gauge(pair.two, "podswell_leader", 1) == nil }
	eventually(t, "the second has the trigger", func() error {
		err := says(heir, 8)()
		if err != nil && moved() {
			return nil
		}
		return err
	})
	eventually(t, "the second would want 4", func() error {
		return gauge(pair.two, "podswell_pods_desired", 4, labels...)
	})
	for range 200 {
		err := patiently(says(heir, 8))
		if err != nil && moved() {
			t.Logf("the lease has moved: %v", err)
			break
		}
		if err != nil {
			t.Fatalf("what the holder decided: %v", err)
		}
	}

	here.set(94)
	for _, process := range []*process{pair.holder, pair.two} {
		eventually(t, "each would want 10", func() error {
			return gauge(process, "podswell_pods_desired", 10, labels...)
		})
	}
	stream := pushed(t, heir, sleeper)
	lose(pair.holder)
	eventually(t, "the heir leads", func() error {
		seen, err := answered(heir, ref, 10*time.Second)
		if err != nil && !isSilence(err) || err == nil && seen < 10 {
			t.Fatalf("%d replicas, %v", seen, err)
		}
		// KEDA's own client, which takes turns with who does not answer.
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		values, _, failed := both.GetMetricsAndActivity(ctx, "s0-podswell-replicas")
		switch {
		case failed == nil && milli(values) < 10_000:
			t.Fatalf("KEDA reads %v", values)
		case failed != nil && !isSilence(failed) && !errors.Is(failed, context.DeadlineExceeded):
			t.Fatal(failed)
		}
		return gauge(pair.two, "podswell_leader", 1)
	})
	here.set(134)
	eventually(t, "the heir decides", says(heir, 14))
	idle.set(3)
	for range 3 {
		if active, open := <-stream; !active || !open {
			t.Fatal("the stream that the holder fed goes on")
		}
	}

	waiting := questions(holder, ref)
	for _, old := range wake(pair.holder, waiting) {
		if old < 14 {
			t.Errorf("awake, it says %d as it did before", old)
		}
	}
	holder = pb.NewExternalScalerClient(dial(t, pair.holder.address))
	eventually(t, "the old holder passes on what the new one decides", func() error {
		seen, err := answered(holder, ref, 10*time.Second)
		if err == nil && seen < 14 {
			t.Fatalf("it says %d as it did before", seen)
		}
		return err
	})
	eventually(t, "the old holder stands by", func() error { return gauge(pair.holder, "podswell_leader", 0) })
}

// questions asks at once many times; the returned function waits for the answers.
func questions(client pb.ExternalScalerClient, ref *pb.ScaledObjectRef) func() []int64 {
	const number = 100
	answers := make(chan int64, number)
	for range number {
		go func() {
			seen, err := answered(client, ref, limit)
			if err != nil {
				seen = 1 << 30
			}
			answers <- seen
		}()
	}
	return func() []int64 {
		var all []int64
		for range number {
			all = append(all, <-answers)
		}
		return all
	}
}

// pushed hands out what StreamIsActive says; a hundred messages wait for who reads them.
func pushed(t *testing.T, client pb.ExternalScalerClient, ref *pb.ScaledObjectRef) <-chan bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*limit)
	t.Cleanup(cancel)
	stream, err := client.StreamIsActive(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	received := make(chan bool, 100)
	go func() {
		defer close(received)
		for {
			answer, err := stream.Recv()
			if err != nil {
				return
			}
			select {
			case received <- answer.Result:
			case <-ctx.Done():
				return
			}
		}
	}()
	return received
}
