//! Queues that lie at two brokers, items that may stay, and a backlog that must be gone in time.

use serde_json::Value;
use tokio::join;

use super::{CALM, LIMIT, NAMESPACE, Scene, backlog, managed};
use crate::support::wait::{settles, until};

pub(super) const NORTH: &str = r#"part_waiting{broker="north",deployment="parted"}"#;
pub(super) const SOUTH: &str = r#"part_waiting{broker="south",deployment="parted"}"#;
pub(super) const SLEEPY: &str = r#"items_waiting{deployment="sleepy"}"#;
pub(super) const ALERT: &str = r#"items_waiting{deployment="alert"}"#;
/// Two that work off what waits, each within a time of its own.
pub(super) const DRAINS: [&str; 2] = ["drains", "hurries"];

/// All three at once.
pub(super) async fn play(scene: &Scene) {
    join!(parts_are_summed(scene), a_few_items_are_none(scene), the_backlog_is_spread(scene));
}

pub(super) fn arriving(name: &str) -> String {
    format!("items_arriving{{deployment=\"{name}\"}}")
}

pub(super) fn waiting(name: &str) -> String {
    format!("items_waiting{{deployment=\"{name}\"}}")
}

impl Scene {
    async fn settles(&self, what: &str, name: &str, replicas: i32) {
        let deployment = self.deployment(name);
        let seen = async || deployment.replicas().await.unwrap_or(-1);
        settles(LIMIT, CALM, what, replicas, seen).await;
    }
}

/// `share: additive`: each broker has a part of the queue.
async fn parts_are_summed(scene: &Scene) {
    backlog("parted", "north,south", 1).create(&scene.plane.client()).await;
    scene.settles("40 items at one broker and 25 at the other are 7 pods", "parted", 7).await;
    scene.stock.remove(SOUTH);
    let status = || scene.podswell.target(NAMESPACE, "parted");
    let alone = |status: &Value| {
        let decision = &status["decision"];
        let stable = decision["windows"]["stable"].as_f64().unwrap_or(0.0);
        decision["signal"]["state"] == "partial" && (stable - 40.0).abs() < 0.01
    };
    until(LIMIT, "one part alone is heard, and fills the window", alone, status).await;
    scene.stock.set(NORTH, 90);
    scene.settles("90 items at the part that is heard raise to 9 pods", "parted", 9).await;
    scene.stock.set(NORTH, 10);
    scene.settles("a part alone lowers nothing", "parted", 9).await;
    scene.stock.set(SOUTH, 25);
    scene.settles("10 items and 25 are 4 pods", "parted", 4).await;
}

/// `activation-value`: up to five items may stay, and the sixth one wakes.
async fn a_few_items_are_none(scene: &Scene) {
    let sleepy = backlog("sleepy", "items", 1);
    let sleepy = sleepy.annotation("podswell.dev/activation-value", "5");
    sleepy.create(&scene.plane.client()).await;
    backlog("alert", "items", 1).create(&scene.plane.client()).await;
    join!(
        scene.settles("five items are none: it goes to zero, and stays", "sleepy", 0),
        scene.settles("five items keep a pod where nothing else is said", "alert", 1),
    );
    scene.stock.set(SLEEPY, 6);
    scene.settles("the sixth item wakes", "sleepy", 1).await;
    scene.stock.set(SLEEPY, 5);
    scene.stock.set(ALERT, 0);
    join!(
        scene.settles("five items are none again", "sleepy", 0),
        scene.settles("no item is none", "alert", 0),
    );
}

/// `drain-time`: 40 items arrive in a second, and 1200 wait. Of these 20 a second are worked off in a minute,
/// or 100 a second in the stable window; a pod carries 14.
async fn the_backlog_is_spread(scene: &Scene) {
    for (name, drain_time) in DRAINS.into_iter().zip([Some("1m"), None]) {
        let measures = "events@arrivals+items=20";
        let mut new = managed(name, 1).annotation("podswell.dev/measures", measures);
        if let Some(drain_time) = drain_time {
            new = new.annotation("podswell.dev/drain-time", drain_time);
        }
        new.create(&scene.plane.client()).await;
    }
    join!(
        scene.settles("60 items a second are 5 pods", "drains", 5),
        scene.settles("140 items a second are 10 pods", "hurries", 10),
    );
    for name in DRAINS {
        scene.stock.set(&waiting(name), 0);
    }
    join!(
        scene.settles("40 items a second are 3 pods", "drains", 3),
        scene.settles("40 items a second are 3 pods, too", "hurries", 3),
    );
}
