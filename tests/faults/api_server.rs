//! What an API server can do to a controller: refuse, ask for patience, fail, say nothing, store without
//! saying so, forget versions, drop watches, be late with events.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::cell::{Cell, CellOptions, NewWorkload, WINDOW, Workload};
use crate::dice::Dice;
use crate::stage::{LIMIT, Stage};
use crate::support::proxy::{self, Matcher, Trouble};
use crate::support::wait::until;

/// How long writes took, all together.
const TOOK: &str = "podswell_scale_write_duration_seconds_sum";
/// How many writes had no answer in time.
const UNHEARD: &str = "podswell_scale_writes_total{outcome=\"Unknown\"}";

/// A trouble with writes, and what their outcome is called.
type WriteCase = (Matcher, Trouble, &'static str);

/// The API server says that it did not store the scale.
pub(crate) async fn refused_writes(stage: Arc<Stage>, mut dice: Dice) -> Vec<Cell> {
    let cases: Vec<WriteCase> = vec![
        (proxy::scale_writes, Trouble::Status(409, None), "Conflict"),
        (proxy::scale_writes, Trouble::Status(429, Some(dice.number(1..=3))), "Refused"),
        (proxy::scale_writes, Trouble::Status(500, None), "Unknown"),
        (proxy::scales, Trouble::Status(503, None), "Unknown"),
    ];
    writes(&stage, "refused", cases, dice).await
}

/// It is not known whether the scale was stored, or not for long.
pub(crate) async fn unclear_writes(stage: Arc<Stage>, mut dice: Dice) -> Vec<Cell> {
    let cases: Vec<WriteCase> = vec![
        (proxy::scale_writes, Trouble::Silence, "Unknown"),
        (proxy::scale_writes, Trouble::Closed, "Unknown"),
        (proxy::scale_writes, Trouble::Unanswered, "Unknown"),
        (proxy::scales, Trouble::Late(dice.millis(500..=3000)), "Written"),
    ];
    writes(&stage, "unclear", cases, dice).await
}

async fn writes(
    stage: &Arc<Stage>,
    name: &str,
    cases: Vec<WriteCase>,
    mut dice: Dice,
) -> Vec<Cell> {
    let mut cell = Cell::start(stage, name, CellOptions::default()).await;
    cell.add(stage, NewWorkload::new("written")).await;
    cell.mark();
    let workload = &cell.workloads[0];
    let mut pods = 5;
    for (matcher, trouble, outcome) in dice.shuffled(cases) {
        let series = format!("podswell_scale_writes_total{{outcome=\"{outcome}\"}}");
        let is_late = matches!(trouble, Trouble::Late(_));
        let ended = async || {
            // On a busy machine it may be too late to be heard of.
            let unheard = if is_late { cell.counted(UNHEARD).await } else { 0.0 };
            cell.counted(&series).await + unheard
        };
        let before = (ended().await, cell.counted(TOOK).await);
        cell.proxy.set(&[(matcher, trouble.clone())]);
        // Up and down in turn, so that each kind of write meets some trouble.
        pods = if pods == 5 { 8 } else { 5 };
        workload.asks_for(pods);
        let longer = if let Trouble::Late(span) = trouble { span } else { Duration::ZERO };
        let least = before.1 + longer.as_secs_f64();
        let named = |(struck, ended, took): &(u64, f64, f64)| {
            *struck > 0 && *ended > before.0 && *took >= least
        };
        until(LIMIT, &format!("{trouble:?} strikes and is {outcome}"), named, || async {
            (cell.proxy.struck()[0], ended().await, cell.counted(TOOK).await)
        })
        .await;
        if outcome == "Refused" {
            cell.tells(workload, &["WriteFailed"]).await;
        }
        let tried = cell.proxy.scale_writes();
        workload.endures(dice.millis(3000..=5000)).await;
        let tried = cell.proxy.scale_writes() - tried;
        assert!(tried <= 80, "{tried} writes, one after the other");
        cell.proxy.heal();
        // Only from where it belongs will the next load make it write.
        comes_to(workload, pods).await;
        cell.settles(workload).await;
    }
    workload.shrinks_to(5).await;
    workload.has_lost_nothing();
    vec![cell]
}

/// Waits until a workload has the replicas that its load is the work of.
async fn comes_to(workload: &Workload, pods: i32) {
    if pods == 5 {
        workload.shrinks_to(5).await;
    } else {
        workload.reaches(pods).await;
    }
}

/// A trouble with reading the cluster.
struct WatchCase {
    rules: Vec<(Matcher, Trouble)>,
    /// Whether every open answer breaks, again and again.
    cuts: bool,
    /// Where it is named, and how.
    told: Told,
}

/// What an operator sees in `/v1/status`.
#[derive(Debug, Clone, Copy)]
enum Told {
    /// Nothing: it goes on by itself.
    Nothing,
    /// The watch of Deployments has this fault.
    Watch(&'static str),
    /// The lease has this fault.
    Lease(&'static str),
}

impl Told {
    fn is_in(self, status: &Value) -> bool {
        match self {
            Self::Nothing => true,
            Self::Watch(fault) => fault_of_the_watch(status) == fault,
            Self::Lease(fault) => status["lease"]["fault"] == fault,
        }
    }
}

fn fault_of_the_watch(status: &Value) -> Value {
    let mut watches = status["watches"].as_array().into_iter().flatten();
    let watch = watches.find(|watch| watch["name"] == "deployments");
    watch.map_or_else(|| "unknown".into(), |watch| watch["fault"].clone())
}

/// A rule that only counts.
fn counted(matcher: Matcher) -> (Matcher, Trouble) {
    (matcher, Trouble::Late(Duration::ZERO))
}

/// Watches end, or everything has to be read anew.
pub(crate) async fn broken_watches(stage: Arc<Stage>, dice: Dice) -> Vec<Cell> {
    let case = |rules, cuts, told| WatchCase { rules, cuts, told };
    let cases = vec![
        // A new list follows.
        case(vec![(proxy::watches, Trouble::Gone), counted(proxy::lists)], false, Told::Nothing),
        case(
            vec![(proxy::watches, Trouble::Gone), (proxy::lists, Trouble::Status(500, None))],
            false,
            Told::Watch("ServerError"),
        ),
        case(vec![(proxy::watches, Trouble::Closed)], true, Told::Watch("Transport")),
        case(
            vec![(proxy::watches, Trouble::Status(429, Some(1)))],
            true,
            Told::Watch("TooManyRequests"),
        ),
        case(vec![counted(proxy::watches)], true, Told::Nothing),
    ];
    watches(&stage, "broken", cases, dice).await
}

/// What happens in the cluster is heard late or not at all.
pub(crate) async fn silent_watches(stage: Arc<Stage>, mut dice: Dice) -> Vec<Cell> {
    let case = |rule, told| WatchCase { rules: vec![rule], cuts: false, told };
    let late = Trouble::Late(dice.millis(1000..=4000));
    let cases = vec![
        case((proxy::watches, late), Told::Nothing),
        case((proxy::watches, Trouble::Silence), Told::Nothing),
        case((proxy::all, Trouble::Silence), Told::Lease("Timeout")),
        case((proxy::all, Trouble::Status(500, None)), Told::Lease("ServerError")),
    ];
    watches(&stage, "unheard", cases, dice).await
}

async fn watches(
    stage: &Arc<Stage>,
    name: &str,
    cases: Vec<WatchCase>,
    mut dice: Dice,
) -> Vec<Cell> {
    let mut cell = Cell::start(stage, name, CellOptions::default()).await;
    cell.add(stage, NewWorkload::new("watched")).await;
    cell.mark();
    let workload = &cell.workloads[0];
    let mut pods = 5;
    for WatchCase { rules, cuts, told } in dice.shuffled(cases) {
        let (asked, broken) = (cell.proxy.requests(), cell.proxy.broken());
        cell.proxy.set(&rules);
        pods = if pods == 5 { 7 } else { 5 };
        workload.asks_for(pods);
        for _ in 0..4 {
            if cuts {
                cell.proxy.cut();
            }
            workload.endures(dice.millis(1000..=1700)).await;
        }
        let asked = cell.proxy.requests() - asked;
        assert!(asked <= 1500, "{asked} requests in {WINDOW:?}: {rules:?}");
        let named = |(struck, status): &(Vec<u64>, Value)| {
            struck.iter().all(|struck| *struck > 0) && told.is_in(status)
        };
        until(LIMIT, &format!("{rules:?} strike and {told:?} is said"), named, || async {
            (cell.proxy.struck(), cell.of_itself().await)
        })
        .await;
        assert_eq!(cell.proxy.broken() > broken, cuts, "{rules:?}");
        cell.proxy.heal();
        comes_to(workload, pods).await;
        cell.settles(workload).await;
        is_well(&cell).await;
    }
    workload.shrinks_to(5).await;
    workload.has_lost_nothing();
    vec![cell]
}

/// Waits until podswell hears of Deployments again and says nothing of a fault. A watch without news would
/// be believed only after minutes, so there are some.
async fn is_well(cell: &Cell) {
    let mut news = 0;
    until(
        LIMIT,
        "no fault is said",
        |status: &Value| fault_of_the_watch(status).is_null() && status["lease"]["fault"].is_null(),
        || {
            news += 1;
            let number = news.to_string();
            async move {
                let deployment = &cell.workloads[0].deployment;
                deployment.annotate("example.com/news", Some(&number)).await.expect("annotate");
                cell.of_itself().await
            }
        },
    )
    .await;
}
