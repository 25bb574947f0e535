use std::net::IpAddr;

use super::*;

fn t(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + millis).unwrap()
}

const PERIOD: Duration = Duration::from_secs(1);

fn wiring(format: ScrapeFormat) -> Arc<Wiring> {
    Arc::new(Wiring {
        scrape: Some(ScrapeSpec { port: 9090, path: "/metrics".into(), format }),
        stable_window: Duration::from_secs(60),
        ..Wiring::default()
    })
}

fn requests() -> ScrapeFormat {
    ScrapeFormat::Requests { metric: "x".into() }
}

fn pod(name: &str) -> PodFacts {
    PodFacts {
        name: name.into(),
        ip: Some(IpAddr::from([10, 0, 0, 1])),
        ready: true,
        terminating: false,
        started_at: Some(t(-100_000)),
        unready_since: None,
    }
}

fn watched(pods: Vec<PodFacts>) -> Watched {
    let mut watched = Watched::new(t(0));
    watched.update(&wiring(requests()), &Arc::new(pods), false);
    watched
}

fn value(seen: f64, missing: u32) -> Outcome {
    Outcome::Sampled(Reading::Value { seen, missing })
}

type Page<'a> = (&'a ScrapeFormat, &'a str, Result<Answer, SourceFault>);

#[test]
fn pages_of_every_format() {
    let in_flight = ScrapeFormat::InFlight { metric: "g".into() };
    let pair = ScrapeFormat::StartedFinished { started: "s".into(), finished: "f".into() };
    let cases: &[Page<'_>] = &[
        (&in_flight, "g 3\n", Ok(Answer::Load(3.0))),
        (&in_flight, "# TYPE g gauge\n", Ok(Answer::Load(0.0))),
        (&in_flight, "h 3\n", Ok(Answer::Blank)),
        (&in_flight, "<html>", Err(SourceFault::Malformed)),
        (&requests(), "x{code=\"200\"} 3\nx{code=\"500\"} 1\n", Ok(Answer::Count(4.0))),
        (&requests(), "# TYPE x counter\n", Ok(Answer::Count(0.0))),
        (&requests(), "", Ok(Answer::Blank)),
        (&requests(), "x NaN\n", Err(SourceFault::InvalidSample)),
        (&pair, "s 5\nf 3\n", Ok(Answer::Load(2.0))),
        (&pair, "s 5\nf 6\n", Ok(Answer::Load(0.0))),
        (&pair, "s 5\n", Ok(Answer::Load(5.0))),
        (&pair, "f 5\n", Ok(Answer::Blank)),
        (&ScrapeFormat::QueueProxy, "", Ok(Answer::Load(0.0))),
        (&ScrapeFormat::QueueProxy, "g 3\n", Err(SourceFault::Malformed)),
    ];
    for (format, page, expected) in cases {
        let answer = read(page.as_bytes(), format, ScalingMetric::Concurrency);
        assert_eq!(answer, *expected, "{page:?}");
    }
}

#[test]
fn a_silent_pod_keeps_its_value_for_three_rounds() {
    let mut watched = watched(vec![pod("a"), pod("b")]);
    let mut outcomes = Vec::new();
    for round in 0..6 {
        let at = t(round * 1_000);
        watched.heard(0, at, Ok(Answer::Load(1.0)), PERIOD);
        let b = if round == 0 { Ok(Answer::Load(4.0)) } else { Err(SourceFault::Timeout) };
        watched.heard(1, at, b, PERIOD);
        outcomes.push(watched.combine(at, 2));
    }
    let full = value(5.0, 0);
    assert_eq!(outcomes, [full, full, full, full, value(1.0, 1), value(1.0, 1)]);
    // When nothing at all is known any more there is no sample.
    for round in 6..12 {
        for pod in 0..2 {
            watched.heard(pod, t(round * 1_000), Err(SourceFault::BadStatus), PERIOD);
        }
    }
    assert_eq!(watched.combine(t(12_000), 2), Outcome::Failed(SourceFault::BadStatus));
}

#[test]
fn a_pod_that_claims_too_much_is_refused_alone() {
    let mut watched = watched(vec![pod("a"), pod("liar")]);
    let mut wiring = Wiring::clone(&watched.wiring);
    wiring.most_per_pod = Some(1_000);
    watched.wiring = Arc::new(wiring);
    for round in 0..2 {
        let at = t(round * 1_000);
        assert_eq!(watched.heard(0, at, Ok(Answer::Load(1_000.0)), PERIOD), None);
        let fault = watched.heard(1, at, Ok(Answer::Load(1_000.5)), PERIOD);
        assert_eq!(fault, Some(SourceFault::Implausible));
        assert_eq!(watched.combine(at, 2), value(1_000.0, 1));
        let blamed: Vec<_> = watched.blamed().map(|pod| (pod.name, pod.fault)).collect();
        assert_eq!(blamed, [("liar".into(), SourceFault::Implausible)]);
    }
    // A counter's leap is no load either, and its next step is measured from there.
    let leap = [(0, 0.0), (1_000, 1e9), (2_000, 1e9 + 7.0)];
    let faults: Vec<_> = leap
        .iter()
        .map(|(at, count)| watched.heard(0, t(10_000 + at), Ok(Answer::Count(*count)), PERIOD))
        .collect();
    assert_eq!(faults, [None, Some(SourceFault::Implausible), None]);
}

#[test]
fn which_pods_count_as_missing() {
    let unready = |name: &str, since: Option<i64>, terminating| PodFacts {
        ready: false,
        terminating,
        unready_since: since.map(t),
        ..pod(name)
    };
    let cases: &[(&str, PodFacts, u32)] = &[
        ("ready without an answer", pod("b"), 1),
        ("never was ready", unready("b", None, false), 0),
        ("was ready a minute ago", unready("b", Some(-60_000), false), 1),
        ("was ready earlier", unready("b", Some(-60_001), false), 0),
        ("terminating", unready("b", Some(-1_000), true), 0),
        ("ready and terminating", PodFacts { terminating: true, ..pod("b") }, 0),
        ("ready without an address", PodFacts { ip: None, ..pod("b") }, 1),
    ];
    for (name, other, missing) in cases {
        let mut watched = watched(vec![pod("a"), other.clone()]);
        watched.heard(0, t(0), Ok(Answer::Load(2.0)), PERIOD);
        watched.heard(1, t(0), Err(SourceFault::Timeout), PERIOD);
        assert_eq!(watched.combine(t(0), 2), value(2.0, *missing), "{name}");
    }
    let nobody = watched(vec![unready("b", Some(-1_000), false)]);
    assert_eq!(nobody.combine(t(0), 1), Outcome::Failed(SourceFault::Unreachable));
    assert_eq!(nobody.combine(t(0), 0), Outcome::Idle);
}

#[test]
fn counters_of_pods() {
    let young = PodFacts { started_at: Some(t(2_000)), ..pod("young") };
    let mut all = watched(vec![pod("a")]);
    all.heard(0, t(0), Ok(Answer::Count(1e6)), PERIOD);
    assert_eq!(all.combine(t(0), 1), Outcome::Sampled(Reading::Base));
    all.heard(0, t(1_000), Ok(Answer::Count(1e6 + 7.0)), PERIOD);
    assert_eq!(all.combine(t(1_000), 1), value(7.0, 0));
    // A pod that started while we watch begins at zero; one that is older has no rate yet.
    let pods = Arc::new(vec![pod("a"), pod("old"), young]);
    all.update(&wiring(requests()), &pods, false);
    all.heard(0, t(4_000), Ok(Answer::Count(1e6 + 13.0)), PERIOD);
    all.heard(1, t(4_000), Ok(Answer::Count(5e5)), PERIOD);
    all.heard(2, t(4_000), Ok(Answer::Count(6.0)), PERIOD);
    assert_eq!(all.combine(t(4_000), 3), value(2.0 + 3.0, 1));
    // A restart of the container counts the new value.
    all.heard(0, t(5_000), Ok(Answer::Count(4.0)), PERIOD);
    all.heard(1, t(5_000), Ok(Answer::Count(5e5)), PERIOD);
    all.heard(2, t(5_000), Ok(Answer::Count(6.0)), PERIOD);
    assert_eq!(all.combine(t(5_000), 3), value(4.0, 0));
}

#[test]
fn a_counter_that_appears_on_a_known_page_starts_at_zero() {
    let mut watched = watched(vec![pod("a")]);
    assert_eq!(watched.heard(0, t(0), Ok(Answer::Blank), PERIOD), Some(SourceFault::Empty));
    assert_eq!(watched.combine(t(0), 1), Outcome::Failed(SourceFault::Empty));
    assert_eq!(watched.heard(0, t(1_000), Ok(Answer::Count(5.0)), PERIOD), None);
    assert_eq!(watched.combine(t(1_000), 1), value(5.0, 0));
}

#[test]
fn history_belongs_to_pod_address_and_format() {
    let mut all = watched(vec![pod("a")]);
    all.heard(0, t(0), Ok(Answer::Load(2.0)), PERIOD);
    let same = |pods: Vec<PodFacts>, format| {
        let mut all = watched(vec![pod("a")]);
        all.heard(0, t(0), Ok(Answer::Load(2.0)), PERIOD);
        all.update(&wiring(format), &Arc::new(pods), false);
        all.combine(t(0), 1)
    };
    let moved = PodFacts { ip: Some(IpAddr::from([10, 0, 0, 2])), ..pod("a") };
    assert_eq!(same(vec![pod("a")], requests()), value(2.0, 0));
    assert_eq!(same(vec![moved], requests()), Outcome::Failed(SourceFault::Unreachable));
    assert_eq!(
        same(vec![pod("a")], ScrapeFormat::QueueProxy),
        Outcome::Failed(SourceFault::Unreachable)
    );
}

#[test]
fn refused_addresses_are_told_from_absent_ones() {
    for (ip, fault) in [
        (Some(IpAddr::from([169, 254, 169, 254])), SourceFault::AddressRefused),
        (Some(IpAddr::from([127, 0, 0, 1])), SourceFault::AddressRefused),
        (None, SourceFault::Unreachable),
    ] {
        let watched = watched(vec![PodFacts { ip, ..pod("a") }]);
        assert_eq!(watched.pods[0].place, Err(fault));
    }
}
