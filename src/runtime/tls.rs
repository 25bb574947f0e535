//! TLS for servers: a certificate, a key and perhaps a CA for clients, read from files and read again when
//! these change. A connection keeps what it began with, so a rotated certificate cuts nobody off.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::clock::instant;

/// How often the files are looked at, at most.
const PERIOD: Duration = Duration::from_secs(1);

/// How long a handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// The most bytes of one file.
const MOST_BYTES: u64 = 1024 * 1024;

/// The files of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, PEM, the server's own first.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Certificate authorities, PEM, that clients must come from; `None`: clients need no certificate.
    pub client_ca: Option<PathBuf>,
    /// Names of which a client's certificate must have one (DNS names and URIs of its subject
    /// alternative names); empty: every client of those authorities.
    pub client_names: BTreeSet<String>,
}

/// Why a server has no TLS, or a connection none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("find a {what} in {}", path.display())]
    Empty {
        /// What was looked for.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key do not make a server.
    #[error("use the certificate {}", path.display())]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The authorities for clients cannot be used.
    #[error("use the client CA {}: {why}", path.display())]
    ClientCa {
        /// Their file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The handshake failed.
    #[error("shake hands")]
    Handshake {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The handshake took too long.
    #[error("shake hands in time")]
    Slow,
    /// The client's certificate has none of the names.
    #[error("find the client's name in the list")]
    Name,
}

impl TlsError {
    /// A word from a closed list, for labels and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Read { .. } | Self::Empty { .. } => "Files",
            Self::Unusable { .. } | Self::ClientCa { .. } => "Certificate",
            Self::Handshake { .. } => "Handshake",
            Self::Slow => "Slow",
            Self::Name => "Name",
        }
    }
}

/// Makes TLS connections of accepted ones, with the newest files.
pub struct ReloadingAcceptor {
    files: TlsFiles,
    state: Mutex<State>,
}

struct State {
    contents: Contents,
    acceptor: TlsAcceptor,
    looked: Instant,
    failing: bool,
}

/// What the files hold.
#[derive(Debug, PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl ReloadingAcceptor {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// If they cannot be used.
    pub fn new(files: TlsFiles) -> Result<Self, TlsError> {
        let contents = Contents::read(&files)?;
        let acceptor = acceptor(&files, &contents)?;
        let state = State { contents, acceptor, looked: instant(), failing: false };
        Ok(Self { files, state: Mutex::new(state) })
    }

    /// Shakes hands on a connection that was accepted.
    ///
    /// # Errors
    /// If the peer does not, or may not come in.
    pub async fn accept(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, TlsError> {
        let handshake = self.newest().accept(stream);
        let stream = tokio::time::timeout(HANDSHAKE_LIMIT, handshake)
            .await
            .map_err(|_elapsed| TlsError::Slow)?
            .map_err(|source| TlsError::Handshake { source })?;
        let (_, connection) = stream.get_ref();
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        if self.is_named(certificate) { Ok(stream) } else { Err(TlsError::Name) }
    }

    fn is_named(&self, certificate: Option<&CertificateDer<'_>>) -> bool {
        let names = &self.files.client_names;
        if names.is_empty() {
            return true;
        }
        let parsed = certificate.and_then(|der| webpki::EndEntityCert::try_from(der).ok());
        parsed.is_some_and(|certificate| {
            let mut all = certificate.valid_dns_names().chain(certificate.valid_uri_names());
            all.any(|name| names.contains(name))
        })
    }

    /// The acceptor of the newest good files.
    fn newest(&self) -> TlsAcceptor {
        let mut state = self.state.lock();
        if state.looked.elapsed() >= PERIOD {
            state.looked = instant();
            self.look_again(&mut state);
        }
        state.acceptor.clone()
    }

    /// Takes over changed files; where they are no good the old ones stay in force.
    fn look_again(&self, state: &mut State) {
        let renewed = Contents::read(&self.files).and_then(|contents| {
            if contents == state.contents {
                return Ok(None);
            }
            let acceptor = acceptor(&self.files, &contents)?;
            Ok(Some((contents, acceptor)))
        });
        match renewed {
            Ok(None) => state.failing = false,
            Ok(Some((contents, acceptor))) => {
                tracing::info!(certificate = %self.files.certificate.display(), "certificate renewed");
                state.contents = contents;
                state.acceptor = acceptor;
                state.failing = false;
            }
            Err(error) => {
                // Said once: half-written files are common for a moment.
                if !state.failing {
                    let source: &dyn std::error::Error = &error;
                    tracing::warn!(error = source, "changed certificate files are not usable");
                }
                state.failing = true;
            }
        }
    }
}

impl Contents {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self {
            certificate: read(&files.certificate)?,
            key: read(&files.key)?,
            client_ca: files.client_ca.as_deref().map(read).transpose()?,
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MOST_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn certificates(bytes: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(bytes).filter_map(Result::ok).collect();
    if found.is_empty() {
        return Err(TlsError::Empty { what: "certificate", path: path.to_owned() });
    }
    Ok(found)
}

fn acceptor(files: &TlsFiles, contents: &Contents) -> Result<TlsAcceptor, TlsError> {
    let chain = certificates(&contents.certificate, &files.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&contents.key)
        .map_err(|_none| TlsError::Empty { what: "private key", path: files.key.clone() })?;
    let unusable = |source| TlsError::Unusable { path: files.certificate.clone(), source };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = match (&files.client_ca, &contents.client_ca) {
        (Some(path), Some(bytes)) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates(bytes, path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|why| TlsError::ClientCa { path: path.clone(), why: why.to_string() })?;
            builder.with_client_cert_verifier(verifier)
        }
        _ => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(unusable)?;
    // gRPC clients refuse a server that does not agree on HTTP/2.
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
