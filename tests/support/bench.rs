//! Programs that measure or record, which `cargo bench` starts.

/// Plays `work` if `cargo bench` started this program. `cargo test --benches` starts it, too, and must neither
/// measure nor write anything.
pub(crate) fn play(work: impl Future<Output = ()>) {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("start the runtime").block_on(work);
}
