//! Where samples come from: the pods themselves and Prometheus servers.
//!
//! The law of this folder: whatever a peer sends is bounded in bytes, time and number, is checked once
//! where it enters, and reaches the engine only as an [`Event`](crate::core::event::Event). Nothing that a
//! tenant wrote is ever sent to a server; it only filters what came back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::core::problem::{Problem, ProblemCode};
use crate::core::roster::Roster;
use crate::core::source::{SCRAPE, SourceFacts, SourceName};
use crate::runtime::clock::Clock;
use crate::runtime::engine_handle::EngineHandle;

use counters::SourceMetrics;
use definition::SourceDefinition;
use scrape::{ScrapeOptions, Scraper};

pub mod counters;
pub mod definition;
pub mod exposition;
mod faults;
pub mod scrape;
mod selector;
pub mod series;
pub mod stat;

/// The name of the ConfigMap that holds the definitions.
pub const CONFIG_MAP: &str = "podswell-sources";

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
        let around = Surroundings { roster, engine, clock, options, metrics };
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
                Ok(definition) => self.put(definition),
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

    /// Starts a definition's task, unless it already runs as it is.
    fn put(&mut self, definition: SourceDefinition) {
        if self.running.get(&definition.name).is_some_and(|one| one.definition == definition) {
            return;
        }
        let name = definition.name.clone();
        // The old task has to stop before the new one speaks for the same source.
        self.running.remove(&name);
        let cancel = CancellationToken::new();
        Handle::current().spawn(std::future::ready(()));
        self.running.insert(name, Running { definition, _stop: cancel.drop_guard() });
    }

    /// Scrapes pods until `cancel` is cancelled.
    pub fn run_scraper(
        &self,
        cancel: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        let around = self.around.clone();
        let counters = around.metrics.of(&SCRAPE.into());
        Scraper::new(around.roster, around.engine, around.clock, counters, around.options.scrape)
            .run(cancel)
    }

    /// The counters of all sources, for `/metrics`.
    pub fn metrics(&self) -> SourceMetrics {
        self.around.metrics.clone()
    }
}
