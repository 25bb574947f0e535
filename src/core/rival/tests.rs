use super::*;

fn at(s: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + s).unwrap()
}

fn manager(name: &str) -> Arc<str> {
    name.into()
}

const DAY: i64 = 24 * 3600;

#[test]
fn three_reverts_of_one_manager_within_a_day_make_a_contest() {
    for (reverts, want) in [
        (&[("argocd", 0), ("argocd", 1)][..], None),
        (&[("argocd", 0), ("argocd", 1), ("argocd", 2)], Some("argocd")),
        (&[("argocd", 0), ("helm", 1), ("argocd", 2)], None),
        (&[("argocd", 0), ("helm", 1), ("argocd", 2), ("argocd", 3)], Some("argocd")),
        (&[("argocd", 0), ("argocd", 1), ("argocd", DAY)], Some("argocd")),
        (&[("argocd", 0), ("argocd", 1), ("argocd", DAY + 1)], None),
        (&[("a", 0), ("a", DAY - 1), ("a", DAY + 1), ("a", DAY + 2)], Some("a")),
        (&[("a", 0), ("a", 1), ("a", 2), ("b", 3), ("b", 4), ("b", 5)], Some("b")),
    ] {
        let mut writers = Writers::default();
        for (name, s) in reverts {
            writers.reverted(at(*s), &manager(name));
        }
        assert_eq!(writers.contest().map(|of| &*of.manager), want, "{reverts:?}");
    }
}

#[test]
fn a_contest_begins_once_for_each_manager() {
    let mut writers = Writers::default();
    let begins: Vec<bool> = (0..6).map(|s| writers.reverted(at(s), &manager("argocd"))).collect();
    assert_eq!(begins, [false, false, true, false, false, false]);
    assert_eq!(writers.contest().unwrap().reverts, 6);
}

#[test]
fn lowering_stops_and_raising_is_paced() {
    let mut writers = Writers::default();
    assert!(!writers.forbid(at(0), 5, 2));
    for s in 0..3 {
        writers.reverted(at(s), &manager("argocd"));
    }
    for (s, current, wanted, want) in [
        (3, 5, 4, true),
        (3, 5, 5, false),
        (3, 5, 6, true),
        (31, 5, 6, true),
        (32, 5, 6, false),
        (32, 5, 4, true),
        (DAY + 2, 5, 4, true),
    ] {
        assert_eq!(writers.forbid(at(s), current, wanted), want, "{s}: {current} to {wanted}");
    }
}

#[test]
fn the_pause_doubles_up_to_ten_minutes() {
    let mut writers = Writers::default();
    let mut pauses = Vec::new();
    for s in 0..9 {
        writers.reverted(at(s), &manager("argocd"));
        pauses.extend(writers.contest().map(|contest| contest.pause.as_secs()));
    }
    assert_eq!(pauses, [30, 60, 120, 240, 480, 600, 600]);
}

#[test]
fn a_day_without_a_revert_ends_it() {
    let mut writers = Writers::default();
    for s in [0, 1, 2, 1000] {
        writers.reverted(at(s), &manager("argocd"));
    }
    assert_eq!(writers.forget(at(DAY + 1000)), None);
    assert!(writers.contest().is_some());
    assert_eq!(writers.forget(at(DAY + 1001)).as_deref(), Some("argocd"));
    assert!(writers.is_empty());
    assert!(!writers.reverted(at(DAY + 1002), &manager("argocd")), "it starts from nothing");
}

#[test]
fn memory_is_bounded_and_keeps_the_newest() {
    let mut writers = Writers::default();
    for n in 0..100 {
        writers.reverted(at(n), &manager(&format!("manager-{n}")));
    }
    assert_eq!(writers.managers.len(), MOST_MANAGERS);
    assert!(writers.managers.contains_key("manager-99"));
}

#[test]
fn tools_are_known_by_their_managers() {
    for (name, want) in [
        ("argocd-controller", Some("argocd")),
        ("argocd-application-controller", Some("argocd")),
        ("kustomize-controller", Some("flux")),
        ("gotk-kustomize-controller", Some("flux")),
        ("flux", Some("flux")),
        ("helm", Some("helm")),
        ("helm-controller", Some("helm")),
        ("kubectl-client-side-apply", None),
        ("overwhelmed", None),
        ("unknown", None),
    ] {
        assert_eq!(gitops_tool(name), want, "{name}");
    }
}

#[test]
fn true_rivals_weigh_more_than_followers() {
    let rival = |name: &str, follows| Rival {
        kind: "ScaledObject".to_owned(),
        name: name.to_owned(),
        follows,
    };
    for (rivals, gate, reason, named) in [
        (vec![], None, NoticeReason::RivalGone, "writing again"),
        (vec![rival("a", true)], Some(Reason::Followed), NoticeReason::Followed, "ScaledObject a"),
        (
            vec![rival("a", true), rival("b", false)],
            Some(Reason::Rival),
            NoticeReason::RivalFound,
            "ScaledObject b",
        ),
    ] {
        assert_eq!(gate_of(&rivals), gate);
        let (notice, note) = notice_of(&rivals);
        assert!(notice == reason && note.contains(named), "{note}");
    }
}
