//! The tree's own rules: what the compiler and clippy cannot hold.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use podswell::core::decision::{Reason, SampleCounts, TargetStatus};
use podswell::core::event::{Event, NoticeReason, Reading, Sample, SourceFault, WriteOutcome};
use podswell::core::problem::ProblemCode;
use podswell::core::snapshot::Restoration;
use podswell::core::source::SourceName;
use podswell::core::target::{PodCounts, TargetId};
use podswell::runtime::clock::{Clock, SystemClock};
use podswell::runtime::engine_handle::EngineHandle;
use podswell::runtime::health::Health;
use podswell::runtime::metrics::Metrics;
use podswell::runtime::status_board::StatusBoard;
use podswell::servers::keda::counters::{Counters, Method};
use podswell::sources::counters::SourceMetrics;
use podswell::sources::definition::SourceDefinition;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

/// Every Rust file below `folder`, as paths relative to the root.
fn rust_files(folder: &str) -> Vec<String> {
    let mut folders = vec![root().join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let relative = path.strip_prefix(root()).unwrap();
                files.push(relative.to_str().unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

/// The text without its comments and test modules: what is compiled into the binary.
fn code_of(file: &str) -> String {
    let text = read(file);
    let code = text.split("#[cfg(test)]").next().unwrap_or("");
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn is_test(file: &str) -> bool {
    file.ends_with("/tests.rs") || file.contains("/tests/") || file.ends_with("/testing.rs")
}

#[test]
fn adapters_do_not_know_each_other() {
    let all = ["k8s", "sources", "servers", "cli", "runtime"];
    for (folder, allowed) in [
        ("core", &[][..]),
        ("sim", &[][..]),
        ("k8s", &["runtime"]),
        ("sources", &["runtime"]),
        ("servers", &["runtime"]),
        ("cli", &["runtime", "servers", "sources", "k8s"]),
    ] {
        for file in rust_files(&format!("src/{folder}")).iter().filter(|file| !is_test(file)) {
            let code = code_of(file);
            for other in all.iter().filter(|other| **other != folder && !allowed.contains(*other)) {
                let forbidden = format!("crate::{other}");
                assert!(!code.contains(&forbidden), "{file} must not use {forbidden}");
            }
        }
    }
}

#[test]
fn the_core_and_the_simulator_do_no_io_and_read_no_clock() {
    let pure = [rust_files("src/core"), rust_files("src/sim")].concat();
    for file in pure.iter().filter(|file| !is_test(file)) {
        let code = code_of(file);
        for forbidden in [
            "tokio::",
            "kube::",
            "std::fs",
            "std::net::Tcp",
            "std::net::Udp",
            "std::io",
            "std::thread",
            "std::process",
            "std::env",
            "Instant::now",
            "SystemTime",
            "Timestamp::now",
            "Mutex",
            "RwLock",
            "HashMap",
            "HashSet",
        ] {
            assert!(!code.contains(forbidden), "{file} must not use {forbidden}");
        }
    }
}

#[test]
fn only_the_clock_reads_clocks() {
    for file in rust_files("src").iter().filter(|file| !is_test(file)) {
        let code = code_of(file);
        for forbidden in ["Instant::now(", "SystemTime::now(", "Timestamp::now("] {
            let allowed = file == "src/runtime/clock.rs";
            assert!(allowed || !code.contains(forbidden), "{file} must not call {forbidden})");
        }
    }
}

#[test]
fn every_module_says_why_it_exists() {
    for file in rust_files("src").iter().filter(|file| !is_test(file)) {
        assert!(read(file).starts_with("//!"), "{file} has no module header");
    }
}

#[test]
fn every_program_of_tests_is_played_by_make_test() {
    let manifest = read("Cargo.toml");
    let names = manifest.split("[[test]]\n").skip(1).map(|rest| {
        let name = rest.lines().find_map(|line| line.strip_prefix("name = "));
        name.unwrap().trim_matches('"')
    });
    let makefile = read("Makefile");
    let stages = makefile.lines().find(|line| line.starts_with("TEST_STAGES")).unwrap();
    let mut played = Vec::new();
    let mut in_stage = false;
    for line in makefile.lines() {
        match line.strip_prefix('\t') {
            Some(command) if in_stage => played.extend(command.split_whitespace()),
            Some(_) => {}
            None => {
                let target = line.split(':').next().unwrap_or_default();
                in_stage = stages.split_whitespace().any(|stage| stage == target);
            }
        }
    }
    for name in names {
        let found = played.windows(2).any(|pair| pair == ["--test", name]);
        assert!(found, "no stage of make test plays {name}");
    }
}

#[test]
fn main_stays_small() {
    assert!(read("src/main.rs").lines().count() < 60);
}

#[test]
fn every_reason_fault_and_transition_is_documented() {
    let docs = read("docs/reasons.md");
    let faults = SourceFault::ALL;
    let words = Reason::ALL.map(Reason::as_str).into_iter();
    let words = words.chain(faults.map(SourceFault::as_str));
    for word in words.chain(NoticeReason::ALL.map(NoticeReason::as_str)) {
        assert!(docs.contains(&format!("| `{word}` |")), "docs/reasons.md lacks {word}");
    }
    // The lists above are complete if the sources hold no other variant.
    for (file, start, count) in [
        ("src/core/decision.rs", "pub enum Reason {", Reason::ALL.len()),
        ("src/core/event.rs", "pub enum SourceFault {", faults.len()),
        ("src/core/event.rs", "pub enum NoticeReason {", NoticeReason::ALL.len()),
        ("src/core/problem.rs", "pub enum ProblemCode {", ProblemCode::ALL.len()),
    ] {
        assert_eq!(variants(file, start), count, "{start} has variants that no list names");
    }
}

/// How many variants without fields an enum has.
fn variants(file: &str, start: &str) -> usize {
    let text = read(file);
    let body = text.split(start).nth(1).unwrap().split("\n}").next().unwrap();
    let name = |line: &&str| line.trim().strip_suffix(',').is_some_and(is_word);
    body.lines().filter(name).count()
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(char::is_alphanumeric)
}

#[test]
fn every_problem_is_documented() {
    let docs = read("docs/problems.md");
    for code in ProblemCode::ALL {
        let heading = format!("\n### {}\n", code.as_str());
        assert!(docs.contains(&heading), "docs/problems.md lacks {}", code.as_str());
    }
}

fn metrics_page() -> String {
    let clock = SystemClock::new();
    let board = Arc::new(StatusBoard::default());
    let health = Health::new(clock.now());
    let (engine, _events) = EngineHandle::channel();
    let sources = SourceMetrics::default();
    let metrics = Metrics::new(board.clone(), health, engine, sources.clone());
    board.publish(Arc::new(TargetStatus {
        target: TargetId::deployment("shop", "checkout"),
        config: Arc::default(),
        replicas: 1,
        pods: PodCounts::default(),
        rivals: Arc::default(),
        contest: None,
        decision: Some(Arc::default()),
        last_write: None,
        problems: Vec::new(),
        samples: SampleCounts::default(),
    }));
    // A family without series is not written.
    metrics.decided(Reason::Steady);
    metrics.wrote(&WriteOutcome::Written, Duration::ZERO);
    metrics.violated("test");
    metrics.snapshot_file("Read");
    metrics.restored(&Restoration::default());
    metrics.set_notices(Box::new(|| vec![("Written", 1)]));
    let counters = Arc::<Counters>::default();
    counters.called(Method::GetMetrics, tonic::Code::Ok);
    metrics.set_scaler(counters);
    let reading = Reading::Value { seen: 1.0, missing: 0 };
    let (target, source, age) =
        (TargetId::deployment("shop", "checkout"), SourceName::from("scrape"), Duration::ZERO);
    sources.of(&source).sampled(&reading);
    sources.of(&source).requested(Duration::ZERO);
    let sample = Sample { target, source, age, stamp_ms: None, reading };
    metrics.arrived(&Event::Sampled { samples: vec![sample] });
    metrics.encode(true).unwrap()
}

#[test]
fn every_metric_is_documented_and_every_documented_one_exists() {
    let docs = read("docs/metrics.md");
    let page = metrics_page();
    let mut families = Vec::new();
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let name = format!("{name}{suffix}");
        assert!(docs.contains(&format!("`{name}`")), "docs/metrics.md lacks {name}");
        families.push(name);
    }
    assert!(families.len() > 30, "{families:?}");
    for word in docs.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
        if word.starts_with("podswell_") {
            assert!(families.iter().any(|name| name == word), "{word} does not exist");
        }
    }
}

/// The metric families that exist, as a query names them.
fn families() -> Vec<String> {
    let page = metrics_page();
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names = types.flat_map(|line| {
        let (name, kind) = line.split_once(' ').unwrap();
        let suffixes: &[&str] = match kind {
            "counter" => &["_total"],
            "info" => &["_info"],
            "histogram" => &["", "_bucket", "_sum", "_count"],
            _ => &[""],
        };
        suffixes.iter().map(move |suffix| format!("{name}{suffix}"))
    });
    names.collect()
}

#[test]
fn operators_are_told_what_each_word_means_to_them() {
    let page = read("docs/operations.md");
    let words = Reason::ALL.map(Reason::as_str).into_iter();
    let words = words.chain(NoticeReason::ALL.map(NoticeReason::as_str));
    let words = words.chain(ProblemCode::ALL.map(ProblemCode::as_str)).map(str::to_owned);
    let is_base = |name: &String| !name.ends_with("_bucket") && !name.ends_with("_count");
    let metrics = families().into_iter().filter(is_base).filter(|name| !name.ends_with("_sum"));
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with('|')).collect();
    for word in words.chain(metrics) {
        let quoted = format!("`{word}`");
        assert!(rows.iter().any(|row| row.contains(&quoted)), "docs/operations.md lacks {word}");
    }
}

#[test]
fn boards_alerts_and_runbooks_name_metrics_that_exist() {
    let families = families();
    for file in
        ["deploy/alerts/podswell.yaml", "deploy/dashboards/podswell.json", "docs/operations.md"]
    {
        let text = read(file);
        for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
            let known = families.iter().any(|name| name == word);
            assert!(known || !word.starts_with("podswell_"), "{file}: {word} does not exist");
        }
    }
    let board: serde_json::Value =
        serde_json::from_str(&read("deploy/dashboards/podswell.json")).unwrap();
    assert!(board["panels"].as_array().unwrap().len() >= 8);
}

#[test]
fn prometheus_understands_the_alerts_and_each_has_a_runbook() {
    let manifest: serde_json::Value =
        serde_saphyr::from_str(&read("deploy/alerts/podswell.yaml")).unwrap();
    for rule in manifest["spec"]["groups"][0]["rules"].as_array().unwrap() {
        let runbook = rule["annotations"]["runbook"].as_str().unwrap();
        let (page, anchor) = runbook.split_once('#').unwrap_or((runbook, ""));
        let anchors = read(page);
        let mut anchors = anchors
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .map(|title| title.trim_start_matches('#').trim().to_lowercase().replace(' ', "-"));
        assert!(anchor.is_empty() || anchors.any(|title| title == anchor), "{runbook}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.yaml");
    fs::write(&file, manifest["spec"].to_string()).unwrap();
    let promtool = || Command::new("promtool").args(["check", "rules"]).arg(&file).output();
    let output = promtool().or_else(|_| {
        let script = root().join("tests/testbin.sh");
        Command::new(script).arg("prometheus").status()?;
        promtool()
    });
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn podswell(args: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_podswell")).args(args).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_checked_in_manifests_are_what_the_binary_prints() {
    let (code, text) = podswell(&["manifests"]);
    assert_eq!(code, 0);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(root().join("deploy/install.yaml"), &text).unwrap();
    }
    assert!(text == read("deploy/install.yaml"), "run UPDATE_DOCS=1 cargo test --test tidy");
    for file in fs::read_dir(root().join("deploy/base")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        if name == "kustomization.yaml" {
            continue;
        }
        assert!(text.contains(&read(&format!("deploy/base/{name}"))), "{name} is not embedded");
        let listed = read("deploy/base/kustomization.yaml").contains(&format!("- {name}\n"));
        assert!(listed, "{name} is not in kustomization.yaml");
    }
}

/// The YAML blocks of a page.
fn yaml_blocks(page: &str) -> Vec<String> {
    let blocks = page.split("```yaml\n").skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_examples_of_sources_are_valid() {
    let page = read("docs/sources.md");
    let documents: Vec<_> =
        yaml_blocks(&page).into_iter().filter(|text| text.contains("server:")).collect();
    assert!(documents.len() >= 4, "{documents:?}");
    for text in documents {
        SourceDefinition::parse("example", &text).unwrap_or_else(|why| panic!("{why} in\n{text}"));
    }
    // The example in the README and in the commented manifest.
    let readme = yaml_blocks(&read("README.md"));
    let of_readme = readme.iter().find(|text| text.contains("ingress: |")).unwrap();
    let manifest = read("deploy/base/configmaps.yaml");
    let of_manifest = manifest.split("  # ingress: |").nth(1).unwrap().replace("  #", "");
    for text in [of_readme.split("ingress: |").nth(1).unwrap(), &of_manifest] {
        let document = text.trim_start_matches('\n');
        SourceDefinition::parse("example", document)
            .unwrap_or_else(|why| panic!("{why} in\n{text}"));
    }
}

#[test]
fn every_ready_made_source_is_valid_covered_and_listed() {
    let stems = |folder: &str| {
        let entries = fs::read_dir(root().join(folder)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let files = stems("deploy/sources");
    assert_eq!(
        files,
        stems("tests/e2e/sources/fixtures"),
        "a source without fixture, or the reverse"
    );
    let docs = read("docs/sources.md");
    for file in &files {
        assert!(docs.contains(&format!("| `{file}` |")), "docs/sources.md lacks {file}");
        let text = read(&format!("deploy/sources/{file}"));
        let name = file.strip_suffix(".yaml").unwrap();
        let parsed = SourceDefinition::parse(name, &text);
        assert!(parsed.is_ok(), "{file}: {parsed:?}");
        let chosen = ["podswell.dev/source: ", "podswell.dev/measures: "];
        let says_how = chosen.iter().any(|annotation| text.contains(annotation));
        assert!(says_how && text.contains("# Install:"), "{file} does not say how it is used");
    }
    let paths: Vec<_> = files.iter().map(|file| format!("deploy/sources/{file}")).collect();
    let mut arguments = vec!["lint"];
    arguments.extend(paths.iter().map(String::as_str));
    let (code, text) = podswell(&arguments);
    assert_eq!(code, 0, "{text}");
}

#[test]
fn every_key_of_a_source_is_documented() {
    let schema: serde_json::Value =
        serde_json::from_str(&read("deploy/sources.schema.json")).unwrap();
    let docs = read("docs/sources.md");
    for (object, prefix) in [
        (&schema, ""),
        (&schema["$defs"]["Server"], "server."),
        (&schema["$defs"]["Match"], "match."),
    ] {
        for key in object["properties"].as_object().unwrap().keys() {
            let is_object = ["server", "match"].contains(&key.as_str());
            let named = docs.contains(&format!("`{prefix}{key}`"));
            assert!(is_object || named, "docs/sources.md lacks {prefix}{key}");
        }
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut pages = vec!["README.md".to_owned(), "CONTRIBUTING.md".to_owned()];
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        pages.push(format!("docs/{}", entry.unwrap().file_name().into_string().unwrap()));
    }
    for page in
        pages.iter().filter(|page| Path::new(page).extension().is_some_and(|end| end == "md"))
    {
        let folder = Path::new(page).parent().unwrap().to_owned();
        for target in read(page).split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let file = target.split('#').next().unwrap();
            let outside = target.contains("://") || file.is_empty();
            assert!(outside || root().join(&folder).join(file).exists(), "{page}: {target}");
        }
    }
}

#[test]
fn exit_codes_are_as_documented() {
    assert_eq!(podswell(&["version"]).0, 0);
    for (shell, mark) in
        [("bash", "complete -F"), ("zsh", "#compdef podswell"), ("fish", "complete -c podswell")]
    {
        let (code, script) = podswell(&["completions", shell]);
        assert!(code == 0 && script.contains(mark) && script.contains("explain"), "{shell}");
    }
    assert_eq!(podswell(&["explain", "deploy/a", "--server", "http://127.0.0.1:1"]).0, 1);
    assert_eq!(podswell(&["explain", "pod/a"]).0, 2);
    assert_eq!(podswell(&["list", "--server", "http://127.0.0.1:1"]).0, 1);
    assert_eq!(podswell(&["lint", "deploy/install.yaml"]).0, 0);
    assert_eq!(podswell(&["lint", "/nowhere"]).0, 1);
    assert_eq!(podswell(&["rbac", "--namespaces", "a,b"]).0, 0);
    assert_eq!(podswell(&["gitops", "--for", "helm", "deploy/a"]).0, 0);
    assert_eq!(podswell(&["check", "--kubeconfig", "/nowhere"]).0, 1);
    assert_eq!(podswell(&["man", "/nowhere"]).0, 1);
    assert_eq!(podswell(&["run", "--admin-listen", ":0"]).0, 1);
    assert_eq!(podswell(&["run", "--mode", "never"]).0, 2);
    assert_eq!(podswell(&["simulate"]).0, 2);
    assert_eq!(podswell(&["simulate", "/nowhere.yaml"]).0, 2);
    assert_eq!(podswell(&["simulate", "Cargo.toml"]).0, 2);
    assert_eq!(podswell(&["simulate", "--replay", "Cargo.toml"]).0, 2);
    assert_eq!(podswell(&["simulate", "simulations/found-322-exponential.yaml"]).0, 0);
}

#[test]
fn every_verb_and_every_flag_is_documented() {
    let docs = read("docs/cli.md");
    let (_, help) = podswell(&["--help"]);
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let verbs = commands.lines().filter_map(|line| line.split_whitespace().next());
    for verb in verbs.filter(|verb| *verb != "help") {
        assert!(docs.contains(&format!("| `podswell {verb}")), "docs/cli.md lacks {verb}");
        let (_, help) = podswell(&[verb, "--help"]);
        for word in help.split_whitespace().filter(|word| word.starts_with("--")) {
            let flag = word.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().unwrap();
            let documented = flag == "--help" || docs.contains(&format!("`{flag}`"));
            assert!(documented, "docs/cli.md lacks {flag} of {verb}");
        }
    }
}
