// Package keda drives a running podswell with KEDA 2.21.0's own code: its stubs, its external scalers
// and its scale handler.
//
// tests/keda/main.rs compiles nothing of this: it starts a control plane and runs the test binary that
// tests/testbin.sh made, with the environment that [TestMain] names.
package keda

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/retry"

	"podswell.dev/tests/keda/feed"
)

const (
	// limit is how long a state may take to come: generous, the machine may be busy.
	limit = 90 * time.Second
	// shop is the namespace of all workloads.
	shop = "shop"
)

// world is what all tests share.
var world struct {
	client kubernetes.Interface
	feed   *feed.Feed
	// podswell serves plain, for everybody who needs none of their own.
	podswell *process
}

func TestMain(m *testing.M) {
	if address := os.Getenv("MINIMAL_SCALER"); address != "" {
		check(serveMinimal(address))
		return
	}
	for _, name := range []string{"KUBECONFIG", "PODSWELL", "PODSWELL_LEASH"} {
		if os.Getenv(name) == "" {
			fmt.Fprintf(os.Stderr, "%s is not set: run `cargo test --test keda`\n", name)
			os.Exit(2)
		}
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	check(err)
	config.QPS, config.Burst = 500, 1000
	world.client, err = kubernetes.NewForConfig(config)
	check(err)
	world.feed, err = feed.Start("127.0.0.1:0")
	check(err)
	defer world.feed.Stop()
	check(namespace(shop))
	world.podswell, err = start("podswell-shared", "--keda-insecure")
	check(err)
	defer world.podswell.kill()
	code := m.Run()
	if code != 0 {
		fmt.Printf("the end of podswell's log:\n%s\n", world.podswell.log(8000))
	}
	return code
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func namespace(name string) error {
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_, err := world.client.CoreV1().Namespaces().Create(context.Background(), object, metav1.CreateOptions{})
	if err != nil && strings.Contains(err.Error(), "already exists") {
		return nil
	}
	return err
}

// configure writes the ConfigMaps of a podswell that lives in this namespace. The sources read the
// script; the times of scaling to zero are short.
func configure(system string) error {
	if err := namespace(system); err != nil {
		return err
	}
	source := func(kind string, visible bool) string {
		return fmt.Sprintf("server: {url: \"http://%s\"}\nkind: %s\nselector: load\nform: gauge\ninterval: 1s\n"+
			"match: {namespace: namespace, workload: deployment}\nvisibleAtZero: %t\n",
			world.feed.Address(), kind, visible)
	}
	maps := map[string]map[string]string{
		"podswell-sources": {
			"feed":    source("concurrency", true),
			"blind":   source("concurrency", false),
			"backlog": source("backlog", true),
		},
		"config-autoscaler": {"scale-to-zero-grace-period": "6s", "stable-window": "10s"},
	}
	for name, data := range maps {
		object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}
		_, err := world.client.CoreV1().ConfigMaps(system).Create(context.Background(), object, metav1.CreateOptions{})
		if err != nil && !strings.Contains(err.Error(), "already exists") {
			return err
		}
	}
	return nil
}

var serial atomic.Int64

// workload is a Deployment and the load that podswell reads for it.
type workload struct {
	t *testing.T
	feed.Key
}

// newWorkload makes a Deployment of its own, which had this load for a minute.
func newWorkload(t *testing.T, replicas int32, load float64, annotations ...string) workload {
	t.Helper()
	name := fmt.Sprintf("w%d", serial.Add(1))
	this := workload{t, feed.Key{Namespace: shop, Deployment: name}}
	world.feed.Fill(this.Key, load, time.Minute)
	_, err := world.client.AppsV1().Deployments(shop).Create(context.Background(),
		deployment(name, replicas, annotations...), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	client := stub(t)
	eventually(t, "podswell knows the workload", func() error {
		_, err := client.IsActive(short(t), ref(this.metadata()))
		return err
	})
	t.Cleanup(func() {
		world.feed.Remove(this.Key)
		_ = world.client.AppsV1().Deployments(shop).Delete(context.Background(), name, metav1.DeleteOptions{})
	})
	return this
}

func deployment(name string, replicas int32, annotations ...string) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	all := map[string]string{}
	for i := 0; i+1 < len(annotations); i += 2 {
		all[annotations[i]] = annotations[i+1]
	}
	container := corev1.Container{
		Name: "app", Image: "example.com/app:1",
		Env: []corev1.EnvVar{{Name: "WORKLOAD", Value: name}},
	}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: shop, Annotations: all},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{container}},
			},
		},
	}
}

func (w workload) set(load float64) { world.feed.Set(w.Key, load) }

// scale writes spec.replicas, as KEDA and the HPA do.
func (w workload) scale(replicas int32) {
	w.t.Helper()
	if err := scaleTo(w.Deployment, replicas); err != nil {
		w.t.Fatal(err)
	}
}

func scaleTo(name string, replicas int32) error {
	deployments := world.client.AppsV1().Deployments(shop)
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		scale, err := deployments.GetScale(context.Background(), name, metav1.GetOptions{})
		if err != nil || scale.Spec.Replicas == replicas {
			return err
		}
		scale.Spec.Replicas = replicas
		_, err = deployments.UpdateScale(context.Background(), name, scale, metav1.UpdateOptions{})
		return err
	})
}

func (w workload) annotate(key, value string) {
	w.t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, key, value)
	_, err := world.client.AppsV1().Deployments(shop).Patch(context.Background(), w.Deployment,
		"application/merge-patch+json", []byte(patch), metav1.PatchOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
}

// metadata is that of a trigger which names the workload, aims at 10 and averages over 10 s; more
// pairs of keys and values replace or add.
func (w workload) metadata(more ...string) map[string]string {
	all := map[string]string{
		"deployment": w.Deployment, "source": "feed", "target": "10",
		"target-utilization-percentage": "100", "window": "10s",
	}
	for i := 0; i+1 < len(more); i += 2 {
		if more[i+1] == "" {
			delete(all, more[i])
		} else {
			all[more[i]] = more[i+1]
		}
	}
	return all
}

// eventually looks until look finds nothing to complain about.
func eventually(t *testing.T, what string, look func() error) {
	t.Helper()
	if err := within(limit, look); err != nil {
		t.Fatalf("not within %v: %s: %v", limit, what, err)
	}
}

func within(span time.Duration, look func() error) error {
	deadline := time.Now().Add(span)
	for {
		err := look()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// always looks for span; every look has to find nothing to complain about.
func always(t *testing.T, span time.Duration, what string, look func() error) {
	t.Helper()
	began := time.Now()
	for time.Since(began) < span {
		if err := look(); err != nil {
			t.Fatalf("after %v, not true any more: %s: %v", time.Since(began), what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// patiently repeats a question to which there is silence; another answer, or the last silence, is returned.
func patiently(ask func() error) error {
	var answer error
	_ = within(limit, func() error {
		answer = ask()
		if isSilence(answer) {
			return answer
		}
		return nil
	})
	return answer
}

// short is a context for one call.
func short(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

var errNotYet = errors.New("not yet")
