package keda

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"github.com/kedacore/keda/v2/pkg/scalers/authentication"
	"github.com/kedacore/keda/v2/pkg/scaling"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	scalefake "k8s.io/client-go/scale/fake"
	kubetesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

// operator is KEDA's scale handler over a cluster that is only remembered. What it writes to the scale
// is written to the real Deployment, too, since that is what podswell sees.
type operator struct {
	t       *testing.T
	handler scaling.ScaleHandler
	object  *v1alpha1.ScaledObject
	client  client.Client
	mutex   sync.Mutex
	writes  []int32
}

// handle starts KEDA's scale handler for one ScaledObject of the workload.
func handle(t *testing.T, here workload, replicas int32, object *v1alpha1.ScaledObject) *operator {
	t.Helper()
	object.Name, object.Namespace, object.Generation = "so-"+here.Deployment, shop, 1
	object.UID, object.CreationTimestamp = types.UID(object.Name), metav1.Now()
	object.Spec.ScaleTargetRef = &v1alpha1.ScaleTarget{Name: here.Deployment}
	object.Status.ScaleTargetKind = "apps/v1.Deployment"
	object.Status.ScaleTargetGVKR = &v1alpha1.GroupVersionKindResource{
		Group: "apps", Version: "v1", Kind: "Deployment", Resource: "deployments",
	}
	object.Status.Conditions = *v1alpha1.GetInitializedConditions()
	target := deployment(here.Deployment, replicas)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		v1alpha1.AddToScheme, appsv1.AddToScheme, corev1.AddToScheme, autoscaling.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	this := &operator{t: t, object: object}
	this.client = fake.NewClientBuilder().WithScheme(scheme).
		WithObjects(target, object).WithStatusSubresource(object).Build()
	this.handler = scaling.NewScaleHandler(this.client, this.scales(here.Deployment), scheme, 3*time.Second, 0,
		events.NewFakeRecorder(1000), &authentication.AuthClientSet{})
	return this
}

// run starts the loops, with the metric names in the status as KEDA's reconciler would put them there.
func (o *operator) run() {
	o.t.Helper()
	eventually(o.t, "KEDA knows the metrics", func() error {
		cache, err := o.handler.GetScalersCache(context.Background(), o.object)
		if err != nil {
			return err
		}
		var names []string
		for _, spec := range cache.GetMetricSpecForScaling(context.Background()) {
			names = append(names, spec.External.Metric.Name)
		}
		if len(names) != len(o.object.Spec.Triggers) {
			return fmt.Errorf("metrics %v", names)
		}
		o.object.Status.ExternalMetricNames = names
		return o.client.Status().Update(context.Background(), o.object)
	})
	ctx, cancel := context.WithCancel(context.Background())
	if err := o.handler.HandleScalableObject(ctx, o.object); err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() {
		_ = o.handler.DeleteScalableObject(context.Background(), o.object)
		cancel()
	})
}

// scales remembers every write and carries it out.
func (o *operator) scales(name string) *scalefake.FakeScaleClient {
	scales := &scalefake.FakeScaleClient{}
	key := types.NamespacedName{Namespace: shop, Name: name}
	scales.AddReactor("get", "*", func(kubetesting.Action) (bool, runtime.Object, error) {
		var target appsv1.Deployment
		if err := o.client.Get(context.Background(), key, &target); err != nil {
			return true, nil, err
		}
		meta := metav1.ObjectMeta{Namespace: shop, Name: name}
		return true, &autoscalingv1.Scale{
			ObjectMeta: meta, Spec: autoscalingv1.ScaleSpec{Replicas: *target.Spec.Replicas},
		}, nil
	})
	scales.AddReactor("update", "*", func(action kubetesting.Action) (bool, runtime.Object, error) {
		scale := action.(kubetesting.UpdateAction).GetObject().(*autoscalingv1.Scale)
		var target appsv1.Deployment
		if err := o.client.Get(context.Background(), key, &target); err != nil {
			return true, nil, err
		}
		target.Spec.Replicas = &scale.Spec.Replicas
		if err := o.client.Update(context.Background(), &target); err != nil {
			return true, nil, err
		}
		o.mutex.Lock()
		o.writes = append(o.writes, scale.Spec.Replicas)
		o.mutex.Unlock()
		return true, scale, scaleTo(name, scale.Spec.Replicas)
	})
	return scales
}

func (o *operator) written() []int32 {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return append([]int32{}, o.writes...)
}

func (o *operator) status() v1alpha1.ScaledObjectStatus {
	var object v1alpha1.ScaledObject
	key := client.ObjectKeyFromObject(o.object)
	if err := o.client.Get(context.Background(), key, &object); err != nil {
		o.t.Fatal(err)
	}
	return object.Status
}

func trigger(here workload, address, kind string, more ...string) v1alpha1.ScaleTriggers {
	metadata := here.metadata(more...)
	metadata["scalerAddress"] = address
	return v1alpha1.ScaleTriggers{Type: kind, Name: "kpa", Metadata: metadata}
}

// D1, D2: from zero by push, back to zero after the cooldown.
func TestFromZeroAndBack(t *testing.T) {
	t.Parallel()
	here := newWorkload(t, 0, 0)
	poll, cooldown, most := int32(1), int32(2), int32(10)
	operator := handle(t, here, 0, &v1alpha1.ScaledObject{Spec: v1alpha1.ScaledObjectSpec{
		PollingInterval: &poll, CooldownPeriod: &cooldown, MaxReplicaCount: &most,
		Triggers: []v1alpha1.ScaleTriggers{trigger(here, world.podswell.address, "external-push")},
	}})
	operator.run()
	always(t, 3*time.Second, "nothing is written without load", func() error {
		if writes := operator.written(); len(writes) > 0 {
			return fmt.Errorf("%v", writes)
		}
		return nil
	})
	here.set(5)
	eventually(t, "0 to 1", func() error { return wrote(operator, 1) })
	here.set(0)
	eventually(t, "1 to 0", func() error { return wrote(operator, 1, 0) })
	here.set(5)
	eventually(t, "0 to 1 again", func() error { return wrote(operator, 1, 0, 1) })
}

// Three replicas or none: KEDA takes all of them away at once, however few podswell's rate would.
func TestIdleReplicaCountWithTheUsualRate(t *testing.T) {
	t.Parallel()
	here := newWorkload(t, 3, 15)
	poll, cooldown, least, idle := int32(1), int32(2), int32(3), int32(0)
	operator := handle(t, here, 3, &v1alpha1.ScaledObject{Spec: v1alpha1.ScaledObjectSpec{
		PollingInterval: &poll, CooldownPeriod: &cooldown, MinReplicaCount: &least, IdleReplicaCount: &idle,
		Triggers: []v1alpha1.ScaleTriggers{trigger(here, world.podswell.address, "external-push")},
	}})
	operator.run()
	always(t, 4*time.Second, "nothing is written under load", func() error { return wrote(operator) })
	here.set(0)
	eventually(t, "3 to 0", func() error { return wrote(operator, 0) })
	here.set(5)
	eventually(t, "0 to 3", func() error { return wrote(operator, 0, 3) })
	here.set(0)
	eventually(t, "3 to 0 again", func() error { return wrote(operator, 0, 3, 0) })
}

func wrote(operator *operator, wanted ...int32) error {
	writes := operator.written()
	if fmt.Sprint(writes) != fmt.Sprint(wanted) {
		return fmt.Errorf("written %v, not %v", writes, wanted)
	}
	return nil
}

// D3: a formula over our number.
func TestScalingModifiers(t *testing.T) {
	t.Parallel()
	here := newWorkload(t, 1, 34)
	operator := handle(t, here, 1, &v1alpha1.ScaledObject{Spec: v1alpha1.ScaledObjectSpec{
		Triggers: []v1alpha1.ScaleTriggers{trigger(here, world.podswell.address, "external")},
		Advanced: &v1alpha1.AdvancedConfig{
			ScalingModifiers: v1alpha1.ScalingModifiers{Formula: "kpa + 2", Target: "1"},
		},
	}})
	operator.run()
	eventually(t, "the formula's value", func() error {
		name := operator.status().ExternalMetricNames[0]
		values, err := operator.handler.GetScaledObjectMetrics(context.Background(),
			operator.object.Name, shop, v1alpha1.CompositeMetricName)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if len(values.Items) != 1 || milli(values.Items) != 6000 {
			return fmt.Errorf("%v", values.Items)
		}
		return nil
	})
}

// D4: what KEDA's fallback does when data is missing, and what it does not when podswell is gone
// (kedacore/keda#8056).
func TestFallback(t *testing.T) {
	// Not parallel: it stops the source of everybody.
	own, err := start("podswell-fallback", "--keda-insecure")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.kill() })
	here := newWorkload(t, 4, 34)
	poll, cooldown := int32(1), int32(300)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of its podswell's log:\n%s", own.log(8000))
		}
	})
	// A poll whose scalers are closed by another question's error counts as inactive without an error; only
	// the cooldowns keep the replicas then. The questions fail at first: this podswell may not know the
	// workload yet.
	operator := handle(t, here, 4, &v1alpha1.ScaledObject{Spec: v1alpha1.ScaledObjectSpec{
		PollingInterval: &poll, InitialCooldownPeriod: &cooldown, CooldownPeriod: &cooldown,
		Triggers: []v1alpha1.ScaleTriggers{trigger(here, own.address, "external")},
		Fallback: &v1alpha1.Fallback{
			FailureThreshold: 3, Replicas: 2, Behavior: v1alpha1.FallbackBehaviorCurrentReplicasIfHigher,
		},
	}})
	operator.run()
	value := func() (int64, error) {
		values, err := operator.handler.GetScaledObjectMetrics(context.Background(),
			operator.object.Name, shop, operator.status().ExternalMetricNames[0])
		if err != nil {
			return 0, err
		}
		return milli(values.Items), nil
	}
	four := func() error {
		if milli, err := value(); err != nil || milli != 4000 {
			return fmt.Errorf("%d m, %v; KEDA wrote %v", milli, err, operator.written())
		}
		return nil
	}
	failing := func() bool {
		status := operator.status()
		condition := status.Conditions.GetFallbackCondition()
		return condition.IsTrue()
	}
	eventually(t, "the number while all is well", four)
	eventually(t, "KEDA has seen it active", func() error {
		status := operator.status()
		if status.LastActiveTime == nil {
			return errNotYet
		}
		return nil
	})
	thaw := world.feed.Hang()
	defer thaw()
	eventually(t, "no data: KEDA falls back", func() error {
		if !failing() {
			return errNotYet
		}
		return nil
	})
	eventually(t, "on the replicas that are there", four)
	thaw()
	// A status that KEDA was about to write when the data came back may still be written after that.
	alike := 0
	eventually(t, "data is back", func() error {
		err := four()
		if err == nil && failing() {
			err = errors.New("it still falls back")
		}
		if err != nil {
			alike = 0
			return err
		}
		if alike++; alike < 60 {
			return errNotYet
		}
		return nil
	})
	own.kill()
	always(t, 8*time.Second, "podswell gone: frozen, neither fallback nor zero", func() error {
		if milli, err := value(); err == nil {
			return fmt.Errorf("%d m from nobody", milli)
		}
		if failing() {
			return fmt.Errorf("the fallback fires: keda#8056 is mended, say so in docs/keda.md")
		}
		return wrote(operator)
	})
	if err := own.run(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "podswell is back", four)
	if err := wrote(operator); err != nil {
		t.Fatal(err)
	}
}
