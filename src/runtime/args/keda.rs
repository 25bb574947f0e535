//! The flags of the server that KEDA asks.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use super::{ListenAddress, SettingsError, parse_namespace};
use crate::runtime::tls::TlsFiles;

/// The flags `--keda-*` and `--peer-*` of `podswell run`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "KEDA")]
pub struct KedaArgs {
    /// Where KEDA's external scaler is served (gRPC); by default nowhere
    #[arg(
        long,
        env = "PODSWELL_KEDA_LISTEN",
        value_name = "[HOST]:PORT",
        value_parser = ListenAddress::parse
    )]
    pub keda_listen: Option<ListenAddress>,

    /// Serve KEDA without TLS: whoever reaches the port may ask
    #[arg(long, env = "PODSWELL_KEDA_INSECURE")]
    pub keda_insecure: bool,

    /// The certificate of KEDA's server, PEM; read again when it changes
    #[arg(long, env = "PODSWELL_KEDA_TLS_CERT", value_name = "FILE")]
    pub keda_tls_cert: Option<PathBuf>,

    /// Its private key, PEM
    #[arg(long, env = "PODSWELL_KEDA_TLS_KEY", value_name = "FILE")]
    pub keda_tls_key: Option<PathBuf>,

    /// Certificate authorities that KEDA's client certificate must come from, PEM (mutual TLS)
    #[arg(long, env = "PODSWELL_KEDA_CLIENT_CA", value_name = "FILE")]
    pub keda_client_ca: Option<PathBuf>,

    /// Names of which that certificate must have one; by default any
    #[arg(long, env = "PODSWELL_KEDA_CLIENT_NAMES", value_delimiter = ',', value_name = "NAME,..")]
    pub keda_client_names: Vec<String>,

    /// Where the holder of the lease answers other processes of podswell; by default nowhere
    #[arg(
        long,
        env = "PODSWELL_PEER_LISTEN",
        value_name = "[HOST]:PORT",
        value_parser = ListenAddress::parse
    )]
    pub peer_listen: Option<ListenAddress>,

    /// The IP address under which they reach it, usually the pod's
    #[arg(long, env = "PODSWELL_PEER_ADDRESS", value_name = "IP")]
    pub peer_address: Option<IpAddr>,

    /// Namespaces that KEDA may ask for; by default all
    #[arg(
        long,
        env = "PODSWELL_KEDA_NAMESPACES",
        value_delimiter = ',',
        value_name = "NAME,..",
        value_parser = parse_namespace
    )]
    pub keda_namespaces: Vec<String>,

    /// How many streams KEDA may have open at once: two for each trigger that pushes
    #[arg(
        long,
        env = "PODSWELL_KEDA_MAX_STREAMS",
        value_name = "COUNT",
        default_value_t = 65_536,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub keda_max_streams: u32,
}

/// How KEDA is answered, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KedaSettings {
    /// Where the external scaler is served.
    pub listen: ListenAddress,
    /// The certificates; `None`: plain.
    pub tls: Option<TlsFiles>,
    /// The namespaces that may be asked for; empty: all.
    pub namespaces: BTreeSet<String>,
    /// How many streams may be open at once.
    pub max_streams: usize,
}

/// Where other processes are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerSettings {
    /// Where the listener is.
    pub listen: ListenAddress,
    /// The address under which they reach it.
    pub address: IpAddr,
}

impl KedaArgs {
    /// Where other processes are answered; `None`: nowhere.
    ///
    /// # Errors
    /// If they cannot know where.
    pub(super) fn peer_settings(&self) -> Result<Option<PeerSettings>, SettingsError> {
        let Some(listen) = self.peer_listen else { return Ok(None) };
        let own = match listen {
            ListenAddress::One(address) if !address.ip().is_unspecified() => Some(address.ip()),
            _ => None,
        };
        let why = "--peer-listen on all addresses needs --peer-address";
        let address = self.peer_address.or(own).ok_or(SettingsError::Keda { why })?;
        Ok(Some(PeerSettings { listen, address }))
    }

    /// Checks the flags together; `None` where KEDA is not served.
    ///
    /// # Errors
    /// If they make no sense together.
    pub(super) fn into_settings(self) -> Result<Option<KedaSettings>, SettingsError> {
        let Some(listen) = self.keda_listen else { return Ok(None) };
        let has_files = self.keda_tls_cert.is_some() || self.keda_tls_key.is_some();
        let tls = match (self.keda_tls_cert, self.keda_tls_key) {
            _ if self.keda_insecure => None,
            (Some(certificate), Some(key)) => Some(TlsFiles {
                certificate,
                key,
                client_ca: self.keda_client_ca.clone(),
                client_names: BTreeSet::from_iter(self.keda_client_names.clone()),
            }),
            _ => {
                let why =
                    "--keda-listen needs --keda-tls-cert and --keda-tls-key, or --keda-insecure";
                return Err(SettingsError::Keda { why });
            }
        };
        if tls.is_none() && self.keda_client_ca.is_some() {
            let why = "--keda-client-ca and --keda-insecure contradict each other";
            return Err(SettingsError::Keda { why });
        }
        if tls.is_none() && has_files {
            let why = "--keda-tls-cert or --keda-tls-key and --keda-insecure contradict each other";
            return Err(SettingsError::Keda { why });
        }
        if self.keda_client_ca.is_none() && !self.keda_client_names.is_empty() {
            let why = "--keda-client-names needs --keda-client-ca";
            return Err(SettingsError::Keda { why });
        }
        let namespaces = BTreeSet::from_iter(self.keda_namespaces);
        let max_streams = usize::try_from(self.keda_max_streams).unwrap_or(usize::MAX);
        Ok(Some(KedaSettings { listen, tls, namespaces, max_streams }))
    }
}
