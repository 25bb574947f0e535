//! Speaks to one Prometheus server: credentials, limits, and what a bad answer is called.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_ENCODING, HeaderMap, HeaderName};
use http::{HeaderValue, StatusCode};
use prometheus_http_query::Client;
use tokio::time::Instant;

use crate::core::Timestamp;
use crate::core::event::SourceFault;
use crate::runtime::clock::instant;
use crate::sources::SourceError;
use crate::sources::definition::{Auth, Server};

use super::answer::seconds_of;
use super::past::Moments;

/// The most bytes of an answer.
pub(super) const MAX_ANSWER_BYTES: usize = 32 << 20;
/// The most bytes of a file with a token or password, and of one with certificates.
const MAX_SECRET_BYTES: u64 = 64 * 1024;
const MAX_CA_BYTES: u64 = 1 << 20;
/// How often credential files are read again.
const CREDENTIALS_AGE: Duration = Duration::from_secs(5);
/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// What the credential files of a server hold.
#[derive(Clone, Default, PartialEq, Eq)]
pub(in crate::sources) struct Credentials {
    ca: Option<Vec<u8>>,
    authorization: Option<HeaderValue>,
}

/// A server with the client that speaks to it.
pub(super) struct Connection {
    server: Server,
    credentials_dir: Option<PathBuf>,
    open: Option<Open>,
}

/// Asks a server; may be used by several at a time.
#[derive(Clone)]
pub(super) struct Asker {
    client: Client,
}

impl Asker {
    /// As [`Connection::query`]; an answer of more than `most` bytes is not read.
    pub(super) async fn query(
        &self,
        text: &str,
        time: Option<Timestamp>,
        timeout: Duration,
        most: usize,
    ) -> Result<Bytes, SourceFault> {
        let millis = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        let mut query = self.client.query(text).timeout(millis);
        if let Some(time) = time {
            query = query.query("time", seconds_of(time));
        }
        read_bounded(query.get_raw().await.map_err(|error| fault_within(&error))?, most).await
    }

    /// As [`Asker::query`], about several moments.
    pub(super) async fn query_range(
        &self,
        text: &str,
        moments: Moments,
        timeout: Duration,
        most: usize,
    ) -> Result<Bytes, SourceFault> {
        let millis = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        let Moments { first, last, step } = moments;
        let query = self.client.query_range(text, first, last, step.as_secs_f64());
        let response = query.timeout(millis).get_raw().await;
        read_bounded(response.map_err(|error| fault_within(&error))?, most).await
    }
}

struct Open {
    credentials: Credentials,
    read_at: Instant,
    client: Client,
}

impl Connection {
    pub(super) fn new(server: Server, credentials_dir: Option<PathBuf>) -> Self {
        Self { server, credentials_dir, open: None }
    }

    /// Asks an instant query, at `time` or at the server's present, and returns the body of the answer.
    /// The caller limits the time.
    pub(super) async fn query(
        &mut self,
        text: &str,
        time: Option<Timestamp>,
        timeout: Duration,
    ) -> Result<Bytes, SourceFault> {
        self.opened().await?.query(text, time, timeout, MAX_ANSWER_BYTES).await
    }

    /// What asks the server, with the credentials of this moment.
    pub(super) async fn opened(&mut self) -> Result<Asker, SourceFault> {
        match self.client().await {
            Ok(client) => Ok(Asker { client }),
            Err(error) => {
                tracing::warn!(%error, "credentials of a source");
                Err(SourceFault::Unreachable)
            }
        }
    }

    /// The client, made anew when the credential files have changed.
    async fn client(&mut self) -> Result<Client, SourceError> {
        let is_fresh = |open: &Open| open.read_at.elapsed() < CREDENTIALS_AGE;
        if let Some(open) = self.open.as_ref().filter(|open| is_fresh(open)) {
            return Ok(open.client.clone());
        }
        let (server, dir) = (self.server.clone(), self.credentials_dir.clone());
        let reading =
            tokio::task::spawn_blocking(move || read_credentials(&server, dir.as_deref()));
        let credentials = reading.await.map_err(|_| SourceError::ReadInterrupted)??;
        let read_at = instant();
        if let Some(open) = self.open.as_mut().filter(|open| open.credentials == credentials) {
            open.read_at = read_at;
            return Ok(open.client.clone());
        }
        let client = build(&self.server, &credentials)?;
        self.open = Some(Open { credentials, read_at, client: client.clone() });
        Ok(client)
    }
}

/// Reads what the definition of a server names. Every file has to lie below `dir`, links followed.
pub(in crate::sources) fn read_credentials(
    server: &Server,
    dir: Option<&Path>,
) -> Result<Credentials, SourceError> {
    let ca = server.ca_file.as_ref().map(|path| read_below(dir, path, MAX_CA_BYTES)).transpose()?;
    let secret = |path: &PathBuf| {
        let bytes = read_below(dir, path, MAX_SECRET_BYTES)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| SourceError::InvalidCredential { path: path.clone() })?;
        Ok((path.clone(), text.trim().to_owned()))
    };
    let (path, value) = match &server.auth {
        None => return Ok(Credentials { ca, authorization: None }),
        Some(Auth::Bearer { token_file }) => {
            let (path, token) = secret(token_file)?;
            (path, format!("Bearer {token}"))
        }
        Some(Auth::Basic { username, password_file }) => {
            let (path, password) = secret(password_file)?;
            let pair = format!("{username}:{password}");
            let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
            (path, format!("Basic {encoded}"))
        }
    };
    let mut value =
        HeaderValue::try_from(value).map_err(|_| SourceError::InvalidCredential { path })?;
    value.set_sensitive(true);
    Ok(Credentials { ca, authorization: Some(value) })
}

fn read_below(dir: Option<&Path>, path: &Path, limit: u64) -> Result<Vec<u8>, SourceError> {
    use std::io::Read as _;

    let failed = |source| SourceError::ReadCredential { path: path.to_owned(), source };
    let dir = dir.ok_or(SourceError::NoCredentialsDir)?.canonicalize().map_err(failed)?;
    // Joining an absolute path gives that path; both kinds have to end up below the directory.
    let real = dir.join(path).canonicalize().map_err(failed)?;
    if !real.starts_with(&dir) || !real.is_file() {
        return Err(SourceError::CredentialOutside { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(&real).map_err(failed)?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(SourceError::InvalidCredential { path: path.to_owned() });
    }
    Ok(bytes)
}

/// A client without redirects, proxies of the environment and decompression.
fn build(server: &Server, credentials: &Credentials) -> Result<Client, SourceError> {
    // The process installs the provider first of all; a test may not have.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let failed = |source| SourceError::BuildClient { url: server.url.clone(), source };
    let mut headers: HeaderMap = server
        .headers
        .iter()
        .filter_map(|(name, value)| {
            Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
        })
        .collect();
    if let Some(authorization) = &credentials.authorization {
        headers.insert(AUTHORIZATION, authorization.clone());
    }
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("podswell/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .http1_only()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(1);
    let is_https = server.url.starts_with("https:");
    if let Some(ca) = &credentials.ca {
        let bundle = reqwest::Certificate::from_pem_bundle(ca).map_err(failed)?;
        builder = builder.tls_certs_only(bundle);
    } else if !is_https {
        // Without TLS no certificate store is needed, and an image may not have one.
        builder = builder.tls_certs_only([]);
    }
    let client = builder.build().map_err(failed)?;
    Client::from(client, &server.url)
        .map_err(|_| SourceError::InvalidUrl { url: server.url.clone() })
}

async fn read_bounded(mut response: reqwest::Response, most: usize) -> Result<Bytes, SourceFault> {
    if matches!(response.status(), StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY) {
        return Err(SourceFault::QueryRefused);
    }
    if !response.status().is_success() {
        return Err(SourceFault::BadStatus);
    }
    if response.headers().get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(SourceFault::Malformed);
    }
    let announced = response.content_length().unwrap_or(0);
    let announced = usize::try_from(announced).unwrap_or(usize::MAX);
    if announced > most {
        return Err(SourceFault::TooLarge);
    }
    let mut body = BytesMut::with_capacity(announced);
    while let Some(chunk) = response.chunk().await.map_err(|error| fault_of(Some(&error)))? {
        if body.len() + chunk.len() > most {
            return Err(SourceFault::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn fault_within(error: &prometheus_http_query::Error) -> SourceFault {
    use std::error::Error as _;
    fault_of(error.source().and_then(|source| source.downcast_ref::<reqwest::Error>()))
}

fn fault_of(error: Option<&reqwest::Error>) -> SourceFault {
    match error {
        Some(error) if error.is_timeout() => SourceFault::Timeout,
        Some(error) if error.is_body() || error.is_decode() => SourceFault::Malformed,
        _ => SourceFault::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn server(auth: Option<Auth>, ca_file: Option<&str>) -> Server {
        Server {
            url: "https://prometheus".into(),
            ca_file: ca_file.map(Into::into),
            auth,
            headers: std::collections::BTreeMap::new(),
        }
    }

    fn bearer(path: impl Into<PathBuf>) -> Server {
        server(Some(Auth::Bearer { token_file: path.into() }), None)
    }

    #[test]
    fn credentials_are_read_below_the_directory_only() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("credentials");
        fs::create_dir_all(dir.join("sub/..data")).unwrap();
        fs::write(dir.join("sub/..data/token"), "secret\n").unwrap();
        fs::write(root.path().join("outside"), "root's").unwrap();
        fs::create_dir(root.path().join("credentials-of-another")).unwrap();
        fs::write(root.path().join("credentials-of-another/token"), "x").unwrap();
        symlink("..data/token", dir.join("sub/token")).unwrap();
        symlink(root.path().join("outside"), dir.join("escape")).unwrap();
        symlink("/dev/zero", dir.join("endless")).unwrap();
        fs::write(dir.join("large"), "x".repeat(70_000)).unwrap();
        fs::write(dir.join("binary"), [0xff, 0xfe]).unwrap();
        fs::write(dir.join("split"), "a\r\nb: c").unwrap();

        let read = |path: &str| read_credentials(&bearer(path), Some(&dir));
        let token = read("sub/token").unwrap().authorization.unwrap();
        assert_eq!(token, "Bearer secret");
        assert!(token.is_sensitive());
        let absolute = dir.join("sub/token");
        assert!(read(absolute.to_str().unwrap()).is_ok());
        for (path, reason) in [
            ("escape", "CredentialOutside"),
            ("endless", "CredentialOutside"),
            ("sub", "CredentialOutside"),
            ("../outside", "CredentialOutside"),
            ("../credentials-of-another/token", "CredentialOutside"),
            ("/etc/hostname", "CredentialOutside"),
            ("none", "ReadCredential"),
            ("large", "InvalidCredential"),
            ("binary", "InvalidCredential"),
            ("split", "InvalidCredential"),
        ] {
            let error = read(path).map(|_| ()).unwrap_err();
            assert_eq!(error.reason(), reason, "{path}: {error}");
        }
        let error = read_credentials(&bearer("token"), None).map(|_| ()).unwrap_err();
        assert_eq!(error.reason(), "NoCredentialsDir");
    }

    #[test]
    fn a_password_is_sent_with_its_user() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("password"), "open sesame\n").unwrap();
        let auth = Auth::Basic { username: "Aladdin".into(), password_file: "password".into() };
        let read = read_credentials(&server(Some(auth), None), Some(dir.path())).unwrap();
        assert_eq!(read.authorization.unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }

    #[test]
    fn certificates_have_to_be_certificates() {
        let credentials =
            Credentials { ca: Some(b"-----BEGIN nothing".to_vec()), authorization: None };
        let result = build(&server(None, Some("ca")), &credentials);
        // A bundle without a certificate trusts nobody; one that cannot be read is refused.
        if let Err(error) = result {
            assert_eq!(error.reason(), "BuildClient");
        }
    }
}
