//! etcd, kube-apiserver and kube-controller-manager on loopback, with certificates of their own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::Instant;

use super::binaries;
use super::certificates::{Authority, Pair, token_key};
use super::process::{Process, free_ports};

/// How long any part may take until it answers: generous, the machine may be busy.
const START_LIMIT: Duration = Duration::from_secs(120);

/// What a test may want otherwise.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// How often the HPA controller looks; a stock cluster has 15 s.
    pub(crate) hpa_sync_period: Duration,
    /// Controllers beside those that Deployments, HPAs, service accounts and garbage need.
    pub(crate) more_controllers: Vec<String>,
    /// More flags for kube-apiserver.
    pub(crate) apiserver_flags: Vec<String>,
    /// More flags for kube-controller-manager.
    pub(crate) controller_manager_flags: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hpa_sync_period: Duration::from_secs(2),
            more_controllers: Vec::new(),
            apiserver_flags: Vec::new(),
            controller_manager_flags: Vec::new(),
        }
    }
}

/// A running control plane; ends with this value.
///
/// Fields are dropped in order: the clients of etcd go before etcd, the folder last.
pub(crate) struct ControlPlane {
    controller_manager: Process,
    apiserver: Process,
    etcd: Process,
    client: Client,
    url: String,
    cluster: Authority,
    front_proxy: Authority,
    extension: Authority,
    options: Options,
    ports: Ports,
    folder: TempDir,
}

/// Ports on 127.0.0.1.
#[derive(Debug, Clone, Copy)]
struct Ports {
    etcd: u16,
    etcd_peer: u16,
    apiserver: u16,
    controller_manager: u16,
}

impl ControlPlane {
    /// Starts all parts and waits until they answer.
    ///
    /// # Panics
    /// If a part does not come up; the message carries the end of its log.
    pub(crate) async fn start(options: Options) -> Self {
        // Fails where the test installed it already: that is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::Builder::new().prefix("podswell-").tempdir().expect("make a folder");
        let [etcd, etcd_peer, apiserver, controller_manager] = free_ports();
        let ports = Ports { etcd, etcd_peer, apiserver, controller_manager };
        let url = format!("https://127.0.0.1:{apiserver}");
        let cluster = Authority::new("podswell test cluster");
        let front_proxy = Authority::new("podswell test front proxy");
        write_certificates(folder.path(), &url, &cluster, &front_proxy);
        let admin = cluster.client("admin", Some("system:masters"));
        let kubeconfig = with_certificate(&url, cluster.certificate(), &admin);
        write_kubeconfig(&folder.path().join("admin.kubeconfig"), &kubeconfig);
        let etcd = start_etcd(folder.path(), ports);
        let apiserver = start_apiserver(folder.path(), ports, &options);
        let controller_manager = start_controller_manager(folder.path(), ports, &options);
        let mut this = Self {
            controller_manager,
            apiserver,
            etcd,
            client: client(kubeconfig).await,
            url,
            cluster,
            front_proxy,
            extension: Authority::new("podswell test extension servers"),
            options,
            ports,
            folder,
        };
        this.wait_until_ready().await;
        this
    }

    /// An administrator's client.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Address of the API server.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A folder that lives as long as the control plane.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// An administrator's kubeconfig file.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("admin.kubeconfig")
    }

    /// The authority of the API server and its users.
    pub(crate) fn cluster_authority(&self) -> &Authority {
        &self.cluster
    }

    /// The authority of the aggregation layer's client certificate.
    pub(crate) fn front_proxy_authority(&self) -> &Authority {
        &self.front_proxy
    }

    /// Certificate of an extension server behind an `APIService`: its names are
    /// `SERVICE.NAMESPACE.svc` and loopback. The `caBundle` is [`Self::extension_authority`]'s.
    pub(crate) fn extension_certificate(&self, service: &str, namespace: &str) -> Pair {
        let name = format!("{service}.{namespace}.svc");
        self.extension.server(&[&name, "localhost", "127.0.0.1"])
    }

    /// The authority of extension servers.
    pub(crate) fn extension_authority(&self) -> &Authority {
        &self.extension
    }

    /// A client of a user with a certificate, as RBAC knows it.
    pub(crate) async fn client_for_user(&self, name: &str, group: Option<&str>) -> Client {
        let pair = self.cluster.client(name, group);
        client(with_certificate(&self.url, self.cluster.certificate(), &pair)).await
    }

    /// A client with a token of this service account, which has to exist.
    pub(crate) async fn client_for_service_account(&self, namespace: &str, name: &str) -> Client {
        let token = self.token(namespace, name).await;
        client(with_token(&self.url, self.cluster.certificate(), &token)).await
    }

    /// A kubeconfig file with a token of this service account, which has to exist.
    pub(crate) async fn kubeconfig_for_service_account(
        &self,
        namespace: &str,
        name: &str,
    ) -> PathBuf {
        let token = self.token(namespace, name).await;
        let path = self.folder.path().join(format!("{namespace}.{name}.kubeconfig"));
        write_kubeconfig(&path, &with_token(&self.url, self.cluster.certificate(), &token));
        path
    }

    /// A token of this service account for an hour, from the `TokenRequest` API.
    pub(crate) async fn token(&self, namespace: &str, name: &str) -> String {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), namespace);
        let spec = TokenRequestSpec { expiration_seconds: Some(3600), ..Default::default() };
        let request = TokenRequest { spec, ..Default::default() };
        let made = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .unwrap_or_else(|error| panic!("request a token of {namespace}/{name}: {error}"));
        made.status.expect("an answered request has a status").token
    }

    /// Runs kubectl as administrator; returns its standard output.
    ///
    /// # Panics
    /// If it fails.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> String {
        self.kubectl_with_input(arguments, "").await
    }

    /// Applies manifests, server-side.
    pub(crate) async fn apply(&self, manifests: &str) -> String {
        self.kubectl_with_input(&["apply", "--server-side", "-f", "-"], manifests).await
    }

    /// [`Self::kubectl`] with a text as its standard input.
    pub(crate) async fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> String {
        let output = self.try_kubectl(arguments, input).await;
        assert!(
            output.status.success(),
            "kubectl {arguments:?}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs kubectl as administrator, whatever comes of it.
    pub(crate) async fn try_kubectl(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(binaries::path("controlplane"));
        command.arg("kubectl").args(arguments).env("KUBECONFIG", self.kubeconfig());
        command.env("HOME", self.folder.path());
        let input = input.to_owned();
        tokio::task::spawn_blocking(move || run(command, &input)).await.expect("kubectl's thread")
    }

    /// SIGKILL for kube-apiserver.
    pub(crate) fn kill_apiserver(&mut self) {
        self.apiserver.kill();
    }

    /// Starts kube-apiserver again, on the same port, and waits until it answers.
    pub(crate) async fn start_apiserver(&mut self) {
        self.apiserver = start_apiserver(self.folder.path(), self.ports, &self.options);
        self.wait_until_ready().await;
    }

    /// SIGSTOP for kube-apiserver: connections stay, nothing answers.
    pub(crate) fn freeze_apiserver(&self) {
        self.apiserver.signal("STOP");
    }

    /// SIGCONT after [`Self::freeze_apiserver`].
    pub(crate) fn thaw_apiserver(&self) {
        self.apiserver.signal("CONT");
    }

    /// etcd's process.
    pub(crate) fn etcd(&self) -> &Process {
        &self.etcd
    }

    /// kube-controller-manager's process, as to stop and go on.
    pub(crate) fn controller_manager(&self) -> &Process {
        &self.controller_manager
    }

    /// Waits until all parts are ready to work.
    async fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + START_LIMIT;
        let ready = |request: &str| http::Request::get(request).body(Vec::new());
        loop {
            self.assert_alive();
            let request = ready("/readyz").expect("a valid request");
            match self.client.request_text(request).await {
                Ok(text) if text == "ok" => break,
                state => assert!(
                    Instant::now() < deadline,
                    "kube-apiserver is not ready: {state:?}\n{}",
                    self.apiserver.log_tail(4000)
                ),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // The last of what the start makes for everybody.
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), "default");
        while !matches!(accounts.get_opt("default").await, Ok(Some(_))) {
            self.assert_alive();
            assert!(
                Instant::now() < deadline,
                "kube-controller-manager makes no service account\n{}",
                self.controller_manager.log_tail(4000)
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn assert_alive(&mut self) {
        for process in [&mut self.etcd, &mut self.apiserver] {
            if let Some(status) = process.ended() {
                panic!("{} ended: {status}\n{}", process.name(), process.log_tail(4000));
            }
        }
        // It gives up when the API server is late: then it is started again, as a kubelet would.
        if self.controller_manager.ended().is_some() {
            self.controller_manager =
                start_controller_manager(self.folder.path(), self.ports, &self.options);
        }
    }
}

fn run(mut command: Command, input: &str) -> Output {
    use std::io::Write as _;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start kubectl");
    if let Some(mut stdin) = child.stdin.take() {
        // One that reads nothing closes it early.
        let _ = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output().expect("wait for kubectl")
}

fn part(name: &str, folder: &Path, flags: &[String]) -> Process {
    let mut arguments = vec![name.to_owned()];
    arguments.extend_from_slice(flags);
    let log = folder.join(format!("{name}.log"));
    Process::start(name, &binaries::path("controlplane"), &arguments, &[], &log)
}

fn start_etcd(folder: &Path, ports: Ports) -> Process {
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

fn start_apiserver(folder: &Path, ports: Ports, options: &Options) -> Process {
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

fn start_controller_manager(folder: &Path, ports: Ports, options: &Options) -> Process {
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
    let kubeconfig = file("controller-manager.kubeconfig");
    let mut flags = vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        format!("--secure-port={}", ports.controller_manager),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--cert-dir={}", file("controller-manager")),
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

fn write_certificates(folder: &Path, url: &str, cluster: &Authority, front_proxy: &Authority) {
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
    write_kubeconfig(
        &folder.join("controller-manager.kubeconfig"),
        &with_certificate(url, cluster.certificate(), &manager),
    );
}

fn with_certificate(url: &str, authority: &str, pair: &Pair) -> Kubeconfig {
    let user = json!({
        "client-certificate-data": base64(&pair.certificate),
        "client-key-data": base64(&pair.key),
    });
    kubeconfig(url, authority, &user)
}

fn with_token(url: &str, authority: &str, token: &str) -> Kubeconfig {
    kubeconfig(url, authority, &json!({ "token": token }))
}

fn kubeconfig(url: &str, authority: &str, user: &serde_json::Value) -> Kubeconfig {
    let value = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "test",
            "cluster": { "server": url, "certificate-authority-data": base64(authority) },
        }],
        "users": [{ "name": "test", "user": user }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
        "current-context": "test",
    });
    serde_json::from_value(value).expect("a valid kubeconfig")
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// Writes it as JSON, which every reader of YAML takes.
fn write_kubeconfig(path: &Path, kubeconfig: &Kubeconfig) {
    let text = serde_json::to_string(kubeconfig).expect("a kubeconfig is JSON");
    std::fs::write(path, text).expect("write a kubeconfig");
}

async fn client(kubeconfig: Kubeconfig) -> Client {
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("a usable kubeconfig");
    Client::try_from(config).expect("a client")
}
