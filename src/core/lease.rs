//! Which of several processes may write: client-go's leader election as a machine without I/O.
//!
//! One [`Election`] runs in each process. It asks for requests to one Lease object
//! ([`Election::poll_action`]), is told what came of them ([`Election::handle`]), and says until when its
//! process leads ([`Election::leads_until`]). Why at most one process leads at any moment:
//!
//! - A holder leads for the *renew deadline*, counted from the moment at which it **sent** its last
//!   renewal that was stored, so from before anybody could see it.
//! - A rival counts the *lease duration*, which is longer, from the moment at which it **saw** the newest
//!   renewal. Only then does it write its own name, under the version that it has seen.
//!
//! No clock is compared with another machine's: time stamps in the object are for people. Only the speeds
//! of two clocks matter, and they may differ by the ratio of the two spans.
//!
//! A name that was wiped out of the object, or an object that was deleted, by hand or by accident, is
//! no release: whoever saw another holder still waits for its duration. A release is marked as client-go
//! marks it: no holder, and a duration of one second.

use std::sync::Arc;
use std::time::Duration;

use super::Timestamp;
use super::decider::panic::later;

/// The longest lease duration in the object that is waited for: one that a hand put there must not keep
/// everybody out for long.
const LONGEST_DURATION: Duration = Duration::from_secs(60);

/// The duration that marks a release, in seconds.
const RELEASED_DURATION_S: i32 = 1;

/// The spans of an election. Safe while `renew_deadline` is clearly less than `duration`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTiming {
    /// How long a rival waits after it saw the last renewal; whole seconds, more than one.
    pub duration: Duration,
    /// How long a holder leads after it sent its last renewal that was stored.
    pub renew_deadline: Duration,
    /// The time from one attempt to the next, of holders and of rivals.
    pub retry: Duration,
}

impl LeaseTiming {
    /// What podswell runs with: a successor 4.6 s after a crash at the latest, 0.6 s after a release, and
    /// the time of two requests. Two clocks may differ by 40 %.
    pub const DEFAULT: Self = Self {
        duration: Duration::from_secs(4),
        renew_deadline: Duration::from_millis(2800),
        retry: Duration::from_millis(600),
    };

    /// How long one request may take: two fit into the renew deadline.
    pub fn request_limit(self) -> Duration {
        self.renew_deadline / 2
    }

    fn duration_s(self) -> i32 {
        i32::try_from(self.duration.as_secs()).unwrap_or(i32::MAX)
    }
}

impl Default for LeaseTiming {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What the Lease object says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRecord {
    /// Who holds it; `None` if nobody.
    pub holder: Option<Arc<str>>,
    /// Its duration in seconds; anything but a sensible number counts as our own.
    pub duration_s: i32,
    /// How often it went from one holder to another, ≥ 0.
    pub transitions: i32,
    /// The object's `resourceVersion`.
    pub version: Arc<str>,
}

impl LeaseRecord {
    fn is_released(&self) -> bool {
        self.holder.is_none() && self.duration_s == RELEASED_DURATION_S
    }

    /// What in it no podswell writes, and what is made of it; `None` if all is as it should be.
    pub fn oddity(&self) -> Option<&'static str> {
        let said = u64::try_from(self.duration_s).unwrap_or(0);
        if said == 0 {
            return Some("leaseDurationSeconds is not positive: our own duration counts");
        }
        if said > LONGEST_DURATION.as_secs() {
            return Some("leaseDurationSeconds is absurd: 60 s count");
        }
        if self.holder.is_none() && !self.is_released() {
            return Some("holderIdentity is gone though nobody released it: it is waited out");
        }
        (self.transitions < 0).then_some("leaseTransitions is negative: it counts as 0")
    }
}

/// What the Lease object should say. The time stamps in it are the writer's own affair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseWish {
    /// Who holds it from now on; `None`: released.
    pub holder: Option<Arc<str>>,
    /// Its duration in seconds, ≥ 1.
    pub duration_s: i32,
    /// How often it went from one holder to another, ≥ 0.
    pub transitions: i32,
    /// Whether the holder is a new one, so that the time of acquisition is now.
    pub acquires: bool,
}

/// A request that the outside must send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseAction {
    /// Read the object.
    Read,
    /// Make the object.
    Create(LeaseWish),
    /// Replace the object, if it still has this version.
    Update(LeaseWish, Arc<str>),
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseAnswer {
    /// What the object says: read, or stored just now.
    Found(LeaseRecord),
    /// There is no such object.
    Absent,
    /// The object has another version, or exists already.
    Conflict,
    /// Nothing that tells what the object says, in time; a write may or may not have been stored.
    Failed,
}

/// What an election is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseEvent {
    /// The request under way was answered, or given up after [`LeaseTiming::request_limit`].
    Answered(LeaseAnswer),
    /// Stop leading for good, and leave the lease to others at once.
    Release,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Nothing,
    Absent,
    Record(LeaseRecord),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Read,
    Hold,
    Release,
}

/// The end of an election by [`LeaseEvent::Release`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Releasing,
    Over,
}

/// One process's part in an election.
#[derive(Clone, Debug)]
pub struct Election {
    identity: Arc<str>,
    timing: LeaseTiming,
    seen: Seen,
    /// Until when another process may believe that it leads, by what was seen.
    others_until: Option<Timestamp>,
    /// Until when this process leads.
    term: Option<Timestamp>,
    under_way: Option<(Ask, Timestamp)>,
    last_sent: Option<Timestamp>,
    next: Timestamp,
    /// Whether the next request writes, under what was seen last.
    writes_next: bool,
    /// Whether a write met a conflict since one was stored.
    met_conflict: bool,
    phase: Phase,
}

impl Election {
    /// A process that has asked nothing yet. `identity` must not be any other process's, not even an
    /// earlier one's.
    pub fn new(now: Timestamp, identity: Arc<str>, timing: LeaseTiming) -> Self {
        Self {
            identity,
            timing,
            seen: Seen::Nothing,
            others_until: None,
            term: None,
            under_way: None,
            last_sent: None,
            next: now,
            writes_next: false,
            met_conflict: false,
            phase: Phase::Running,
        }
    }

    /// The end of this process's lead if it leads at `now`. It moves with each renewal. Ask at the moment
    /// of acting, with the time of that moment.
    pub fn leads_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.term.filter(|end| now < *end && self.phase == Phase::Running)
    }

    /// Who held the lease when it was last read.
    pub fn holder(&self) -> Option<&Arc<str>> {
        match &self.seen {
            Seen::Record(record) => record.holder.as_ref(),
            Seen::Nothing | Seen::Absent => None,
        }
    }

    /// How often the lease changed hands when it was last read; `None` before that.
    pub fn transitions(&self) -> Option<i32> {
        match &self.seen {
            Seen::Record(record) => Some(record.transitions),
            Seen::Nothing | Seen::Absent => None,
        }
    }

    /// Whether a release is complete: nothing more will be asked.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// The request that is due at `now`, if one is. Its answer is waited for before there is another.
    pub fn poll_action(&mut self, now: Timestamp) -> Option<LeaseAction> {
        self.expire(now);
        if self.under_way.is_some() || self.phase == Phase::Over || now < self.due() {
            return None;
        }
        let (ask, action) = self.choose();
        self.under_way = Some((ask, now));
        self.last_sent = Some(now);
        Some(action)
    }

    /// When something happens by itself next: a request falls due, or the lead ends. `None`: only an
    /// answer matters.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let idle = self.under_way.is_none() && self.phase != Phase::Over;
        let due = idle.then(|| self.due());
        self.term.into_iter().chain(due).min()
    }

    /// Takes over what happened at `now`.
    pub fn handle(&mut self, now: Timestamp, event: LeaseEvent) {
        self.expire(now);
        match event {
            LeaseEvent::Answered(answer) => {
                if let Some((ask, sent)) = self.under_way.take() {
                    self.answered(now, ask, sent, answer);
                }
            }
            LeaseEvent::Release => self.release(now),
        }
    }

    /// When the next request is due: at its time, or as soon as the lease may be free.
    fn due(&self) -> Timestamp {
        let free_at = self.others_until.filter(|at| self.last_sent.is_some_and(|sent| sent < *at));
        free_at.map_or(self.next, |at| at.min(self.next))
    }

    fn expire(&mut self, now: Timestamp) {
        if self.term.take_if(|end| *end <= now).is_some() {
            self.writes_next = false;
            self.next = self.next.min(now);
        }
    }

    fn choose(&self) -> (Ask, LeaseAction) {
        let releases = self.phase == Phase::Releasing;
        match &self.seen {
            Seen::Record(record) if self.writes_next => {
                let wish = if releases { released(record) } else { self.held(record) };
                let ask = if releases { Ask::Release } else { Ask::Hold };
                (ask, LeaseAction::Update(wish, record.version.clone()))
            }
            Seen::Absent if self.writes_next && !releases => {
                let holder = Some(self.identity.clone());
                let duration_s = self.timing.duration_s();
                let wish = LeaseWish { holder, duration_s, transitions: 0, acquires: true };
                (Ask::Hold, LeaseAction::Create(wish))
            }
            _ => (Ask::Read, LeaseAction::Read),
        }
    }

    fn held(&self, record: &LeaseRecord) -> LeaseWish {
        let acquires = !self.is_mine(record);
        LeaseWish {
            holder: Some(self.identity.clone()),
            duration_s: self.timing.duration_s(),
            transitions: record.transitions.max(0).saturating_add(i32::from(acquires)),
            acquires,
        }
    }

    fn is_mine(&self, record: &LeaseRecord) -> bool {
        record.holder.as_ref() == Some(&self.identity)
    }

    fn release(&mut self, now: Timestamp) {
        if self.phase != Phase::Running {
            return;
        }
        self.term = None;
        let may_hold = match &self.seen {
            Seen::Record(record) => self.is_mine(record),
            Seen::Nothing | Seen::Absent => false,
        };
        // A request under way may still make us the holder.
        let writes = self.under_way.is_some_and(|(ask, _)| ask == Ask::Hold);
        self.phase = if may_hold || writes { Phase::Releasing } else { Phase::Over };
        self.writes_next = may_hold;
        self.others_until = None;
        self.next = now;
    }

    fn answered(&mut self, now: Timestamp, ask: Ask, sent: Timestamp, answer: LeaseAnswer) {
        let again = later(sent, self.timing.retry);
        match answer {
            LeaseAnswer::Found(record) if ask == Ask::Read => {
                self.observe(now, Some(record));
                self.conclude(now, again);
            }
            LeaseAnswer::Found(record) => self.stored(now, ask, sent, record),
            LeaseAnswer::Absent => {
                // If somebody deleted the object, what we held is gone.
                self.observe(now, None);
                self.term = None;
                self.conclude(now, again);
            }
            LeaseAnswer::Conflict => {
                self.writes_next = false;
                let urgent = self.term.is_some() || self.is_releasing();
                let again_already = std::mem::replace(&mut self.met_conflict, true);
                self.next = if urgent && !again_already { now } else { again.max(now) };
            }
            LeaseAnswer::Failed => {
                // A holder tries the same again: a conflict then tells whether it was stored.
                self.writes_next &= self.term.is_some() || self.is_releasing();
                self.next = again.max(now);
            }
        }
    }

    fn is_releasing(&self) -> bool {
        self.phase == Phase::Releasing
    }

    /// What follows from a read: write at once, or look again later.
    fn conclude(&mut self, now: Timestamp, again: Timestamp) {
        let mine = matches!(&self.seen, Seen::Record(record) if self.is_mine(record));
        if self.is_releasing() {
            self.writes_next = mine;
            self.next = now;
            if !mine {
                self.phase = Phase::Over;
            }
            return;
        }
        if !mine {
            self.term = None;
        }
        self.writes_next = self.others_until.is_none_or(|end| end <= now);
        self.next = if self.writes_next { now } else { again.max(now) };
    }

    /// Our write was stored, at some moment after `sent`.
    fn stored(&mut self, now: Timestamp, ask: Ask, sent: Timestamp, record: LeaseRecord) {
        self.seen = Seen::Record(record);
        self.others_until = None;
        self.writes_next = true;
        self.met_conflict = false;
        match (ask, self.phase) {
            (Ask::Release, _) => self.phase = Phase::Over,
            (_, Phase::Releasing) => self.next = now,
            _ => {
                let end = later(sent, self.timing.renew_deadline);
                self.term = (now < end).then_some(end);
                self.next = later(sent, self.timing.retry).max(now);
            }
        }
    }

    /// Notes what a read says, and until when another process may go by it.
    fn observe(&mut self, now: Timestamp, record: Option<LeaseRecord>) {
        let seen = record.map_or(Seen::Absent, Seen::Record);
        let known = match (&self.seen, &seen) {
            (Seen::Record(old), Seen::Record(new)) => old.version == new.version,
            (old, new) => old == new,
        };
        let wait = match (&self.seen, &seen) {
            (_, Seen::Record(new)) if new.is_released() => {
                self.others_until = None;
                None
            }
            (_, Seen::Record(new)) if self.is_mine(new) => None,
            (_, Seen::Record(new)) => Some(self.duration_of(new)),
            // It was there and is not any more. Its holder may not know, unless that is surely us.
            (Seen::Record(old), Seen::Absent) if !self.is_mine(old) || self.term.is_none() => {
                Some(self.duration_of(old))
            }
            _ => None,
        };
        if let Some(wait) = wait.filter(|_| !known) {
            self.others_until = Some(later(now, wait));
        }
        self.seen = seen;
    }

    fn duration_of(&self, record: &LeaseRecord) -> Duration {
        let said = u64::try_from(record.duration_s).unwrap_or(0);
        let shortest = self.timing.duration;
        Duration::from_secs(said).clamp(shortest, LONGEST_DURATION.max(shortest))
    }
}

fn released(record: &LeaseRecord) -> LeaseWish {
    LeaseWish {
        holder: None,
        duration_s: RELEASED_DURATION_S,
        transitions: record.transitions.max(0),
        acquires: false,
    }
}

#[cfg(test)]
mod tests;
