//! The questions to the cluster and its sources. Nothing is written but access reviews, which the API
//! server answers and forgets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use http::Request;
use http_body_util::{BodyExt, Collected, Limited};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
    SubjectAccessReviewSpec,
};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, PostParams};
use kube::client::Body;
use kube::core::DynamicObject;
use kube::{Api, Client};

use super::CheckArgs;
use super::report::{Check, CheckId};
use crate::cli::rbac::{RULES, Rule, Scope, within_one};
use crate::core::defaults::ClusterDefaults;
use crate::core::duration::GoDuration;
use crate::core::explain::is_remark;
use crate::core::policy::Consent;
use crate::core::resolve::{Inputs, ProcessSettings, resolve};
use crate::core::source::{SourceFacts, SourceName};
use crate::k8s::{FIELD_MANAGER, facts, scaled_object};
use crate::runtime::clock::{Clock, SystemClock, instant};
use crate::runtime::config_reader::process_settings;
use crate::sources::definition::{SourceDefinition, parse_all};
use crate::sources::probe;

/// The oldest minor version of Kubernetes 1 that serves all that is used (autoscaling/v2).
const OLDEST_MINOR: u32 = 23;
/// A skew below this is not worth a word: the Date header counts whole seconds.
const SKEW: SignedDuration = SignedDuration::from_secs(2);
/// The most bytes of an answer to `/version`.
const MAX_VERSION: usize = 64 * 1024;
/// How many objects a page of a list holds.
const PAGE: u32 = 500;
/// How many names a line shows.
const SHOWN: usize = 10;
/// What applying `podswell manifests` creates.
const INSTALLED: [(&str, &str); 8] = [
    ("", "namespaces"),
    ("", "serviceaccounts"),
    ("", "configmaps"),
    ("", "services"),
    ("apps", "deployments"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("rbac.authorization.k8s.io", "rolebindings"),
];

/// The state of one run: what early checks learn, late ones use.
pub(super) struct Inspection<'a> {
    pub(super) client: Client,
    pub(super) args: &'a CheckArgs,
    limit: Duration,
    clock: SystemClock,
    defaults: ClusterDefaults,
    defaults_set: BTreeSet<String>,
    process: ProcessSettings,
    definitions: Vec<SourceDefinition>,
}

/// One Deployment that podswell looks at.
struct Workload {
    name: String,
    managed: bool,
    owners: Vec<String>,
    problems: Vec<String>,
}

impl<'a> Inspection<'a> {
    pub(super) fn new(client: Client, args: &'a CheckArgs, limit: Duration) -> Self {
        Self {
            client,
            args,
            limit,
            clock: SystemClock::new(),
            defaults: ClusterDefaults::default(),
            defaults_set: BTreeSet::new(),
            process: ProcessSettings::default(),
            definitions: Vec::new(),
        }
    }

    /// Waits for an answer, but not for ever.
    pub(super) async fn answer<T>(
        &self,
        asked: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, String> {
        match tokio::time::timeout(self.limit, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) => {
                Err(format!("{}: {}", status.code, status.message))
            }
            Ok(Err(error)) => Err(anyhow::Error::new(error).to_string()),
            Err(_) => Err(format!("no answer within {} s", self.limit.as_secs())),
        }
    }

    /// Reachability, version and clock, from one request.
    pub(super) async fn api(&self) -> Vec<Check> {
        let asked = async {
            let request = Request::get("/version").body(Body::empty());
            let request = request.map_err(kube::Error::HttpError)?;
            let began = instant();
            let response = self.client.send(request).await?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, MAX_VERSION).collect().await;
            let body = body.map(Collected::to_bytes).unwrap_or_default();
            Ok((parts, body, began.elapsed()))
        };
        let reachable = "the API server answers";
        let (parts, body, took) = match self.answer(asked).await {
            Ok(answer) => answer,
            Err(why) => return vec![Check::error(CheckId::ApiReachable, reachable, why)],
        };
        if !parts.status.is_success() {
            let why = format!("it answers {}", parts.status);
            return vec![Check::error(CheckId::ApiReachable, reachable, why)];
        }
        let date = parts.headers.get(http::header::DATE).and_then(|date| date.to_str().ok());
        let millis = took.as_millis();
        vec![
            Check::good(CheckId::ApiReachable, format!("{reachable} ({millis} ms)")),
            version(&body),
            skew(date, self.clock.wall(), took),
        ]
    }

    /// Whether the caller may create what an installation consists of.
    pub(super) async fn installer(&self) -> Vec<Check> {
        let reviews = INSTALLED.map(|(group, resource)| async move {
            let is_cluster_wide =
                matches!(resource, "namespaces" | "clusterroles" | "clusterrolebindings");
            let own = Some(self.args.namespace.clone()).filter(|_| !is_cluster_wide);
            let what = format!("create {}", full_name(group, resource));
            match self.may(attributes(group, resource, "create", own, None)).await {
                Ok(true) => Check::good(CheckId::MayInstall, format!("you may {what}")),
                Ok(false) => {
                    Check::error(CheckId::MayInstall, format!("you may {what}"), "you may not")
                }
                Err(why) => Check::warning(CheckId::MayInstall, format!("you may {what}"), why),
            }
        });
        join_all(reviews).await
    }

    /// Every verb of every rule that podswell has to have.
    pub(super) async fn rights(&self) -> Vec<Check> {
        let mut wanted = Vec::new();
        for rule in RULES {
            for place in self.places(rule.scope) {
                let of_namespace = rule.scope == Scope::Namespaces && place.is_some();
                let rule = if of_namespace { within_one(rule) } else { rule };
                wanted
                    .extend(rule.resources.iter().map(|resource| (rule, *resource, place.clone())));
            }
        }
        join_all(
            wanted.into_iter().map(|(rule, resource, place)| self.right(rule, resource, place)),
        )
        .await
    }

    /// The namespaces in which a rule has to hold; `None` is the whole cluster.
    fn places(&self, scope: Scope) -> Vec<Option<String>> {
        match scope {
            Scope::Own => vec![Some(self.args.namespace.clone())],
            Scope::Workloads | Scope::Namespaces if !self.args.namespaces.is_empty() => {
                self.args.namespaces.iter().cloned().map(Some).collect()
            }
            Scope::Workloads | Scope::Namespaces => vec![None],
        }
    }

    async fn right(&self, rule: Rule, resource: &str, place: Option<String>) -> Check {
        let names: Vec<Option<&str>> = if rule.names.is_empty() {
            vec![None]
        } else {
            rule.names.iter().copied().map(Some).collect()
        };
        let asked = rule.verbs.iter().flat_map(|verb| names.iter().map(move |name| (*verb, *name)));
        let answers = asked.map(|(verb, name)| {
            let place = place.clone();
            async move {
                let named = name.map(|name| format!(" {name}")).unwrap_or_default();
                let what = format!("{verb}{named}");
                (what, self.may(attributes(rule.group, resource, verb, place, name)).await)
            }
        });
        let (mut refused, mut unknown) = (Vec::new(), None);
        for (what, answer) in join_all(answers).await {
            match answer {
                Ok(true) => {}
                Ok(false) => refused.push(what),
                Err(why) => unknown = Some(why),
            }
        }
        let description = format!(
            "may {} {} in {}, to {}",
            rule.verbs.join(", "),
            full_name(rule.group, resource),
            place.as_deref().unwrap_or("the cluster"),
            rule.purpose
        );
        if let Some(why) = unknown {
            return Check::warning(CheckId::Rights, description, why);
        }
        if refused.is_empty() {
            return Check::good(CheckId::Rights, description);
        }
        Check::error(CheckId::Rights, description, format!("refused: {}", refused.join(", ")))
    }

    /// One access review, for the caller or for the service account that was named.
    async fn may(&self, attributes: ResourceAttributes) -> Result<bool, String> {
        let params = PostParams::default();
        let status = if let Some(account) = &self.args.service_account {
            let own = &self.args.namespace;
            let groups = ["system:authenticated", "system:serviceaccounts"].map(str::to_owned);
            let spec = SubjectAccessReviewSpec {
                resource_attributes: Some(attributes),
                user: Some(format!("system:serviceaccount:{own}:{account}")),
                groups: Some([&groups[..], &[format!("system:serviceaccounts:{own}")]].concat()),
                ..SubjectAccessReviewSpec::default()
            };
            let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
            let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
            self.answer(api.create(&params, &review)).await?.status
        } else {
            let spec = SelfSubjectAccessReviewSpec {
                resource_attributes: Some(attributes),
                ..SelfSubjectAccessReviewSpec::default()
            };
            let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
            let api: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
            self.answer(api.create(&params, &review)).await?.status
        };
        Ok(status.is_some_and(|status| status.allowed))
    }

    /// Whether the controller runs.
    pub(super) async fn controller(&self) -> Vec<Check> {
        let namespace = &self.args.namespace;
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
        let description = format!("the Deployment podswell in {namespace} is ready");
        let check = match self.answer(api.get_opt("podswell")).await {
            Err(why) => Check::warning(CheckId::Controller, description, why),
            Ok(None) => Check::warning(CheckId::Controller, description, "there is none"),
            Ok(Some(found)) => {
                let ready = found.status.and_then(|status| status.ready_replicas).unwrap_or(0);
                if ready > 0 {
                    Check::good(CheckId::Controller, description)
                } else {
                    Check::error(CheckId::Controller, description, "no pod of it is ready")
                }
            }
        };
        vec![check]
    }

    /// The three ConfigMaps, by the code that reads them in the controller.
    pub(super) async fn configuration(&mut self) -> Vec<Check> {
        let mut checks = Vec::new();
        for name in ["config-autoscaler", "podswell", "podswell-sources"] {
            let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.args.namespace);
            let description = format!("the ConfigMap {name} is valid");
            match self.answer(api.get_opt(name)).await {
                Err(why) => checks.push(Check::warning(CheckId::ConfigMaps, description, why)),
                Ok(None) => {
                    let text = format!("there is no ConfigMap {name}: defaults apply");
                    checks.push(Check::good(CheckId::ConfigMaps, text));
                }
                Ok(Some(map)) => {
                    let mut data = map.data.unwrap_or_default();
                    data.remove("_example");
                    let wrong = self.take(name, &data);
                    if wrong.is_empty() {
                        checks.push(Check::good(CheckId::ConfigMaps, description.clone()));
                    }
                    let error = |why| Check::error(CheckId::ConfigMaps, description.clone(), why);
                    checks.extend(wrong.into_iter().map(error));
                }
            }
        }
        checks
    }

    /// Takes a ConfigMap over and says what is wrong with it.
    fn take(&mut self, name: &str, data: &BTreeMap<String, String>) -> Vec<String> {
        match name {
            "config-autoscaler" => match ClusterDefaults::parse(data) {
                Ok(defaults) => {
                    self.defaults = defaults;
                    self.defaults_set = data.keys().cloned().collect();
                }
                Err(why) => return vec![why.to_string()],
            },
            "podswell" => match process_settings(&ProcessSettings::default(), data) {
                Ok(settings) => self.process = settings,
                Err(why) => return vec![why],
            },
            _ => {
                let mut wrong = Vec::new();
                for (source, outcome) in parse_all(data) {
                    match outcome {
                        Ok(definition) => self.definitions.push(definition),
                        Err(why) => wrong.push(format!("{source}: {why}")),
                    }
                }
                return wrong;
            }
        }
        Vec::new()
    }

    /// Each source, asked once.
    pub(super) async fn sources(&self) -> Vec<Check> {
        let all = self.definitions.iter().map(|definition| async move {
            let dir = self.args.credentials_dir.clone();
            let probed = probe(definition, dir, self.clock.wall()).await;
            source_checks(definition, probed)
        });
        join_all(all).await.concat()
    }

    /// What bears on single workloads: their problems, other autoscalers, owners of their replicas.
    pub(super) async fn workloads(&self) -> Vec<Check> {
        let found = match self.list_workloads().await {
            Ok(found) => found,
            Err(why) => {
                let description = "Deployments can be listed";
                return vec![Check::warning(CheckId::Workloads, description, why)];
            }
        };
        let managed: Vec<_> = found.iter().filter(|one| one.managed).collect();
        let description =
            format!("{} workloads, {} of them scaled by podswell", found.len(), managed.len());
        let wrong = found.iter().filter(|one| !one.problems.is_empty());
        let wrong = wrong.map(|one| format!("{}: {}", one.name, one.problems.join("; ")));
        let mut checks = vec![verdict(CheckId::Workloads, description, wrong.collect())];
        let description = "no other autoscaler scales a Deployment that podswell scales";
        checks.push(match self.rivals(&managed).await {
            Ok(rivals) => verdict(CheckId::Rivals, description.to_owned(), rivals),
            Err(why) => Check::warning(CheckId::Rivals, description, why),
        });
        let owned = managed.iter().filter(|one| !one.owners.is_empty());
        let owned = owned.map(|one| format!("{}: {}", one.name, one.owners.join(", ")));
        let description = "no other manager owns spec.replicas".to_owned();
        checks.push(verdict(CheckId::FieldOwners, description, owned.collect()));
        checks
    }

    async fn list_workloads(&self) -> Result<Vec<Workload>, String> {
        let facts = self.definitions.iter().map(SourceDefinition::facts);
        let sources: BTreeMap<SourceName, SourceFacts> =
            facts.map(|facts| (facts.name.clone(), facts)).collect();
        let mut found = Vec::new();
        for place in self.places(Scope::Workloads) {
            let api: Api<Deployment> = match &place {
                Some(namespace) => Api::namespaced(self.client.clone(), namespace),
                None => Api::all(self.client.clone()),
            };
            let mut params = ListParams::default().limit(PAGE);
            loop {
                let page = self.answer(api.list(&params)).await?;
                found.extend(page.items.iter().filter_map(|one| self.workload(one, &sources)));
                params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
                if params.continue_token.is_none() {
                    break;
                }
            }
        }
        Ok(found)
    }

    fn workload(
        &self,
        object: &Deployment,
        sources: &BTreeMap<SourceName, SourceFacts>,
    ) -> Option<Workload> {
        let nothing = BTreeMap::new();
        let metadata = &object.metadata;
        let spec = object.spec.as_ref();
        let template = spec.and_then(|spec| spec.template.metadata.as_ref());
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let resolved = resolve(&Inputs {
            defaults: &self.defaults,
            defaults_set: &self.defaults_set,
            process: &self.process,
            sources,
            namespace,
            name: metadata.name.as_deref().unwrap_or_default(),
            namespace_annotations: &nothing,
            annotations: metadata.annotations.as_ref().unwrap_or(&nothing),
            template_annotations: template
                .and_then(|template| template.annotations.as_ref())
                .unwrap_or(&nothing),
            owned_by_knative: metadata.owner_references.iter().flatten().any(|owner| {
                owner
                    .api_version
                    .split('/')
                    .next()
                    .is_some_and(|group| group.ends_with("knative.dev"))
            }),
            progress_deadline: None,
        })?;
        let problems = resolved.config.problems.iter().filter(|problem| !is_remark(problem.code));
        Some(Workload {
            name: format!("{namespace}/{}", metadata.name.as_deref().unwrap_or_default()),
            managed: resolved.config.consent == Consent::Managed,
            owners: owners(object),
            problems: problems.map(ToString::to_string).collect(),
        })
    }

    /// Every other autoscaler of these workloads; a `ScaledObject` and the HPA that it made are one.
    async fn rivals(&self, managed: &[&Workload]) -> Result<Vec<String>, String> {
        let mut rivals = BTreeSet::new();
        for place in self.places(Scope::Workloads) {
            let api: Api<HorizontalPodAutoscaler> = match &place {
                Some(namespace) => Api::namespaced(self.client.clone(), namespace),
                None => Api::all(self.client.clone()),
            };
            for hpa in self.answer(api.list(&ListParams::default())).await? {
                let Some(spec) = hpa.spec.filter(|spec| spec.scale_target_ref.kind == "Deployment")
                else {
                    continue;
                };
                let namespace = hpa.metadata.namespace.unwrap_or_default();
                let target = format!("{namespace}/{}", spec.scale_target_ref.name);
                let owners = hpa.metadata.owner_references.unwrap_or_default();
                let maker = owners
                    .iter()
                    .find(|owner| scaled_object::is_kind(&owner.api_version, &owner.kind));
                let name = hpa.metadata.name.unwrap_or_default();
                let rival = maker.map_or_else(
                    || format!("HorizontalPodAutoscaler {name}"),
                    |owner| scaled_object_named(&owner.name),
                );
                rivals.insert((target, rival));
            }
            rivals.extend(self.scaled_objects(place.as_deref()).await?);
        }
        let rivals = rivals.into_iter();
        let ours = rivals.filter(|(target, _)| managed.iter().any(|one| one.name == *target));
        Ok(ours.map(|(target, rival)| format!("{target}: {rival}")).collect())
    }

    /// The targets of `ScaledObjects`; none in a cluster that does not know them.
    async fn scaled_objects(&self, place: Option<&str>) -> Result<Vec<(String, String)>, String> {
        let resource = scaled_object::resource();
        let api: Api<DynamicObject> = match place {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let asked = async {
            match api.list(&ListParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
                answer => answer.map(|list| list.items),
            }
        };
        let objects = self.answer(asked).await?.into_iter().filter_map(scaled_object::facts);
        Ok(objects
            .filter(|object| !object.paused)
            .map(|object| {
                let target = format!("{}/{}", object.target.namespace, object.target.name);
                (target, scaled_object_named(&object.id.name))
            })
            .collect())
    }
}

fn scaled_object_named(name: &str) -> String {
    format!("ScaledObject {name}")
}

/// A warning that shows the first of many lines, or success.
fn verdict(id: CheckId, description: String, wrong: Vec<String>) -> Check {
    if wrong.is_empty() {
        return Check::good(id, description);
    }
    let more = wrong.len().saturating_sub(SHOWN);
    let shown = wrong.into_iter().take(SHOWN).collect::<Vec<_>>().join(" | ");
    let rest = if more > 0 { format!(" | and {more} more") } else { String::new() };
    Check::warning(id, description, shown + &rest)
}

fn full_name(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

fn attributes(
    group: &str,
    resource: &str,
    verb: &str,
    namespace: Option<String>,
    name: Option<&str>,
) -> ResourceAttributes {
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (resource, None),
    };
    ResourceAttributes {
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource,
        verb: Some(verb.to_owned()),
        namespace,
        name: name.map(str::to_owned),
        ..ResourceAttributes::default()
    }
}

fn version(body: &[u8]) -> Check {
    let document: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let text = |key: &str| {
        let value = document.as_ref().and_then(|document| document.get(key));
        value.and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
    };
    let digits = |text: String| {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text.get(..end).and_then(|text| text.parse::<u32>().ok())
    };
    let description = format!("the API server is {}", text("gitVersion"));
    match (digits(text("major")), digits(text("minor"))) {
        (Some(1), Some(minor)) if minor >= OLDEST_MINOR => {
            Check::good(CheckId::ApiVersion, description)
        }
        (Some(2..), Some(_)) => Check::good(CheckId::ApiVersion, description),
        (Some(_), Some(_)) => Check::error(CheckId::ApiVersion, description, "that is too old"),
        _ => Check::warning(CheckId::ApiVersion, "the version is known", "it cannot be read"),
    }
}

/// Compares our clock with the `Date` header of an answer that took so long.
fn skew(date: Option<&str>, wall: Timestamp, took: Duration) -> Check {
    let description = "the clocks of this machine and of the API server agree";
    let stamp =
        date.and_then(|date| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok());
    let Some(stamp) = stamp else {
        return Check::warning(CheckId::ClockSkew, description, "the answer has no usable Date");
    };
    let apart = wall.duration_since(stamp);
    let doubt = SKEW + SignedDuration::try_from(took).unwrap_or(SKEW);
    if apart.abs() <= doubt {
        return Check::good(CheckId::ClockSkew, description);
    }
    let word = if apart.is_positive() { "ahead of" } else { "behind" };
    let error = format!("this machine is {} s {word} the API server", apart.abs().as_secs());
    Check::warning(CheckId::ClockSkew, description, error)
}

fn source_checks(
    definition: &SourceDefinition,
    probed: Result<crate::sources::Probe, crate::core::event::SourceFault>,
) -> Vec<Check> {
    let name = &definition.name;
    let answers = format!("the source {name} answers");
    let seen = match probed {
        Ok(seen) => seen,
        Err(fault) => return vec![Check::error(CheckId::SourceAnswers, answers, fault.as_str())],
    };
    let mut checks = vec![if seen.series == 0 {
        Check::warning(CheckId::SourceAnswers, answers, "it has no series now")
    } else if seen.nameless == seen.series && definition.matching.selectable.is_empty() {
        Check::error(CheckId::SourceAnswers, answers, "no series has the labels of match")
    } else {
        Check::good(CheckId::SourceAnswers, format!("{answers} with {} series", seen.series))
    }];
    let go = |span: Duration| span.as_secs_f64();
    if let Some(age) = seen.age {
        let limit = definition.stale_after;
        let description = format!("the newest sample of {name} is {:.1} s old", go(age));
        checks.push(if age > limit {
            let error = format!("staleAfter is {}", GoDuration::from_std(limit));
            Check::error(CheckId::SourceAge, description, error)
        } else {
            Check::good(CheckId::SourceAge, description)
        });
    }
    if let Some(spacing) = seen.spacing {
        let interval = definition.interval;
        let description = format!("samples of {name} are {:.1} s apart", go(spacing));
        // Scrapes jitter, and one that was missed stretches the mean.
        let is_as_said = spacing.mul_f64(0.7) <= interval && interval.mul_f64(0.7) <= spacing;
        checks.push(if is_as_said {
            Check::good(CheckId::SourceFineness, description)
        } else {
            let error = format!("the definition says interval: {} s", go(interval));
            Check::warning(CheckId::SourceFineness, description, error)
        });
    }
    checks
}

/// The managers other than podswell that own `spec.replicas`. Writers of the scale subresource are people
/// and autoscalers, who do not repeat themselves as manifests do.
fn owners(object: &Deployment) -> Vec<String> {
    let owning = facts::owners_of_replicas(&object.metadata)
        .filter(|entry| entry.subresource.as_deref() != Some("scale"));
    let names: BTreeSet<_> = owning.filter_map(|entry| entry.manager.clone()).collect();
    names.into_iter().filter(|name| name != FIELD_MANAGER).collect()
}
