//! The flags of the server that KEDA asks.

use std::collections::BTreeSet;

use clap::Args;

use super::{ListenAddress, SettingsError, parse_namespace};

/// The flags `--keda-*` of `podswell run`.
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

    /// Namespaces that KEDA may ask for; by default all
    #[arg(
        long,
        env = "PODSWELL_KEDA_NAMESPACES",
        value_delimiter = ',',
        value_name = "NAME,..",
        value_parser = parse_namespace
    )]
    pub keda_namespaces: Vec<String>,
}

/// How KEDA is answered, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KedaSettings {
    /// Where the external scaler is served.
    pub listen: ListenAddress,
    /// The namespaces that may be asked for; empty: all.
    pub namespaces: BTreeSet<String>,
}

impl KedaArgs {
    /// Checks the flags together; `None` where KEDA is not served.
    ///
    /// # Errors
    /// If they make no sense together.
    pub(super) fn into_settings(self) -> Result<Option<KedaSettings>, SettingsError> {
        let Some(listen) = self.keda_listen else { return Ok(None) };
        if !self.keda_insecure {
            let why = "--keda-listen needs --keda-insecure";
            return Err(SettingsError::Keda { why });
        }
        let namespaces = BTreeSet::from_iter(self.keda_namespaces);
        Ok(Some(KedaSettings { listen, namespaces }))
    }
}
