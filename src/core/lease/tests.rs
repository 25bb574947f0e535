//! Several processes in virtual time, over an API server that loses, delays and answers late.

use proptest::prelude::*;

use super::*;

const TIMING: LeaseTiming = LeaseTiming::DEFAULT;
/// One step of the simulation, in milliseconds of true time.
const STEP: i64 = 10;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + ms).unwrap()
}

fn record(holder: Option<&str>, duration_s: i32, version: &str) -> LeaseRecord {
    LeaseRecord {
        holder: holder.map(Arc::from),
        duration_s,
        transitions: 3,
        version: version.into(),
    }
}

fn election(name: &str) -> Election {
    Election::new(at(0), name.into(), TIMING)
}

fn tell(election: &mut Election, ms: i64, answer: LeaseAnswer) {
    election.handle(at(ms), LeaseEvent::Answered(answer));
}

/// Polls at `ms`: `-` for nothing, `read`, `create NAME`, `update NAME @VERSION #TRANSITIONS`.
fn asks(election: &mut Election, ms: i64) -> String {
    let name = |wish: &LeaseWish| wish.holder.as_deref().unwrap_or("nobody").to_owned();
    match election.poll_action(at(ms)) {
        None => "-".to_owned(),
        Some(LeaseAction::Read) => "read".to_owned(),
        Some(LeaseAction::Create(wish)) => format!("create {}", name(&wish)),
        Some(LeaseAction::Update(wish, version)) => {
            format!("update {} @{version} #{}", name(&wish), wish.transitions)
        }
    }
}

/// An election that holds the lease since 0, under version 1.
fn holder() -> Election {
    let mut election = election("a");
    assert_eq!(asks(&mut election, 0), "read");
    tell(&mut election, 0, LeaseAnswer::Absent);
    assert_eq!(asks(&mut election, 0), "create a");
    tell(&mut election, 0, LeaseAnswer::Found(record(Some("a"), 4, "1")));
    assert_eq!(election.leads_until(at(0)), Some(at(2800)));
    election
}

#[test]
fn the_first_process_makes_the_lease_and_renews_it() {
    let mut election = holder();
    assert_eq!((election.poll_timeout(), asks(&mut election, 599)), (Some(at(600)), "-".into()));
    assert_eq!(asks(&mut election, 600), "update a @1 #3");
    assert_eq!(asks(&mut election, 1300), "-", "one request at a time");
    tell(&mut election, 1400, LeaseAnswer::Found(record(Some("a"), 4, "2")));
    assert_eq!(election.leads_until(at(1400)), Some(at(600 + 2800)), "counts from the sending");
    assert_eq!(asks(&mut election, 1400), "update a @2 #3");
}

#[test]
fn a_holder_without_answers_stops_by_itself() {
    let mut election = holder();
    for ms in [600, 2000] {
        assert_eq!(asks(&mut election, ms), "update a @1 #3");
        tell(&mut election, ms + 1400, LeaseAnswer::Failed);
    }
    assert_eq!(election.leads_until(at(2799)), None, "the answer at 3400 came after the end");
    assert_eq!(asks(&mut election, 3400), "read");
    tell(&mut election, 3401, LeaseAnswer::Found(record(Some("a"), 4, "2")));
    assert_eq!(
        asks(&mut election, 3401),
        "update a @2 #3",
        "a stored renewal whose answer was lost"
    );
    tell(&mut election, 3402, LeaseAnswer::Found(record(Some("a"), 4, "3")));
    assert_eq!(election.leads_until(at(3402)), Some(at(3401 + 2800)));
}

#[test]
fn an_answer_after_the_deadline_gives_no_lead() {
    let mut election = holder();
    assert_eq!(asks(&mut election, 600), "update a @1 #3");
    // Frozen until then.
    tell(&mut election, 60_000, LeaseAnswer::Found(record(Some("a"), 4, "2")));
    assert_eq!(election.leads_until(at(60_000)), None);
    assert_eq!(asks(&mut election, 60_000), "update a @2 #3");
    tell(&mut election, 60_001, LeaseAnswer::Conflict);
    assert_eq!(asks(&mut election, 60_600), "read");
    tell(&mut election, 60_601, LeaseAnswer::Found(record(Some("b"), 4, "9")));
    assert_eq!(election.leads_until(at(60_601)), None);
    assert_eq!(asks(&mut election, 60_602), "-");
}

#[test]
fn a_deleted_lease_is_made_again_at_once_only_by_who_surely_leads() {
    let mut election = holder();
    assert_eq!(asks(&mut election, 600), "update a @1 #3");
    tell(&mut election, 810, LeaseAnswer::Absent);
    assert_eq!(election.leads_until(at(810)), None);
    assert_eq!(asks(&mut election, 810), "create a");

    // Frozen for longer than its lead: another one may have held the lease before it was deleted.
    let mut election = holder();
    assert_eq!(asks(&mut election, 30_000), "read");
    tell(&mut election, 30_010, LeaseAnswer::Absent);
    assert_eq!(asks(&mut election, 30_010), "-");
    assert_eq!(asks(&mut election, 34_010), "read");
    tell(&mut election, 34_010, LeaseAnswer::Absent);
    assert_eq!(asks(&mut election, 34_010), "create a");
}

#[test]
fn a_conflict_is_read_at_once() {
    for (now_holds, leads) in [("a", true), ("b", false)] {
        let mut election = holder();
        assert_eq!(asks(&mut election, 600), "update a @1 #3");
        tell(&mut election, 810, LeaseAnswer::Conflict);
        assert_eq!(asks(&mut election, 810), "read");
        tell(&mut election, 820, LeaseAnswer::Found(record(Some(now_holds), 4, "7")));
        assert_eq!(election.leads_until(at(820)).is_some(), leads, "{now_holds}");
        let next = if leads { "update a @7 #3" } else { "-" };
        assert_eq!(asks(&mut election, 820), next);
        // Somebody who keeps editing the object is not answered in a storm.
        if leads {
            tell(&mut election, 830, LeaseAnswer::Conflict);
            assert_eq!(asks(&mut election, 1419), "-");
            assert_eq!(asks(&mut election, 1420), "read");
        }
    }
}

/// A rival that saw `records` at their times: when it first writes its own name.
fn takes_at(records: &[(i64, Option<LeaseRecord>)]) -> Option<i64> {
    let mut election = election("me");
    for ms in (0..100_000).step_by(10) {
        let seen =
            records.iter().rev().find(|(from, _)| *from <= ms).and_then(|(_, seen)| seen.clone());
        match asks(&mut election, ms).as_str() {
            "read" => {
                let answer = seen.map_or(LeaseAnswer::Absent, LeaseAnswer::Found);
                tell(&mut election, ms, answer);
            }
            "-" => {}
            _ => return Some(ms),
        }
        if !asks(&mut election, ms).starts_with(['-', 'r']) {
            return Some(ms);
        }
    }
    None
}

#[test]
fn a_rival_waits_for_what_it_saw() {
    let held = |duration_s, version| Some(record(Some("b"), duration_s, version));
    let nobody = |duration_s, version| Some(record(None, duration_s, version));
    for (what, records, taken) in [
        ("no object at all", vec![(0, None)], 0),
        ("released", vec![(0, nobody(1, "1"))], 0),
        ("held and never renewed", vec![(0, held(4, "1"))], 4000),
        ("renewed once", vec![(0, held(4, "1")), (3000, held(4, "2"))], 7000),
        ("then released", vec![(0, held(4, "1")), (3000, nobody(1, "2"))], 3000),
        ("a longer duration", vec![(0, held(9, "1"))], 9000),
        ("an absurd duration", vec![(0, held(i32::MAX, "1"))], 60_000),
        ("a negative duration", vec![(0, held(-1, "1"))], 4000),
        ("a name wiped out by hand", vec![(0, held(4, "1")), (2000, nobody(4, "2"))], 6400),
        ("deleted by hand", vec![(0, held(4, "1")), (2000, None)], 6400),
        (
            "our own name by hand",
            vec![(0, held(4, "1")), (90, Some(record(Some("me"), 4, "2")))],
            4000,
        ),
    ] {
        assert_eq!(takes_at(&records), Some(taken), "{what}");
    }
}

#[test]
fn a_release_is_told_to_all_or_needs_nothing() {
    let mut election = holder();
    election.handle(at(100), LeaseEvent::Release);
    assert_eq!(election.leads_until(at(100)), None);
    assert_eq!(asks(&mut election, 100), "update nobody @1 #3");
    tell(&mut election, 101, LeaseAnswer::Conflict);
    assert_eq!(asks(&mut election, 101), "read");
    tell(&mut election, 102, LeaseAnswer::Found(record(Some("a"), 4, "2")));
    assert_eq!(asks(&mut election, 102), "update nobody @2 #3");
    tell(&mut election, 103, LeaseAnswer::Found(record(None, 1, "3")));
    assert!(election.is_over() && asks(&mut election, 9999) == "-");

    let mut standby = self::election("b");
    assert_eq!(asks(&mut standby, 0), "read");
    tell(&mut standby, 0, LeaseAnswer::Found(record(Some("a"), 4, "1")));
    standby.handle(at(1), LeaseEvent::Release);
    assert!(standby.is_over(), "nothing to release");

    // What is under way when the release comes is waited for.
    let mut late = self::election("c");
    assert_eq!(asks(&mut late, 0), "read");
    tell(&mut late, 0, LeaseAnswer::Absent);
    assert_eq!(asks(&mut late, 0), "create c");
    late.handle(at(1), LeaseEvent::Release);
    assert_eq!(asks(&mut late, 1), "-");
    tell(&mut late, 2, LeaseAnswer::Found(record(Some("c"), 4, "1")));
    assert_eq!(late.leads_until(at(2)), None);
    assert_eq!(asks(&mut late, 2), "update nobody @1 #3");
}

/// What goes wrong, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// The process does not run; it goes on where it was.
    Frozen,
    /// Nothing of what it sends arrives.
    NoRequests,
    /// Everything arrives, no answer does.
    NoAnswers,
    /// What it sends is held back and arrives at the end.
    HeldBack,
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    Trouble(Trouble, i64),
    Crash,
    Release,
    /// Somebody deletes the object.
    Delete,
    /// Somebody wipes the holder's name out of the object.
    Wipe,
}

#[derive(Clone, Copy, Debug)]
struct Incident {
    at: i64,
    process: usize,
    deed: Deed,
}

/// A process with its own clock, which is off by any amount and too fast or slow by up to a tenth.
struct Process {
    election: Election,
    name: Arc<str>,
    offset: i64,
    speed: i64,
    number: u64,
    alive: bool,
    troubles: Vec<(i64, i64, Trouble)>,
    /// When the request under way was sent, by its own clock.
    sent: Option<i64>,
}

impl Process {
    fn clock(&self, now: i64) -> i64 {
        self.offset + now * self.speed / 100
    }

    fn suffers(&self, now: i64, trouble: Trouble) -> Option<i64> {
        let mut all = self.troubles.iter();
        all.find(|(from, to, what)| *what == trouble && (*from..*to).contains(&now)).map(|of| of.1)
    }

    fn believes(&self, now: i64) -> bool {
        self.alive && self.election.leads_until(at(self.clock(now))).is_some()
    }
}

enum Parcel {
    Request(LeaseAction),
    Answer(LeaseAnswer),
}

/// On its way: when it arrives, whose it is, the number of its request.
struct Travelling {
    at: i64,
    process: usize,
    number: u64,
    parcel: Parcel,
}

struct World {
    now: i64,
    processes: Vec<Process>,
    object: Option<LeaseRecord>,
    version: u64,
    travelling: Vec<Travelling>,
    random: u64,
    slowest: u64,
}

impl World {
    fn new(clocks: &[(i64, i64)], seed: u64, slowest: u64, timing: LeaseTiming) -> Self {
        let processes = clocks.iter().enumerate().map(|(number, &(offset, speed))| {
            let name: Arc<str> = format!("p{number}").into();
            let election = Election::new(at(offset), name.clone(), timing);
            let (number, alive, troubles, sent) = (0, true, Vec::new(), None);
            Process { election, name, offset, speed, number, alive, troubles, sent }
        });
        let (processes, travelling) = (processes.collect(), Vec::new());
        Self { now: 0, processes, object: None, version: 0, travelling, random: seed | 1, slowest }
    }

    /// Xorshift: the next delay of a message, in milliseconds.
    fn delay(&mut self) -> i64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        i64::try_from(self.random % (self.slowest + 1)).unwrap()
    }

    fn serve(&mut self, action: LeaseAction) -> LeaseAnswer {
        let wish = match (action, &self.object) {
            (LeaseAction::Read, Some(object)) => return LeaseAnswer::Found(object.clone()),
            (LeaseAction::Read | LeaseAction::Update(..), None) => return LeaseAnswer::Absent,
            (LeaseAction::Create(_), Some(_)) => return LeaseAnswer::Conflict,
            (LeaseAction::Update(_, version), Some(object)) if version != object.version => {
                return LeaseAnswer::Conflict;
            }
            (LeaseAction::Create(wish) | LeaseAction::Update(wish, _), _) => wish,
        };
        let LeaseWish { holder, duration_s, transitions, .. } = wish;
        self.version += 1;
        let version = self.version.to_string().into();
        let object = LeaseRecord { holder, duration_s, transitions, version };
        self.object = Some(object.clone());
        LeaseAnswer::Found(object)
    }

    fn does(&mut self, incident: Incident) {
        let now = self.now;
        let process = &mut self.processes[incident.process];
        match incident.deed {
            Deed::Trouble(what, length) => process.troubles.push((now, now + length, what)),
            Deed::Crash => process.alive = false,
            Deed::Release => {
                let local = at(process.clock(now));
                process.election.handle(local, LeaseEvent::Release);
            }
            // Who saw no holder cannot tell a deleted lease from one that never was.
            Deed::Delete if self.processes.iter().any(|of| of.election.transitions().is_none()) => {
            }
            Deed::Delete => self.object = None,
            Deed::Wipe => {
                self.version += 1;
                let version: Arc<str> = self.version.to_string().into();
                self.object =
                    self.object.take().map(|old| LeaseRecord { holder: None, version, ..old });
            }
        }
    }

    fn deliver(&mut self) {
        let now = self.now;
        let (due, rest) =
            self.travelling.drain(..).partition(|parcel: &Travelling| parcel.at <= now);
        self.travelling = rest;
        let mut due: Vec<Travelling> = due;
        due.sort_by_key(|parcel| parcel.at);
        for Travelling { process, number, parcel, .. } in due {
            match parcel {
                Parcel::Request(action) => {
                    let answer = self.serve(action);
                    if self.processes[process].suffers(now, Trouble::NoAnswers).is_none() {
                        let (at, parcel) = (now + self.delay(), Parcel::Answer(answer));
                        self.travelling.push(Travelling { at, process, number, parcel });
                    }
                }
                Parcel::Answer(answer) => {
                    let of = &mut self.processes[process];
                    if let Some(end) = of.suffers(now, Trouble::Frozen) {
                        let parcel = Parcel::Answer(answer);
                        self.travelling.push(Travelling { at: end, process, number, parcel });
                    } else if of.sent.is_some() && of.number == number {
                        of.sent = None;
                        let local = at(of.clock(now));
                        of.election.handle(local, LeaseEvent::Answered(answer));
                    }
                }
            }
        }
    }

    fn run_process(&mut self, index: usize) {
        let now = self.now;
        let delay = self.delay();
        let process = &mut self.processes[index];
        if !process.alive || process.suffers(now, Trouble::Frozen).is_some() {
            return;
        }
        let local = process.clock(now);
        let limit = i64::try_from(TIMING.request_limit().as_millis()).unwrap();
        if process.sent.is_some_and(|sent| local >= sent + limit) {
            process.sent = None;
            process.election.handle(at(local), LeaseEvent::Answered(LeaseAnswer::Failed));
        }
        let Some(action) = process.election.poll_action(at(local)) else { return };
        process.number += 1;
        process.sent = Some(local);
        if process.suffers(now, Trouble::NoRequests).is_none() {
            let at = process.suffers(now, Trouble::HeldBack).unwrap_or(now) + delay;
            let (number, parcel) = (process.number, Parcel::Request(action));
            self.travelling.push(Travelling { at, process: index, number, parcel });
        }
    }

    /// Goes on until `end`; returns the first moment at which two believed to lead.
    fn run(&mut self, end: i64, incidents: &[Incident]) -> Option<i64> {
        while self.now < end {
            self.now += STEP;
            let now = self.now;
            let happening = incidents.iter().filter(|of| of.at <= now && of.at > now - STEP);
            for incident in happening {
                self.does(*incident);
            }
            self.deliver();
            for index in 0..self.processes.len() {
                self.run_process(index);
            }
            if self.leaders().len() > 1 {
                return Some(now);
            }
        }
        None
    }

    fn leaders(&self) -> Vec<usize> {
        (0..self.processes.len()).filter(|of| self.processes[*of].believes(self.now)).collect()
    }
}

fn incident() -> impl Strategy<Value = Incident> {
    let trouble = prop_oneof![
        Just(Trouble::Frozen),
        Just(Trouble::NoRequests),
        Just(Trouble::NoAnswers),
        Just(Trouble::HeldBack),
    ];
    let deed = prop_oneof![
        8 => (trouble, 100..15_000_i64).prop_map(|(what, length)| Deed::Trouble(what, length)),
        1 => Just(Deed::Crash),
        1 => Just(Deed::Release),
        1 => Just(Deed::Delete),
        1 => Just(Deed::Wipe),
    ];
    (0..40_000_i64, 0..3_usize, deed).prop_map(|(at, process, deed)| Incident { at, process, deed })
}

fn clocks() -> impl Strategy<Value = Vec<(i64, i64)>> {
    proptest::collection::vec((-3_600_000..3_600_000_i64, 90..=110_i64), 2..=3)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn never_two_lead_at_once_and_one_does_in_the_end(
        clocks in clocks(),
        incidents in proptest::collection::vec(incident(), 0..8),
        seed in any::<u64>(),
        slowest in prop_oneof![Just(20_u64), Just(300), Just(1200)],
    ) {
        let mut world = World::new(&clocks, seed, slowest, TIMING);
        let mut incidents = incidents;
        for incident in &mut incidents {
            incident.process %= clocks.len();
        }
        prop_assert_eq!(world.run(60_000, &incidents), None);
        // All troubles are over at 55 s; a deed at 40 s delays nobody for longer than that.
        world.slowest = 20;
        prop_assert_eq!(world.run(90_000, &[]), None);
        let left = world.processes.iter().any(|of| of.alive && of.election.phase == Phase::Running);
        prop_assert_eq!(world.leaders().len(), usize::from(left));
    }
}

#[test]
fn the_simulation_would_notice_two() {
    let timing = LeaseTiming { renew_deadline: Duration::from_secs(8), ..TIMING };
    let mut world = World::new(&[(0, 100), (77, 100)], 1, 20, timing);
    assert_eq!(world.run(10_000, &[]), None);
    let process = world.leaders()[0];
    let deed = Deed::Trouble(Trouble::NoRequests, 30_000);
    let both = world.run(40_000, &[Incident { at: 10_005, process, deed }]);
    assert!(both.is_some());
}

/// A world of three in which one leads, at `ms` of true time, and which one.
fn settled(ms: i64) -> (World, usize) {
    let mut world = World::new(&[(0, 100), (500_000, 100), (-7_000, 100)], 7, 20, TIMING);
    assert_eq!(world.run(ms, &[]), None);
    let leaders = world.leaders();
    assert_eq!(leaders.len(), 1);
    (world, leaders[0])
}

/// How long after `deed` of the holder another one leads.
fn successor_after(ms: i64, deed: Deed) -> i64 {
    let (mut world, process) = settled(ms);
    let incident = Incident { at: ms + STEP, process, deed };
    assert_eq!(world.run(ms + STEP, &[incident]), None);
    while world.leaders().is_empty() || world.leaders() == [process] {
        assert_eq!(world.run(world.now + STEP, &[]), None);
        assert!(world.now < ms + 30_000, "nobody leads");
    }
    world.now - ms
}

#[test]
fn a_crash_is_made_good_within_the_duration_and_a_retry() {
    let limit = i64::try_from((TIMING.duration + TIMING.retry).as_millis()).unwrap() + 100;
    assert!(limit <= 5_000, "{limit} ms");
    for ms in (10_000..12_000).step_by(90) {
        for deed in [Deed::Crash, Deed::Trouble(Trouble::NoRequests, 60_000)] {
            let took = successor_after(ms, deed);
            assert!((3_200..=limit).contains(&took), "{deed:?} at {ms}: {took} ms");
        }
    }
}

#[test]
fn a_release_hands_over_within_a_retry() {
    let limit = i64::try_from(TIMING.retry.as_millis()).unwrap() + 150;
    for ms in (10_000..12_000).step_by(90) {
        let took = successor_after(ms, Deed::Release);
        assert!(took <= limit, "at {ms}: {took} ms");
    }
}

#[test]
fn a_frozen_holder_wakes_without_the_lead() {
    let (mut world, process) = settled(10_000);
    let deed = Deed::Trouble(Trouble::Frozen, 20_000);
    assert_eq!(world.run(30_000, &[Incident { at: 10_005, process, deed }]), None);
    let successor = world.leaders()[0];
    assert_ne!(successor, process);
    assert_eq!(world.run(60_000, &[]), None);
    assert_eq!(world.leaders(), [successor], "the one that woke stands by");
    let held = world.processes[successor].name.clone();
    assert_eq!(world.processes[process].election.holder(), Some(&held));
    assert_eq!(world.object.as_ref().unwrap().transitions, 1);
}

/// The rule of client-go, and the promises of `docs/high-availability.md`.
#[test]
fn the_spans_keep_their_promises() {
    assert!(TIMING.retry.mul_f64(1.2) < TIMING.renew_deadline);
    assert!(TIMING.renew_deadline < TIMING.duration);
    let slack = TIMING.duration.as_secs_f64() / TIMING.renew_deadline.as_secs_f64();
    assert!(slack >= 1.4, "clocks may differ by 40 %, not by {slack}");
    assert_eq!(TIMING.duration.subsec_nanos(), 0, "the object counts whole seconds");
    // The rest of five seconds is for the requests.
    assert!(TIMING.duration + TIMING.retry <= Duration::from_millis(4_600));
}

#[test]
fn what_no_podswell_writes_is_named() {
    for (written, odd) in [
        (record(Some("a_0123abcd"), 4, "1"), None),
        (record(None, 1, "1"), None),
        (record(Some("a_0123abcd"), -1, "1"), Some("leaseDurationSeconds")),
        (record(Some("a_0123abcd"), 0, "1"), Some("leaseDurationSeconds")),
        (record(Some("a_0123abcd"), i32::MAX, "1"), Some("leaseDurationSeconds")),
        (record(None, 4, "1"), Some("holderIdentity")),
        (LeaseRecord { transitions: -3, ..record(Some("a"), 4, "1") }, Some("leaseTransitions")),
    ] {
        let oddity = written.oddity();
        assert_eq!(oddity.and_then(|text| text.split(' ').next()), odd, "{written:?}");
    }
}
