//! etcd, kube-apiserver and kube-controller-manager on loopback, with certificates of their own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use super::certificates::{Authority, Pair};
use super::parts::{self, Ports};
use super::ports::free_ports;
use super::process::Process;
use super::{binaries, kubeconfig};

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

impl ControlPlane {
    /// Starts all parts and waits until they answer.
    ///
    /// # Panics
    /// If a part does not come up; the message carries the end of its log.
    pub(crate) async fn start(options: Options) -> Self {
        // Fails where the test installed it already: that is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::Builder::new().prefix("podswell-").tempdir().expect("make a folder");
        let [etcd, etcd_peer, apiserver] = free_ports();
        let ports = Ports { etcd, etcd_peer, apiserver };
        let url = format!("https://127.0.0.1:{apiserver}");
        let cluster = Authority::new("podswell test cluster");
        let front_proxy = Authority::new("podswell test front proxy");
        parts::write_files(folder.path(), &url, &cluster, &front_proxy);
        let admin = cluster.client("admin", Some("system:masters"));
        let kubeconfig = kubeconfig::with_certificate(&url, cluster.certificate(), &admin);
        kubeconfig::write(&folder.path().join("admin.kubeconfig"), &kubeconfig);
        let client = kubeconfig::client(kubeconfig).await;
        let mut etcd = parts::etcd(folder.path(), ports);
        let mut apiserver = parts::apiserver(folder.path(), ports, &options);
        wait_for_apiserver(&client, &mut apiserver, &mut etcd).await;
        let mut this = Self {
            controller_manager: parts::controller_manager(folder.path(), &options),
            apiserver,
            etcd,
            client,
            url,
            cluster,
            front_proxy,
            extension: Authority::new("podswell test extension servers"),
            options,
            ports,
            folder,
        };
        this.wait_for_controllers().await;
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
        kubeconfig::client(kubeconfig::with_certificate(
            &self.url,
            self.cluster.certificate(),
            &pair,
        ))
        .await
    }

    /// A client with a token of this service account, which has to exist.
    pub(crate) async fn client_for_service_account(&self, namespace: &str, name: &str) -> Client {
        let token = self.token(namespace, name).await;
        kubeconfig::client(kubeconfig::with_token(&self.url, self.cluster.certificate(), &token))
            .await
    }

    /// A kubeconfig file with a token of this service account, which has to exist.
    pub(crate) async fn kubeconfig_for_service_account(
        &self,
        namespace: &str,
        name: &str,
    ) -> PathBuf {
        let token = self.token(namespace, name).await;
        let path = self.folder.path().join(format!("{namespace}.{name}.kubeconfig"));
        kubeconfig::write(
            &path,
            &kubeconfig::with_token(&self.url, self.cluster.certificate(), &token),
        );
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
        self.apiserver = parts::apiserver(self.folder.path(), self.ports, &self.options);
        wait_for_apiserver(&self.client, &mut self.apiserver, &mut self.etcd).await;
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

    /// Waits until the last is made of what a start makes for everybody.
    async fn wait_for_controllers(&mut self) {
        let deadline = Instant::now() + START_LIMIT;
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), "default");
        while !matches!(accounts.get_opt("default").await, Ok(Some(_))) {
            assert_alive(&mut self.controller_manager);
            assert!(
                Instant::now() < deadline,
                "kube-controller-manager makes no service account\n{}",
                self.controller_manager.log_tail(4000)
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn wait_for_apiserver(client: &Client, apiserver: &mut Process, etcd: &mut Process) {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        assert_alive(etcd);
        assert_alive(apiserver);
        let request = http::Request::get("/readyz").body(Vec::new()).expect("a valid request");
        match client.request_text(request).await {
            Ok(text) if text == "ok" => return,
            state => assert!(
                Instant::now() < deadline,
                "kube-apiserver is not ready: {state:?}\n{}",
                apiserver.log_tail(4000)
            ),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn assert_alive(process: &mut Process) {
    if let Some(status) = process.ended() {
        panic!("{} ended: {status}\n{}", process.name(), process.log_tail(4000));
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

/// podswell's ConfigMaps with this data, as one manifest.
pub(crate) fn config_maps<const N: usize>(maps: [(&str, Value); N]) -> String {
    let items = maps.map(|(name, data)| {
        let metadata = json!({ "name": name, "namespace": "podswell-system" });
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data })
    });
    json!({ "apiVersion": "v1", "kind": "List", "items": items.as_slice() }).to_string()
}
