//! `external.metrics.k8s.io` in its smallest form: one number a Deployment, as it is at that moment.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use podswell::runtime::clock::{Clock as _, SystemClock};

use super::controlplane::ControlPlane;
use super::table::PodTable;
use super::wait::eventually;

const SERVICE: &str = "external-metrics";
const NAMESPACE: &str = "metrics";
/// The API that it serves.
const API: &str = "/apis/external.metrics.k8s.io/v1beta1";
/// The metric's name; the label `app` chooses the Deployment.
pub(crate) const METRIC: &str = "in-flight";

/// What the metric of a Deployment is.
pub(crate) trait Values: Send + Sync + 'static {
    /// The value now, as a Kubernetes quantity; without one the question fails.
    fn value(&self, namespace: &str, deployment: &str) -> Option<String>;
}

/// Requests in flight at the played pods.
impl Values for PodTable {
    fn value(&self, namespace: &str, deployment: &str) -> Option<String> {
        Some(self.in_flight(namespace, deployment).to_string())
    }
}

/// A running server, known to the API server.
pub(crate) struct ExternalMetrics(JoinHandle<()>);

impl Drop for ExternalMetrics {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Selection {
    label_selector: Option<String>,
}

impl ExternalMetrics {
    /// Serves the values and waits until the API server passes questions on.
    pub(crate) async fn start(plane: &ControlPlane, values: impl Values) -> Self {
        let pair = plane.extension_certificate(SERVICE, NAMESPACE);
        let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.expect("a certificate")], key)
            .expect("a TLS configuration");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let port = listener.local_addr().expect("an address").port();
        let serving =
            tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), Arc::new(values)));
        register(plane, port).await;
        Self(serving)
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, values: Arc<dyn Values>) {
    let path = format!("{API}/namespaces/{{namespace}}/{{metric}}");
    let router = Router::new()
        .route(API, get(async || Json(resources())))
        .route(&path, get(value))
        .with_state(values);
    while let Ok((socket, _)) = listener.accept().await {
        let (tls, router) = (tls.clone(), router.clone());
        tokio::spawn(async move {
            if let Ok(stream) = tls.accept(socket).await {
                let service = TowerToHyperService::new(router);
                let builder = auto::Builder::new(TokioExecutor::new());
                // A peer that goes away is no event here.
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            }
        });
    }
}

fn resources() -> Value {
    json!({
        "kind": "APIResourceList", "apiVersion": "v1",
        "groupVersion": "external.metrics.k8s.io/v1beta1",
        "resources": [{"name": METRIC, "singularName": "", "namespaced": true,
            "kind": "ExternalMetricValueList", "verbs": ["get"]}],
    })
}

async fn value(
    State(values): State<Arc<dyn Values>>,
    Path((namespace, metric)): Path<(String, String)>,
    Query(selection): Query<Selection>,
) -> Result<Json<Value>, StatusCode> {
    let selector = selection.label_selector.unwrap_or_default();
    let deployment = selector.strip_prefix("app=").unwrap_or_default();
    let Some(value) = values.value(&namespace, deployment) else {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    };
    let timestamp = SystemClock::new().wall().to_string();
    Ok(Json(json!({
        "kind": "ExternalMetricValueList", "apiVersion": "external.metrics.k8s.io/v1beta1",
        "metadata": {},
        "items": [{"metricName": metric, "metricLabels": {}, "timestamp": timestamp, "value": value}],
    })))
}

async fn register(plane: &ControlPlane, port: u16) {
    plane.kubectl(&["create", "namespace", NAMESPACE]).await;
    let bundle = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        plane.extension_authority().certificate(),
    );
    let manifest = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": SERVICE, "namespace": NAMESPACE},
            "spec": {"type": "ExternalName", "externalName": "localhost"}},
        {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": "v1beta1.external.metrics.k8s.io"},
            "spec": {"group": "external.metrics.k8s.io", "version": "v1beta1",
                "groupPriorityMinimum": 100, "versionPriority": 100, "caBundle": bundle,
                "service": {"name": SERVICE, "namespace": NAMESPACE, "port": port}}},
    ]});
    plane.apply(&manifest.to_string()).await;
    let question = format!("{API}/namespaces/{NAMESPACE}/{METRIC}?labelSelector=app%3Dx");
    eventually(std::time::Duration::from_secs(60), "the metrics are served", || async {
        let output = plane.try_kubectl(&["get", "--raw", &question], "").await;
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    })
    .await;
}
