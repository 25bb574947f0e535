//! Fresh random questions, answered by Knative's own code and by ours.
//!
//! `PODSWELL_ORACLE_SEED=N` repeats a run; each test prints its seed. The oracle is `knative-oracle`
//! (tests/knative/oracle), built once by `tests/testbin.sh`.
#![expect(clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod config;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use podswell::core::Timestamp;
use podswell::core::decider::Decider;
use podswell::core::duration::GoDuration;
use podswell::core::spec::{Aggregation, ScalerSpec, ScalingMetric};
use podswell::core::window::buckets::BucketWindow;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

/// How many decision steps are compared in a run, at least.
const STEPS: usize = 120_000;
const STEPS_PER_CASE: usize = 150;
const WINDOW_CASES: usize = 600;
/// v0.42.2 cuts averages at 6 digits where today's Knative rounds.
const CUT: f64 = 1.000_1e-6;

struct Oracle {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Oracle {
    fn start() -> Self {
        let mut child = Command::new(binary("knative-oracle"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start knative-oracle");
        let answers = BufReader::new(child.stdout.take().expect("its standard output"));
        Self { child, answers }
    }

    fn ask(&mut self, question: &Value) -> Value {
        let answer = self.try_ask(question);
        assert!(answer.get("error").is_none(), "{question} gave {answer}");
        answer
    }

    /// As [`Self::ask`], for questions that Knative may refuse.
    fn try_ask(&mut self, question: &Value) -> Value {
        let stdin = self.child.stdin.as_mut().expect("its standard input");
        writeln!(stdin, "{question}").expect("ask");
        stdin.flush().expect("ask");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an answer");
        serde_json::from_str(&line).expect("an answer in JSON")
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// A program of tests/testbin.sh, built if it is missing.
fn binary(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = std::env::var_os("PODSWELL_TEST_BIN")
        .map_or_else(|| root.join("target/testbin"), PathBuf::from);
    let path = folder.join(name);
    if !path.exists() {
        let script = root.join("tests/testbin.sh");
        let status = Command::new(script).arg(name).status().expect("run tests/testbin.sh");
        assert!(status.success(), "tests/testbin.sh {name} failed");
    }
    path
}

fn random(test: &str) -> StdRng {
    let seed = std::env::var("PODSWELL_ORACLE_SEED")
        .ok()
        .map_or_else(rand::random, |text| text.parse().expect("PODSWELL_ORACLE_SEED is a number"));
    #[expect(clippy::print_stdout, reason = "a failing run must be repeatable")]
    {
        println!("{test}: PODSWELL_ORACLE_SEED={seed}");
    }
    StdRng::seed_from_u64(seed)
}

fn pick<T: Copy>(rng: &mut StdRng, values: &[T]) -> T {
    values.get(rng.random_range(0..values.len())).copied().expect("not empty")
}

fn spec(rng: &mut StdRng) -> ScalerSpec {
    let total = pick(rng, &[0.5, 1.0, 3.0, 6.0, 10.0, 100.0, 200.0, 1234.5]);
    let reachable = rng.random_bool(0.9);
    ScalerSpec {
        metric: pick(rng, &[ScalingMetric::Concurrency, ScalingMetric::Rps]),
        total,
        target: f64::max(0.01, total * pick(rng, &[0.7, 1.0, 0.8, 0.123])),
        target_burst_capacity: pick(rng, &[-1.0, 0.0, 10.0, 70.5, 211.0]),
        panic_threshold: pick(rng, &[1.1, 1.5, 2.0, 10.0]),
        stable_window: Duration::from_secs(pick(rng, &[6, 30, 60, 600])),
        max_scale_up_rate: pick(rng, &[1.1, 2.0, 10.0, 1000.0]),
        max_scale_down_rate: pick(rng, &[1.1, 2.0, 3.5]),
        // v0.42.2 also delays for workloads that are not reachable; today's Knative does not.
        scale_down_delay: Duration::from_secs(if reachable {
            pick(rng, &[0, 0, 2, 5, 30])
        } else {
            0
        }),
        activation_scale: pick(rng, &[0, 0, 2, 5]),
        reachable,
        ..ScalerSpec::default()
    }
}

fn spec_json(spec: &ScalerSpec) -> Value {
    json!({
        "activation_scale": spec.activation_scale,
        "initial_scale": spec.initial_scale,
        "max_scale_down_rate": spec.max_scale_down_rate,
        "max_scale_up_rate": spec.max_scale_up_rate,
        "metric": spec.metric.as_str(),
        "panic_threshold": spec.panic_threshold,
        "reachable": spec.reachable,
        "scale_down_delay_s": spec.scale_down_delay.as_secs_f64(),
        "stable_window_s": spec.stable_window.as_secs_f64(),
        "target": spec.target,
        "target_burst_capacity": spec.target_burst_capacity,
        "total": spec.total,
    })
}

/// Averages around whole numbers of pods, where the arithmetic shows.
fn load(rng: &mut StdRng, spec: &ScalerSpec, ready: i32) -> f64 {
    let pods = f64::from(rng.random_range(0..=ready.max(1) * 3));
    match rng.random_range(0..5) {
        0 => 0.0,
        1 => pods * spec.target,
        2 => pods * spec.total,
        3 => (pods * spec.target * 1e6).round() / 1e6,
        _ => rng.random_range(0.0..f64::from(ready.max(1)) * 3.0 * spec.target),
    }
}

fn steps(rng: &mut StdRng, spec: &ScalerSpec, mut ready: i32) -> Vec<Value> {
    let mut t_ms = 0;
    (0..STEPS_PER_CASE)
        .map(|_| {
            t_ms += pick(rng, &[500, 2000, 2000, 2000, 2000, 7000, 61_000]);
            ready = match rng.random_range(0..10) {
                0 => 0,
                1 => ready / 2,
                2 | 3 => ready + rng.random_range(0..5),
                _ => ready,
            }
            .min(500);
            if rng.random_bool(0.05) {
                return json!({"t_ms": t_ms, "ready": ready, "no_data": true});
            }
            let (stable, panic) = (load(rng, spec, ready), load(rng, spec, ready));
            json!({"t_ms": t_ms, "ready": ready, "stable": stable, "panic": panic})
        })
        .collect()
}

fn unix_ms(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).expect("a time within range")
}

fn int(value: &Value, key: &str) -> i64 {
    value.get(key).and_then(Value::as_i64).unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn float(value: &Value, key: &str) -> f64 {
    value.get(key).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).unwrap_or_else(|| panic!("no {key} in {value}"))
}

#[test]
fn decisions_are_knatives() {
    let mut rng = random("decisions");
    let mut oracle = Oracle::start();
    let mut compared = 0;
    while compared < STEPS {
        let spec = spec(&mut rng);
        let ready = rng.random_range(0..40);
        let steps = steps(&mut rng, &spec, ready);
        let answer = oracle.ask(&json!({
            "op": "decisions", "created_unix_ms": 1_700_000_000_000_i64, "created_ready": ready,
            "spec": spec_json(&spec), "steps": steps,
        }));
        let created = int(&answer, "created_unix_ms");
        let mut decider = Decider::new_knative(unix_ms(created), &spec, ready);
        for (step, expected) in steps.iter().zip(list(&answer, "steps")) {
            let averages =
                step.get("stable").map(|_| (float(step, "stable"), float(step, "panic")));
            let pods = i32::try_from(int(step, "ready")).expect("a small number");
            let found =
                decider.tick_knative(unix_ms(created + int(step, "t_ms")), &spec, pods, averages);
            let found = if found.valid {
                json!({
                    "valid": true,
                    "desired": found.desired,
                    "excess_burst_capacity": found.excess_burst_capacity,
                })
            } else {
                json!({"valid": false})
            };
            assert_eq!(&found, expected, "{spec:?} created with {ready} at {created}: {step}");
            compared += 1;
        }
    }
}

#[test]
fn windows_are_knatives() {
    let mut rng = random("windows");
    let mut oracle = Oracle::start();
    for _ in 0..WINDOW_CASES {
        let linear = rng.random_bool(0.6);
        let window_s = pick(&mut rng, &[6_u64, 10, 40, 60, 600]);
        let mut t_ms = 0_i64;
        let ops: Vec<Value> = (0..60)
            .map(|_| {
                t_ms += pick(&mut rng, &[0, 10, 300, 1000, 1000, 1000, 4000, 70_000]);
                let late = if rng.random_bool(0.1) { rng.random_range(0..20_000) } else { 0 };
                let at = (t_ms - late).max(0);
                if rng.random_bool(0.6) {
                    json!({"op": "record", "t_ms": at, "value": rng.random_range(0.0..1000.0)})
                } else {
                    json!({"op": "read", "t_ms": t_ms})
                }
            })
            .collect();
        let algorithm = if linear { "linear" } else { "weighted-exponential" };
        let answer = oracle.ask(&json!({
            "op": "windows", "algorithm": algorithm, "epoch_s": 1_700_000_000,
            "window_s": window_s, "ops": ops,
        }));
        compare_windows(window_s, linear, &ops, list(&answer, "reads"));
    }
}

fn compare_windows(window_s: u64, linear: bool, ops: &[Value], reads: &[Value]) {
    let aggregation = if linear { Aggregation::Linear } else { Aggregation::WeightedExponential };
    let mut window = BucketWindow::new(Duration::from_secs(window_s), aggregation);
    let mut reads = reads.iter();
    for op in ops {
        let t = unix_ms(1_700_000_000_000 + int(op, "t_ms"));
        if op.get("value").is_some() {
            window.record(t, float(op, "value"));
            continue;
        }
        let expected = reads.next().expect("as many reads");
        let (theirs, ours) = (float(expected, "average"), window.average(t));
        let allowed = if linear { CUT } else { 1e-9 * theirs.abs() };
        assert!((theirs - ours).abs() <= allowed, "{theirs} {ours} {aggregation:?} {ops:?}");
        let empty = expected.get("empty").and_then(Value::as_bool);
        assert_eq!(empty, Some(window.is_empty(t)), "{op} of {ops:?}");
    }
}

/// Texts like those that people write, and some that only a parser can love.
fn duration_text(rng: &mut StdRng) -> String {
    let mut text = String::from(pick(rng, &["", "", "", "-", "+", " "]));
    for _ in 0..rng.random_range(0..4) {
        let whole = rng.random_range(0..100_u64).pow(pick(rng, &[0, 1, 1, 1, 5, 9]));
        let fraction = match rng.random_range(0..5) {
            0 => ".".to_owned(),
            1 => format!(".{}", rng.random_range(0..1_000_000_u64)),
            2 => format!(".{:0>24}", rng.random_range(0..u64::MAX)),
            _ => String::new(),
        };
        let unit =
            pick(rng, &["ns", "us", "\u{b5}s", "\u{3bc}s", "ms", "s", "s", "m", "h", "", "d", "M"]);
        let number = if rng.random_bool(0.05) { String::new() } else { whole.to_string() };
        text.extend([number, fraction, unit.to_owned()]);
    }
    text
}

#[test]
fn durations_are_gos() {
    let mut rng = random("durations");
    let mut oracle = Oracle::start();
    let mut valid = 0;
    for _ in 0..20_000 {
        let text = duration_text(&mut rng);
        let theirs = oracle.try_ask(&json!({"op": "duration", "text": text}));
        let ours = GoDuration::parse(&text).ok().map(GoDuration::as_nanos);
        assert_eq!(ours, theirs.get("ns").and_then(Value::as_i64), "{text:?}: {theirs}");
        valid += usize::from(ours.is_some());
    }
    assert!(valid > 2_000, "too few of the texts are durations: {valid}");
}
