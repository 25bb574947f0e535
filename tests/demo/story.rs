//! The scenes, in their order, and what has to come of them.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

use crate::plan::Plan;
use crate::record::Record;
use crate::screen::{Look, Screen};
use crate::stage::{ALL, CHECKOUT, SEARCH, Stage, TARGET, THUMBNAILS, Told, Workload};
use crate::support::deployment::hpa_by_cpu;
use crate::support::load::{Level, Load};
use crate::view::{self, LOOK, Sights, View};

/// How much longer than planned a scene may take: generous, the machine may be busy.
const LIMIT: Duration = Duration::from_secs(150);

/// How long the last Events may take to appear.
const EVENTS_LIMIT: Duration = Duration::from_secs(30);

// Requests in flight. A pod takes seven (70 % of ten); each number lies well within the span that
// needs the same pods, because requests end and begin all the time.
const CHECKOUT_CALM: (usize, i32) = (13, 2);
const CHECKOUT_SALE: (usize, i32) = (130, 19);
const SEARCH_CALM: (usize, i32) = (18, 3);
const THUMBNAILS_CALM: (usize, i32) = (11, 2);
const THUMBNAILS_MORE: (usize, i32) = (32, 5);

/// The story as far as it was played.
pub(crate) struct Story<'a> {
    stage: Stage,
    screen: &'a Screen,
    plan: Plan,
    view: View,
    /// In the order of [`ALL`].
    loads: [Load; 3],
    checks: Vec<Check>,
}

/// Something that had to come true.
struct Check {
    good: bool,
    text: String,
}

/// What went so wrong that the story cannot go on.
pub(crate) type Stuck = String;

impl<'a> Story<'a> {
    pub(crate) fn new(stage: Stage, screen: &'a Screen, plan: Plan) -> Self {
        let loads =
            [(CHECKOUT, CHECKOUT_CALM), (SEARCH, SEARCH_CALM), (THUMBNAILS, THUMBNAILS_CALM)]
                .map(|(workload, (requests, _))| workload.load(&stage, requests));
        Self { stage, screen, plan, view: View::new(), loads, checks: Vec::new() }
    }

    /// Plays all scenes.
    ///
    /// # Errors
    /// The text says which scene does not come to its end, and why.
    pub(crate) async fn play(&mut self) -> Result<(), Stuck> {
        self.arrival().await?;
        let sale = self.flash_sale().await?;
        self.after_the_sale(sale).await?;
        self.no_prometheus().await?;
        self.a_rival().await
    }

    /// Three workloads with one pod each find their size.
    async fn arrival(&mut self) -> Result<(), Stuck> {
        let window = self.plan.window().as_secs();
        self.scene(
            1,
            "three Deployments",
            &format!(
                "Each starts with one pod and is annotated with target {TARGET}: podswell aims at \
                 70 % of that, 7 requests in flight for each pod. The first sample already gives \
                 the right number. A load that needs twice the pods at hand counts as a burst: \
                 panic mode (marked !) lowers nothing for one stable window, {window} s here."
            ),
        );
        for workload in ALL {
            let what = format!("{}: {}.", workload.key(), workload.measured);
            self.screen.item(Look::Plain, "·", &what);
        }
        self.screen.table_head();
        let calm = [CHECKOUT_CALM.1, SEARCH_CALM.1, THUMBNAILS_CALM.1];
        let wanted = move |sights: &Sights, _: &Record| {
            ALL.iter().zip(calm).all(|(workload, replicas)| settled(sights, *workload, replicas))
        };
        let least = self.plan.lasting(16.0);
        self.wait(None, least, "2, 3 and 2 ready pods and no panic", wanted).await?;
        let text = "one formula, three ways to measure: 13, 18 and 11 requests in flight, divided by 7 \
                    and rounded up, are 2, 3 and 2 pods";
        self.check(true, text.to_owned());
        Ok(())
    }

    /// Ten times the load on one of them. Returns when it came.
    async fn flash_sale(&mut self) -> Result<Instant, Stuck> {
        self.scene(
            2,
            "flash sale: ten times the load on shop/checkout",
            "The short panic window sees it at once. In panic mode podswell follows the highest demand \
             and lowers nothing.",
        );
        self.screen.table_head();
        let (load, replicas) = CHECKOUT_SALE;
        let sale = Instant::now();
        self.loads[0].set(Level::InFlight(load));
        // Where pods start slowly, panic may be over before the last of them is ready.
        let panicked = Cell::new(false);
        let full = move |sights: &Sights, _: &Record| {
            is(sights, CHECKOUT, |sight| {
                panicked.set(panicked.get() || sight.panicking);
                sight.ready >= replicas - 1 && sight.ready == sight.replicas && panicked.get()
            })
        };
        let what = format!("about {replicas} ready pods");
        self.wait(Some(CHECKOUT), Duration::ZERO, &what, full).await?;
        self.explain(CHECKOUT);
        self.screen.table_head();
        let left = self.plan.window().mul_f64(0.7).saturating_sub(sale.elapsed());
        self.wait(Some(CHECKOUT), left, "the end of the sale", |_, _| true).await?;
        self.judge_growth(sale);
        Ok(sale)
    }

    /// How fast it grew.
    fn judge_growth(&mut self, sale: Instant) {
        let (record, key) = (&self.stage.record, CHECKOUT.key());
        let reached = record.replicas(&key, sale);
        let most = reached.iter().copied().max().unwrap_or(0);
        let after = |took: Option<Duration>| {
            took.map_or_else(|| "never".into(), |took| format!("{:.1} s", took.as_secs_f64()))
        };
        let raised = after(record.first(&key, sale, |seen| seen.replicas > CHECKOUT_CALM.1));
        let full = after(record.first(&key, sale, |seen| seen.replicas >= most));
        let ready = after(record.first(&key, sale, |seen| seen.ready >= most));
        let text = format!(
            "flash sale: from ten times the load to the first raise {raised}, to full scale ({}) \
             {full}, to {most} ready pods {ready}",
            arrows(&reached)
        );
        // What is scraped while requests end and begin is off by a few of them; those that move to the new
        // pods while these are scraped count twice, on a busy machine many of them.
        let enough = most >= CHECKOUT_SALE.1 - 1;
        let rises = reached.iter().take_while(|step| **step < most).is_sorted();
        self.check(enough && rises, text);
    }

    /// The load falls back; panic holds what it reached, then it goes down in steps.
    async fn after_the_sale(&mut self, sale: Instant) -> Result<(), Stuck> {
        self.scene(
            3,
            "the sale is over",
            "The load falls back to what it was. Panic mode keeps every pod for one stable window after \
             its last burst; then the mean over that window decides, and no step goes below half.",
        );
        self.screen.table_head();
        self.loads[0].set(Level::InFlight(CHECKOUT_CALM.0));
        let wanted = |sights: &Sights, _: &Record| settled(sights, CHECKOUT, CHECKOUT_CALM.1);
        self.wait(Some(CHECKOUT), Duration::ZERO, "2 ready pods and no panic", wanted).await?;
        let (record, key, window) = (&self.stage.record, CHECKOUT.key(), self.plan.window());
        let steps = record.replicas(&key, sale);
        let most = steps.iter().copied().max().unwrap_or(0);
        let raised = record.first(&key, sale, |seen| seen.replicas > CHECKOUT_CALM.1);
        let full = record.first(&key, sale, |seen| seen.replicas == most).unwrap_or_default();
        let fell = record.first(&key, sale + full, |seen| seen.replicas < most).unwrap_or_default();
        let text = format!(
            "after the sale: nothing was lowered for {:.1} s (a stable window of {} s and more), then {}",
            fell.as_secs_f64(),
            window.as_secs(),
            arrows(&steps[steps.iter().position(|step| *step == most).unwrap_or(0)..])
        );
        let halves = steps.windows(2).all(|pair| pair[1] >= pair[0] / 2);
        // The last burst may be one on the way to the top, where that is not reached at once.
        let held = (full + fell).saturating_sub(raised.unwrap_or(full));
        self.check(halves && held + Duration::from_secs(1) >= window, text);
        Ok(())
    }

    /// Prometheus dies and comes back under constant load.
    async fn no_prometheus(&mut self) -> Result<(), Stuck> {
        let outage = self.plan.lasting(20.0).max(Duration::from_secs(10));
        self.scene(
            4,
            "Prometheus is killed",
            &format!(
                "For {} s nobody can say how much load shop/search has (there still are {} requests in \
                 flight). What is unknown is never taken for zero: its replicas stay. The others are \
                 measured without Prometheus and do not notice.",
                outage.as_secs(),
                SEARCH_CALM.0
            ),
        );
        self.screen.table_head();
        let killed = Instant::now();
        self.stage.prometheus.kill();
        let lost = |sights: &Sights, _: &Record| is(sights, SEARCH, |sight| sight.signal == "lost");
        self.wait(Some(SEARCH), outage / 2, "the signal is lost", lost).await?;
        self.explain(SEARCH);
        self.screen.table_head();
        let left = outage.saturating_sub(killed.elapsed());
        self.wait(Some(SEARCH), left, "the end of the outage", |_, _| true).await?;
        self.stage.prometheus.restart().await;
        self.screen.lines(Look::Plain, "");
        self.screen.paragraph(
            Look::Plain,
            "Prometheus is back, though it finds the pods one after the other: what is missing in its \
             first answers is unknown, not zero (+: may be more). podswell raises on what it sees and \
             lowers on what there may be, so there is no dip either.",
        );
        self.screen.table_head();
        let fresh =
            |sights: &Sights, _: &Record| is(sights, SEARCH, |sight| sight.signal == "fresh");
        self.wait(Some(SEARCH), self.plan.window(), "the signal is back", fresh).await?;
        let replicas = self.stage.record.replicas(&SEARCH.key(), killed);
        let text = format!(
            "{} s without Prometheus and {} s after it: replicas of shop/search were {} all the time",
            outage.as_secs(),
            killed.elapsed().saturating_sub(outage).as_secs(),
            arrows(&replicas)
        );
        self.check(replicas == [SEARCH_CALM.1], text);
        Ok(())
    }

    /// An HPA on the same Deployment comes and goes.
    async fn a_rival(&mut self) -> Result<(), Stuck> {
        self.scene(
            5,
            "somebody adds a HorizontalPodAutoscaler to media/thumbnails",
            "Two autoscalers on one Deployment would fight. podswell stops writing, says who is in the \
             way, and goes on by itself when it is gone. The load triples meanwhile.",
        );
        self.screen.table_head();
        let appeared = Instant::now();
        self.stage.plane.apply(&hpa_by_cpu("media", "thumbnails")).await;
        let rival =
            |sights: &Sights, _: &Record| is(sights, THUMBNAILS, |sight| sight.gate == "Rival");
        self.wait(Some(THUMBNAILS), Duration::ZERO, "the rival is seen", rival).await?;
        let (load, replicas) = THUMBNAILS_MORE;
        self.loads[2].set(Level::InFlight(load));
        let wants = move |sights: &Sights, _: &Record| {
            is(sights, THUMBNAILS, |sight| sight.desired >= i64::from(replicas))
        };
        let what = format!("{replicas} pods are wanted");
        self.wait(Some(THUMBNAILS), self.plan.lasting(9.0), &what, wants).await?;
        self.explain(THUMBNAILS);
        let held = self.stage.record.replicas(&THUMBNAILS.key(), appeared);
        let gone = Instant::now();
        self.stage.plane.kubectl(&["delete", "hpa", "by-cpu", "-n", "media"]).await;
        self.screen.lines(Look::Plain, "");
        self.screen.paragraph(
            Look::Plain,
            "The HorizontalPodAutoscaler is deleted. (A queue-proxy reports the mean of a second: load that \
             moves to new pods may count twice for that long, so a pod or two may be added and go again.)",
        );
        self.screen.table_head();
        let grown = move |sights: &Sights, _: &Record| {
            is(sights, THUMBNAILS, |sight| sight.replicas >= replicas && sight.ready >= replicas)
        };
        let what = format!("{replicas} ready pods");
        self.wait(Some(THUMBNAILS), self.plan.lasting(9.0), &what, grown).await?;
        let steady = |sights: &Sights, _: &Record| {
            ALL.iter().all(|workload| is(sights, *workload, view::Sight::is_steady))
        };
        self.wait(Some(THUMBNAILS), Duration::ZERO, "nothing changes any more", steady).await?;
        let raised = self
            .stage
            .record
            .first(&THUMBNAILS.key(), gone, |seen| seen.replicas >= replicas)
            .unwrap_or_default();
        let text = format!(
            "a HorizontalPodAutoscaler: replicas stayed {} while it was there, {} {:.1} s after it went",
            arrows(&held),
            arrows(&self.stage.record.replicas(&THUMBNAILS.key(), gone)),
            raised.as_secs_f64()
        );
        self.check(held == [THUMBNAILS_CALM.1], text);
        Ok(())
    }

    fn scene(&self, number: u32, title: &str, text: &str) {
        self.screen.heading(&format!("{number}. {title}"));
        self.screen.paragraph(Look::Plain, text);
    }

    fn check(&mut self, good: bool, text: String) {
        self.checks.push(Check { good, text });
    }

    /// Shows what happens for at least this long, and on until it is as wanted.
    async fn wait(
        &mut self,
        focus: Option<Workload>,
        least: Duration,
        what: &str,
        wanted: impl Fn(&Sights, &Record) -> bool,
    ) -> Result<(), Stuck> {
        let started = Instant::now();
        loop {
            let sights = view::look(&self.stage).await;
            self.view.show(self.screen, &sights, focus);
            let lasted = started.elapsed();
            if lasted >= least && wanted(&sights, &self.stage.record) {
                return Ok(());
            }
            if lasted >= least + LIMIT {
                return Err(format!("waited {} s in vain for this: {what}", lasted.as_secs()));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Prints what `podswell explain` says.
    fn explain(&self, workload: Workload) {
        let Workload { namespace, name, .. } = workload;
        let command = format!("\n$ podswell explain deploy/{name} -n {namespace}");
        self.screen.lines(Look::Bold, &command);
        let said = tokio::task::block_in_place(|| self.stage.podswell.explain(namespace, name));
        self.screen.lines(Look::Plain, &said);
    }

    /// Prints where everything stands, ends podswell, and tells whether all came as it should.
    pub(crate) async fn end(mut self, played: Result<(), Stuck>) -> bool {
        self.screen.heading("how it stands");
        for namespace in ["shop", "media"] {
            let command = ["get", "deployments", "-n", namespace];
            self.screen.lines(Look::Bold, &format!("\n$ kubectl {}", command.join(" ")));
            self.screen.lines(Look::Plain, self.stage.plane.kubectl(&command).await.trim_end());
        }
        for workload in ALL {
            self.explain(workload);
        }
        self.tell_events().await;
        self.count_requests();
        self.stop().await;
        self.replay();
        if let Err(stuck) = played {
            self.check(false, stuck);
        }
        self.screen.heading("what came of it");
        for Check { good, text } in &self.checks {
            let (look, mark) = if *good { (Look::Good, "✓") } else { (Look::Alarm, "✗") };
            self.screen.item(look, mark, text);
        }
        let good = self.checks.iter().all(|check| check.good);
        let took = self.view.time().as_secs();
        let verdict = if good { "all as it should be" } else { "FAILED" };
        self.screen.lines(Look::Bold, &format!("\n  {verdict}, after {took} s"));
        if !good {
            let log = self.stage.podswell.log_tail(4000);
            self.screen.lines(Look::Plain, &format!("\nthe end of podswell's log:\n{log}"));
        }
        good
    }

    /// Prints podswell's Kubernetes Events and checks that the transitions are among them.
    async fn tell_events(&mut self) {
        let events = self.all_events().await;
        let head = "\n  the Events that podswell wrote on its Deployments (kubectl get events):\n";
        self.screen.lines(Look::Bold, head);
        let first = events.iter().find_map(|event| event.at);
        for Told { at, workload, reason, note, times } in &events {
            let since = at.zip(first).map_or(0, |(at, first)| at.duration_since(first).as_secs());
            let times = if *times > 1 { format!("({times} times) ") } else { String::new() };
            let line = format!("{since:>5}s {workload:<16} {reason:<13} {times}{note}");
            self.screen.brief(Look::Plain, &line);
        }
        let missing = missing(&events);
        let left_out = self.stage.events_left_out().await;
        let text = if missing.is_empty() {
            format!("{} Kubernetes Events tell the same story", events.len())
        } else {
            format!("Kubernetes Events are missing: {}", missing.join(", "))
        };
        let told = u32::try_from(missing.len()).is_ok_and(|missing| f64::from(missing) <= left_out);
        self.check(told, text);
    }

    /// podswell's Events, once none is missing or nobody waits for it any more.
    async fn all_events(&self) -> Vec<Told> {
        let began = Instant::now();
        loop {
            let events = self.stage.events().await;
            if missing(&events).is_empty() || began.elapsed() >= EVENTS_LIMIT {
                return events;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What came of the requests themselves.
    fn count_requests(&mut self) {
        let outcomes = self.loads.iter().map(Load::outcome);
        let (ok, failed) =
            outcomes.fold((0, 0), |(ok, failed), one| (ok + one.ok, failed + one.failed));
        let text =
            format!("{ok} requests were answered and {failed} failed while pods came and went");
        self.check(ok > 0 && failed == 0, text);
    }

    /// Ends podswell; nothing may be written by that.
    async fn stop(&mut self) {
        let keys = ALL.map(Workload::key);
        let replicas = |record: &Record| {
            keys.each_ref().map(|key| record.now(key).map_or(0, |seen| seen.replicas))
        };
        let before = replicas(&self.stage.record);
        let began = Instant::now();
        let ended = self.stage.podswell.terminate().await;
        let took = began.elapsed().as_secs_f64();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let same = replicas(&self.stage.record) == before;
        let text = if ended && same {
            format!("podswell stopped within {took:.1} s and left all replicas as they were")
        } else {
            format!("podswell stopped well: {ended}; left all replicas as they were: {same}")
        };
        self.check(ended && same, text);
    }

    /// Everything that was decided must come out again from podswell's recording.
    fn replay(&mut self) {
        let (good, said) = self.stage.replay();
        let shown = format!("\n$ podswell simulate --replay engine.jsonl\n{said}");
        self.screen.lines(Look::Plain, &shown);
        let all = ALL.iter().all(|workload| said.contains(&workload.key()));
        let came = said.lines().find(|line| line.contains(" came out again"));
        let text = came.unwrap_or("the recording could not be replayed").to_owned();
        self.check(good && all, format!("the recording of all this: {text}"));
    }
}

/// The transitions of the story of which no Event tells.
fn missing(events: &[Told]) -> Vec<String> {
    let expected = [
        (CHECKOUT, "PanicEntered"),
        (CHECKOUT, "ScaledUp"),
        (CHECKOUT, "PanicLeft"),
        (CHECKOUT, "ScaledDown"),
        (SEARCH, "SignalLost"),
        (SEARCH, "SignalBack"),
        (THUMBNAILS, "RivalFound"),
        (THUMBNAILS, "RivalGone"),
    ];
    let expected = expected.map(|(workload, reason)| (workload.key(), reason));
    let is_told = |(key, reason): &(String, &str)| {
        events.iter().any(|event| event.workload == *key && event.reason == *reason)
    };
    let missing = expected.iter().filter(|wanted| !is_told(wanted));
    missing.map(|(key, reason)| format!("{reason} of {key}")).collect()
}

/// Whether a workload has these pods, all ready, is calm and is well measured.
fn settled(sights: &Sights, workload: Workload, replicas: i32) -> bool {
    is(sights, workload, |sight| {
        sight.replicas == replicas
            && sight.ready == replicas
            && !sight.panicking
            && sight.signal == "fresh"
    })
}

fn is(sights: &Sights, workload: Workload, wanted: impl Fn(&view::Sight) -> bool) -> bool {
    sights.get(&workload.key()).is_some_and(wanted)
}

fn arrows(numbers: &[i32]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" → ")
}
