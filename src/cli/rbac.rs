//! `podswell rbac`: the least rights that an installation needs, as manifests to read and to apply.
//!
//! For all namespaces and all sources it grants what `deploy/base/rbac.yaml` grants; a test holds them
//! equal, so neither can drift.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use clap::{Args, ValueEnum};

use crate::runtime::args::{DEFAULT_NAMESPACE, parse_namespace};

#[derive(Args, Debug)]
pub(super) struct RbacArgs {
    /// Where samples come from; without scrape no address of a pod is needed, but pods are still counted
    #[arg(long, value_enum, value_delimiter = ',', default_value = "scrape,prometheus")]
    sources: Vec<Source>,

    /// Grant the rights in these namespaces only, as Roles for `podswell run --namespaces`; by default
    /// in all, as a `ClusterRole`
    #[arg(long, value_delimiter = ',', value_name = "NAME,..", value_parser = parse_namespace)]
    namespaces: Vec<String>,

    /// The namespace of podswell itself
    #[arg(short, long, default_value = DEFAULT_NAMESPACE, value_name = "NAME", value_parser = parse_namespace)]
    namespace: String,

    /// The service account that gets the rights
    #[arg(long, default_value = "podswell", value_name = "NAME", value_parser = parse_namespace)]
    service_account: String,

    /// Leave the rights to write away: podswell then decides and explains only
    #[arg(long)]
    observe_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Source {
    /// The pods' own pages
    Scrape,
    /// Prometheus servers
    Prometheus,
}

/// Verbs on some resources of one API group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) group: &'static str,
    pub(super) resources: &'static [&'static str],
    /// Only objects of these names; all if empty.
    pub(super) names: &'static [&'static str],
    pub(super) verbs: &'static [&'static str],
    /// What does not work without it.
    pub(super) purpose: &'static str,
    pub(super) scope: Scope,
}

/// Where a rule has to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Wherever workloads are.
    Workloads,
    /// Of namespaces themselves: for the whole cluster, or `get` of its own one in each.
    Namespaces,
    /// In podswell's own namespace.
    Own,
}

const READ: &[&str] = &["get", "list", "watch"];

/// Everything that podswell may do.
pub(super) const RULES: [Rule; 10] = [
    Rule {
        group: "apps",
        resources: &["deployments", "replicasets"],
        names: &[],
        verbs: READ,
        purpose: "find workloads and the owners of pods",
        scope: Scope::Workloads,
    },
    Rule {
        group: "",
        resources: &["pods"],
        names: &[],
        verbs: READ,
        purpose: "count ready pods and scrape them",
        scope: Scope::Workloads,
    },
    Rule {
        group: "",
        resources: &["namespaces"],
        names: &[],
        verbs: READ,
        purpose: "read podswell.dev/mode of namespaces",
        scope: Scope::Namespaces,
    },
    Rule {
        group: "autoscaling",
        resources: &["horizontalpodautoscalers"],
        names: &[],
        verbs: READ,
        purpose: "notice rivals",
        scope: Scope::Workloads,
    },
    Rule {
        group: "keda.sh",
        resources: &["scaledobjects"],
        names: &[],
        verbs: READ,
        purpose: "notice rivals of KEDA, where there is KEDA",
        scope: Scope::Workloads,
    },
    Rule {
        group: "apps",
        resources: &["deployments/scale"],
        names: &[],
        verbs: &["get", "patch"],
        purpose: "write replicas",
        scope: Scope::Workloads,
    },
    Rule {
        group: "events.k8s.io",
        resources: &["events"],
        names: &[],
        verbs: &["create", "patch"],
        purpose: "tell on the Deployment what was done",
        scope: Scope::Workloads,
    },
    Rule {
        group: "",
        resources: &["configmaps"],
        names: &["config-autoscaler", "podswell", "podswell-sources"],
        verbs: READ,
        purpose: "read the configuration",
        scope: Scope::Own,
    },
    Rule {
        group: "coordination.k8s.io",
        resources: &["leases"],
        names: &[],
        verbs: &["create"],
        purpose: "agree on who writes",
        scope: Scope::Own,
    },
    Rule {
        group: "coordination.k8s.io",
        resources: &["leases"],
        names: &["podswell"],
        verbs: &["get", "update"],
        purpose: "agree on who writes",
        scope: Scope::Own,
    },
];

/// Which rules stay.
fn rules(args: &RbacArgs, scope: Scope) -> impl Iterator<Item = &'static Rule> {
    let observe_only = args.observe_only;
    RULES.iter().filter(move |rule| {
        let writes = rule.resources.contains(&"deployments/scale");
        rule.scope == scope && !(observe_only && writes)
    })
}

pub(super) fn manifests(args: &RbacArgs) -> String {
    let own = args.namespace.as_str();
    let workloads: Vec<_> = rules(args, Scope::Workloads).copied().collect();
    let namespaces: Vec<_> = rules(args, Scope::Namespaces).copied().collect();
    let mut text = header(args);
    let mut parts = Vec::new();
    if args.namespaces.is_empty() {
        let everywhere = [workloads, namespaces].concat();
        parts.push(role("ClusterRole", "podswell", None, &everywhere, args));
        parts.push(binding("ClusterRole", "podswell", None, args));
    } else {
        let own = namespaces.into_iter().map(within_one);
        let granted: Vec<_> = workloads.into_iter().chain(own).collect();
        for namespace in args.namespaces.iter().collect::<BTreeSet<_>>() {
            parts.push(role("Role", "podswell-workloads", Some(namespace), &granted, args));
            parts.push(binding("Role", "podswell-workloads", Some(namespace), args));
        }
    }
    let rules = rules(args, Scope::Own).copied().collect::<Vec<_>>();
    parts.push(role("Role", "podswell", Some(own), &rules, args));
    parts.push(binding("Role", "podswell", Some(own), args));
    text.push_str(&parts.join("---\n"));
    text
}

/// A rule on namespaces themselves, as a Role in one of them can give it: a list has no namespace.
pub(super) fn within_one(rule: Rule) -> Rule {
    Rule { verbs: &["get"], ..rule }
}

fn header(args: &RbacArgs) -> String {
    let mut text = String::from(
        "# What podswell may do, and no more. It reads no Secret and has no wildcard: credentials of\n\
         # sources are files that its pod mounts.\n",
    );
    if !args.sources.contains(&Source::Scrape) {
        text.push_str("# Pods are read even without scraping: decisions count the ready ones.\n");
    }
    if args.sources.contains(&Source::Prometheus) {
        text.push_str(
            "# Prometheus needs no right here; its server is named in podswell-sources.\n",
        );
    }
    text
}

/// The metadata that all these objects share.
fn metadata(name: &str, namespace: Option<&str>) -> String {
    let namespace = namespace.map(|name| format!("  namespace: {name}\n")).unwrap_or_default();
    format!(
        "metadata:\n  name: {name}\n{namespace}  labels:\n    app.kubernetes.io/name: podswell\n    \
         app.kubernetes.io/part-of: podswell\n"
    )
}

fn role(
    kind: &str,
    name: &str,
    namespace: Option<&str>,
    rules: &[Rule],
    args: &RbacArgs,
) -> String {
    let mut text = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\n{}rules:\n",
        metadata(name, namespace)
    );
    let list = |items: &[&str]| {
        items.iter().map(|item| format!("{item:?}")).collect::<Vec<_>>().join(", ")
    };
    for rule in rules {
        let is_scraped = args.sources.contains(&Source::Scrape);
        let purpose = match rule.purpose {
            "count ready pods and scrape them" if !is_scraped => "count ready pods",
            purpose => purpose,
        };
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "  # To {purpose}.");
        let _ = writeln!(text, "  - apiGroups: [{}]", list(&[rule.group]));
        let _ = writeln!(text, "    resources: [{}]", list(rule.resources));
        if !rule.names.is_empty() {
            let _ = writeln!(text, "    resourceNames: [{}]", list(rule.names));
        }
        let _ = writeln!(text, "    verbs: [{}]", list(rule.verbs));
    }
    text
}

fn binding(kind: &str, name: &str, namespace: Option<&str>, args: &RbacArgs) -> String {
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}Binding\n{}roleRef:\n  \
         apiGroup: rbac.authorization.k8s.io\n  kind: {kind}\n  name: {name}\nsubjects:\n  \
         - kind: ServiceAccount\n    name: {}\n    namespace: {}\n",
        metadata(name, namespace),
        args.service_account,
        args.namespace,
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::Value;

    use super::*;

    #[derive(Parser)]
    struct Wrapper {
        #[command(flatten)]
        args: RbacArgs,
    }

    fn printed(more: &[&str]) -> String {
        manifests(&Wrapper::try_parse_from([&["rbac"], more].concat()).unwrap().args)
    }

    fn objects(text: &str) -> Vec<Value> {
        let parts = text.split("---\n").filter(|part| part.contains("kind:"));
        parts.map(|part| serde_saphyr::from_str(part).unwrap()).collect()
    }

    /// Every granted group, resource, name and verb, one a line, with the kind of the role.
    fn grants(text: &str) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for object in objects(text).iter().filter(|object| object.get("rules").is_some()) {
            let place = format!("{} {}", object["kind"], object["metadata"]["namespace"]);
            for rule in object["rules"].as_array().unwrap() {
                for resource in rule["resources"].as_array().unwrap() {
                    for verb in rule["verbs"].as_array().unwrap() {
                        let (groups, names) = (&rule["apiGroups"], &rule["resourceNames"]);
                        all.insert(format!("{place} {groups} {resource} {names} {verb}"));
                    }
                }
            }
        }
        all
    }

    #[test]
    fn by_default_it_is_what_the_installation_grants() {
        let deployed = include_str!("../../deploy/base/rbac.yaml");
        assert_eq!(grants(&printed(&[])), grants(deployed));
        let bindings = |text: &str| {
            let all = objects(text).into_iter().filter(|object| object.get("subjects").is_some());
            all.map(|object| (object["roleRef"].clone(), object["subjects"].clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(bindings(&printed(&[])), bindings(deployed));
    }

    #[test]
    fn named_namespaces_get_roles() {
        let text = printed(&["--namespaces", "shop,blog", "--sources", "prometheus"]);
        insta::assert_snapshot!("namespaces", text);
        assert!(!text.contains("kind: ClusterRole"), "nothing is granted for the whole cluster");
    }

    #[test]
    fn neither_secrets_nor_wildcards() {
        for more in [&[][..], &["--namespaces", "a"], &["--observe-only"]] {
            for grant in grants(&printed(more)) {
                assert!(!grant.contains("secrets") && !grant.contains('*'), "{grant}");
            }
        }
        assert!(!printed(&["--observe-only"]).contains("deployments/scale"));
        assert!(printed(&["--service-account", "x"]).contains("    name: x\n"));
    }
}
