//! The parts of the control plane: their files and their flags.

use std::path::Path;

use super::certificates::{Authority, token_key};
use super::controlplane::Options;
use super::process::Process;
use super::{binaries, kubeconfig};

/// Ports on 127.0.0.1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) etcd: u16,
    pub(super) etcd_peer: u16,
    pub(super) apiserver: u16,
}

/// Writes the files that the flags of the parts name.
pub(super) fn write_files(folder: &Path, url: &str, cluster: &Authority, front_proxy: &Authority) {
    let write = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).expect("write a file of the control plane");
    };
    write("ca.crt", cluster.certificate());
    write("front-proxy-ca.crt", front_proxy.certificate());
    let names = ["localhost", "kubernetes.default.svc", "127.0.0.1"];
    cluster.server(&names).write(folder, "apiserver");
    front_proxy.client("front-proxy-client", None).write(folder, "front-proxy-client");
    let (private, public) = token_key();
    write("token.key", &private);
    write("token.pub", &public);
    let manager = cluster.client("system:kube-controller-manager", None);
    kubeconfig::write(
        &folder.join("controller-manager.kubeconfig"),
        &kubeconfig::with_certificate(url, cluster.certificate(), &manager),
    );
}

fn part(name: &str, folder: &Path, flags: &[String]) -> Process {
    let mut arguments = vec![name.to_owned()];
    arguments.extend_from_slice(flags);
    let log = folder.join(format!("{name}.log"));
    Process::start(name, &binaries::path("controlplane"), &arguments, &[], &log)
}

/// etcd with no care for a power cut.
pub(super) fn etcd(folder: &Path, ports: Ports) -> Process {
    let client = format!("http://127.0.0.1:{}", ports.etcd);
    let peer = format!("http://127.0.0.1:{}", ports.etcd_peer);
    let flags = [
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    part("etcd", folder, &flags)
}

/// kube-apiserver with RBAC and aggregation.
pub(super) fn apiserver(folder: &Path, ports: Ports, options: &Options) -> Process {
    let file = |name: &str| folder.join(name).display().to_string();
    let mut flags = vec![
        format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={}", ports.apiserver),
        // No client may need it: the endpoints of the service "kubernetes" are not kept.
        "--advertise-address=192.0.2.2".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--tls-cert-file={}", file("apiserver.crt")),
        format!("--tls-private-key-file={}", file("apiserver.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        "--authorization-mode=RBAC".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", file("token.pub")),
        format!("--service-account-signing-key-file={}", file("token.key")),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        format!("--requestheader-client-ca-file={}", file("front-proxy-ca.crt")),
        "--requestheader-allowed-names=front-proxy-client".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        format!("--proxy-client-cert-file={}", file("front-proxy-client.crt")),
        format!("--proxy-client-key-file={}", file("front-proxy-client.key")),
    ];
    flags.extend(options.apiserver_flags.iter().cloned());
    part("kube-apiserver", folder, &flags)
}

/// kube-controller-manager with the controllers that tests need.
pub(super) fn controller_manager(folder: &Path, options: &Options) -> Process {
    const CONTROLLERS: &str = "deployment-controller,replicaset-controller,\
        horizontal-pod-autoscaler-controller,serviceaccount-controller,\
        serviceaccount-token-controller,namespace-controller,garbage-collector-controller,\
        clusterrole-aggregation-controller";
    let file = |name: &str| folder.join(name).display().to_string();
    let mut controllers = CONTROLLERS.to_owned();
    for controller in &options.more_controllers {
        controllers.push(',');
        controllers.push_str(controller);
    }
    let mut flags = vec![
        format!("--kubeconfig={}", file("controller-manager.kubeconfig")),
        // Serves nothing itself.
        "--secure-port=0".to_owned(),
        "--use-service-account-credentials=true".to_owned(),
        format!("--service-account-private-key-file={}", file("token.key")),
        format!("--root-ca-file={}", file("ca.crt")),
        "--leader-elect=false".to_owned(),
        format!("--controllers={controllers}"),
        format!("--horizontal-pod-autoscaler-sync-period={:?}", options.hpa_sync_period),
        // Its usual limit of 20 requests a second would be what a test measures.
        "--kube-api-qps=500".to_owned(),
        "--kube-api-burst=1000".to_owned(),
    ];
    flags.extend(options.controller_manager_flags.iter().cloned());
    part("kube-controller-manager", folder, &flags)
}
