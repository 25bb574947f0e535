//! Where samples come from: the pods themselves and Prometheus servers.
//!
//! The law of this folder: whatever a peer sends is bounded in bytes, time and number, is checked once
//! where it enters, and reaches the engine only as an [`Event`](crate::core::event::Event). What a tenant
//! wrote is never sent to a server, it only filters what came back; but for the queries of namespaces that
//! an administrator lists, and these are narrowed to their namespace before they come here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::core::pod_reading::PodReadings;
use crate::core::problem::{Problem, ProblemCode};
use crate::core::roster::Roster;
use crate::core::source::{SCRAPE, SourceFacts, SourceName};
use crate::runtime::clock::Clock;
use crate::runtime::engine_handle::EngineHandle;

use counters::SourceMetrics;
use definition::{Query, SourceDefinition};
use prometheus::Poller;
pub use prometheus::probe::{Probe, probe};
use prometheus::queries::QueryAsker;
use scrape::{ScrapeOptions, Scraper};

pub mod counters;
pub mod definition;
pub mod exposition;
mod faults;
mod prometheus;
pub mod scrape;
pub mod series;
pub mod stat;

/// The name of the ConfigMap that holds the definitions.
pub const CONFIG_MAP: &str = "podswell-sources";

/// Why a server cannot be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Credential files are named, but no directory for them was given to the process.
    #[error("read credentials: no credentials directory is configured")]
    NoCredentialsDir,
    /// A credential file does not lie below the directory, or is not a file.
    #[error("read credential file {}: not a file below the credentials directory", .path.display())]
    CredentialOutside {
        /// The path as the definition has it.
        path: PathBuf,
    },
    /// A credential file is too large or holds what cannot be a credential.
    #[error("read credential file {}: too large, or not a credential", .path.display())]
    InvalidCredential {
        /// The path as the definition has it.
        path: PathBuf,
    },
    /// A credential file cannot be read.
    #[error("read credential file {}: {source}", .path.display())]
    ReadCredential {
        /// The path as the definition has it.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// Reading was interrupted because the process ends.
    #[error("read credentials: interrupted")]
    ReadInterrupted,
    /// The HTTP client cannot be made, for example because a certificate is malformed.
    #[error("build the client for {url}: {source}")]
    BuildClient {
        /// The server's URL.
        url: String,
        /// What is wrong.
        source: reqwest::Error,
    },
    /// The URL is not one.
    #[error("build the client for {url}: not a URL")]
    InvalidUrl {
        /// The server's URL.
        url: String,
    },
}

impl SourceError {
    /// The kind of error: a closed set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoCredentialsDir => "NoCredentialsDir",
            Self::CredentialOutside { .. } => "CredentialOutside",
            Self::InvalidCredential { .. } => "InvalidCredential",
            Self::ReadCredential { .. } => "ReadCredential",
            Self::ReadInterrupted => "ReadInterrupted",
            Self::BuildClient { .. } => "BuildClient",
            Self::InvalidUrl { .. } => "InvalidUrl",
        }
    }
}

/// What the process allows its sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceOptions {
    /// The only directory from which credential files are read; `None`: none are read.
    pub credentials_dir: Option<PathBuf>,
    /// How pods are scraped.
    pub scrape: ScrapeOptions,
}

/// What the sources share with the rest of the process.
#[derive(Clone)]
struct Surroundings {
    roster: Arc<RwLock<Roster>>,
    engine: EngineHandle,
    clock: Arc<dyn Clock>,
    options: SourceOptions,
    metrics: SourceMetrics,
    readings: Arc<Mutex<PodReadings>>,
}

/// All sources of the process: the pod scraper and one task for each definition. Dropping it stops the
/// tasks of the definitions.
pub struct Sources {
    around: Surroundings,
    running: BTreeMap<SourceName, Running>,
}

/// A definition that is in use. Dropping it stops its task.
struct Running {
    definition: SourceDefinition,
    _stop: DropGuard,
}

impl Sources {
    /// No source runs yet.
    pub fn new(
        roster: Arc<RwLock<Roster>>,
        engine: EngineHandle,
        clock: Arc<dyn Clock>,
        options: SourceOptions,
    ) -> Self {
        let metrics = SourceMetrics::default();
        let readings = Arc::default();
        let around = Surroundings { roster, engine, clock, options, metrics, readings };
        Self { around, running: BTreeMap::new() }
    }

    /// Takes over all documents of the ConfigMap [`CONFIG_MAP`]: starts, replaces and stops tasks where a
    /// definition changed. A document that is wrong keeps the last good definition of its key and is
    /// reported; it does not affect the others.
    ///
    /// Returns the facts of the definitions in use, by name, and what an administrator has to mend.
    /// Has to be called within a Tokio runtime.
    pub fn apply(
        &mut self,
        documents: &BTreeMap<String, String>,
    ) -> (BTreeMap<SourceName, SourceFacts>, Vec<Problem>) {
        let mut problems = Vec::new();
        let parsed = definition::parse_all(documents);
        self.running.retain(|name, _| parsed.contains_key(name));
        for (name, outcome) in parsed {
            match outcome {
                Ok(definition) => {
                    problems.extend(self.credentials_problem(&definition));
                    self.put(definition);
                }
                Err(error) => problems.push(Problem {
                    code: ProblemCode::InvalidConfigMap,
                    key: format!("{CONFIG_MAP}/{}", definition::brief(&name)),
                    why: error.to_string(),
                    fallback: if self.running.contains_key(&name) {
                        "the last good definition stays in use".into()
                    } else {
                        "there is no such source".into()
                    },
                }),
            }
        }
        let running = &self.running;
        self.around.metrics.retain(|name| running.contains_key(name) || **name == *SCRAPE);
        let facts = running.iter().map(|(name, one)| (name.clone(), one.definition.facts()));
        (facts.collect(), problems)
    }

    /// What is wrong with the credential files of a definition now; they may come later.
    fn credentials_problem(&self, definition: &SourceDefinition) -> Option<Problem> {
        let dir = self.around.options.credentials_dir.as_deref();
        prometheus::server::read_credentials(&definition.server, dir).err().map(|error| Problem {
            code: ProblemCode::InvalidConfigMap,
            key: format!("{CONFIG_MAP}/{}", definition.name),
            why: error.to_string(),
            fallback: "the source gives no samples until its credentials can be read".into(),
        })
    }

    /// Starts a definition's task, unless it already runs as it is.
    fn put(&mut self, definition: SourceDefinition) {
        if self.running.get(&definition.name).is_some_and(|one| one.definition == definition) {
            return;
        }
        let name = definition.name.clone();
        // The old task has to stop before the new one speaks for the same source.
        self.running.remove(&name);
        let cancel = CancellationToken::new();
        if definition.query == Query::Brought {
            let asker = QueryAsker::new(definition.clone(), self.around.clone());
            Handle::current().spawn(asker.run(cancel.clone()));
        } else {
            let poller = Poller::new(definition.clone(), self.around.clone());
            Handle::current().spawn(poller.run(cancel.clone()));
        }
        self.running.insert(name, Running { definition, _stop: cancel.drop_guard() });
    }

    /// What was heard of single pods, of those targets that are asked for.
    pub fn pod_readings(&self) -> Arc<Mutex<PodReadings>> {
        self.around.readings.clone()
    }

    /// Scrapes pods until `cancel` is cancelled.
    pub fn run_scraper(
        &self,
        cancel: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        let around = self.around.clone();
        let counters = around.metrics.of(&SCRAPE.into());
        Scraper::new(around.roster, around.engine, around.clock, counters, around.options.scrape)
            .telling(around.readings)
            .run(cancel)
    }

    /// The counters of all sources, for `/metrics`.
    pub fn metrics(&self) -> SourceMetrics {
        self.around.metrics.clone()
    }
}
