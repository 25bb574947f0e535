// Command knative-autoscaler is Knative Serving's own autoscaler on a real
// API server, for the comparison in tests/bench/cluster.
//
// What collects, decides and writes are Knative's packages as they are: the
// collector with its pod scraper, the multiscaler, and the reconcilers of
// PodAutoscalers and Metrics. Knative's own program cannot stand beside another
// one: it takes fixed ports on all addresses, where the played pods listen too,
// works in all namespaces, and sets its client's limit itself. So this one wires
// the same parts and takes the limit and the namespace as flags. It holds no
// lease, and nothing pushes to it, for no activator runs: all statistics are
// scraped from the pods.
//
//	SYSTEM_NAMESPACE=knative-serving knative-autoscaler --kubeconfig FILE \
//	    --watch-namespace NAMESPACE [--qps 10 --burst 20]
package main

import (
	"flag"
	"log"

	"go.uber.org/zap"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	netcfg "knative.dev/networking/pkg/config"
	kubeclient "knative.dev/pkg/client/injection/kube/client"
	filteredpods "knative.dev/pkg/client/injection/kube/informers/core/v1/pod/filtered"
	filteredfactory "knative.dev/pkg/client/injection/kube/informers/factory/filtered"
	configmap "knative.dev/pkg/configmap/informer"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/injection"
	"knative.dev/pkg/logging"
	"knative.dev/pkg/signals"
	"knative.dev/pkg/system"
	"knative.dev/serving/pkg/apis/autoscaling/v1alpha1"
	"knative.dev/serving/pkg/apis/serving"
	"knative.dev/serving/pkg/autoscaler/metrics"
	"knative.dev/serving/pkg/autoscaler/scaling"
	servingmetrics "knative.dev/serving/pkg/metrics"
	"knative.dev/serving/pkg/reconciler/autoscaling/kpa"
	"knative.dev/serving/pkg/reconciler/metric"
	"knative.dev/serving/pkg/resources"
)

// Knative's program multiplies the client's defaults by its two controllers.
const controllers = 2

func main() {
	namespace := flag.String("watch-namespace", "", "the only namespace that is looked at")
	qps := flag.Float64("qps", controllers*float64(rest.DefaultQPS), "requests a second")
	burst := flag.Int("burst", controllers*rest.DefaultBurst, "requests at once")
	config := injection.ParseAndGetRESTConfigOrDie()
	config.QPS, config.Burst = float32(*qps), *burst

	ctx := injection.WithNamespaceScope(signals.NewContext(), *namespace)
	ctx = filteredfactory.WithSelectors(ctx, serving.RevisionUID)
	ctx, informers := injection.Default.SetupInformers(ctx, config)
	logger, _ := logging.NewLogger("", "info")
	ctx = logging.WithLogger(ctx, logger)

	pods := filteredpods.Get(ctx, serving.RevisionUID).Lister()
	collector := metrics.NewMetricCollector(scrapers(pods), logger)
	deciders := scaling.NewMultiScaler(ctx.Done(), scalers(pods, collector), logger)
	configs := configmap.NewInformedWatcher(kubeclient.Get(ctx), system.Namespace())
	all := []*controller.Impl{
		kpa.NewController(ctx, configs, deciders),
		metric.NewController(ctx, configs, collector),
	}
	if err := configs.Start(ctx.Done()); err != nil {
		log.Fatal("watch the configuration: ", err)
	}
	if err := controller.StartInformers(ctx.Done(), informers...); err != nil {
		log.Fatal("start the informers: ", err)
	}
	log.Print("the autoscaler runs")
	if err := controller.StartAll(ctx, all...); err != nil {
		log.Fatal(err)
	}
}

// scrapers reads the pods of a Metric directly, as Knative does without a mesh.
func scrapers(pods corev1listers.PodLister) metrics.StatsScraperFactory {
	return func(of *v1alpha1.Metric, logger *zap.SugaredLogger) (metrics.StatsScraper, error) {
		if of.Spec.ScrapeTarget == "" {
			return nil, nil
		}
		revision := of.Labels[serving.RevisionLabelKey]
		accessor := resources.NewPodAccessor(pods, of.Namespace, revision)
		const passThrough = false
		return metrics.NewStatsScraper(
			of, revision, accessor, passThrough, netcfg.MeshCompatibilityModeAuto, logger), nil
	}
}

func scalers(pods corev1listers.PodLister, data metrics.MetricClient) scaling.UniScalerFactory {
	return func(of *scaling.Decider) (scaling.UniScaler, error) {
		revision := of.Labels[serving.RevisionLabelKey]
		ctx := servingmetrics.RevisionContext(of.Namespace, of.Labels[serving.ServiceLabelKey],
			of.Labels[serving.ConfigurationLabelKey], revision)
		accessor := resources.NewPodAccessor(pods, of.Namespace, revision)
		return scaling.New(ctx, of.Namespace, of.Name, data, accessor, &of.Spec), nil
	}
}
