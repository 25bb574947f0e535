use super::*;

const GOOD: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata:
  name: checkout
  namespace: shop
  annotations:
    autoscaling.knative.dev/class: kpa.podswell.dev
    autoscaling.knative.dev/max-scale: "20"
    podswell.dev/scrape: '{"port": 8080, "path": "/metrics", "inFlight": "http_in_flight"}'
"#;

const BAD: &str = r#"# several things are wrong here
kind: Deployment
metadata:
  name: basket
  annotations:
    autoscaling.knative.dev/class: kpa.podswell.dev
    autoscaling.knative.dev/max-scal: "20"
    autoscaling.knative.dev/window: 5s
    autoscaling.knative.dev/target: 50
    podswell.dev/source: ingres
spec: {replicas: 3}
---
kind: Deployment
metadata:
  name: forgotten
  annotations: {podswell.dev/mode: apply}
--- # sources
apiVersion: v1
kind: ConfigMap
metadata: {name: podswell-sources}
data:
  ingress: |
    server: { url: "http://prometheus.monitoring:9090" }
    kind: concurrency
    selector: ingress_requests_in_flight
    form: gauge
    intervall: 15s
    match: { namespace: exported_namespace, workload: deployment }
---
kind: ConfigMap
metadata: {name: podswell}
data: {frieze: "true"}
---
kind: ConfigMap
metadata: {name: config-autoscaler}
data:
  stable-windw: 30s
  max-scale: "-1"
---
kind: Namespace
metadata:
  name: shop
  annotations:
    podswell.dev/mode: of
---
kind: List
items:
- kind: HorizontalPodAutoscaler
  metadata: {name: rival}
  spec: {scaleTargetRef: {kind: Deployment, name: basket}}
"#;

fn texts(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

fn text_of(files: &[(&str, &str)]) -> String {
    let texts = texts(files);
    render(&examine(&texts, "default"), texts.len(), Output::Text).unwrap()
}

fn levels(files: &[(&str, &str)]) -> Vec<Level> {
    examine(&texts(files), "default").list.iter().map(|finding| finding.level).collect()
}

#[test]
fn a_good_manifest_has_no_finding() {
    assert!(!levels(&[("good.yaml", GOOD)]).contains(&Level::Finding));
    assert!(
        text_of(&[("good.yaml", GOOD)])
            .ends_with("0 findings, 0 notes in 1 file with 1 workload\n")
    );
}

#[test]
fn everything_wrong_is_named_with_its_line() {
    insta::assert_snapshot!("findings", text_of(&[("bad.yaml", BAD), ("good.yaml", GOOD)]));
}

#[test]
fn a_name_of_a_source_says_nothing_without_definitions() {
    let one = GOOD.replace("podswell.dev/scrape: ", "podswell.dev/source: ingress # ");
    assert!(!levels(&[("a.yaml", &one)]).contains(&Level::Finding));
    let measured = "podswell.dev/measures: concurrency@ingress # ";
    let measured = GOOD.replace("podswell.dev/scrape: ", measured);
    assert!(!levels(&[("a.yaml", &measured)]).contains(&Level::Finding));
    let definition = "server: {url: 'http://a'}\nkind: rps\nselector: a\nform: counter\n\
                      interval: 5s\nmatch: {namespace: n, workload: w}\n";
    let text = text_of(&[("a.yaml", &one), ("ingress.yaml", definition)]);
    assert!(text.contains("SourceKindMismatch"), "{text}");
    let text = text_of(&[("a.yaml", &one), ("ingres.yaml", definition)]);
    assert!(text.contains("did you mean ingres?"), "{text}");
    let text = text_of(&[("ingress.yaml", &definition.replace("interval: 5s", "interval: 5"))]);
    assert!(text.starts_with("ingress.yaml:5: finding: source ingress:"), "{text}");
}

#[test]
fn what_is_no_yaml_is_an_error_and_the_rest_is_looked_at() {
    let text = text_of(&[("a.yaml", &format!("{GOOD}---\na: [1\n---\nb: 1\nb: 2\n"))]);
    assert!(text.contains("with 1 workload") && text.starts_with("a.yaml:"), "{text}");
    assert_eq!(text.matches("[Unreadable]").count(), 2, "{text}");
    assert!(text.contains("a.yaml:15: error:"), "{text}");
}

#[test]
fn json_and_lists_are_read_too() {
    let list = r#"{"kind":"DeploymentList","items":[{"kind":"Deployment","metadata":{"name":"a",
        "annotations":{"autoscaling.knative.dev/metric":"rpm"}}}]}"#;
    let findings = examine(&texts(&[("a.json", list)]), "shop");
    assert_eq!(findings.workloads, 1);
    assert!(findings.list.iter().any(|one| one.key.ends_with("/metric")), "{findings:?}");
    let text = render(&findings, 1, Output::Json).unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&document["kind"], &document["workloads"]), (&"LintReport".into(), &1.into()));
}

#[test]
fn nothing_and_nonsense_are_harmless() {
    for text in [
        "",
        "---\n---\n",
        "# only a comment\n",
        "just text",
        "[1, 2]",
        "kind: 5",
        "kind: Deployment",
    ] {
        assert!(!levels(&[("a.yaml", text)]).contains(&Level::Finding), "{text}");
    }
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n\
                c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n\
                e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
                g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n";
    assert_eq!(levels(&[("bomb.yaml", bomb)]), [Level::Error]);
}

#[test]
fn our_own_manifests_are_clean() {
    let files = [
        ("install.yaml", include_str!("../../../deploy/install.yaml")),
        ("configmaps.yaml", include_str!("../../../deploy/base/configmaps.yaml")),
    ];
    assert_eq!(levels(&files), []);
}

#[test]
fn namespaces_are_looked_at() {
    for (key, value, word) in [
        ("podswell.dev/mode", "pasued", "did you mean paused?"),
        ("podswell.dev/paused-until", "tomorrow", "is not a time"),
        (
            "podswell.dev/paused-untl",
            "2026-09-01T12:00:00Z",
            "did you mean podswell.dev/paused-until?",
        ),
        ("podswell.dev/freeze", "true", "did you mean podswell.dev/mode: paused?"),
        ("podswell.dev/source", "x", "is not read from a namespace"),
    ] {
        let text = format!(
            "kind: Namespace\nmetadata:\n  name: shop\n  annotations:\n    {key}: \"{value}\"\n"
        );
        let text = text_of(&[("a.yaml", &text)]);
        assert!(text.starts_with("a.yaml:5: finding: ") && text.contains(word), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
    }
    let fine = "kind: Namespace\nmetadata:\n  name: shop\n  annotations:\n    podswell.dev/mode: paused\n    \
                podswell.dev/paused-until: \"2026-09-01T12:00:00Z\"\n";
    assert_eq!(levels(&[("a.yaml", fine)]), []);
}

#[test]
fn queries_are_read_as_far_as_the_files_tell() {
    let with = |query: &str| {
        let lines = format!("podswell.dev/source: own\n    podswell.dev/query: '{query}'\n    #");
        GOOD.replace("podswell.dev/scrape: ", &lines)
    };
    let map = "kind: ConfigMap\nmetadata: {name: podswell}\ndata: {query-namespaces: NAMES}\n";
    let source = "server: {url: 'http://a'}\nkind: concurrency\nqueries: true\nform: gauge\n\
                  interval: 5s\nmatch: {namespace: tenant}\n";
    let (listed, others) = (map.replace("NAMES", "shop"), map.replace("NAMES", "blog"));
    let good = with("sum(x)");
    assert!(!levels(&[("a.yaml", &good)]).contains(&Level::Finding));
    assert!(
        !levels(&[("a.yaml", &good), ("p.yaml", &listed), ("own.yaml", source)])
            .contains(&Level::Finding)
    );
    let foreign = with(r#"sum(x{namespace="other"})"#);
    let foreign_here = with(r#"sum(x{tenant="other"})"#);
    let twisted = GOOD.replace(
        "podswell.dev/scrape: ",
        "podswell.dev/source: own\n    podswell.dev/source-match: namespace=other\n    #",
    );
    let chosen = "server: {url: 'http://a'}\nkind: rps\nselector: a\nform: counter\n\
                  interval: 5s\nmatch:\n  selectable: [namespace]\n";
    let plain = chosen.replace("[namespace]", "[queue]").replace("rps", "concurrency");
    for (files, word) in [
        (&[("a.yaml", &*good), ("p.yaml", &*others)][..], "[QueryNotAllowed]"),
        (&[("a.yaml", &with("sum(x"))], "expected `,`"),
        (&[("a.yaml", &foreign)], "[ForeignSeries]"),
        (
            &[("a.yaml", &foreign_here), ("p.yaml", &listed), ("own.yaml", source)],
            "[ForeignSeries]",
        ),
        (&[("a.yaml", &twisted), ("own.yaml", &plain)], "[ForeignSeries]"),
        (&[("own.yaml", chosen)], "own.yaml:7: finding: source own: selectable"),
    ] {
        let text = text_of(files);
        assert!(text.contains(word), "{word}: {text}");
    }
}
