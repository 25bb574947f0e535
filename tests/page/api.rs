//! The played Kubernetes API beside the real one: the same requests to both, and what both answer must be
//! the same, as far as clients look at it.

use std::time::Duration;

use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use http::{Method, Request};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use crate::demo::Demo;
use crate::support::controlplane::{ControlPlane, Options};
use crate::support::kubeconfig;
use crate::support::wait::eventually;

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

const MAPS: &str = "/api/v1/namespaces/shop/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/shop/deployments";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/shop/leases";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/shop/events";
const AUTOSCALERS: &str = "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers";

/// What of a refusal clients look at.
const REFUSAL: &[&str] = &[
    "/kind",
    "/apiVersion",
    "/status",
    "/reason",
    "/code",
    "/message",
    "/details/name",
    "/details/kind",
];

/// One API server, and what was said to it and by it.
struct Talk {
    client: Client,
    lines: Vec<String>,
}

impl Talk {
    fn new(client: Client) -> Self {
        Self { client, lines: Vec::new() }
    }

    async fn send(&self, method: Method, path: &str, kind: &str, body: &Value) -> (u16, Value) {
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request::builder().method(method).uri(path).header("content-type", kind);
        let request = request.body(Body::from(bytes)).expect("a request");
        let answer = self.client.send(request).await.expect("an answer");
        let code = answer.status().as_u16();
        let bytes = answer.into_body().collect_bytes().await.expect("the whole answer");
        (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// Sends a request and notes the code, and what is at these places of the answer.
    async fn say(
        &mut self,
        about: &str,
        (method, path): (Method, &str),
        (kind, body): (&str, Value),
        places: &[&str],
    ) -> Value {
        let (code, answer) = self.send(method, path, kind, &body).await;
        let places = if code >= 400 { REFUSAL } else { places };
        let told = places.iter().map(|place| {
            let found = answer.pointer(place).unwrap_or(&Value::Null);
            format!("{place}={found}")
        });
        let line = format!("{about}: {code} {}", told.collect::<Vec<_>>().join(" "));
        self.lines.push(line);
        answer
    }

    async fn get(&mut self, about: &str, path: &str, places: &[&str]) -> Value {
        self.say(about, (Method::GET, path), (JSON, Value::Null), places).await
    }

    async fn post(&mut self, about: &str, path: &str, body: Value, places: &[&str]) -> Value {
        self.say(about, (Method::POST, path), (JSON, body), places).await
    }

    async fn put(&mut self, about: &str, path: &str, body: Value, places: &[&str]) -> Value {
        self.say(about, (Method::PUT, path), (JSON, body), places).await
    }

    async fn delete(&mut self, about: &str, path: &str, places: &[&str]) -> Value {
        self.say(about, (Method::DELETE, path), (JSON, Value::Null), places).await
    }

    async fn patch(
        &mut self,
        about: &str,
        path: &str,
        (kind, body): (&str, Value),
        places: &[&str],
    ) -> Value {
        self.say(about, (Method::PATCH, path), (kind, body), places).await
    }

    /// Watches for some seconds and gives the events; the watch ends by itself.
    async fn watch(&self, path: &str) -> Vec<(String, Value)> {
        let request = Request::get(path).body(Vec::new()).expect("a request");
        let lines = self.client.request_stream(request).await.expect("a watch");
        let lines: Vec<String> = lines.lines().try_collect().await.expect("its lines");
        let read = |line: &String| {
            let event: Value = serde_json::from_str(line).expect("JSON");
            (event["type"].as_str().expect("a type").to_owned(), event["object"].clone())
        };
        lines.iter().map(read).collect()
    }

    /// Watches until as many events were told at once: a busy server may tell some of them too late for the
    /// watch's time.
    async fn watch_until(&self, path: &str, events: usize) -> Vec<(String, Value)> {
        eventually(Duration::from_secs(60), "the watch tells", || async {
            let seen = self.watch(path).await;
            if seen.len() >= events { Ok(seen) } else { Err(seen) }
        })
        .await
    }
}

fn map(name: &str, data: Value) -> Value {
    let labels = json!({ "of": "talk" });
    let mut map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "labels": labels },
    });
    map["data"] = data;
    map
}

fn deployment(name: &str, replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": name, "labels": { "of": "talk" } },
        "spec": {
            "replicas": replicas, "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [
                    { "name": "app", "image": "a:1" }, { "name": "side", "image": "b:1" },
                ]},
            },
        },
    })
}

fn version(object: &Value) -> Value {
    object["metadata"]["resourceVersion"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_played_api_answers_as_the_real_one() {
    let demo = Demo::start(&[], 6).await;
    let mut plane = ControlPlane::start(Options::default()).await;
    let real = Talk::new(plane.client());
    let played = Talk::new(kubeconfig::client(kubeconfig::plain(&demo.api())).await);
    let namespace =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" } });
    let (code, _) = real.send(Method::POST, "/api/v1/namespaces", JSON, &namespace).await;
    assert_eq!(code, 201);
    // A server that has just started remembers nothing from before.
    plane.kill_apiserver();
    plane.start_apiserver().await;
    let (real, played) = tokio::join!(converse(real), converse(played));
    let differing: Vec<_> =
        real.iter().zip(&played).filter(|(real, played)| real != played).collect();
    let told: Vec<_> = differing
        .iter()
        .map(|(real, played)| format!("real:   {real}\nplayed: {played}\n"))
        .collect();
    assert!(told.is_empty() && real.len() == played.len(), "\n{}", told.join("\n"));
}

/// The whole conversation, and what was noted of it.
async fn converse(mut talk: Talk) -> Vec<String> {
    objects(&mut talk).await;
    conflicts(&mut talk).await;
    patches(&mut talk).await;
    scales(&mut talk).await;
    lists(&mut talk).await;
    refusals(&mut talk).await;
    strictness(&mut talk).await;
    other_kinds(&mut talk).await;
    discovery(&mut talk).await;
    watches(&mut talk).await;
    talk.lines
}

async fn objects(talk: &mut Talk) {
    let whole = &["/kind", "/apiVersion", "/metadata/name", "/metadata/namespace", "/data"];
    let made = talk.post("create", MAPS, map("one", json!({ "a": "1" })), whole).await;
    for field in ["uid", "resourceVersion", "creationTimestamp"] {
        assert!(made["metadata"][field].is_string(), "{field}: {made}");
    }
    talk.post("create again", MAPS, map("one", json!({})), whole).await;
    let one = format!("{MAPS}/one");
    talk.get("get", &one, whole).await;
    talk.get("get what is not there", &format!("{MAPS}/none"), whole).await;
    talk.put("replace", &one, map("one", json!({ "b": "2" })), whole).await;
    talk.put("replace what is not there", &format!("{MAPS}/none"), map("none", json!({})), whole)
        .await;
    talk.put("replace another one", &one, map("two", json!({})), whole).await;
    let generated = json!({ "metadata": { "generateName": "made-" } });
    let made = talk.post("generate a name", MAPS, generated, &["/kind"]).await;
    let name = made["metadata"]["name"].as_str().expect("a name");
    assert!(name.starts_with("made-") && name.len() == "made-".len() + 5, "{name}");
    talk.delete("delete", &format!("{MAPS}/{name}"), &["/kind", "/status", "/details/kind"]).await;
    talk.delete("delete what is not there", &format!("{MAPS}/none"), whole).await;
}

async fn conflicts(talk: &mut Talk) {
    let data = &["/data"];
    let one = format!("{MAPS}/one");
    let old = version(&talk.get("before", &one, data).await);
    let mut body = map("one", json!({ "c": "3" }));
    body["metadata"]["resourceVersion"] = old.clone();
    talk.put("with the newest version", &one, body.clone(), data).await;
    talk.put("with an old version", &one, body, data).await;
    let late = json!({ "metadata": { "resourceVersion": old }, "data": { "d": "4" } });
    talk.patch("a patch with an old version", &one, (MERGE, late), data).await;
    let first = talk.get("unchanged", &one, data).await;
    let second = talk.patch("a patch of nothing", &one, (MERGE, json!({})), data).await;
    assert_eq!(version(&first), version(&second), "nothing changed");
    let mut body = map("two", json!({}));
    body["metadata"]["resourceVersion"] = json!("1");
    talk.post("create with a version", MAPS, body, data).await;
}

async fn patches(talk: &mut Talk) {
    let one = format!("{MAPS}/one");
    let data = &["/data", "/metadata/annotations"];
    let merge =
        json!({ "data": { "c": null, "e": "5" }, "metadata": { "annotations": { "k": "v" } } });
    talk.patch("merge", &one, (MERGE, merge), data).await;
    let steps = json!([
        { "op": "test", "path": "/data/e", "value": "5" },
        { "op": "add", "path": "/data/f", "value": "6" },
        { "op": "replace", "path": "/data/e", "value": "7" },
        { "op": "remove", "path": "/metadata/annotations/k" },
    ]);
    talk.patch("JSON patch", &one, (JSON_PATCH, steps), data).await;
    let wrong = json!([{ "op": "test", "path": "/data/e", "value": "8" }]);
    let (code, _) = talk.send(Method::PATCH, &one, JSON_PATCH, &wrong).await;
    talk.lines.push(format!("a test that fails: {code}"));
    talk.patch("another form", &one, ("application/x-other", json!({})), data).await;
    talk.patch("of what is not there", &format!("{MAPS}/none"), (MERGE, json!({})), data).await;
    let web = format!("{DEPLOYMENTS}/talk-web");
    talk.post("a Deployment", DEPLOYMENTS, deployment("talk-web", 0), &["/spec/replicas"]).await;
    let images = &[
        "/spec/template/spec/containers/0/name",
        "/spec/template/spec/containers/0/image",
        "/spec/template/spec/containers/1/name",
        "/spec/template/spec/containers/1/image",
        "/spec/template/spec/containers/2/name",
        "/metadata/generation",
    ];
    let list = json!({ "spec": { "template": { "spec": { "containers": [
        { "name": "side", "image": "b:2" } ] } } } });
    talk.patch("strategic: one of a list", &web, (STRATEGIC, list), images).await;
    let list = json!({ "spec": { "template": { "spec": { "containers": [
        { "name": "side", "$patch": "delete" } ] } } } });
    talk.patch("strategic: out of a list", &web, (STRATEGIC, list), images).await;
    let annotate = json!({ "metadata": { "annotations": { "k": "v" } } });
    let told = &["/metadata/annotations/k", "/metadata/generation"];
    talk.patch("strategic: annotate", &web, (STRATEGIC, annotate), told).await;
    applies(talk).await;
}

async fn applies(talk: &mut Talk) {
    let path = format!("{DEPLOYMENTS}/talk-applied?fieldManager=talk&force=true");
    let told = &[
        "/metadata/name",
        "/spec/replicas",
        "/spec/template/spec/containers/0/image",
        "/metadata/generation",
    ];
    talk.patch("apply", &path, (APPLY, deployment("talk-applied", 0)), told).await;
    let mut changed = deployment("talk-applied", 0);
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = json!("a:2");
    talk.patch("apply again", &path, (APPLY, changed), told).await;
    let nobody = format!("{DEPLOYMENTS}/talk-applied");
    let (code, answer) =
        talk.send(Method::PATCH, &nobody, APPLY, &deployment("talk-applied", 0)).await;
    talk.lines.push(format!("apply as nobody: {code} {}", answer["reason"]));
}

async fn scales(talk: &mut Talk) {
    let scale = format!("{DEPLOYMENTS}/talk-web/scale");
    let whole = &[
        "/kind",
        "/apiVersion",
        "/metadata/name",
        "/metadata/namespace",
        "/spec/replicas",
        "/status/selector",
    ];
    let before = talk.get("the scale", &scale, whole).await;
    let two = json!({ "spec": { "replicas": 2 } });
    let as_us = format!("{scale}?fieldManager=talk");
    talk.patch("scale by patch", &as_us, (MERGE, two.clone()), whole).await;
    names_who_scaled(talk).await;
    talk.patch("scale by strategic patch", &scale, (STRATEGIC, two), whole).await;
    let late =
        json!({ "metadata": { "resourceVersion": version(&before) }, "spec": { "replicas": 3 } });
    talk.patch("scale with an old version", &scale, (MERGE, late), whole).await;
    let mut put = before.clone();
    put["spec"]["replicas"] = json!(1);
    talk.put("put a scale with an old version", &scale, put.clone(), whole).await;
    put["metadata"].as_object_mut().expect("metadata").remove("resourceVersion");
    talk.put("put a scale", &scale, put, whole).await;
    let negative = json!({ "spec": { "replicas": -1 } });
    let (code, answer) = talk.send(Method::PATCH, &scale, MERGE, &negative).await;
    talk.lines.push(format!("less than no pods: {code} {}", answer["reason"]));
    talk.get("the scale of nothing", &format!("{DEPLOYMENTS}/none/scale"), whole).await;
}

/// The field's owner is what tells podswell who takes its writes back.
async fn names_who_scaled(talk: &mut Talk) {
    let path = format!("{DEPLOYMENTS}/talk-web");
    let (_, object) = talk.send(Method::GET, &path, JSON, &Value::Null).await;
    let owners = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let ours = owners.iter().find(|owner| owner["manager"] == "talk").cloned().unwrap_or_default();
    talk.lines.push(format!("who scaled: {} {}", ours["subresource"], ours["fieldsV1"]));
}

async fn lists(talk: &mut Talk) {
    for selector in [
        "labelSelector=of%3Dtalk",
        "labelSelector=of%20in%20(talk,song)",
        "labelSelector=of%20notin%20(talk)%2Cof",
        "labelSelector=!of%2Cmissing",
        "labelSelector=of!%3Dtalk%2Cof",
        "fieldSelector=metadata.name%3Done",
        "labelSelector=of%3Dtalk&fieldSelector=metadata.name!%3Done",
    ] {
        let (code, list) =
            talk.send(Method::GET, &format!("{MAPS}?{selector}"), JSON, &Value::Null).await;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let names: Vec<_> = items.iter().map(|item| item["metadata"]["name"].clone()).collect();
        let typed = items.iter().any(|item| !item["kind"].is_null());
        assert!(list["metadata"]["resourceVersion"].is_string(), "{list}");
        talk.lines.push(format!("list {selector}: {code} {} {names:?} {typed}", list["kind"]));
    }
    let (code, _) = talk
        .send(Method::GET, &format!("{MAPS}?labelSelector=a%3D%3D%3Db"), JSON, &Value::Null)
        .await;
    talk.lines.push(format!("a selector that is none: {code}"));
}

async fn refusals(talk: &mut Talk) {
    let place = &["/kind"];
    let elsewhere = "/api/v1/namespaces/none/configmaps";
    talk.post("in a namespace that is not there", elsewhere, map("one", json!({})), place).await;
    for (about, method, path) in [
        ("a kind that is not served", Method::GET, "/apis/apps/v1/namespaces/shop/nonsenses"),
        ("a group that is not served", Method::GET, "/apis/none.example/v1/namespaces/shop/things"),
        ("a method for one on all", Method::PUT, MAPS),
        ("a method for all on one", Method::POST, "/api/v1/namespaces/shop/configmaps/one"),
        (
            "a subresource that is not there",
            Method::GET,
            "/api/v1/namespaces/shop/configmaps/one/scale",
        ),
    ] {
        let (code, _) = talk.send(method, path, JSON, &json!({})).await;
        talk.lines.push(format!("{about}: {code}"));
    }
    let mut nameless = map("x", json!({}));
    nameless["metadata"] = json!({});
    let mut wrong_name = map("Not A Name", json!({}));
    let mut bare = deployment("talk-bare", 0);
    bare["spec"].as_object_mut().expect("a spec").remove("selector");
    let mut negative = deployment("talk-negative", -1);
    let mut words = deployment("talk-words", 1);
    words["spec"]["replicas"] = json!("three");
    let mut alien = map("alien", json!({}));
    alien["kind"] = json!("Secret");
    for (about, path, body) in [
        ("without a name", MAPS, nameless.take()),
        ("with a name that is none", MAPS, wrong_name.take()),
        ("a Deployment without a selector", DEPLOYMENTS, bare.take()),
        ("fewer than no replicas", DEPLOYMENTS, negative.take()),
        ("replicas in words", DEPLOYMENTS, words.take()),
        ("another kind", MAPS, alien.take()),
        ("no object at all", MAPS, json!("text")),
    ] {
        let (code, answer) = talk.send(Method::POST, path, JSON, &body).await;
        talk.lines.push(format!("{about}: {code} {} {}", answer["kind"], answer["reason"]));
    }
}

async fn other_kinds(talk: &mut Talk) {
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "talk" },
        "spec": { "holderIdentity": "a", "leaseDurationSeconds": 4, "renewTime": "2026-01-01T00:00:00.000000Z" },
    });
    let held = &["/spec/holderIdentity", "/spec/leaseDurationSeconds", "/spec/renewTime"];
    let mut made = talk.post("a Lease", LEASES, lease, held).await;
    let path = format!("{LEASES}/talk");
    made["spec"]["holderIdentity"] = json!("b");
    talk.put("take it", &path, made.clone(), held).await;
    made["spec"]["holderIdentity"] = json!("c");
    talk.put("take it too late", &path, made, held).await;
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": { "name": "talk.1" },
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "talk",
        "reportingInstance": "talk-1", "action": "Talk", "reason": "Talked", "type": "Normal",
        "regarding": { "kind": "Deployment", "namespace": "shop", "name": "talk-web" }, "note": "well",
    });
    let told = &["/kind", "/note", "/reason", "/regarding/name"];
    talk.post("an Event", EVENTS, event, told).await;
    let more =
        json!({ "series": { "count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z" } });
    talk.patch("a series", &format!("{EVENTS}/talk.1"), (MERGE, more), &["/series/count"]).await;
    let rival = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": { "name": "talk" },
        "spec": { "minReplicas": 1, "maxReplicas": 3, "scaleTargetRef": {
            "apiVersion": "apps/v1", "kind": "Deployment", "name": "talk-none" } },
    });
    let told = &["/kind", "/spec/maxReplicas", "/spec/scaleTargetRef/name"];
    talk.post("an HPA", AUTOSCALERS, rival, told).await;
    talk.get("the HPA", &format!("{AUTOSCALERS}/talk"), told).await;
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": { "verb": "get", "resource": "pods" } },
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    talk.post("may I", path, review, &["/kind", "/status/allowed"]).await;
}

/// What clients look for in discovery.
async fn discovery(talk: &mut Talk) {
    for (path, wanted) in [
        ("/api/v1", vec!["configmaps", "pods", "namespaces"]),
        ("/apis/apps/v1", vec!["deployments", "deployments/scale", "replicasets"]),
        ("/apis/autoscaling/v2", vec!["horizontalpodautoscalers"]),
        ("/apis/coordination.k8s.io/v1", vec!["leases"]),
        ("/apis/events.k8s.io/v1", vec!["events"]),
    ] {
        let list = talk.get(path, path, &["/kind", "/groupVersion"]).await;
        for name in wanted {
            let all = list["resources"].as_array().cloned().unwrap_or_default();
            let found = all.iter().find(|resource| resource["name"] == name).cloned();
            let found = found.unwrap_or_default();
            let told = ["kind", "namespaced", "group", "version", "singularName", "shortNames"];
            let told = told.map(|key| format!("{key}={}", found[key]));
            let verbs = found["verbs"].as_array().cloned().unwrap_or_default();
            let ours = ["create", "delete", "get", "list", "patch", "update", "watch"];
            let ours = ours.map(|verb| format!("{verb}={}", verbs.contains(&json!(verb))));
            talk.lines.push(format!("{path} {name}: {} {}", told.join(" "), ours.join(" ")));
        }
    }
    for group in ["apps", "autoscaling"] {
        let path = format!("/apis/{group}");
        talk.get(&path, &path, &["/kind", "/name"]).await;
    }
    openapi(talk).await;
    talk.get("groups", "/apis", &["/kind"]).await;
    talk.get("core versions", "/api", &["/kind", "/versions"]).await;
}

/// What `kubectl` looks for before it leaves the search for unknown fields to the server.
async fn openapi(talk: &mut Talk) {
    let (code, index) = talk.send(Method::GET, "/openapi/v3", JSON, &Value::Null).await;
    let address = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap_or_default();
    let begins = address.starts_with("/openapi/v3/apis/apps/v1");
    let (_, document) = talk.send(Method::GET, address, JSON, &Value::Null).await;
    let one = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}";
    let patch = &document["paths"][one]["patch"];
    let parameters = patch["parameters"].as_array().cloned().unwrap_or_default();
    let validates = parameters
        .iter()
        .any(|parameter| parameter["name"] == "fieldValidation" && parameter["in"] == "query");
    let kind = &patch["x-kubernetes-group-version-kind"];
    let version = document["openapi"].as_str().unwrap_or_default();
    talk.lines.push(format!("openapi: {code} {begins} {version:.1} {validates} {kind}"));
    let missing = talk.send(Method::GET, "/openapi/v3/apis/none/v1", JSON, &Value::Null).await;
    talk.lines.push(format!("openapi of what is not served: {}", missing.0));
}

/// A field that is not one is refused where the client wants that, and else left out or kept.
async fn strictness(talk: &mut Talk) {
    let mut odd = deployment("talk-odd", 0);
    odd["spec"]["replicsa"] = json!(1);
    odd["spec"]["template"]["spec"]["containers"][1]["imag"] = json!("c:1");
    let strict = format!("{DEPLOYMENTS}?fieldValidation=Strict");
    talk.post("unknown fields", &strict, odd, &["/kind"]).await;
    let good = deployment("talk-strict", 0);
    talk.post("none of them", &strict, good.clone(), &["/kind", "/spec/replicas"]).await;
    let one = format!("{DEPLOYMENTS}/talk-strict?fieldValidation=Strict");
    let mut odd = good;
    odd["spec"]["replicsa"] = json!(1);
    talk.put("replace with an unknown field", &one, odd, &["/kind"]).await;
    let odd = json!({ "spec": { "replicsa": 1 } });
    for form in [MERGE, STRATEGIC] {
        let (code, answer) = talk.send(Method::PATCH, &one, form, &odd).await;
        talk.lines.push(format!("{form} of an unknown field: {code} {}", answer["reason"]));
    }
    let good = json!({ "metadata": { "labels": { "more": "1" } } });
    talk.patch("a patch of known ones", &one, (MERGE, good), &["/metadata/labels"]).await;
}

async fn watches(talk: &mut Talk) {
    let path = format!("{MAPS}?watch=true&resourceVersion=1&timeoutSeconds=5");
    let old = talk.watch_until(&path, 1).await;
    let (what, status) = old.first().cloned().unwrap_or_default();
    talk.lines.push(format!("watch from long ago: {what} {} {}", status["code"], status["reason"]));
    let (_, list) = talk.send(Method::GET, MAPS, JSON, &Value::Null).await;
    let since = version(&list);
    let since = since.as_str().expect("a version");
    for (method, path, body) in [
        (Method::POST, MAPS.to_owned(), map("seen", json!({}))),
        (Method::PUT, format!("{MAPS}/seen"), map("seen", json!({ "a": "1" }))),
        (Method::DELETE, format!("{MAPS}/seen"), Value::Null),
    ] {
        let (code, _) = talk.send(method, &path, JSON, &body).await;
        assert!(code < 300, "{path}: {code}");
    }
    let one = format!("fieldSelector=metadata.name%3Dseen&resourceVersion={since}");
    let path = format!("{MAPS}?watch=true&{one}&timeoutSeconds=3");
    let seen = talk.watch_until(&path, 3).await;
    let told: Vec<_> = seen
        .iter()
        .map(|(what, object)| format!("{what} {} {}", object["kind"], object["data"]))
        .collect();
    talk.lines.push(format!("watch: {}", told.join(", ")));
    let path = format!("{MAPS}?watch=true&{one}&timeoutSeconds=4&allowWatchBookmarks=true");
    let seen = talk.watch(&path).await;
    // A real server sends them when it likes, if at all in so short a time.
    let mut marks = seen.iter().filter(|(what, _)| what == "BOOKMARK");
    let good = marks.all(|(_, mark)| mark["kind"] == "ConfigMap" && version(mark).is_string());
    talk.lines.push(format!("bookmarks are good: {good}"));
    let path = format!("{MAPS}?watch=true&labelSelector=of%3Dtalk&timeoutSeconds=2");
    let seen = talk.watch_until(&path, 1).await;
    let told: Vec<_> = seen
        .iter()
        .map(|(what, object)| format!("{what} {}", object["metadata"]["name"]))
        .collect();
    talk.lines.push(format!("watch from now: {}", told.join(", ")));
    leaves_the_selection(talk).await;
}

/// An object whose label changes appears in one selection and disappears from another.
async fn leaves_the_selection(talk: &mut Talk) {
    let made = talk.post("a labelled one", MAPS, map("moves", json!({})), &["/kind"]).await;
    let other = json!({ "metadata": { "labels": { "of": "song" } } });
    talk.patch("another label", &format!("{MAPS}/moves"), (MERGE, other), &["/metadata/labels"])
        .await;
    let since = version(&made);
    let since = since.as_str().expect("a version").to_owned();
    for label in ["talk", "song"] {
        let path = format!(
            "{MAPS}?watch=true&labelSelector=of%3D{label}&resourceVersion={since}&timeoutSeconds=2"
        );
        let seen = talk.watch_until(&path, 1).await;
        let told: Vec<_> = seen.iter().map(|(what, _)| what.clone()).collect();
        talk.lines.push(format!("watch of={label}: {told:?}"));
    }
}
