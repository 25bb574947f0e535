//! `make demo`: a story of two minutes on real servers, to be watched in a terminal.
//!
//! A real control plane, real HTTP requests, a real Prometheus and the real `podswell run`; only the
//! nodes are played: each pod is an HTTP server in this process. The story is also a test: it ends
//! with 0 only if the API server saw all that the story promises.
//!
//! `PODSWELL_DEMO_SECONDS` (60 to 1200, by default 110) stretches the story; `NO_COLOR` is respected.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test support: what goes wrong here is the demo's failure"
)]

mod plan;
mod record;
mod screen;
mod stage;
mod story;
#[expect(dead_code, reason = "a library: not every test uses all of it")]
#[path = "../support/mod.rs"]
mod support;
mod view;

use std::process::ExitCode;

use plan::Plan;
use screen::{Look, Screen};
use stage::Stage;
use story::Story;

fn main() -> ExitCode {
    let screen = Screen::new();
    if std::env::args().any(|argument| argument == "--list") {
        screen.lines(Look::Plain, "demo: test");
        return ExitCode::SUCCESS;
    }
    let plan = match Plan::from_environment() {
        Ok(plan) => plan,
        Err(why) => {
            screen.paragraph(Look::Alarm, &why);
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("start the runtime");
    runtime.block_on(async {
        tokio::select! {
            code = play(&screen, plan) => code,
            _ = tokio::signal::ctrl_c() => {
                screen.lines(Look::Bold, "\n  interrupted: everything that was started ends with this");
                ExitCode::from(130)
            }
        }
    })
}

async fn play(screen: &Screen, plan: Plan) -> ExitCode {
    screen.heading("podswell demo");
    screen.paragraph(
        Look::Plain,
        "Real: etcd, kube-apiserver, kube-controller-manager, Prometheus, podswell and every request. \
         Played: the nodes; each pod is an HTTP server in this process. Nothing leaves this machine.",
    );
    screen.lines(Look::Plain, "");
    let stage = Stage::set(screen, plan.window()).await;
    stage.invite(screen);
    let mut story = Story::new(stage, screen, plan);
    let played = story.play().await;
    if story.end(played).await { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
