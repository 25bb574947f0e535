//! Kubeconfig files, and clients made of them.

use std::path::Path;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;

use super::certificates::Pair;

/// One for a user with a client certificate.
pub(super) fn with_certificate(url: &str, authority: &str, pair: &Pair) -> Kubeconfig {
    let user = json!({
        "client-certificate-data": base64(&pair.certificate),
        "client-key-data": base64(&pair.key),
    });
    kubeconfig(url, authority, &user)
}

/// One for a user with a token.
pub(super) fn with_token(url: &str, authority: &str, token: &str) -> Kubeconfig {
    kubeconfig(url, authority, &json!({ "token": token }))
}

/// One without any credentials, for a server without TLS.
pub(crate) fn plain(url: &str) -> Kubeconfig {
    kubeconfig(url, "", &json!({}))
}

fn kubeconfig(url: &str, authority: &str, user: &serde_json::Value) -> Kubeconfig {
    let mut cluster = json!({ "server": url });
    if !authority.is_empty() {
        cluster["certificate-authority-data"] = base64(authority).into();
    }
    let value = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "test",
            "cluster": cluster,
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
pub(crate) fn write(path: &Path, kubeconfig: &Kubeconfig) {
    let text = serde_json::to_string(kubeconfig).expect("a kubeconfig is JSON");
    std::fs::write(path, text).expect("write a kubeconfig");
}

/// A client that acts as its user.
pub(crate) async fn client(kubeconfig: Kubeconfig) -> Client {
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("a usable kubeconfig");
    Client::try_from(config).expect("a client")
}
