use std::time::Duration;

use super::super::testing::{CLASS, MODE, TARGET, problem, toy_resolver};
use super::*;
use crate::core::scaled_object::Trigger;

fn index() -> Index {
    Index::with_resolver(Settings::default(), toy_resolver)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn annotations(pairs: &[(&str, &str)]) -> Annotations {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn deployment(namespace: &str, name: &str, version: &str) -> DeploymentFacts {
    DeploymentFacts {
        target: TargetId::deployment(namespace, name),
        uid: format!("{namespace}-{name}").into(),
        resource_version: version.into(),
        replicas: 1,
        writer: Some("podswell".into()),
        deleting: false,
        owned_by_knative: false,
        progress_deadline: Some(Duration::from_secs(600)),
        annotations: annotations(&[(CLASS, "kpa.podswell.dev")]),
        template_annotations: Annotations::new(),
    }
}

fn set(namespace: &str, uid: &str, deployment: &str) -> ReplicaSetFacts {
    let key = ObjectKey::new(namespace, uid);
    ReplicaSetFacts { key, uid: uid.into(), deployment: deployment.into() }
}

fn pod(namespace: &str, name: &str, set: &str) -> OwnedPod {
    OwnedPod {
        key: ObjectKey::new(namespace, name),
        replica_set: set.into(),
        phase: super::super::facts::Phase::Running,
        ready: true,
        terminating: false,
        ip: Some([10, 0, 0, 1].into()),
        started_at: Some(at(-60)),
    }
}

fn hpa(namespace: &str, name: &str, target: &str) -> HpaFacts {
    HpaFacts {
        key: ObjectKey::new(namespace, name),
        target: TargetId::deployment(namespace, target),
        follows_podswell: false,
        scaled_object: None,
    }
}

/// The outputs as short lines, which is how the tests below read.
fn lines(index: &mut Index) -> Vec<String> {
    index.take_outputs().iter().map(line).collect()
}

fn line(output: &Output) -> String {
    match output {
        Output::Tell(Event::TargetApplied { target, config }) => {
            let problems = config.problems.len();
            format!("{target} applied {} {} {problems}", config.spec.target, config.mode.as_str())
        }
        Output::Tell(Event::TargetDeleted { target }) => format!("{target} deleted"),
        Output::Tell(Event::ReplicasObserved {
            target,
            replicas,
            resource_version,
            newly_created,
        }) => {
            let new = if *newly_created { " new" } else { "" };
            format!("{target} replicas {replicas} @{resource_version}{new}")
        }
        Output::Tell(Event::PodsObserved { target, pods }) => format!(
            "{target} pods {}+{} ({} pending, {} terminating)",
            pods.ready, pods.not_ready, pods.pending, pods.terminating
        ),
        Output::Tell(Event::RivalsObserved { target, rivals }) => {
            let follows = |rival: &Rival| if rival.follows { " follows" } else { "" };
            let names: Vec<_> = rivals
                .iter()
                .map(|rival| format!("{} {}{}", rival.kind, rival.name, follows(rival)))
                .collect();
            format!("{target} rivals {names:?}")
        }
        Output::Tell(Event::ForeignWrite { target, manager, replicas }) => {
            format!("{target} set to {replicas} by {manager}")
        }
        Output::Tell(other) => format!("unexpected {other:?}"),
        Output::Enrol { target, enrolled, uid } => {
            let pods: Vec<_> = enrolled.pods.iter().map(|pod| pod.name.to_string()).collect();
            format!("{target} enrolled {uid} {} {pods:?}", enrolled.replicas)
        }
        Output::Expel(target) => format!("{target} expelled"),
        Output::ScaledObject(object) => format!("scaled object {}", object.id.name),
        Output::ScaledObjectGone(id) => format!("scaled object {} gone", id.name),
    }
}

/// A target `a/web` with one ReplicaSet `rs1` and one pod `p1`, already announced.
fn settled() -> Index {
    let mut index = index();
    index.reset_deployments(&Scope::Everywhere, vec![deployment("a", "web", "1")]);
    index.reset_replica_sets(&Scope::Everywhere, vec![set("a", "rs1", "a-web")]);
    index.reset_pods(at(0), &Scope::Everywhere, vec![pod("a", "p1", "rs1")]);
    assert!(!index.settle(10));
    assert_eq!(
        lines(&mut index),
        [
            "a/web applied 100 apply 0",
            "a/web pods 1+0 (0 pending, 0 terminating)",
            "a/web replicas 1 @1",
            r#"a/web enrolled a-web 1 ["p1"]"#,
        ]
    );
    index
}

#[test]
fn a_list_of_one_namespace_concerns_only_that_one() {
    let mut index = index();
    for namespace in ["a", "b"] {
        let scope = Scope::Namespace(namespace.into());
        index.reset_deployments(&scope, vec![deployment(namespace, "web", "1")]);
    }
    assert!(!index.settle(10));
    let of = |lines: Vec<String>| {
        let applied = lines.into_iter().filter(|line| line.contains("applied"));
        applied.collect::<Vec<_>>()
    };
    index.hold_back(BTreeSet::from(["b".into()]));
    assert_eq!(of(lines(&mut index)), ["a/web applied 100 apply 0"]);
    assert!(lines(&mut index).is_empty());
    index.hold_back(BTreeSet::new());
    assert_eq!(of(lines(&mut index)), ["b/web applied 100 apply 0"]);
    index.reset_deployments(&Scope::Namespace("b".into()), vec![]);
    assert_eq!(lines(&mut index), ["b/web expelled", "b/web deleted"]);
}

#[test]
fn any_order_of_arrival_gives_the_same_join() {
    type Step = fn(&mut Index);
    let steps: [Step; 3] = [
        |index| index.apply_deployment(deployment("a", "web", "1")),
        |index| index.apply_replica_set(set("a", "rs1", "a-web")),
        |index| index.apply_pod(at(0), pod("a", "p1", "rs1")),
    ];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut index = index();
        for step in order {
            steps[step](&mut index);
        }
        assert_eq!(
            lines(&mut index),
            [
                "a/web applied 100 apply 0",
                "a/web pods 1+0 (0 pending, 0 terminating)",
                "a/web replicas 1 @1 new",
                r#"a/web enrolled a-web 1 ["p1"]"#,
            ],
            "{order:?}"
        );
    }
}

#[test]
fn a_write_of_somebody_else_is_told_with_its_manager() {
    let write = |version: &str, replicas, writer: Option<&str>| DeploymentFacts {
        replicas,
        writer: writer.map(Arc::from),
        ..deployment("a", "web", version)
    };
    let mut index = settled();
    let said = |index: &mut Index| {
        let mut lines = lines(index);
        lines.retain(|line| !line.contains("enrolled"));
        lines
    };
    index.apply_deployment(write("2", 5, Some("podswell")));
    assert_eq!(said(&mut index), ["a/web replicas 5 @2"]);
    index.apply_deployment(write("3", 2, Some("argocd-controller")));
    assert_eq!(said(&mut index), ["a/web replicas 2 @3", "a/web set to 2 by argocd-controller"]);
    index.apply_deployment(write("4", 2, Some("somebody-else")));
    assert_eq!(said(&mut index), ["a/web replicas 2 @4"], "nothing changed");
    // Ours and its revert between two looks: the revert is told all the same.
    index.apply_deployment(write("5", 5, Some("podswell")));
    index.apply_deployment(write("6", 2, Some("argocd-controller")));
    assert_eq!(said(&mut index), ["a/web replicas 2 @6", "a/web set to 2 by argocd-controller"]);
    index.reset_deployments(&Scope::Everywhere, vec![write("7", 3, None)]);
    index.settle(10);
    assert_eq!(said(&mut index), ["a/web replicas 3 @7", "a/web set to 3 by unknown"]);
    // His, and then ours: ours stands.
    index.apply_deployment(write("8", 4, Some("helm")));
    index.apply_deployment(write("9", 5, Some("podswell")));
    assert_eq!(said(&mut index), ["a/web replicas 5 @9"]);
}

fn scaled_object(name: &str, target: &str) -> ScaledObject {
    ScaledObject {
        id: ScaledObjectId { namespace: "a".into(), name: name.into() },
        target: TargetId::deployment("a", target),
        paused: false,
        triggers: vec![Trigger {
            kind: "external".to_owned(),
            metadata: [("scalerAddress".to_owned(), "podswell:9090".to_owned())].into(),
            ..Trigger::default()
        }],
    }
}

fn made_by(scaled_object: &str, hpa: HpaFacts) -> HpaFacts {
    HpaFacts { scaled_object: Some(scaled_object.into()), ..hpa }
}

#[test]
fn a_scaled_object_and_the_hpa_that_it_made_are_one_rival() {
    let mut index = settled();
    index.apply_scaled_object(scaled_object("so", "web"));
    assert_eq!(lines(&mut index), ["scaled object so", r#"a/web rivals ["ScaledObject so"]"#]);
    index.apply_hpa(made_by("so", hpa("a", "keda-hpa-so", "web")));
    assert_eq!(lines(&mut index), Vec::<String>::new(), "nothing new");
    index.apply_hpa(hpa("a", "mine", "web"));
    assert_eq!(
        lines(&mut index),
        [r#"a/web rivals ["HorizontalPodAutoscaler mine", "ScaledObject so"]"#]
    );
    index.delete_hpa(&ObjectKey::new("a", "mine"));
    index.delete_scaled_object(&scaled_object("so", "web").id);
    assert_eq!(
        lines(&mut index),
        ["scaled object so gone", r#"a/web rivals ["ScaledObject so"]"#],
        "its autoscaler is still there"
    );
    index.reset_hpas(&Scope::Everywhere, vec![]);
    assert_eq!(lines(&mut index), ["a/web rivals []"]);
}

#[test]
fn scaled_objects_come_and_go_and_move() {
    let mut index = settled();
    index.reset_scaled_objects(
        &Scope::Everywhere,
        vec![scaled_object("one", "web"), scaled_object("two", "other")],
    );
    assert_eq!(
        lines(&mut index),
        ["scaled object one", "scaled object two", r#"a/web rivals ["ScaledObject one"]"#]
    );
    index.apply_scaled_object(scaled_object("one", "other"));
    assert_eq!(lines(&mut index), ["scaled object one", "a/web rivals []"]);
    index.apply_scaled_object(ScaledObject { paused: true, ..scaled_object("two", "web") });
    assert_eq!(lines(&mut index), ["scaled object two"], "a pause leaves the target alone");
    index.apply_scaled_object(scaled_object("two", "web"));
    assert_eq!(lines(&mut index), ["scaled object two", r#"a/web rivals ["ScaledObject two"]"#]);
    index.reset_scaled_objects(&Scope::Everywhere, vec![]);
    assert_eq!(
        lines(&mut index),
        ["scaled object one gone", "scaled object two gone", "a/web rivals []"]
    );
    index.reset_scaled_objects(&Scope::Everywhere, vec![]);
    assert!(index.take_outputs().is_empty(), "no KEDA, no word");
}

#[test]
fn a_scaled_object_that_asks_us_follows_with_its_hpa() {
    let mut index = settled();
    index.apply_hpa(made_by("so", hpa("a", "keda-hpa-so", "web")));
    assert_eq!(lines(&mut index), [r#"a/web rivals ["ScaledObject so"]"#]);
    index.apply_scaled_object(scaled_object("so", "web"));
    assert_eq!(lines(&mut index), ["scaled object so"], "it asks somebody else");
    let ours = || ["podswell:9090".to_owned()].into();
    index.change_settings(|settings| settings.process.keda_addresses = ours());
    let told = lines(&mut index);
    assert_eq!(told.first().unwrap(), r#"a/web rivals ["ScaledObject so follows"]"#);
    let of_trigger = told.iter().filter(|line| line.starts_with("a/web (trigger so."));
    assert_eq!(of_trigger.count(), 4, "it has a decider before KEDA asks: {told:?}");
    index.apply_hpa(hpa("a", "mine", "web"));
    assert_eq!(
        lines(&mut index),
        [r#"a/web rivals ["HorizontalPodAutoscaler mine", "ScaledObject so follows"]"#]
    );
}

#[test]
fn a_changed_trigger_keeps_its_decider() {
    let mut index = settled();
    let ours = || ["podswell:9090".to_owned()].into();
    index.change_settings(|settings| settings.process.keda_addresses = ours());
    index.apply_scaled_object(scaled_object("so", "web"));
    let told = lines(&mut index);
    let (name, _) = told.last().unwrap().split_once(')').unwrap();
    let mut changed = scaled_object("so", "web");
    changed.triggers[0].metadata.insert("target".to_owned(), "5".to_owned());
    index.apply_scaled_object(changed.clone());
    let told = lines(&mut index);
    // What is believed of one pod follows the target, so the sources hear of it, too.
    assert_eq!(told.len(), 3, "the ScaledObject, a configuration and its wiring: {told:?}");
    assert!(told[1].starts_with(&format!("{name}) applied 3.5 ")), "{told:?}");
    // What KEDA sends for it is found, and outlives the end of the questions but not of the object.
    let metadata = TriggerMetadata::read(&changed.triggers[0].metadata).unwrap();
    let target = index.enrol_trigger(&ObjectKey::new("a", "so"), &metadata).unwrap();
    assert_eq!(format!("{name})"), target.to_string());
    index.release_trigger(&target);
    assert_eq!(lines(&mut index), [""; 0]);
    index.delete_scaled_object(&changed.id);
    let told = lines(&mut index);
    assert!(told.contains(&format!("{target} deleted")), "{told:?}");
}

#[test]
fn what_changes_nothing_says_nothing() {
    let mut index = settled();
    index.apply_deployment(deployment("a", "web", "1"));
    index.apply_replica_set(set("a", "rs1", "a-web"));
    index.apply_pod(at(9), pod("a", "p1", "rs1"));
    index.apply_namespace(NamespaceFacts { name: "a".into(), ..NamespaceFacts::default() });
    index.end_period();
    index.settle(10);
    assert_eq!(lines(&mut index), [""; 0]);
}

#[test]
fn a_new_version_is_told_without_a_new_configuration() {
    let mut index = settled();
    index.apply_deployment(deployment("a", "web", "2"));
    assert_eq!(lines(&mut index), ["a/web replicas 1 @2"]);
    index.apply_deployment(DeploymentFacts { replicas: 4, ..deployment("a", "web", "3") });
    assert_eq!(lines(&mut index), ["a/web replicas 4 @3", r#"a/web enrolled a-web 4 ["p1"]"#]);
}

#[test]
fn a_rolling_update_counts_both_replica_sets() {
    let mut index = settled();
    index.apply_replica_set(set("a", "rs2", "a-web"));
    index.apply_pod(at(1), OwnedPod { ready: false, ..pod("a", "p2", "rs2") });
    assert_eq!(
        lines(&mut index),
        ["a/web pods 1+1 (0 pending, 0 terminating)", r#"a/web enrolled a-web 1 ["p1", "p2"]"#]
    );
    index.apply_pod(at(2), pod("a", "p2", "rs2"));
    index.apply_pod(at(2), OwnedPod { terminating: true, ..pod("a", "p1", "rs1") });
    assert_eq!(
        lines(&mut index),
        ["a/web pods 1+1 (0 pending, 1 terminating)", r#"a/web enrolled a-web 1 ["p1", "p2"]"#]
    );
    index.delete_pod(&ObjectKey::new("a", "p1"));
    index.delete_replica_set(&ObjectKey::new("a", "rs1"));
    assert_eq!(
        lines(&mut index),
        ["a/web pods 1+0 (0 pending, 0 terminating)", r#"a/web enrolled a-web 1 ["p2"]"#]
    );
}

#[test]
fn pods_count_as_knative_counts_them() {
    use super::super::facts::Phase::{Pending, Running};
    for (phase, ready, terminating, want) in [
        (Pending, false, false, "0+1 (1 pending, 0 terminating)"),
        (Pending, false, true, "0+1 (1 pending, 0 terminating)"),
        (Running, true, true, "0+1 (0 pending, 1 terminating)"),
        (Running, true, false, "1+0 (0 pending, 0 terminating)"),
        (Running, false, false, "0+1 (0 pending, 0 terminating)"),
    ] {
        let mut index = settled();
        index.apply_pod(at(1), pod("a", "p2", "rs1"));
        index.delete_pod(&ObjectKey::new("a", "p1"));
        index.take_outputs();
        index.apply_pod(at(2), OwnedPod { phase, ready, terminating, ..pod("a", "p2", "rs1") });
        let told = lines(&mut index);
        let told = told.first().map_or("1+0 (0 pending, 0 terminating)", |line| &line[11..]);
        assert_eq!(told, want, "{phase:?} ready={ready} terminating={terminating}");
    }
}

#[test]
fn one_name_in_two_namespaces_is_two_targets() {
    let mut index = settled();
    index.apply_deployment(deployment("b", "web", "5"));
    index.apply_replica_set(set("b", "rs9", "b-web"));
    index.apply_pod(at(1), pod("b", "p1", "rs9"));
    assert_eq!(
        lines(&mut index),
        [
            "b/web applied 100 apply 0",
            "b/web pods 1+0 (0 pending, 0 terminating)",
            "b/web replicas 1 @5 new",
            r#"b/web enrolled b-web 1 ["p1"]"#,
        ]
    );
    index.delete_deployment(&ObjectKey::new("a", "web"));
    assert_eq!(lines(&mut index), ["a/web expelled", "a/web deleted"]);
}

#[test]
fn pods_of_others_are_ignored() {
    let mut index = settled();
    // Of another ReplicaSet whose selector may well match, of none that is known, of a ReplicaSet of
    // another namespace whose uid the pod's author wrote down.
    index.apply_replica_set(set("a", "other", "a-other"));
    index.apply_pod(at(1), pod("a", "p2", "other"));
    index.apply_pod(at(1), pod("a", "p3", "unheard-of"));
    index.apply_pod(at(1), pod("evil", "p4", "rs1"));
    index.apply_replica_set(set("evil", "rs-evil", "a-web"));
    index.apply_pod(at(1), pod("evil", "p5", "rs-evil"));
    assert_eq!(lines(&mut index), [""; 0]);
}

#[test]
fn a_pod_that_changes_owners_changes_targets() {
    let mut index = settled();
    index.apply_deployment(deployment("a", "api", "1"));
    index.apply_replica_set(set("a", "rs2", "a-api"));
    index.take_outputs();
    index.apply_pod(at(1), pod("a", "p1", "rs2"));
    assert_eq!(
        lines(&mut index),
        [
            "a/api pods 1+0 (0 pending, 0 terminating)",
            r#"a/api enrolled a-api 1 ["p1"]"#,
            "a/web pods 0+0 (0 pending, 0 terminating)",
            "a/web enrolled a-web 1 []",
        ]
    );
}

#[test]
fn a_pod_remembers_when_it_stopped_being_ready() {
    let mut index = settled();
    let unready = |index: &mut Index| match index.take_outputs().pop() {
        Some(Output::Enrol { enrolled, .. }) => enrolled.pods[0].unready_since,
        other => panic!("{other:?}"),
    };
    index.apply_pod(at(5), OwnedPod { ready: false, ..pod("a", "p1", "rs1") });
    assert_eq!(unready(&mut index), Some(at(5)));
    index.apply_pod(at(7), OwnedPod { ready: false, terminating: true, ..pod("a", "p1", "rs1") });
    assert_eq!(unready(&mut index), Some(at(5)));
    index.apply_pod(at(9), pod("a", "p1", "rs1"));
    assert_eq!(unready(&mut index), None);
}

#[test]
fn an_hpa_comes_and_goes() {
    let mut index = settled();
    index.apply_hpa(hpa("a", "keda-hpa-web", "web"));
    index.apply_hpa(hpa("b", "elsewhere", "web"));
    assert_eq!(lines(&mut index), [r#"a/web rivals ["HorizontalPodAutoscaler keda-hpa-web"]"#]);
    index.apply_hpa(hpa("a", "another", "web"));
    assert_eq!(
        lines(&mut index),
        [
            r#"a/web rivals ["HorizontalPodAutoscaler another", "HorizontalPodAutoscaler keda-hpa-web"]"#
        ]
    );
    index.apply_hpa(hpa("a", "another", "api"));
    index.delete_hpa(&ObjectKey::new("a", "keda-hpa-web"));
    assert_eq!(lines(&mut index), ["a/web rivals []"]);
    index.reset_hpas(&Scope::Everywhere, vec![hpa("a", "again", "web")]);
    assert_eq!(lines(&mut index), [r#"a/web rivals ["HorizontalPodAutoscaler again"]"#]);
    index.reset_hpas(
        &Scope::Everywhere,
        vec![HpaFacts { follows_podswell: true, ..hpa("a", "again", "web") }],
    );
    assert_eq!(lines(&mut index), [r#"a/web rivals ["HorizontalPodAutoscaler again follows"]"#]);
}

#[test]
fn a_rival_is_told_before_the_replicas() {
    let mut index = index();
    index.apply_hpa(hpa("a", "h", "web"));
    index.apply_deployment(deployment("a", "web", "1"));
    assert_eq!(
        lines(&mut index)[..4],
        [
            "a/web applied 100 apply 0",
            r#"a/web rivals ["HorizontalPodAutoscaler h"]"#,
            "a/web pods 0+0 (0 pending, 0 terminating)",
            "a/web replicas 1 @1 new",
        ]
    );
}

#[test]
fn a_relist_replaces_what_was_missed() {
    let mut index = settled();
    index.reset_deployments(
        &Scope::Everywhere,
        vec![deployment("a", "web", "1"), deployment("a", "api", "3")],
    );
    index.settle(10);
    // Not new: it may have been created long ago, while the watch was away.
    assert_eq!(
        lines(&mut index),
        [
            "a/api applied 100 apply 0",
            "a/api pods 0+0 (0 pending, 0 terminating)",
            "a/api replicas 1 @3",
            "a/api enrolled a-api 1 []",
        ]
    );
    index.reset_pods(at(3), &Scope::Everywhere, vec![pod("a", "p7", "rs1")]);
    assert_eq!(lines(&mut index), [r#"a/web enrolled a-web 1 ["p7"]"#]);
    index.reset_replica_sets(&Scope::Everywhere, vec![]);
    assert_eq!(
        lines(&mut index),
        ["a/web pods 0+0 (0 pending, 0 terminating)", "a/web enrolled a-web 1 []"]
    );
    index.reset_deployments(&Scope::Everywhere, vec![]);
    assert_eq!(
        lines(&mut index),
        ["a/api expelled", "a/api deleted", "a/web expelled", "a/web deleted"]
    );
}

#[test]
fn a_successor_of_the_same_name_is_another_target() {
    let mut index = settled();
    index.apply_deployment(DeploymentFacts { uid: "u2".into(), ..deployment("a", "web", "9") });
    assert_eq!(
        lines(&mut index),
        [
            "a/web expelled",
            "a/web deleted",
            "a/web applied 100 apply 0",
            "a/web pods 0+0 (0 pending, 0 terminating)",
            "a/web replicas 1 @9 new",
            "a/web enrolled u2 1 []",
        ]
    );
}

#[test]
fn a_deployment_that_is_being_deleted_is_gone() {
    let mut index = settled();
    index.apply_deployment(DeploymentFacts { deleting: true, ..deployment("a", "web", "2") });
    assert_eq!(lines(&mut index), ["a/web expelled", "a/web deleted"]);
    index.delete_deployment(&ObjectKey::new("a", "web"));
    assert_eq!(lines(&mut index), [""; 0]);
}

#[test]
fn without_annotations_there_is_no_target() {
    let mut index = settled();
    let plain = DeploymentFacts { annotations: annotations(&[]), ..deployment("a", "web", "2") };
    index.end_period();
    index.apply_deployment(plain.clone());
    assert_eq!(lines(&mut index), ["a/web expelled", "a/web deleted"]);
    // It existed before it asked for us, so its initial scale is long past.
    let plain = DeploymentFacts { target: TargetId::deployment("a", "old"), ..plain };
    index.apply_deployment(DeploymentFacts { uid: "a-old".into(), ..plain });
    assert_eq!(lines(&mut index), [""; 0]);
    index.end_period();
    index.apply_deployment(deployment("a", "old", "3"));
    assert_eq!(lines(&mut index)[2], "a/old replicas 1 @3");
}

#[test]
fn a_flapping_annotation_is_resolved_once_a_period() {
    let mut index = settled();
    index.end_period();
    let with = |target: &str, version: &str| DeploymentFacts {
        annotations: annotations(&[(CLASS, ""), (TARGET, target)]),
        ..deployment("a", "web", version)
    };
    index.apply_deployment(with("10", "2"));
    assert_eq!(lines(&mut index), ["a/web applied 10 apply 0", "a/web replicas 1 @2"]);
    for flap in 3..100 {
        index.apply_deployment(with(&flap.to_string(), &flap.to_string()));
    }
    assert_eq!(lines(&mut index), ["a/web replicas 1 @99"]);
    index.end_period();
    assert!(!index.settle(10));
    assert_eq!(lines(&mut index), ["a/web applied 99 apply 0"]);
    index.apply_deployment(with("5", "100"));
    assert_eq!(lines(&mut index), ["a/web replicas 1 @100"], "just resolved: it waits again");
    index.end_period();
    index.settle(10);
    assert_eq!(lines(&mut index), ["a/web applied 5 apply 0"]);
}

#[test]
fn a_namespace_concerns_its_own_targets_only() {
    let mut index = settled();
    index.reset_deployments(
        &Scope::Everywhere,
        vec![
            deployment("a", "web", "1"),
            deployment("aa", "web", "1"),
            deployment("b", "web", "1"),
        ],
    );
    index.settle(10);
    index.take_outputs();
    let namespace = |mode: &str, terminating| NamespaceFacts {
        name: "a".into(),
        terminating,
        annotations: annotations(&[(MODE, mode)]),
    };
    index.apply_namespace(namespace("paused", false));
    assert_eq!(lines(&mut index), [""; 0], "waits for the end of the period");
    index.end_period();
    index.settle(10);
    assert_eq!(lines(&mut index), ["a/web applied 100 paused 0"]);
    index.reset_namespaces(&Scope::Everywhere, vec![]);
    index.end_period();
    index.settle(10);
    assert_eq!(lines(&mut index), ["a/web applied 100 apply 0"]);
    index.apply_namespace(namespace("apply", true));
    index.end_period();
    index.settle(10);
    assert_eq!(lines(&mut index), ["a/web expelled", "a/web deleted"]);
}

#[test]
fn bad_annotations_concern_their_own_target_only() {
    let mut index = settled();
    let bad = DeploymentFacts {
        annotations: annotations(&[(CLASS, ""), (TARGET, "\u{0}ten\u{1b}[31m")]),
        ..deployment("a", "bad", "1")
    };
    index.apply_deployment(bad);
    let told = lines(&mut index);
    assert_eq!(told[0], "a/bad applied 100 apply 1");
    assert!(told.iter().all(|line| line.starts_with("a/bad ")), "{told:?}");
}

#[test]
fn settings_concern_every_target_a_few_at_a_time() {
    let mut index = index();
    let all = ["t1", "t2", "t3"].map(|name| deployment("a", name, "1"));
    index.reset_deployments(&Scope::Everywhere, all.to_vec());
    assert!(index.settle(2), "one is left");
    assert_eq!(lines(&mut index).len(), 8);
    assert!(!index.settle(2));
    assert_eq!(lines(&mut index).len(), 4);

    index.change_settings(|settings| settings.defaults.container_concurrency_target_default = 7.0);
    index.end_period();
    assert!(!index.settle(10));
    assert_eq!(
        lines(&mut index),
        ["t1", "t2", "t3"].map(|name| format!("a/{name} applied 7 apply 0"))
    );
    index.change_settings(|settings| settings.problems.push(problem("config-autoscaler")));
    index.end_period();
    index.settle(10);
    assert_eq!(lines(&mut index)[0], "a/t1 applied 7 apply 1");
    index.change_settings(|_| {});
    index.end_period();
    index.settle(10);
    assert_eq!(lines(&mut index), [""; 0]);
}

#[test]
fn a_new_source_changes_the_wiring_alone() {
    let mut index = settled();
    index.change_settings(|settings| {
        let source = SourceFacts {
            name: "gateway".into(),
            kind: crate::core::spec::ScalingMetric::Rps,
            interval: Duration::from_secs(1),
            stale_after: Duration::from_secs(3),
            range: None,
            visible_at_zero: false,
            share: crate::core::source::Share::Exclusive,
            selectable_labels: Vec::new(),
            query_label: None,
        };
        settings.sources.insert("gateway".into(), source);
    });
    index.end_period();
    index.settle(10);
    assert_eq!(lines(&mut index), [r#"a/web enrolled a-web 1 ["p1"]"#]);
}

/// Replicas, uid and the names of the pods.
type Entry = (i32, Arc<str>, Vec<Arc<str>>);

/// A target as somebody sees it who heard every output.
#[derive(Clone, Debug, Default, PartialEq)]
struct Picture {
    config: Option<Arc<TargetConfig>>,
    replicas: Option<(i32, Arc<str>)>,
    pods: PodCounts,
    rivals: Vec<Rival>,
    enrolled: Option<Entry>,
}

/// Adds outputs to a picture; fails where they make no sense in their order.
fn paint(picture: &mut BTreeMap<TargetId, Picture>, outputs: Vec<Output>) {
    for output in outputs {
        match output {
            Output::Tell(Event::TargetApplied { target, config }) => {
                picture.entry(target).or_default().config = Some(config);
            }
            Output::Tell(Event::TargetDeleted { target }) => {
                assert_eq!(picture.remove(&target).unwrap().enrolled, None, "expelled first");
            }
            Output::Tell(Event::ReplicasObserved {
                target,
                replicas,
                resource_version,
                newly_created,
            }) => {
                let known = picture.get_mut(&target).unwrap();
                assert!(known.replicas.is_none() || !newly_created, "new but once");
                known.replicas = Some((replicas, resource_version));
            }
            Output::Tell(Event::PodsObserved { target, pods }) => {
                picture.get_mut(&target).unwrap().pods = pods;
            }
            Output::Tell(Event::RivalsObserved { target, rivals }) => {
                picture.get_mut(&target).unwrap().rivals = rivals;
            }
            Output::Tell(other) => panic!("{other:?}"),
            Output::Enrol { target, enrolled, uid } => {
                let pods = enrolled.pods.iter().map(|pod| pod.name.clone()).collect();
                picture.get_mut(&target).unwrap().enrolled = Some((enrolled.replicas, uid, pods));
            }
            Output::Expel(target) => picture.get_mut(&target).unwrap().enrolled = None,
            Output::ScaledObject(_) | Output::ScaledObjectGone(_) => {}
        }
    }
}

/// The objects of a small cluster, and one change of it.
#[derive(Clone, Debug, Default)]
struct Cluster {
    version: u32,
    deployments: BTreeMap<ObjectKey, DeploymentFacts>,
    sets: BTreeMap<ObjectKey, ReplicaSetFacts>,
    pods: BTreeMap<ObjectKey, OwnedPod>,
    hpas: BTreeMap<ObjectKey, HpaFacts>,
    namespaces: BTreeMap<Arc<str>, NamespaceFacts>,
}

impl Cluster {
    /// Changes something as three small numbers say, and tells the index as a watch would, or not at
    /// all (`missed`); then a list has to follow.
    fn change(&mut self, index: &mut Index, (kind, which, how): (u8, u8, u8), missed: bool) {
        self.version += 1;
        let namespace = ["a", "b"][usize::from(which % 2)];
        let name = ["w", "x"][usize::from(which / 2 % 2)];
        let key = ObjectKey::new(namespace, name);
        let mut told = Index::with_resolver(Settings::default(), toy_resolver);
        let index = if missed { &mut told } else { index };
        match (kind % 5, how % 4) {
            (0, 0) => {
                self.deployments.remove(&key);
                index.delete_deployment(&key);
            }
            (0, how) => {
                let mut facts = deployment(namespace, name, &self.version.to_string());
                facts.replicas = i32::from(which % 4);
                facts.uid = format!("{namespace}-{name}-{}", which / 4 % 2).into();
                facts.deleting = how == 2;
                facts.annotations = match how {
                    1 => annotations(&[(CLASS, ""), (TARGET, &which.to_string())]),
                    2 => annotations(&[(CLASS, "")]),
                    _ => annotations(&[]),
                };
                self.deployments.insert(key, facts.clone());
                index.apply_deployment(facts);
            }
            (1, 0) => {
                self.sets.remove(&key);
                index.delete_replica_set(&key);
            }
            (1, how) => {
                let owner = format!("{namespace}-w-{}", how % 2);
                let set = ReplicaSetFacts {
                    key,
                    ..set(namespace, &format!("rs-{namespace}-{name}"), &owner)
                };
                self.sets.insert(set.key.clone(), set.clone());
                index.apply_replica_set(set);
            }
            (2, 0) => {
                self.pods.remove(&key);
                index.delete_pod(&key);
            }
            (2, how) => {
                let owner = ["rs-a-w", "rs-a-x", "rs-b-w", "rs-b-x"][usize::from(which / 4 % 4)];
                let pod = OwnedPod { ready: how == 1, ..pod(namespace, name, owner) };
                self.pods.insert(key, pod.clone());
                index.apply_pod(at(i64::from(self.version)), pod);
            }
            (3, 0) => {
                self.hpas.remove(&key);
                index.delete_hpa(&key);
            }
            (3, how) => {
                let hpa = hpa(namespace, name, if how == 1 { "w" } else { "x" });
                self.hpas.insert(key, hpa.clone());
                index.apply_hpa(hpa);
            }
            (_, 0) => {
                self.namespaces.remove(namespace);
                index.delete_namespace(namespace);
            }
            (_, how) => {
                let facts = NamespaceFacts {
                    name: namespace.into(),
                    terminating: how == 3,
                    annotations: annotations(&[(MODE, if how == 1 { "paused" } else { "apply" })]),
                };
                self.namespaces.insert(namespace.into(), facts.clone());
                index.apply_namespace(facts);
            }
        }
    }

    fn list(&self, index: &mut Index) {
        index.reset_pods(at(0), &Scope::Everywhere, self.pods.values().cloned().collect());
        index.reset_deployments(&Scope::Everywhere, self.deployments.values().cloned().collect());
        index.reset_hpas(&Scope::Everywhere, self.hpas.values().cloned().collect());
        index.reset_replica_sets(&Scope::Everywhere, self.sets.values().cloned().collect());
        index.reset_namespaces(&Scope::Everywhere, self.namespaces.values().cloned().collect());
    }

    /// What an index says that never saw anything but the present.
    fn truth(&self) -> BTreeMap<TargetId, Picture> {
        let mut index = index();
        self.list(&mut index);
        let mut truth = BTreeMap::new();
        settle(&mut index, &mut truth);
        truth
    }
}

fn settle(index: &mut Index, picture: &mut BTreeMap<TargetId, Picture>) {
    index.end_period();
    while index.settle(1) {}
    paint(picture, index.take_outputs());
}

proptest::proptest! {
    /// Whatever happened in whatever order, with gaps or without: what was said adds up to the present.
    #[test]
    fn what_was_said_adds_up_to_the_present(
        changes in proptest::collection::vec(((0_u8..5, 0_u8..16, 0_u8..4), 0_u8..8), 1..120)
    ) {
        let (mut index, mut cluster, mut picture) = (index(), Cluster::default(), BTreeMap::new());
        let mut gap = false;
        for (change, then) in changes {
            let missed = then == 7;
            cluster.change(&mut index, change, missed);
            gap |= missed;
            match then {
                0 => paint(&mut picture, index.take_outputs()),
                1 => settle(&mut index, &mut picture),
                2 => {
                    cluster.list(&mut index);
                    gap = false;
                }
                _ => {}
            }
        }
        if gap {
            cluster.list(&mut index);
        }
        settle(&mut index, &mut picture);
        proptest::prop_assert_eq!(picture, cluster.truth());
    }
}
