//! KEDA's operator and its metrics adapter, on loopback.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::support::binaries;
use crate::support::controlplane::ControlPlane;
use crate::support::deployment::ensure_namespace;
use crate::support::ports::free_ports;
use crate::support::process::Process;
use crate::support::wait::eventually;

/// How long it may take until both answer.
const LIMIT: Duration = Duration::from_secs(120);
/// Where KEDA lives.
const NAMESPACE: &str = "keda";
/// The Service in front of the adapter.
const ADAPTER: &str = "keda-metrics-apiserver";

/// A running KEDA; ends with this value.
pub(crate) struct Keda {
    operator: Process,
    adapter: Process,
}

/// Applies the definitions of `ScaledObject` and its kin.
pub(crate) async fn apply_crds(plane: &ControlPlane) {
    let crds = std::fs::read_to_string(binaries::path("keda-crds")).expect("read KEDA's CRDs");
    plane.apply(&crds).await;
    eventually(LIMIT, "ScaledObjects are served", || async {
        let output = plane.try_kubectl(&["get", "scaledobjects", "-A"], "").await;
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    })
    .await;
}

impl Keda {
    /// Installs and starts both programs, and waits until the API server finds the adapter.
    pub(crate) async fn start(plane: &ControlPlane) -> Self {
        apply_crds(plane).await;
        ensure_namespace(&plane.client(), NAMESPACE).await;
        let [metrics, probes, internal, adapter, adapter_metrics] = free_ports();
        let certificates = certificates(plane);
        let operator = operator(plane, &certificates, [metrics, probes, internal]);
        register(plane, adapter).await;
        let ports = [adapter, adapter_metrics, internal];
        let mut this = Self { operator, adapter: adapter_process(plane, &certificates, ports) };
        eventually(LIMIT, "the API server finds KEDA's adapter", || {
            for process in [&mut this.operator, &mut this.adapter] {
                let ended = process.ended();
                assert!(
                    ended.is_none(),
                    "{}: {ended:?}\n{}",
                    process.name(),
                    process.log_tail(4000)
                );
            }
            async {
                let path = ["get", "--raw", "/apis/external.metrics.k8s.io/v1beta1"];
                let output = plane.try_kubectl(&path, "").await;
                if output.status.success() {
                    Ok(())
                } else {
                    Err(String::from_utf8_lossy(&output.stderr).into_owned())
                }
            }
        })
        .await;
        this
    }

    /// The ends of both logs, for a failure's message.
    pub(crate) fn log_tail(&self, bytes: u64) -> String {
        format!("{}\n---\n{}", self.operator.log_tail(bytes), self.adapter.log_tail(bytes))
    }
}

/// The folder of the certificates by which the two know each other and the API server knows the adapter.
fn certificates(plane: &ControlPlane) -> PathBuf {
    let folder = plane.folder().join("keda-certificates");
    std::fs::create_dir_all(&folder).expect("make a folder");
    let name = format!("{ADAPTER}.{NAMESPACE}.svc");
    let authority = plane.extension_authority();
    authority.peer(&[&name, "localhost", "127.0.0.1"]).write(&folder, "tls");
    std::fs::write(folder.join("ca.crt"), authority.certificate()).expect("write a certificate");
    folder
}

fn operator(plane: &ControlPlane, certificates: &Path, ports: [u16; 3]) -> Process {
    let [metrics, probes, internal] = ports;
    let flags = [
        "--leader-elect=false".to_owned(),
        "--enable-cert-rotation=false".to_owned(),
        format!("--cert-dir={}", certificates.display()),
        format!("--metrics-bind-address=127.0.0.1:{metrics}"),
        format!("--health-probe-bind-address=127.0.0.1:{probes}"),
        format!("--metrics-service-bind-address=127.0.0.1:{internal}"),
        format!("--kubeconfig={}", plane.kubeconfig().display()),
        // Its usual limit of 20 requests a second would be what a test measures.
        "--kube-api-qps=200".to_owned(),
        "--kube-api-burst=400".to_owned(),
    ];
    start(plane, "keda-operator", &flags)
}

fn adapter_process(plane: &ControlPlane, certificates: &Path, ports: [u16; 3]) -> Process {
    let [secure, metrics, internal] = ports;
    let kubeconfig = plane.kubeconfig().display().to_string();
    let file = |name: &str| certificates.join(name).display().to_string();
    let flags = [
        format!("--secure-port={secure}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--cert-dir={}", certificates.display()),
        format!("--tls-cert-file={}", file("tls.crt")),
        format!("--tls-private-key-file={}", file("tls.key")),
        format!("--kubeconfig={kubeconfig}"),
        format!("--lister-kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        format!("--metrics-service-address=127.0.0.1:{internal}"),
        format!("--port={metrics}"),
    ];
    start(plane, "keda-adapter", &flags)
}

fn start(plane: &ControlPlane, name: &str, flags: &[String]) -> Process {
    let environment = [
        ("POD_NAME", name.to_owned()),
        ("POD_NAMESPACE", NAMESPACE.to_owned()),
        ("KEDA_CLUSTER_OBJECT_NAMESPACE", NAMESPACE.to_owned()),
        ("WATCH_NAMESPACE", String::new()),
    ];
    let log = plane.folder().join(format!("{name}.log"));
    Process::start(name, &binaries::path(name), flags, &environment, &log)
}

/// Tells the API server that external metrics are served at this port of loopback.
async fn register(plane: &ControlPlane, port: u16) {
    use base64::Engine as _;
    let authority = plane.extension_authority().certificate();
    let list = json!({
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": { "name": ADAPTER, "namespace": NAMESPACE },
                "spec": { "type": "ExternalName", "externalName": "localhost" },
            },
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": { "name": "v1beta1.external.metrics.k8s.io" },
                "spec": {
                    "group": "external.metrics.k8s.io",
                    "version": "v1beta1",
                    "groupPriorityMinimum": 100,
                    "versionPriority": 100,
                    "caBundle": base64::engine::general_purpose::STANDARD.encode(authority),
                    "service": { "name": ADAPTER, "namespace": NAMESPACE, "port": port },
                },
            },
        ],
    });
    plane.apply(&list.to_string()).await;
}
