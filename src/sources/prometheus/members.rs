//! Which series belong to which workload, as far as one source is concerned.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::roster::{PodFacts, Roster};
use crate::core::source::{SourceName, Wiring};
use crate::core::target::TargetId;
use crate::sources::definition::{MatchBy, Matching};

/// One workload that uses the source.
#[derive(Clone, Debug)]
#[expect(clippy::rc_buffer, reason = "the roster's own list")]
pub(super) struct Member {
    pub(super) target: TargetId,
    pub(super) wiring: Arc<Wiring>,
    pub(super) pods: Arc<Vec<PodFacts>>,
}

/// Whose a series is: the index of a member and, where series belong to pods, which pod of it.
pub(super) type Owner = (usize, Option<usize>);

/// Those that share a namespace and a name: a workload has a member for each of its triggers.
type ByName<T> = BTreeMap<Arc<str>, BTreeMap<Arc<str>, Vec<T>>>;

/// All workloads that use the source.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// In order of their targets.
    pub(super) list: Vec<Member>,
    by_pod: ByName<(usize, usize)>,
    by_name: ByName<usize>,
    /// By the first label that a workload chooses, and its value.
    by_choice: BTreeMap<(usize, Box<str>), Vec<usize>>,
}

impl Members {
    /// Reads the roster once.
    pub(super) fn of(roster: &Roster, source: &SourceName, matching: &Matching) -> Self {
        let list = roster
            .iter()
            .filter(|(_, enrolled)| enrolled.wiring.sources.contains(source))
            .map(|(target, enrolled)| Member {
                target: target.clone(),
                wiring: enrolled.wiring.clone(),
                pods: enrolled.pods.clone(),
            })
            .collect();
        let mut members = Self { list, ..Self::default() };
        members.index(matching);
        members
    }

    fn index(&mut self, matching: &Matching) {
        for (at, member) in self.list.iter().enumerate() {
            let namespace = &member.target.namespace;
            let mut choice = choice_of(member, matching).peekable();
            match &matching.by {
                MatchBy::Pod(_) => {
                    let pods = self.by_pod.entry(namespace.clone()).or_default();
                    for (pod, facts) in member.pods.iter().enumerate() {
                        pods.entry(facts.name.clone()).or_default().push((at, pod));
                    }
                }
                MatchBy::Workload(_) if choice.peek().is_none() => {
                    let names = self.by_name.entry(namespace.clone()).or_default();
                    names.entry(member.target.name.clone()).or_default().push(at);
                }
                MatchBy::Asker => {}
                MatchBy::Workload(_) | MatchBy::Selected => {
                    if let Some((Some(label), value)) = choice.next() {
                        self.by_choice.entry((label, Box::from(value))).or_default().push(at);
                    }
                }
            }
        }
    }

    /// Fills `owners` with those whose series has these `labels`, which are in the order of
    /// [`wanted_labels`].
    pub(super) fn owners(&self, matching: &Matching, labels: &[Box<str>], owners: &mut Vec<Owner>) {
        owners.clear();
        let label = |at: usize| labels.get(at).map(AsRef::as_ref).unwrap_or_default();
        let (namespace, name) = (label(0), label(1));
        let selected = labels.get(2..).unwrap_or_default();
        if matches!(matching.by, MatchBy::Pod(_)) {
            let all = self.by_pod.get(namespace).and_then(|pods| pods.get(name));
            let ours = all.into_iter().flatten();
            let ours = ours.filter(|(at, _)| self.chooses(*at, matching, selected));
            owners.extend(ours.map(|(at, pod)| (*at, Some(*pod))));
            return;
        }
        let named = self.by_name.get(namespace).and_then(|names| names.get(name));
        owners.extend(named.into_iter().flatten().map(|at| (*at, None)));
        for (at, value) in selected.iter().enumerate().filter(|(_, value)| !value.is_empty()) {
            let Some(choosers) = self.by_choice.get(&(at, value.clone())) else { continue };
            let ours = choosers.iter().filter(|at| {
                let inside = matching.namespace.is_none()
                    || self.list.get(**at).is_some_and(|one| *one.target.namespace == *namespace);
                inside && self.chooses(**at, matching, selected)
            });
            owners.extend(ours.map(|at| (*at, None)));
        }
    }

    /// Whether the series has every value that the workload chose here.
    fn chooses(&self, at: usize, matching: &Matching, selected: &[Box<str>]) -> bool {
        let Some(member) = self.list.get(at) else { return false };
        choice_of(member, matching).all(|(label, value)| {
            let found = label.and_then(|label| selected.get(label));
            found.is_some_and(|found| **found == *value)
        })
    }
}

/// The values that a workload chooses, by the position of their labels among those that the administrator
/// lists. A label that is not listed is never equal to anything, unless it is meant for another source of
/// the workload.
fn choice_of<'a>(
    member: &'a Member,
    matching: &'a Matching,
) -> impl Iterator<Item = (Option<usize>, &'a str)> {
    let ours = |label: &Option<usize>| label.is_some() || !member.wiring.match_is_shared;
    member.wiring.source_match.iter().filter_map(move |(label, value)| {
        let label = matching.selectable.iter().position(|known| known == label);
        ours(&label).then_some((label, value.as_str()))
    })
}

/// The labels that decide whose a series is: namespace, workload or pod, then the selectable ones. One
/// that does not exist is empty, and no series has it.
pub(super) fn wanted_labels(matching: &Matching) -> Vec<String> {
    let owner = match &matching.by {
        MatchBy::Workload(label) | MatchBy::Pod(label) => label.clone(),
        MatchBy::Selected | MatchBy::Asker => String::new(),
    };
    let mut labels = vec![matching.namespace.clone().unwrap_or_default(), owner];
    labels.extend(matching.selectable.iter().cloned());
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::roster::Enrolled;

    fn matching(namespace: Option<&str>, by: MatchBy) -> Matching {
        let selectable = vec!["queue".into(), "zone".into()];
        Matching { namespace: namespace.map(Into::into), by, selectable }
    }

    /// Namespace, name, and the labels that it chooses.
    type Target<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

    fn roster(targets: &[Target<'_>]) -> Roster {
        let mut roster = Roster::default();
        for (namespace, name, choice) in targets {
            let pods = (0..2).map(|at| PodFacts {
                name: format!("{name}-{at}").into(),
                ip: None,
                ready: true,
                terminating: false,
                started_at: None,
                unready_since: None,
            });
            let wiring = Wiring {
                sources: vec!["api".into()],
                source_match: choice
                    .iter()
                    .map(|(label, value)| ((*label).into(), (*value).into()))
                    .collect(),
                match_is_shared: name.starts_with("shared"),
                ..Wiring::default()
            };
            let enrolled =
                Enrolled { wiring: Arc::new(wiring), replicas: 2, pods: Arc::new(pods.collect()) };
            roster.enrol(&TargetId::deployment(namespace, name), enrolled);
        }
        roster
    }

    /// The names of the owners of a series with these labels: namespace, name, queue, zone.
    fn owners(roster: &Roster, matching: &Matching, labels: [&str; 4]) -> Vec<String> {
        let members = Members::of(roster, &"api".into(), matching);
        let labels: Vec<Box<str>> = labels.into_iter().map(Into::into).collect();
        let mut owners = Vec::new();
        members.owners(matching, &labels, &mut owners);
        owners.iter().map(|(at, _)| members.list[*at].target.to_string()).collect()
    }

    #[test]
    fn by_workload() {
        let roster = roster(&[
            ("shop", "cart", &[]),
            ("blog", "cart", &[]),
            ("shop", "worker", &[("queue", "orders")]),
            ("shop", "mailer", &[("queue", "orders"), ("zone", "a")]),
            ("blog", "thief", &[("queue", "orders")]),
            ("shop", "unlisted", &[("secret", "x")]),
        ]);
        let matching = matching(Some("ns"), MatchBy::Workload("app".into()));
        let cases: &[([&str; 4], &[&str])] = &[
            (["shop", "cart", "", ""], &["shop/cart"]),
            (["blog", "cart", "", ""], &["blog/cart"]),
            (["", "cart", "", ""], &[]),
            // Who chooses by label has no series by name.
            (["shop", "worker", "", ""], &[]),
            (["shop", "x", "orders", ""], &["shop/worker"]),
            (["shop", "x", "orders", "a"], &["shop/mailer", "shop/worker"]),
            (["blog", "x", "orders", ""], &["blog/thief"]),
            (["shop", "unlisted", "x", "x"], &[]),
        ];
        for (labels, expected) in cases {
            let mut found = owners(&roster, &matching, *labels);
            found.sort();
            assert_eq!(found, *expected, "{labels:?}");
        }
    }

    #[test]
    fn every_trigger_of_a_workload_has_its_series() {
        let mut roster = roster(&[("shop", "cart", &[])]);
        let cart = TargetId::deployment("shop", "cart");
        let enrolled = roster.iter().next().map(|(_, enrolled)| enrolled.clone()).unwrap();
        roster.enrol(&cart.of_trigger("a"), enrolled.clone());
        roster.enrol(&cart.of_trigger("b"), enrolled);
        let by_name = matching(Some("ns"), MatchBy::Workload("app".into()));
        assert_eq!(owners(&roster, &by_name, ["shop", "cart", "", ""]).len(), 3);
        let by_pod = matching(Some("ns"), MatchBy::Pod("pod".into()));
        assert_eq!(owners(&roster, &by_pod, ["shop", "cart-1", "", ""]).len(), 3);
    }

    #[test]
    fn by_pod() {
        let roster = roster(&[
            ("shop", "cart", &[]),
            ("shop", "worker", &[("queue", "orders")]),
            ("shop", "unlisted", &[("secret", "x")]),
        ]);
        let matching = matching(Some("ns"), MatchBy::Pod("pod".into()));
        let cases: &[([&str; 4], &[&str])] = &[
            (["shop", "cart-1", "", ""], &["shop/cart"]),
            (["shop", "cart", "", ""], &[]),
            (["blog", "cart-1", "", ""], &[]),
            (["shop", "worker-0", "orders", ""], &["shop/worker"]),
            (["shop", "worker-0", "mails", ""], &[]),
            (["shop", "unlisted-0", "x", "x"], &[]),
        ];
        for (labels, expected) in cases {
            assert_eq!(owners(&roster, &matching, *labels), *expected, "{labels:?}");
        }
    }

    /// A choice that is meant for several sources counts here as far as its labels are listed here.
    #[test]
    fn a_shared_choice() {
        let both: &[(&str, &str)] = &[("queue", "orders"), ("secret", "x")];
        let roster =
            roster(&[("shop", "shared", both), ("shop", "shared-web", &[("secret", "x")])]);
        let by_name = matching(Some("ns"), MatchBy::Workload("app".into()));
        let cases: &[([&str; 4], &[&str])] = &[
            (["shop", "x", "orders", ""], &["shop/shared"]),
            (["shop", "shared", "", ""], &[]),
            (["shop", "shared-web", "", ""], &["shop/shared-web"]),
        ];
        for (labels, expected) in cases {
            assert_eq!(owners(&roster, &by_name, *labels), *expected, "{labels:?}");
        }
        let by_choice = matching(None, MatchBy::Selected);
        assert_eq!(owners(&roster, &by_choice, ["", "", "orders", ""]), ["shop/shared"]);
        assert!(owners(&roster, &by_choice, ["shop", "shared-web", "x", "x"]).is_empty());
    }

    #[test]
    fn by_choice_alone() {
        let roster = roster(&[("shop", "cart", &[]), ("shop", "worker", &[("queue", "orders")])]);
        let matching = matching(None, MatchBy::Selected);
        assert_eq!(owners(&roster, &matching, ["", "", "orders", ""]), ["shop/worker"]);
        assert!(owners(&roster, &matching, ["", "", "", ""]).is_empty());
        assert!(owners(&roster, &matching, ["shop", "cart", "", ""]).is_empty());
    }
}
