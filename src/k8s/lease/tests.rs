use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::super::testing::{Asked, Journal, Reply, api_server};
use super::*;

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/podswell-system/leases";

/// Engine time that goes as the test's timers do.
struct TimerClock(Instant);

impl Clock for TimerClock {
    fn now(&self) -> Timestamp {
        let start = Timestamp::from_second(1_700_000_000).unwrap();
        start.checked_add(self.0.elapsed()).unwrap()
    }

    fn wall(&self) -> Timestamp {
        // Its machine is an hour behind.
        self.now().checked_sub(Duration::from_secs(3600)).unwrap()
    }
}

/// An API server that keeps one Lease.
#[derive(Default)]
struct Store {
    object: Mutex<Option<Value>>,
    silent: AtomicBool,
    refuses: AtomicBool,
}

impl Store {
    fn answer(&self, asked: &Asked) -> Reply {
        let mut object = self.object.lock();
        let failure = |code: u16| {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                "message": "", "reason": "",
            });
            Reply::json(code, &status)
        };
        if self.refuses.load(Ordering::Relaxed) {
            return failure(403);
        }
        let version = |of: &Value| of["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        let known = object.as_ref().and_then(version);
        match (asked.method.as_str(), object.as_ref()) {
            ("GET", Some(object)) => return Reply::json(200, object),
            ("GET" | "PUT", None) => return failure(404),
            ("POST", Some(_)) => return failure(409),
            ("PUT", _) if version(&asked.body) != known => return failure(409),
            _ => {}
        }
        let mut stored = asked.body.clone();
        let next = known.map_or(1, |known| known.parse::<u32>().unwrap() + 1);
        stored["metadata"]["resourceVersion"] = next.to_string().into();
        *object = Some(stored.clone());
        Reply::json(200, &stored)
    }

    fn spec(&self) -> Value {
        self.object.lock().as_ref().map_or(Value::Null, |object| object["spec"].clone())
    }
}

struct Bench {
    store: Arc<Store>,
    client: Client,
    journal: Journal,
    clock: Arc<TimerClock>,
}

struct Running {
    leadership: Arc<Leadership>,
    events: mpsc::Receiver<Event>,
    states: Arc<Mutex<Vec<LeaseState>>>,
    clock: Arc<TimerClock>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Bench {
    fn new() -> Self {
        let store = Arc::<Store>::default();
        let serving = store.clone();
        let (client, journal) = api_server(move |asked| {
            let store = serving.clone();
            async move {
                if store.silent.load(Ordering::Relaxed) {
                    std::future::pending::<()>().await;
                }
                store.answer(&asked)
            }
        });
        Self { store, client, journal, clock: Arc::new(TimerClock(instant())) }
    }

    fn start(&self, identity: &str) -> Running {
        let (engine, events) = EngineHandle::channel();
        let (leadership, states) = (Arc::<Leadership>::default(), Arc::new(Mutex::default()));
        let shown: Arc<Mutex<Vec<LeaseState>>> = states.clone();
        let elector = Elector::new(Context {
            client: self.client.clone(),
            namespace: "podswell-system".to_owned(),
            identity: identity.into(),
            clock: self.clock.clone(),
            leadership: leadership.clone(),
            engine,
            peer: None,
            observer: Box::new(move |state| shown.lock().push(state)),
        });
        let stop = CancellationToken::new();
        let task = tokio::spawn(elector.run(stop.clone()));
        Running { leadership, events, states, clock: self.clock.clone(), stop, task }
    }
}

impl Running {
    fn leads(&self) -> bool {
        self.leadership.may_write(self.clock.now())
    }

    /// What the engine was told since the last call.
    fn told(&mut self) -> Vec<bool> {
        let mut told = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            if let Event::LeadershipChanged { leader } = event {
                told.push(leader);
            }
        }
        told
    }
}

async fn pass(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_made_renewed_and_released() {
    let bench = Bench::new();
    let mut running = bench.start("podswell-0_1");
    pass(100).await;
    assert!(running.leads());
    assert_eq!(running.told(), [true]);
    let spec = bench.store.spec();
    assert_eq!(
        (&spec["holderIdentity"], &spec["leaseDurationSeconds"], &spec["leaseTransitions"]),
        (&"podswell-0_1".into(), &4.into(), &0.into())
    );
    assert!(spec["acquireTime"] == spec["renewTime"], "{spec}");
    // What somebody else wrote into the object stays.
    bench.store.object.lock().as_mut().unwrap()["metadata"]["labels"] = json!({ "team": "x" });
    bench.store.object.lock().as_mut().unwrap()["metadata"]["resourceVersion"] = "41".into();
    pass(60_000).await;
    assert!(running.leads() && running.told().is_empty());
    let spec = bench.store.spec();
    assert!(spec["acquireTime"] != spec["renewTime"] && spec["leaseTransitions"] == 0, "{spec}");
    let asked = bench.journal.lock().len();
    assert!((95..115).contains(&asked), "{asked} requests in a minute");
    running.stop.cancel();
    (&mut running.task).await.unwrap();
    assert!(!running.leads());
    assert_eq!(running.told(), [false]);
    let object = bench.store.object.lock().clone().unwrap();
    assert_eq!(object["spec"]["holderIdentity"], Value::Null);
    assert_eq!(object["spec"]["leaseDurationSeconds"], 1);
    assert_eq!(object["metadata"]["labels"]["team"], "x");
    let lines: Vec<String> = bench.journal.lock().iter().take(3).map(Asked::line).collect();
    let one = format!("{PATH}/podswell");
    assert_eq!(lines, [format!("GET {one}"), format!("POST {PATH}"), format!("PUT {one}")]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_api_server_ends_the_lead_before_others_may_take_it() {
    let bench = Bench::new();
    let mut running = bench.start("a");
    pass(100).await;
    assert_eq!(running.told(), [true]);
    bench.store.silent.store(true, Ordering::Relaxed);
    pass(2800).await;
    assert!(!running.leads());
    pass(300).await;
    assert_eq!(running.told(), [false]);
    assert!(running.states.lock().iter().any(|state| state.fault == Some("Timeout")));
    bench.store.silent.store(false, Ordering::Relaxed);
    pass(3000).await;
    assert!(running.leads(), "nobody took it: the next answer gives it back");
    assert_eq!(running.told(), [true]);
    assert_eq!(running.states.lock().last().unwrap().fault, None);
    // A release that nobody answers does not hold up the end.
    bench.store.silent.store(true, Ordering::Relaxed);
    let before = instant();
    running.stop.cancel();
    (&mut running.task).await.unwrap();
    assert!(before.elapsed() <= Duration::from_millis(1100));
}

#[tokio::test(start_paused = true)]
async fn a_second_process_stands_by_and_takes_over() {
    let bench = Bench::new();
    let mut first = bench.start("a");
    pass(100).await;
    let mut second = bench.start("b");
    pass(20_000).await;
    assert!(first.leads() && !second.leads() && second.told().is_empty());
    assert_eq!(second.states.lock().last().unwrap().holder.as_deref(), Some("a"));
    first.stop.cancel();
    pass(1000).await;
    assert!(second.leads() && !first.leads());
    assert_eq!((first.told(), second.told()), (vec![true, false], vec![true]));
    assert_eq!(bench.store.spec()["leaseTransitions"], 1);
    // A crash: nothing is released.
    let third = bench.start("c");
    pass(2000).await;
    second.task.abort();
    pass(3000).await;
    assert!(!third.leads());
    pass(2000).await;
    assert!(third.leads(), "within five seconds");
}

/// Two processes while a hand edits the object: never do both lead, and in the end one does.
#[tokio::test(start_paused = true)]
async fn an_object_edited_by_hand_never_makes_two_writers() {
    let far = "9999-12-31T23:59:59.999999Z";
    for (what, spec, seconds) in [
        ("nothing in it", json!({}), 15),
        ("no spec", Value::Null, 15),
        ("a negative duration", json!({"holderIdentity": "x", "leaseDurationSeconds": -5}), 15),
        (
            "an absurd duration",
            json!({"holderIdentity": "x", "leaseDurationSeconds": i32::MAX}),
            70,
        ),
        ("a foreign holder", json!({"holderIdentity": "kubectl", "leaseDurationSeconds": 10}), 20),
        ("an empty holder", json!({"holderIdentity": "", "leaseDurationSeconds": 4}), 15),
        ("the other one", json!({"holderIdentity": "b", "leaseDurationSeconds": 4}), 15),
        (
            "absurd times",
            json!({"holderIdentity": "a", "leaseDurationSeconds": 4, "acquireTime": far,
                "renewTime": "0001-01-01T00:00:00.000000Z", "leaseTransitions": -7}),
            15,
        ),
        (
            "the end of counting",
            json!({"holderIdentity": "x", "leaseDurationSeconds": 4, "leaseTransitions": i32::MAX}),
            15,
        ),
    ] {
        let bench = Bench::new();
        let first = bench.start("a");
        pass(300).await;
        let second = bench.start("b");
        pass(2000).await;
        assert!(first.leads() && !second.leads());
        {
            let mut object = bench.store.object.lock();
            let object = object.as_mut().unwrap();
            object["spec"] = spec;
            object["metadata"]["resourceVersion"] = "1000".into();
        }
        for _ in 0..seconds * 20 {
            pass(50).await;
            assert!(!(first.leads() && second.leads()), "two: {what}");
        }
        assert!(first.leads() != second.leads(), "nobody: {what}");
        let spec = bench.store.spec();
        assert!(spec["leaseDurationSeconds"] == 4 && spec["leaseTransitions"].as_i64() >= Some(0));
        first.stop.cancel();
        second.stop.cancel();
    }
}

#[tokio::test(start_paused = true)]
async fn who_may_not_use_the_lease_never_leads_and_says_so() {
    let bench = Bench::new();
    bench.store.refuses.store(true, Ordering::Relaxed);
    let mut running = bench.start("a");
    pass(10_000).await;
    assert!(!running.leads() && running.told().is_empty());
    assert_eq!(running.states.lock().last().unwrap().fault, Some("Forbidden"));
    assert!(bench.journal.lock().len() < 20);
}

#[test]
fn a_closed_leadership_stays_closed() {
    let now = Timestamp::from_second(7).unwrap();
    let leadership = Leadership::endless();
    assert!(leadership.may_write(now));
    leadership.set(Some(now));
    assert!(!leadership.may_write(now), "the end is not part of it");
    leadership.close();
    leadership.set(Some(Timestamp::MAX));
    assert!(!leadership.may_write(now));
}
