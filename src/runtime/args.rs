//! The flags of `podswell run`, each also an environment variable, checked into [`Settings`] before
//! anything starts.

mod keda;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;

pub use self::keda::{KedaArgs, KedaSettings, PeerSettings};
use super::telemetry::{self, LogFormat};
use crate::core::policy::Mode;
use crate::core::resolve::{DEFAULT_POD_PLAUSIBILITY_CAP, ProcessSettings};
use crate::core::spec::Semantics;

/// Where a pod finds the name of its own namespace.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The namespace that `deploy/` installs into, used outside a cluster.
pub const DEFAULT_NAMESPACE: &str = "podswell-system";

/// The flags of `podswell run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// What may be done with decisions: apply, observe, paused, paused-up or paused-down
    #[arg(long, env = "PODSWELL_MODE", default_value = "apply", value_parser = parse_mode)]
    pub mode: Mode,

    /// Whose arithmetic decides where no annotation says so: default or knative
    #[arg(long, env = "PODSWELL_COMPAT", default_value = "default", value_parser = parse_compat)]
    pub compat: Semantics,

    /// The ceiling of targets without a max-scale
    #[arg(
        long,
        env = "PODSWELL_DEFAULT_MAX_SCALE",
        default_value_t = 100,
        value_parser = clap::value_parser!(i32).range(1..),
        value_name = "PODS"
    )]
    pub default_max_scale: i32,

    /// Namespaces where Knative's own class values count as consent
    #[arg(
        long,
        env = "PODSWELL_ADOPT_NAMESPACES",
        value_delimiter = ',',
        value_name = "NAME,..",
        value_parser = parse_namespace
    )]
    pub adopt_namespaces: Vec<String>,

    /// Namespaces whose workloads may bring their own PromQL (podswell.dev/query)
    #[arg(
        long,
        env = "PODSWELL_QUERY_NAMESPACES",
        value_delimiter = ',',
        value_name = "NAME,..",
        value_parser = parse_namespace
    )]
    pub query_namespaces: Vec<String>,

    /// How many times its target a pod may claim to bear; one that claims more is not believed
    #[arg(
        long,
        env = "PODSWELL_POD_PLAUSIBILITY_CAP",
        default_value_t = DEFAULT_POD_PLAUSIBILITY_CAP,
        value_parser = clap::value_parser!(u32).range(1..),
        value_name = "TARGETS"
    )]
    pub pod_plausibility_cap: u32,

    /// The addresses under which KEDA reaches this podswell; a trigger that names one follows it
    #[arg(
        long,
        env = "PODSWELL_KEDA_ADDRESSES",
        value_delimiter = ',',
        value_name = "HOST:PORT,..",
        value_parser = parse_host_port
    )]
    pub keda_addresses: Vec<String>,

    /// Watch and scale in these namespaces only, with rights in them only; by default in all
    #[arg(
        long,
        env = "PODSWELL_NAMESPACES",
        value_delimiter = ',',
        value_name = "NAME,..",
        value_parser = parse_namespace
    )]
    pub namespaces: Vec<String>,

    /// Where the ConfigMaps are; by default the pod's own namespace, else podswell-system
    #[arg(long, env = "PODSWELL_NAMESPACE", value_name = "NAME", value_parser = parse_namespace)]
    pub namespace: Option<String>,

    /// The kubeconfig file; by default KUBECONFIG, ~/.kube/config or the pod's service account
    #[arg(long, env = "PODSWELL_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig file
    #[arg(long, env = "PODSWELL_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,

    /// Where /livez, /readyz and /metrics are served
    #[arg(
        long,
        env = "PODSWELL_LISTEN",
        default_value = ":8080",
        value_name = "[HOST]:PORT",
        value_parser = ListenAddress::parse
    )]
    pub listen: ListenAddress,

    /// Where /v1 is served; must be loopback unless a token file protects it
    #[arg(
        long,
        env = "PODSWELL_ADMIN_LISTEN",
        default_value = "127.0.0.1:8081",
        value_name = "[HOST]:PORT",
        value_parser = ListenAddress::parse
    )]
    pub admin_listen: ListenAddress,

    /// A file with the bearer token that /v1 then asks for; read again at each request
    #[arg(long, env = "PODSWELL_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,

    /// The only directory from which sources may read credential files
    #[arg(long, env = "PODSWELL_CREDENTIALS_DIR", value_name = "DIR")]
    pub credentials_dir: Option<PathBuf>,

    /// Scrape pods on loopback and link-local addresses too (tests and demos only)
    #[arg(long, env = "PODSWELL_SCRAPE_ALLOW_LOOPBACK")]
    pub scrape_allow_loopback: bool,

    /// Write only while holding the Lease podswell, so that a second process can stand by
    #[arg(
        long,
        env = "PODSWELL_LEADER_ELECT",
        default_value_t = true,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = clap::ArgAction::Set,
        value_name = "BOOL"
    )]
    pub leader_elect: bool,

    /// How KEDA is answered
    #[command(flatten)]
    pub keda: KedaArgs,

    /// A file that keeps what was scraped over a restart; written every 10 s and at the end
    #[arg(long, env = "PODSWELL_SNAPSHOT", value_name = "FILE")]
    pub snapshot: Option<PathBuf>,

    /// Keep what the engine is told and decides in this file, for podswell simulate --replay
    #[arg(long, env = "PODSWELL_RECORD", value_name = "FILE")]
    pub record: Option<PathBuf>,

    /// The form of log records
    #[arg(long, env = "PODSWELL_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,

    /// error, warn, info, debug, trace, or a list of MODULE=LEVEL
    #[arg(long, env = "PODSWELL_LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    pub log_level: String,
}

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// One address.
    One(SocketAddr),
    /// A port on all addresses of the machine, of both families where there are both.
    Any(u16),
}

impl ListenAddress {
    /// Parses `ADDRESS:PORT`, `[V6ADDRESS]:PORT`, `localhost:PORT` or `:PORT`.
    ///
    /// # Errors
    /// If the text is none of these.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (host, port) = text.rsplit_once(':').ok_or("expected [HOST]:PORT")?;
        let port: u16 =
            port.parse().map_err(|_why| format!("port {port:?} is not in 0..=65535"))?;
        match host {
            "" => Ok(Self::Any(port)),
            "localhost" => Ok(Self::One(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port))),
            _ => text
                .parse()
                .map(Self::One)
                .map_err(|_why| format!("host {host:?} is not an IP address or localhost")),
        }
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(self) -> bool {
        match self {
            Self::One(address) => address.ip().to_canonical().is_loopback(),
            Self::Any(_) => false,
        }
    }

    /// The socket addresses to try, most general first; the first that can be bound is used.
    pub fn candidates(self) -> Vec<SocketAddr> {
        match self {
            Self::One(address) => vec![address],
            Self::Any(port) => [IpAddr::V6(Ipv6Addr::UNSPECIFIED), Ipv4Addr::UNSPECIFIED.into()]
                .map(|ip| SocketAddr::new(ip, port))
                .to_vec(),
        }
    }
}

/// Which API server is talked to, and as whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterAccess {
    /// The kubeconfig file; `None`: the usual places, then the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it; `None`: its current one.
    pub context: Option<String>,
}

/// What `podswell run` was told, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What the resolution of annotations needs to know.
    pub process: ProcessSettings,
    /// The only namespaces that are watched, each once, in order; all if empty.
    pub namespaces: Vec<String>,
    /// Where the ConfigMaps are.
    pub namespace: String,
    /// The API server.
    pub cluster: ClusterAccess,
    /// Where /livez, /readyz and /metrics are served.
    pub listen: ListenAddress,
    /// Where /v1 is served.
    pub admin_listen: ListenAddress,
    /// The file that holds the token for /v1.
    pub admin_token_file: Option<PathBuf>,
    /// The only directory from which sources may read credential files; canonical.
    pub credentials_dir: Option<PathBuf>,
    /// Whether pods on loopback and link-local addresses are scraped.
    pub scrape_allow_loopback: bool,
    /// Whether writing takes a lease; without it no other process may run beside this one.
    pub leader_elect: bool,
    /// How KEDA is answered; `None`: not at all.
    pub keda: Option<KedaSettings>,
    /// The file that keeps what was measured over a restart.
    pub snapshot: Option<PathBuf>,
    /// Where what the engine is told and decides is kept, if it is.
    pub record: Option<PathBuf>,
    /// Where other processes are answered; `None`: nowhere.
    pub peer: Option<PeerSettings>,
    /// The form of log records.
    pub log_format: LogFormat,
    /// The level to start with; valid.
    pub log_level: String,
}

/// Why the process does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// Anybody could read the admin API.
    #[error(
        "listen on {address}: --admin-listen must be a loopback address unless --admin-token-file is \
         given"
    )]
    AdminExposed {
        /// The address asked for.
        address: String,
    },
    /// The token file is of no use.
    #[error("read token file {}: {why}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The directory of credentials is of no use.
    #[error("open credentials directory {}: {why}", path.display())]
    CredentialsDir {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The flags of KEDA's server contradict each other.
    #[error("serve KEDA: {why}")]
    Keda {
        /// What is wrong.
        why: &'static str,
    },
    /// The log level is not valid.
    #[error(transparent)]
    LogLevel(telemetry::TelemetryError),
}

impl RunArgs {
    /// Checks all flags together.
    ///
    /// # Errors
    /// If one of them makes no sense; the text names it.
    pub fn into_settings(self) -> Result<Settings, SettingsError> {
        if !self.admin_listen.is_loopback() && self.admin_token_file.is_none() {
            let address = format!("{:?}", self.admin_listen.candidates());
            return Err(SettingsError::AdminExposed { address });
        }
        if let Some(path) = &self.admin_token_file {
            read_token(path)?;
        }
        telemetry::parse_level(self.log_level.trim()).map_err(SettingsError::LogLevel)?;
        Ok(Settings {
            credentials_dir: self.credentials_dir.as_deref().map(open_directory).transpose()?,
            process: ProcessSettings {
                mode: self.mode,
                compat: self.compat,
                default_max_scale: self.default_max_scale,
                adopt_namespaces: BTreeSet::from_iter(self.adopt_namespaces),
                freeze: false,
                keda_addresses: BTreeSet::from_iter(self.keda_addresses),
                query_namespaces: BTreeSet::from_iter(self.query_namespaces),
                pod_plausibility_cap: self.pod_plausibility_cap,
            },
            namespaces: Vec::from_iter(BTreeSet::from_iter(self.namespaces)),
            namespace: self
                .namespace
                .or_else(own_namespace)
                .unwrap_or_else(|| DEFAULT_NAMESPACE.into()),
            cluster: ClusterAccess { kubeconfig: self.kubeconfig, context: self.context },
            listen: self.listen,
            admin_listen: self.admin_listen,
            admin_token_file: self.admin_token_file,
            scrape_allow_loopback: self.scrape_allow_loopback,
            leader_elect: self.leader_elect,
            peer: self.keda.peer_settings()?,
            keda: self.keda.into_settings()?,
            snapshot: self.snapshot,
            record: self.record,
            log_format: self.log_format,
            log_level: self.log_level,
        })
    }
}

/// Reads the bearer token of a file: its text without surrounding white space.
///
/// # Errors
/// If the file cannot be read, is longer than 4 KiB, or holds no usable token.
pub fn read_token(path: &Path) -> Result<String, SettingsError> {
    use std::io::Read;
    let error = |why: String| SettingsError::TokenFile { path: path.to_owned(), why };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|why| error(why.to_string()))?;
    file.take(4097).read_to_string(&mut text).map_err(|why| error(why.to_string()))?;
    let token = text.trim();
    if text.len() > 4096 {
        return Err(error("longer than 4096 bytes".to_owned()));
    }
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(error("empty, or not one printable ASCII word".to_owned()));
    }
    Ok(token.to_owned())
}

fn open_directory(path: &Path) -> Result<PathBuf, SettingsError> {
    let error = |why: String| SettingsError::CredentialsDir { path: path.to_owned(), why };
    let canonical = path.canonicalize().map_err(|why| error(why.to_string()))?;
    if canonical.is_dir() { Ok(canonical) } else { Err(error("not a directory".to_owned())) }
}

fn own_namespace() -> Option<String> {
    let text = std::fs::read_to_string(NAMESPACE_FILE).ok()?;
    parse_namespace(text.trim()).ok()
}

fn parse_mode(text: &str) -> Result<Mode, String> {
    Mode::parse(text)
        .ok_or_else(|| "expected apply, observe, paused, paused-up or paused-down".to_owned())
}

fn parse_compat(text: &str) -> Result<Semantics, String> {
    match text {
        "default" => Ok(Semantics::Default),
        "knative" => Ok(Semantics::Knative),
        _ => Err("expected default or knative".to_owned()),
    }
}

/// Checks that `text` can be the name of a namespace (an RFC 1123 label).
pub(crate) fn parse_namespace(text: &str) -> Result<String, String> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let good = (1..=63).contains(&text.len())
        && text.bytes().all(|byte| inner(byte) || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-');
    if good { Ok(text.to_owned()) } else { Err("not the name of a namespace".to_owned()) }
}

/// Checks that `text` is `HOST:PORT`, as a `scalerAddress` is written.
pub(crate) fn parse_host_port(text: &str) -> Result<String, String> {
    let address = text.trim();
    let good = address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(char::is_whitespace) && port.parse::<u16>().is_ok()
    });
    if good { Ok(address.to_owned()) } else { Err("expected HOST:PORT".to_owned()) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Wrapper {
        #[command(flatten)]
        run: RunArgs,
    }

    fn settings(args: &[&str]) -> Result<Settings, String> {
        let wrapper = Wrapper::try_parse_from([&["podswell"], args].concat())
            .map_err(|why| why.to_string())?;
        wrapper.run.into_settings().map_err(|why| why.to_string())
    }

    #[test]
    fn the_defaults_are_valid() {
        let settings = settings(&["--namespace", "podswell-system"]).unwrap();
        assert_eq!(settings.process, ProcessSettings::default());
        assert_eq!(settings.listen, ListenAddress::Any(8080));
        assert!(settings.admin_listen.is_loopback());
        assert_eq!(settings.log_format, LogFormat::Json);
        assert!(settings.leader_elect);
    }

    #[test]
    fn the_election_can_be_turned_off() {
        for (args, elects) in [
            (&[][..], true),
            (&["--leader-elect"], true),
            (&["--leader-elect=true"], true),
            (&["--leader-elect=false"], false),
        ] {
            assert_eq!(settings(args).unwrap().leader_elect, elects, "{args:?}");
        }
        assert!(settings(&["--leader-elect=no way"]).is_err());
    }

    #[test]
    fn every_flag_is_also_an_environment_variable() {
        use clap::CommandFactory;
        for arg in Wrapper::command().get_arguments().filter(|arg| arg.get_id() != "help") {
            let flag = arg.get_long().unwrap();
            let variable = format!("PODSWELL_{}", flag.replace('-', "_").to_uppercase());
            assert_eq!(arg.get_env().and_then(|name| name.to_str()), Some(variable.as_str()));
        }
    }

    #[test]
    fn bad_flags_stop_the_start_and_are_named() {
        for (args, word) in [
            (&["--mode", "off"][..], "--mode"),
            (&["--compat", "keda"], "--compat"),
            (&["--default-max-scale", "0"], "--default-max-scale"),
            (&["--pod-plausibility-cap", "0"], "--pod-plausibility-cap"),
            (&["--adopt-namespaces", "a,B!"], "--adopt-namespaces"),
            (&["--query-namespaces", "a,*"], "--query-namespaces"),
            (&["--namespaces", "a,"], "--namespaces"),
            (&["--namespace", ""], "--namespace"),
            (&["--listen", "8080"], "--listen"),
            (&["--listen", "example.com:80"], "--listen"),
            (&["--listen", ":99999"], "--listen"),
            (&["--admin-listen", ":8081"], "--admin-listen"),
            (&["--admin-listen", "10.0.0.1:8081"], "--admin-listen"),
            (&["--admin-token-file", "/nowhere/token"], "/nowhere/token"),
            (&["--credentials-dir", "/nowhere"], "/nowhere"),
            (&["--log-level", "loud"], "log level"),
            (&["--log-format", "xml"], "--log-format"),
        ] {
            let error = settings(args).unwrap_err();
            assert!(error.contains(word), "{args:?}: {error}");
        }
    }

    #[test]
    fn keda_is_served_plain_only_if_that_is_said() {
        const LISTEN: &str = "--keda-listen=:9090";
        const TLS: [&str; 2] = ["--keda-tls-cert=c.pem", "--keda-tls-key=k.pem"];
        for (more, word) in [
            (&[][..], "--keda-insecure"),
            (&TLS[..1], "--keda-insecure"),
            (&TLS[1..], "--keda-insecure"),
            (&["--keda-insecure", TLS[0], TLS[1]], "--keda-tls-cert"),
            (&["--keda-insecure", TLS[0]], "--keda-tls-cert"),
            (&["--keda-insecure", "--keda-client-ca=a.pem"], "--keda-client-ca"),
            (&["--keda-insecure", "--keda-client-names=keda"], "--keda-client-ca"),
            (&[TLS[0], TLS[1], "--keda-client-names=keda"], "--keda-client-ca"),
            (&["--keda-insecure", "--keda-namespaces=a,B!"], "--keda-namespaces"),
            (&["--keda-insecure", "--keda-max-streams=0"], "--keda-max-streams"),
        ] {
            let error = settings(&[&[LISTEN][..], more].concat()).unwrap_err();
            assert!(error.contains(word), "{more:?}: {error}");
        }
        let served =
            |more: &[&str]| settings(&[&[LISTEN][..], more].concat()).unwrap().keda.unwrap();
        assert_eq!(served(&["--keda-insecure"]).tls, None);
        assert!(served(&TLS).tls.is_some_and(|files| files.client_ca.is_none()));
        let mutual = [TLS[0], TLS[1], "--keda-client-ca=a.pem", "--keda-client-names=a,b"];
        let files = served(&mutual).tls.unwrap();
        assert!(files.client_ca.is_some() && files.client_names.len() == 2, "{files:?}");
        assert!(settings(&["--keda-insecure"]).unwrap().keda.is_none(), "nobody listens");
    }

    #[test]
    fn a_token_file_opens_the_admin_address() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let args = ["--admin-listen", ":8081", "--admin-token-file", file.to_str().unwrap()];
        for (text, good) in
            [("s3cret\n", true), ("", false), ("two words", false), ("\u{1b}", false)]
        {
            std::fs::write(&file, text).unwrap();
            assert_eq!(settings(&args).is_ok(), good, "{text:?}");
        }
        std::fs::write(&file, "x".repeat(5000)).unwrap();
        assert!(settings(&args).is_err());
    }

    #[test]
    fn addresses() {
        let one = |text: &str| ListenAddress::One(text.parse().unwrap());
        assert_eq!(ListenAddress::parse(":0"), Ok(ListenAddress::Any(0)));
        assert_eq!(ListenAddress::parse("localhost:81"), Ok(one("127.0.0.1:81")));
        assert_eq!(ListenAddress::parse("[::1]:81"), Ok(one("[::1]:81")));
        assert!(one("[::ffff:127.0.0.1]:81").is_loopback());
        assert!(!one("[::]:81").is_loopback());
    }
}
