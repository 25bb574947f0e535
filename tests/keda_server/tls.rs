//! TLS, mutual TLS, and certificates that change.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use podswell::runtime::tls::{ReloadingAcceptor, TlsFiles};
use podswell::servers::keda::wire::external_scaler_client::ExternalScalerClient;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::calls::until;
use crate::certificates::{Authority, Pair};
use crate::world::{World, web};

/// Whether a client that trusts `ca` and shows `own` is answered.
async fn answered(world: &World, ca: &Authority, own: Option<&Pair>) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.certificate().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![chain], key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(world.address).await.unwrap();
    let name = ServerName::try_from("podswell-keda").unwrap();
    let Ok(stream) = TlsConnector::from(Arc::new(config)).connect(name, stream).await else {
        return false;
    };
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let Ok((sender, connection)) = handshake else { return false };
    tokio::spawn(connection);
    let channel = tower::service_fn(move |request| {
        let mut sender = sender.clone();
        async move { sender.send_request(request).await }
    });
    let origin = "https://podswell-keda".parse().unwrap();
    let mut client = ExternalScalerClient::with_origin(channel, origin);
    client.get_metric_spec(web()).await.is_ok()
}

fn files(folder: &Path) -> TlsFiles {
    TlsFiles {
        certificate: folder.join("server.crt"),
        key: folder.join("server.key"),
        ..TlsFiles::default()
    }
}

#[tokio::test]
async fn certificates_are_renewed_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    first.server(&["podswell-keda"]).write(folder.path(), "server");
    let tls = Arc::new(ReloadingAcceptor::new(files(folder.path())).unwrap());
    let world = World::start_for(&[], Some(tls)).await;
    world.deploy("web", 1, &[]).await;
    until("the first", async || answered(&world, &first, None).await, |is| *is).await;
    assert!(!answered(&world, &second, None).await);
    let plain = world.client().get_metric_spec(web()).await;
    assert!(plain.is_err(), "no plain text on a port with TLS");
    // Half a renewal is none.
    std::fs::write(folder.path().join("server.crt"), "broken").unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    until("still the first", async || answered(&world, &first, None).await, |is| *is).await;
    second.server(&["podswell-keda"]).write(folder.path(), "server");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    until("the second", async || answered(&world, &second, None).await, |is| *is).await;
    assert!(!answered(&world, &first, None).await);
}

#[tokio::test]
async fn only_named_clients_of_the_authority_come_in() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    ours.server(&["podswell-keda"]).write(folder.path(), "server");
    std::fs::write(folder.path().join("ca.crt"), ours.certificate()).unwrap();
    let tls = TlsFiles { client_ca: Some(folder.path().join("ca.crt")), ..files(folder.path()) };
    let any = Arc::new(ReloadingAcceptor::new(tls.clone()).unwrap());
    let world = World::start_for(&[], Some(any)).await;
    world.deploy("web", 1, &[]).await;
    let named = ours.client("keda-operator", None);
    let stranger = other.client("keda-operator", None);
    until("named", async || answered(&world, &ours, Some(&named)).await, |is| *is).await;
    assert!(!answered(&world, &ours, None).await);
    assert!(!answered(&world, &ours, Some(&stranger)).await);
    // Those who vouch for clients are renewed as well.
    std::fs::write(folder.path().join("ca.crt"), other.certificate()).unwrap();
    until("a new CA", async || answered(&world, &ours, Some(&stranger)).await, |is| *is).await;
    assert!(!answered(&world, &ours, Some(&named)).await, "it is not vouched for any more");
    std::fs::write(folder.path().join("ca.crt"), ours.certificate()).unwrap();
    // A name that no certificate of theirs has.
    let tls = TlsFiles { client_names: ["keda-operator".to_owned()].into(), ..tls };
    let listed = Arc::new(ReloadingAcceptor::new(tls).unwrap());
    let world = World::start_for(&[], Some(listed)).await;
    world.deploy("web", 1, &[]).await;
    assert!(!answered(&world, &ours, Some(&named)).await, "a common name is no name");
    assert!(!answered(&world, &ours, Some(&ours.peer(&["someone-else"]))).await);
    let listed = ours.peer(&["keda", "keda-operator"]);
    let one_is_listed = async || answered(&world, &ours, Some(&listed)).await;
    until("one of its names is listed", one_is_listed, |is| *is).await;
    let unnamed = async || {
        let all = world.counters.refusals();
        all.iter().any(|(why, count)| *why == "Name" && *count >= 2)
    };
    until("they are counted", unnamed, |are| *are).await;
    assert!(ReloadingAcceptor::new(TlsFiles::default()).is_err());
}
