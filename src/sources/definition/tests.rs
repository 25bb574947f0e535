use proptest::prelude::*;

use super::*;

const GOOD: &str = r#"
server:
  url: https://prometheus.monitoring.svc:9090/base/
  caFile: prometheus/ca.crt
  basicAuth:
    username: podswell
    passwordFile: prometheus/password
  headers:
    X-Scope-OrgID: shop
kind: rps
selector: http_requests_total{job="api"}
form: counter
interval: 15s
match:
  namespace: namespace
  pod: pod
"#;

const OPENFAAS: &str = r#"
server: { url: "http://prometheus.openfaas:9090" }
kind: rps
expr: sum by (function_name) (rate(gateway_function_invocation_started[1m]))
form: rate
range: 1m
timestamp: max by (function_name) (timestamp(gateway_function_invocation_started))
interval: 5s
match: { selectable: [function_name] }
absent: zero
alive: min(up{job="openfaas-pods"})
visibleAtZero: true
"#;

fn with(good: &str, from: &str, to: &str) -> String {
    assert!(good.contains(from), "{from}");
    good.replace(from, to)
}

#[test]
fn a_full_definition() {
    let definition = SourceDefinition::parse("api-requests", GOOD).unwrap();
    assert_eq!(definition.server.url, "https://prometheus.monitoring.svc:9090/base");
    assert_eq!(definition.query, Query::Selector("http_requests_total{job=\"api\"}".into()));
    assert_eq!(definition.form, Form::Counter);
    assert_eq!(definition.matching.by, MatchBy::Pod("pod".into()));
    assert_eq!(
        definition.facts(),
        SourceFacts {
            name: "api-requests".into(),
            kind: ScalingMetric::Rps,
            interval: Duration::from_secs(15),
            stale_after: Duration::from_millis(37_500),
            range: None,
            visible_at_zero: false,
            share: Share::Exclusive,
            selectable_labels: Vec::new(),
            query_label: None,
        }
    );
}

#[test]
fn a_part_of_a_whole() {
    let part = |share: &str| SourceDefinition::parse("north", &format!("{GOOD}share: {share}\n"));
    assert_eq!(part("additive").unwrap().facts().share, Share::Additive);
    assert_eq!(part("exclusive").unwrap().facts().share, Share::Exclusive);
    let error = part("both").unwrap_err();
    assert!(error.why.contains("both") && error.line.is_some(), "{error}");
}

#[test]
fn an_expression() {
    let definition = SourceDefinition::parse("openfaas", OPENFAAS).unwrap();
    let facts = definition.facts();
    assert_eq!(facts.range, Some(Duration::from_secs(60)));
    assert!(facts.visible_at_zero);
    assert_eq!(facts.selectable_labels, ["function_name"]);
    assert_eq!(definition.matching.by, MatchBy::Selected);
    assert_eq!(definition.absent, Absent::Zero { alive: "min(up{job=\"openfaas-pods\"})".into() });
}

#[test]
fn a_coarse_resolution_is_the_interval_that_counts() {
    let text = with(
        OPENFAAS,
        "timestamp: max by (function_name) (timestamp(gateway_function_invocation_started))",
        "resolution: 30s",
    );
    let facts = SourceDefinition::parse("x", &text).unwrap().facts();
    assert_eq!(
        (facts.interval, facts.stale_after),
        (Duration::from_secs(30), Duration::from_secs(75))
    );
}

/// A good document, what is replaced by what, the line of the complaint and a word of it.
type Mistake<'a> = (&'a str, &'a str, &'a str, Option<u64>, &'a str);

#[test]
fn every_mistake_names_its_key_and_line() {
    let cases: &[Mistake<'_>] = &[
        (GOOD, "interval: 15s", "intervall: 15s", Some(13), "intervall"),
        (GOOD, "interval: 15s\n", "", None, "interval"),
        (GOOD, "interval: 15s", "interval: 15", Some(13), "15"),
        (GOOD, "interval: 15s", "interval: 15s\ninterval: 10s", Some(14), "interval"),
        (GOOD, "interval: 15s", "interval: 61s", Some(13), "interval"),
        (GOOD, "interval: 15s", "interval: 15s\nstaleAfter: 10s", Some(14), "staleAfter"),
        (GOOD, "interval: 15s", "interval: 15s\nrange: 10s", Some(14), "range"),
        (GOOD, "interval: 15s", "interval: 15s\nresolution: 10s", Some(14), "resolution"),
        (GOOD, "interval: 15s", "interval: 15s\nalive: up", Some(14), "alive"),
        (GOOD, "interval: 15s", "interval: 15s\nabsent: zero", Some(14), "absent"),
        (GOOD, "interval: 15s", "interval: 15s\nvisibleAtZero: true", Some(14), "visibleAtZero"),
        (GOOD, "interval: 15s", "interval: 15s\nvisibleAtZero: yes", Some(14), ""),
        (GOOD, "form: counter", "form: rate", Some(12), "form"),
        (GOOD, "form: counter", "form: histogram", Some(12), "histogram"),
        (GOOD, "kind: rps", "kind: cpu", Some(10), "cpu"),
        (GOOD, "kind: rps\n", "", None, "kind"),
        (
            GOOD,
            "selector: http_requests_total{job=\"api\"}",
            "selector: rate(x[1m])",
            Some(11),
            "selector",
        ),
        (GOOD, "  pod: pod", "  pod: a-b", Some(16), "pod"),
        (GOOD, "  pod: pod", "  pod: pod\n  workload: w", Some(14), "match"),
        (GOOD, "  pod: pod\n", "", Some(14), "match"),
        (GOOD, "  namespace: namespace\n", "", Some(14), "match"),
        (GOOD, "https://prom", "ftp://prom", Some(3), "url"),
        (GOOD, "https://prom", "https://u:p@prom", Some(3), "url"),
        (GOOD, "https://prom", "http://prom", Some(4), "caFile"),
        (GOOD, "base/", "base?x=1", Some(3), "url"),
        (GOOD, "prometheus/ca.crt", "../ca.crt", Some(4), "caFile"),
        (GOOD, "X-Scope-OrgID: shop", "Authorization: x", Some(8), "headers"),
        (GOOD, "X-Scope-OrgID: shop", "\"a b\": x", Some(8), "headers"),
        (GOOD, "X-Scope-OrgID: shop", "\"a\": \"b\\r\\nc: d\"", Some(8), "headers"),
        (OPENFAAS, "range: 1m\n", "", Some(5), "form"),
        (OPENFAAS, "form: rate\nrange: 1m", "form: counter", Some(5), "form"),
        (OPENFAAS, "timestamp:", "resolution: 1s\ntimestamp:", Some(7), "resolution"),
        (OPENFAAS, "expr:", "selector: x\nexpr:", Some(5), "expr"),
        (OPENFAAS, "{ selectable: [function_name] }", "{}", Some(9), "match"),
    ];
    for (good, from, to, line, key) in cases {
        let error = SourceDefinition::parse("x", &with(good, from, to)).unwrap_err();
        assert!(error.why.contains(key), "{to:?}: {error}");
        if line.is_some() {
            assert_eq!(error.line, *line, "{to:?}: {error}");
        }
    }
}

#[test]
fn hostile_documents() {
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n";
    let long = format!("kind: {}", "x".repeat(10_000));
    for text in
        ["", "null", "[]", "- a\n- b", "a: b: c", "\u{0}", bomb, &long, "---\n---\n", "<<: {}"]
    {
        let error = SourceDefinition::parse("x", text).unwrap_err();
        assert!(error.why.chars().count() <= 201 && !error.why.contains('\n'), "{error}");
    }
    assert!(SourceDefinition::parse("x", &" ".repeat(MAX_DOCUMENT_BYTES + 1)).is_err());
}

#[test]
fn names() {
    for (name, good) in [
        ("api", true),
        ("api-1.requests_total", true),
        ("", false),
        ("scrape", false),
        ("Api", false),
        ("-api", false),
        ("a,b", false),
        (&*"a".repeat(64), false),
    ] {
        assert_eq!(SourceDefinition::parse(name, GOOD).is_ok(), good, "{name}");
    }
}

#[test]
fn spans() {
    for (text, stale_after) in [
        ("20s", Some(Duration::from_secs(20))),
        ("1m30s", Some(Duration::from_secs(90))),
        ("1.5m", Some(Duration::from_secs(90))),
        ("15000ms", Some(Duration::from_secs(15))),
        ("\"\"", None),
        ("15", None),
        ("-20s", None),
        ("1d", None),
        ("11m", None),
    ] {
        let text = with(GOOD, "interval: 15s", &format!("interval: 15s\nstaleAfter: {text}"));
        let parsed = SourceDefinition::parse("x", &text).ok();
        assert_eq!(parsed.map(|parsed| parsed.stale_after), stale_after, "{text}");
    }
}

#[test]
fn too_many_sources_leave_the_first_ones_alone() {
    let documents = (0..=MAX_SOURCES)
        .map(|at| (format!("s{at:03}"), GOOD.to_owned()))
        .collect::<BTreeMap<_, _>>();
    let parsed = parse_all(&documents);
    assert_eq!(parsed.values().filter(|parsed| parsed.is_ok()).count(), MAX_SOURCES);
    assert!(parsed.values().last().unwrap().is_err());
}

#[test]
fn the_published_schema_is_the_codes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/sources.schema.json");
    let schema = schema_json().unwrap();
    if std::env::var_os("PODSWELL_WRITE_SCHEMA").is_some() {
        std::fs::write(path, &schema).unwrap();
    }
    let published = std::fs::read_to_string(path).unwrap();
    assert_eq!(published, schema, "run this test with PODSWELL_WRITE_SCHEMA=1");
}

#[test]
fn the_documented_examples_are_sources() {
    let page = include_str!("../../../docs/sources.md");
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut count = 0;
    for example in blocks.filter(|block| block.contains("server:")) {
        if let Err(error) = SourceDefinition::parse("example", example) {
            panic!("{error}\n{example}");
        }
        count += 1;
    }
    assert!(count >= 4, "{count}");
}

#[test]
fn the_documented_keys_are_those_of_the_schema() {
    fn properties(schema: &serde_json::Value) -> Vec<String> {
        let here = schema["properties"].as_object().into_iter().flat_map(|all| all.keys().cloned());
        let below = schema["$defs"].as_object().into_iter().flat_map(|all| all.values());
        here.chain(below.flat_map(properties)).collect()
    }
    let page = include_str!("../../../docs/sources.md");
    let schema = serde_json::from_str(&schema_json().unwrap()).unwrap();
    for key in properties(&schema) {
        let named = [format!("`{key}`"), format!(".{key}`"), format!("`{key}.")]
            .iter()
            .any(|form| page.contains(form));
        assert!(named, "docs/sources.md lacks {key}");
    }
}

proptest! {
    #[test]
    fn no_document_panics(text in "(server|kind|selector|expr|interval|match|url|[:\\-{}\\[\\]&*\"' \n0-9sm.x]){0,60}") {
        let _ = SourceDefinition::parse("x", &text);
    }
}

const OPEN: &str = "server: { url: \"http://prometheus:9090\" }
kind: backlog
queries: true
form: gauge
interval: 15s
match: { namespace: exported_namespace }
";

#[test]
fn a_source_for_queries_of_workloads() {
    let definition = SourceDefinition::parse("own", OPEN).unwrap();
    assert_eq!((&definition.query, &definition.matching.by), (&Query::Brought, &MatchBy::Asker));
    assert_eq!(definition.facts().query_label.as_deref(), Some("exported_namespace"));
    assert_eq!(SourceDefinition::parse("x", GOOD).unwrap().facts().query_label, None);
    for (from, to, word) in [
        ("match: { namespace: exported_namespace }", "match: {}", "to narrow queries"),
        ("namespace: exported_namespace", "namespace: ns, workload: app", "namespace alone"),
        ("namespace: exported_namespace", "namespace: ns, selectable: [queue]", "namespace alone"),
        ("form: gauge", "form: counter", "gauge"),
        ("queries: true", "queries: true\nexpr: up", "queries: true"),
        ("queries: true", "queries: true\nselector: up", "queries: true"),
        ("queries: true", "queries: true\nresolution: 5s", "queries: true"),
        ("queries: true", "queries: true\nabsent: zero\nalive: up", "queries: true"),
        ("queries: true", "queries: yes please", "line 3"),
        ("queries: true", "queries: false", "needs selector, expr or queries"),
    ] {
        let error = SourceDefinition::parse("own", &with(OPEN, from, to)).unwrap_err();
        assert!(error.to_string().contains(word), "{to}: {error}");
    }
}

/// A label that says whose a series is must not be the workload's choice.
#[test]
fn no_source_lets_workloads_choose_a_namespace() {
    for (matching, refused) in [
        ("{ selectable: [queue] }", false),
        ("{ namespace: tenant, selectable: [queue] }", false),
        ("{ namespace: tenant, workload: app, selectable: [kn_name] }", false),
        ("{ selectable: [namespace] }", true),
        ("{ selectable: [queue, exported_namespace] }", true),
        ("{ namespace: namespace, selectable: [queue, destination_workload_namespace] }", true),
        ("{ namespace: tenant, selectable: [tenant] }", true),
        ("{ namespace: tenant, workload: app, selectable: [k8s_ns] }", true),
        ("{ namespace: tenant, workload: tenant }", true),
        ("{ namespace: tenant, pod: tenant }", true),
    ] {
        let document = format!(
            "server: {{ url: \"http://a\" }}\nkind: rps\nselector: a\nform: counter\n\
             interval: 5s\nmatch: {matching}\n"
        );
        let parsed = SourceDefinition::parse("x", &document);
        assert_eq!(parsed.is_err(), refused, "{matching}: {parsed:?}");
        if let Err(error) = parsed {
            assert!(error.why.contains("namespace"), "{error}");
        }
    }
}
