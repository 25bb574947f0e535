//! Who else scales the same target, and what that means for our own writes.

use super::decision::Reason;
use super::event::{NoticeReason, Rival};

/// Why nothing is written beside these autoscalers: a true rival weighs more than one that follows us.
pub(crate) fn gate_of(rivals: &[Rival]) -> Option<Reason> {
    let follows = rivals.iter().all(|rival| rival.follows);
    rivals.first().map(|_| if follows { Reason::Followed } else { Reason::Rival })
}

/// What a user hears when the autoscalers beside us changed to these.
pub(crate) fn notice_of(rivals: &[Rival]) -> (NoticeReason, String) {
    let named = |follows| {
        let names = rivals.iter().filter(|rival| rival.follows == follows);
        names.map(|rival| format!("{} {}", rival.kind, rival.name)).collect::<Vec<_>>().join(", ")
    };
    match gate_of(rivals) {
        None => (NoticeReason::RivalGone, "no other autoscaler is left: writing again".to_owned()),
        Some(Reason::Followed) => {
            let note = format!("{} writes what podswell answers: not writing", named(true));
            (NoticeReason::Followed, note)
        }
        Some(_) => {
            let note = format!("{} also scales this Deployment: not writing", named(false));
            (NoticeReason::RivalFound, note)
        }
    }
}
