//! What is checked: each kind of object by the code that reads it in the controller.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::document::{Document, strings};
use super::{Finding, Level};
use crate::core::defaults::ClusterDefaults;
use crate::core::explain::is_remark;
use crate::core::keys::{self, Group, KEYS, Key};
use crate::core::policy::Consent;
use crate::core::problem::{Problem, ProblemCode};
use crate::core::promql::query::{QueryError, Tenant, narrow};
use crate::core::resolve::{Inputs, ProcessSettings, Resolved, namespace_problems, resolve};
use crate::core::source::{SourceFacts, SourceName};
use crate::core::text::{nearest, suggestion};
use crate::runtime::config_reader::process_settings;
use crate::sources::definition::{SourceDefinition, parse_all, schema_json};

/// What was found, and in how much.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) list: Vec<Finding>,
    /// Deployments with annotations that podswell reads.
    pub(super) workloads: usize,
}

/// The rest of the cluster as far as the files tell of it.
#[derive(Default)]
struct World {
    defaults: ClusterDefaults,
    defaults_set: BTreeSet<String>,
    process: ProcessSettings,
    sources: BTreeMap<SourceName, SourceFacts>,
    /// Whether the files define sources at all; if not, a name says nothing.
    knows_sources: bool,
    /// Whether the ConfigMap `podswell` is among the files.
    knows_process: bool,
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Autoscalers by the namespace and name of the Deployment that they scale.
    rivals: BTreeMap<(String, String), String>,
}

/// One object of a document.
struct Object<'a> {
    document: &'a Document,
    value: &'a Value,
    kind: &'a str,
    namespace: String,
    name: &'a str,
}

impl Object<'_> {
    fn finding(&self, key: &str, why: String) -> Finding {
        Finding {
            file: self.document.file.clone(),
            line: self.document.line_of(key).or_else(|| self.document.line_naming(self.name)),
            level: Level::Finding,
            object: format!("{}/{} ({})", self.kind, self.name, self.namespace),
            code: ProblemCode::InvalidConfigMap.as_str(),
            key: key.to_owned(),
            why,
            fallback: String::new(),
        }
    }

    fn problem(&self, problem: Problem) -> Finding {
        let level = if is_remark(problem.code) { Level::Note } else { Level::Finding };
        Finding {
            level,
            code: problem.code.as_str(),
            fallback: problem.fallback,
            ..self.finding(&problem.key, problem.why)
        }
    }

    /// Annotations or data; what is no string is a finding, as the API server takes only strings.
    fn strings(&self, pointer: &str, findings: &mut Findings) -> BTreeMap<String, String> {
        let (texts, others) = strings(self.value, pointer);
        for key in others {
            let why = "the value is no string; put it in quotes".to_owned();
            let code = ProblemCode::InvalidAnnotation.as_str();
            let fallback = "the API server refuses the object".to_owned();
            findings.list.push(Finding { code, fallback, ..self.finding(&key, why) });
        }
        texts
    }
}

/// Checks all documents together: ConfigMaps and Namespaces bear on the Deployments beside them.
pub(super) fn all(documents: &[Document], namespace: &str, findings: &mut Findings) {
    let mut objects = Vec::new();
    let mut world = World::default();
    for document in documents {
        let has = |key: &str| document.value.get(key).is_some();
        if has("server") && !has("apiVersion") && !has("metadata") {
            source_file(document, &mut world, findings);
        } else {
            collect(document, &document.value, namespace, &mut objects);
        }
    }
    for object in &objects {
        match object.kind {
            "ConfigMap" => config_map(object, &mut world, findings),
            "Namespace" => namespace_object(object, &mut world, findings),
            "HorizontalPodAutoscaler" | "ScaledObject" => rival(object, &mut world),
            _ => {}
        }
    }
    for object in objects.iter().filter(|object| object.kind == "Deployment") {
        deployment(object, &world, findings);
    }
}

/// The objects of a document, also those of a list.
fn collect<'a>(
    document: &'a Document,
    value: &'a Value,
    namespace: &str,
    into: &mut Vec<Object<'a>>,
) {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
    let Some(kind) = text("/kind") else { return };
    if let Some(items) = value.get("items").and_then(Value::as_array) {
        for item in items {
            collect(document, item, namespace, into);
        }
        return;
    }
    into.push(Object {
        document,
        value,
        kind,
        namespace: text("/metadata/namespace").unwrap_or(namespace).to_owned(),
        name: text("/metadata/name").unwrap_or("?"),
    });
}

/// A file that is one source definition; its name is that of the file.
fn source_file(document: &Document, world: &mut World, findings: &mut Findings) {
    let stem = Path::new(&document.file).file_stem().and_then(|stem| stem.to_str());
    let name = stem.filter(|stem| *stem != "-").unwrap_or("source");
    world.knows_sources = true;
    match SourceDefinition::parse(name, document.text()) {
        Ok(definition) => {
            world.sources.insert(definition.name.clone(), definition.facts());
        }
        Err(error) => findings.list.push(Finding {
            file: document.file.clone(),
            line: Some(document.line_at(error.line)),
            level: Level::Finding,
            object: format!("source {name}"),
            code: ProblemCode::InvalidConfigMap.as_str(),
            key: String::new(),
            why: with_suggestion(&error.why),
            fallback: "there is no such source".to_owned(),
        }),
    }
}

/// A complaint about an unknown field, with the field that was meant.
fn with_suggestion(why: &str) -> String {
    let Some(rest) = why.strip_prefix("unknown field `") else { return why.to_owned() };
    let field = rest.split('`').next().unwrap_or_default();
    let schema: Value =
        schema_json().ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let inner = schema.get("$defs").and_then(Value::as_object).into_iter().flatten();
    let objects = std::iter::once(&schema).chain(inner.map(|(_, object)| object));
    let fields: BTreeSet<&str> = objects
        .filter_map(|object| object.get("properties").and_then(Value::as_object))
        .flat_map(|properties| properties.keys().map(String::as_str))
        .collect();
    match nearest(field, fields.into_iter()) {
        Some(meant) => format!("unknown field `{field}`; did you mean {meant}?"),
        None => why.to_owned(),
    }
}

fn config_map(object: &Object<'_>, world: &mut World, findings: &mut Findings) {
    if !matches!(object.name, "config-autoscaler" | "podswell" | "podswell-sources") {
        return;
    }
    let mut data = object.strings("/data", findings);
    data.remove("_example");
    match object.name {
        "config-autoscaler" => cluster_defaults(object, &data, world, findings),
        "podswell" => match process_settings(&ProcessSettings::default(), &data) {
            Ok(settings) => {
                world.process = settings;
                world.knows_process = true;
            }
            Err(why) => {
                let key = data.keys().find(|key| why.contains(*key)).cloned().unwrap_or_default();
                let names = [
                    "freeze",
                    "mode",
                    "compat",
                    "default-max-scale",
                    "adopt-namespaces",
                    "keda-addresses",
                    "pod-plausibility-cap",
                    "query-namespaces",
                ];
                let meant = nearest(&key, names.into_iter()).filter(|meant| *meant != key);
                let why = why + &suggestion(meant);
                findings.list.push(Finding {
                    fallback: "the whole map counts for nothing".to_owned(),
                    ..object.finding(&key, why)
                });
            }
        },
        _ => {
            world.knows_sources = true;
            for (name, outcome) in parse_all(&data) {
                match outcome {
                    Ok(definition) => {
                        world.sources.insert(name, definition.facts());
                    }
                    Err(error) => findings.list.push(Finding {
                        line: object.document.line_within(&name, error.line),
                        fallback: "there is no such source".to_owned(),
                        ..object.finding(&name, with_suggestion(&error.why))
                    }),
                }
            }
        }
    }
}

fn cluster_defaults(
    object: &Object<'_>,
    data: &BTreeMap<String, String>,
    world: &mut World,
    findings: &mut Findings,
) {
    match ClusterDefaults::parse(data) {
        Ok(defaults) => world.defaults = defaults,
        Err(error) => {
            let key = if data.contains_key(error.key()) { error.key() } else { "" };
            findings.list.push(Finding {
                fallback: "the whole map counts for nothing".to_owned(),
                ..object.finding(key, error.to_string())
            });
        }
    }
    // Knative ignores what it does not know; a near miss is a slip nevertheless.
    let known: Vec<_> = KEYS.iter().filter_map(Key::config_map_key).collect();
    for key in data.keys().filter(|key| !known.contains(&key.as_str())) {
        if let Some(meant) = nearest(key, known.iter().copied()) {
            findings.list.push(Finding {
                fallback: "it is ignored".to_owned(),
                ..object.finding(key, format!("no such key; did you mean {meant}?"))
            });
        }
    }
    world.defaults_set = data.keys().cloned().collect();
}

fn namespace_object(object: &Object<'_>, world: &mut World, findings: &mut Findings) {
    let annotations = object.strings("/metadata/annotations", findings);
    let problems = namespace_problems(&annotations);
    findings.list.extend(problems.into_iter().map(|problem| object.problem(problem)));
    world.namespaces.insert(object.name.to_owned(), annotations);
}

fn rival(object: &Object<'_>, world: &mut World) {
    let text = |pointer: &str| object.value.pointer(pointer).and_then(Value::as_str);
    let kind = text("/spec/scaleTargetRef/kind").unwrap_or("Deployment");
    if let Some(name) = text("/spec/scaleTargetRef/name").filter(|_| kind == "Deployment") {
        let key = (object.namespace.clone(), name.to_owned());
        world.rivals.insert(key, format!("{} {}", object.kind, object.name));
    }
}

fn deployment(object: &Object<'_>, world: &World, findings: &mut Findings) {
    let annotations = object.strings("/metadata/annotations", findings);
    let template_annotations = object.strings("/spec/template/metadata/annotations", findings);
    let deadline = object.value.pointer("/spec/progressDeadlineSeconds").and_then(Value::as_u64);
    let nothing = BTreeMap::new();
    let resolved = resolve(&Inputs {
        defaults: &world.defaults,
        defaults_set: &world.defaults_set,
        process: &world.process,
        sources: &world.sources,
        namespace: &object.namespace,
        name: object.name,
        namespace_annotations: world.namespaces.get(&object.namespace).unwrap_or(&nothing),
        annotations: &annotations,
        template_annotations: &template_annotations,
        owned_by_knative: false,
        progress_deadline: deadline.map(Duration::from_secs),
    });
    let Some(resolved) = resolved else {
        findings.list.extend(overlooked(object, &annotations, &template_annotations));
        return;
    };
    findings.workloads += 1;
    findings.list.extend(unread_query(object, &resolved, &annotations, &template_annotations));
    let problems = offline(resolved.config.problems, world, &annotations, &template_annotations);
    findings.list.extend(problems.into_iter().map(|problem| object.problem(problem)));
    if resolved.config.consent != Consent::Managed {
        let why = "the class is not kpa.podswell.dev: decisions are shown, nothing is written";
        let code = "ObserveOnly";
        let note = object.finding("autoscaling.knative.dev/class", why.to_owned());
        findings.list.push(Finding { level: Level::Note, code, ..note });
        return;
    }
    if object.value.pointer("/spec/replicas").is_some() {
        let why = "each time that this file is applied, it takes the replicas back".to_owned();
        findings.list.push(Finding {
            level: Level::Note,
            code: "FixedReplicas",
            fallback: "leave the field away; podswell gitops prints how".to_owned(),
            ..object.finding("replicas", why)
        });
    }
    if let Some(rival) = world.rivals.get(&(object.namespace.clone(), object.name.to_owned())) {
        findings.list.push(Finding {
            code: "Rival",
            fallback: "podswell stands back while it is there".to_owned(),
            ..object.finding("", format!("{rival} scales this Deployment, too"))
        });
    }
}

/// A Deployment that podswell does not look at although somebody meant it to.
fn overlooked(
    object: &Object<'_>,
    annotations: &BTreeMap<String, String>,
    template: &BTreeMap<String, String>,
) -> Option<Finding> {
    let mut keys = annotations.keys().chain(template.keys());
    let key = keys.find(|key| key.starts_with(Group::Podswell.prefix()))?;
    let why = "there is no autoscaling.knative.dev annotation beside it".to_owned();
    Some(Finding {
        code: "NotWatched",
        fallback: "podswell does not look at this Deployment".to_owned(),
        ..object.finding(key, why)
    })
}

/// A query that no source among the files asks is read all the same.
fn unread_query(
    object: &Object<'_>,
    resolved: &Resolved,
    annotations: &BTreeMap<String, String>,
    template: &BTreeMap<String, String>,
) -> Option<Finding> {
    let key = keys::QUERY.annotation();
    let text = annotations.get(&key).or_else(|| template.get(&key))?;
    let is_read =
        |problem: &Problem| problem.key == key && problem.code != ProblemCode::QueryNotAllowed;
    if !resolved.wiring.queries.is_empty() || resolved.config.problems.iter().any(is_read) {
        return None;
    }
    let tenant =
        Tenant { label: "namespace", namespace: &object.namespace, deployment: object.name };
    let error = narrow(text, tenant, Duration::ZERO).err()?;
    let code = match error {
        QueryError::Foreign { .. } => ProblemCode::ForeignSeries,
        QueryError::Invalid(_) => ProblemCode::InvalidAnnotation,
    };
    let fallback = "it is not asked".to_owned();
    Some(object.problem(Problem { code, key, why: error.to_string(), fallback }))
}

/// Without a definition of sources among the files, only the cluster knows whether a name exists; without
/// the ConfigMap `podswell`, where queries are allowed.
fn offline(
    mut problems: Vec<Problem>,
    world: &World,
    annotations: &BTreeMap<String, String>,
    template: &BTreeMap<String, String>,
) -> Vec<Problem> {
    let value = |key| annotations.get(key).or_else(|| template.get(key));
    let listed = value("podswell.dev/source")
        .is_some_and(|names| names.split(',').any(|name| name.trim() != "scrape"));
    let measured = value("podswell.dev/measures").is_some_and(|text| text.contains('@'));
    let named = listed || measured;
    if !world.knows_process {
        problems.retain(|problem| problem.code != ProblemCode::QueryNotAllowed);
    }
    if !world.knows_sources && named {
        problems.retain(|problem| {
            !matches!(
                problem.code,
                ProblemCode::UnknownSource
                    | ProblemCode::NoSource
                    | ProblemCode::NoWakePath
                    | ProblemCode::WaitingUnknown
            )
        });
    }
    problems
}
