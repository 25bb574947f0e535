use clap::Parser;
use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::report::{Check, CheckId};
use super::*;

#[derive(Parser)]
struct Wrapper {
    #[command(flatten)]
    args: CheckArgs,
}

/// An API server, and on the same port a Prometheus server.
struct Cluster {
    server: MockServer,
    folder: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let cluster =
            Self { server: MockServer::start().await, folder: tempfile::tempdir().unwrap() };
        cluster.point_at(&cluster.server.uri());
        cluster
    }

    /// Lets the kubeconfig name this server.
    fn point_at(&self, server: &str) {
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        });
        std::fs::write(self.kubeconfig(), kubeconfig.to_string()).unwrap();
    }

    fn kubeconfig(&self) -> String {
        self.folder.path().join("config").to_str().unwrap().to_owned()
    }

    async fn get(&self, at: &str, body: &Value) {
        let answer = ResponseTemplate::new(200).set_body_json(body);
        Mock::given(method("GET")).and(path(at)).respond_with(answer).mount(&self.server).await;
    }

    /// Answers access reviews; `refuse` sees the attributes that are asked for.
    async fn reviews(&self, refuse: fn(&Value) -> bool) {
        let answer = move |request: &Request| {
            let review: Value = request.body_json().unwrap();
            let allowed = !refuse(&review["spec"]["resourceAttributes"]);
            let mut review = review;
            review["status"] = json!({"allowed": allowed});
            ResponseTemplate::new(201).set_body_json(review)
        };
        Mock::given(method("POST")).respond_with(answer).mount(&self.server).await;
    }

    /// All that an installation without workloads has.
    async fn fill(&self) {
        self.get("/version", &json!({"major": "1", "minor": "31+", "gitVersion": "v1.31.2"})).await;
        self.get("/apis/apps/v1/deployments", &list("apps/v1", "Deployment", &json!([]))).await;
        let hpas = list("autoscaling/v2", "HorizontalPodAutoscaler", &json!([hpa()]));
        self.get("/apis/autoscaling/v2/horizontalpodautoscalers", &hpas).await;
        let ready = json!({"metadata": {"name": "podswell"}, "spec": {"selector": {}, "template": {}},
            "status": {"readyReplicas": 1}});
        self.get("/apis/apps/v1/namespaces/podswell-system/deployments/podswell", &ready).await;
        let lease = |version: u32| {
            ResponseTemplate::new(200).set_body_json(json!({
                "metadata": {"name": "podswell", "resourceVersion": version.to_string()},
                "spec": {"holderIdentity": "podswell-0_0123abcd", "leaseDurationSeconds": 4},
            }))
        };
        let at = "/apis/coordination.k8s.io/v1/namespaces/podswell-system/leases/podswell";
        let first = Mock::given(method("GET")).and(path(at)).respond_with(lease(1));
        first.up_to_n_times(1).mount(&self.server).await;
        let next = Mock::given(method("GET")).and(path(at)).respond_with(lease(2));
        next.with_priority(8).mount(&self.server).await;
        // Later mocks stand behind earlier ones.
        let absent = json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound",
            "message": "not found"});
        let answer = ResponseTemplate::new(404).set_body_json(absent);
        Mock::given(method("GET")).respond_with(answer).with_priority(9).mount(&self.server).await;
    }

    async fn config_map(&self, name: &str, data: &Value) {
        let at = format!("/api/v1/namespaces/podswell-system/configmaps/{name}");
        let map = json!({"metadata": {"name": name}, "data": data});
        self.get(&at, &map).await;
    }

    async fn checked(&self, more: &[&str]) -> Vec<Category> {
        let kubeconfig = self.kubeconfig();
        let args = [&["check", "--kubeconfig", kubeconfig.as_str()], more].concat();
        inspect(&Wrapper::try_parse_from(args).unwrap().args).await.unwrap()
    }
}

fn list(version: &str, kind: &str, items: &Value) -> Value {
    json!({"apiVersion": version, "kind": format!("{kind}List"), "metadata": {}, "items": items})
}

fn hpa() -> Value {
    json!({"metadata": {"name": "old", "namespace": "shop"}, "spec": {"maxReplicas": 3,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "checkout"}}})
}

fn deployment(managers: &Value) -> Value {
    json!({
        "metadata": {"name": "checkout", "namespace": "shop", "managedFields": managers,
            "annotations": {"autoscaling.knative.dev/class": "kpa.podswell.dev",
                "autoscaling.knative.dev/max-scal": "3", "podswell.dev/source": "ingress"}},
        "spec": {"selector": {}, "template": {}},
    })
}

fn of(categories: &[Category], id: CheckId) -> Vec<Check> {
    let all = categories.iter().flat_map(|category| category.checks.clone());
    all.filter(|check| check.name == id.as_str()).collect()
}

#[tokio::test]
async fn a_good_cluster_passes_everything() {
    let cluster = Cluster::start().await;
    cluster.reviews(|_| false).await;
    cluster.fill().await;
    let seen = cluster.checked(&[]).await;
    assert_eq!(worst(&seen), Verdict::Success, "{}", text(&seen));
    assert!(of(&seen, CheckId::ApiVersion)[0].description.contains("v1.31.2"));
    assert!(text(&seen).ends_with("all checks passed\n"));
    let document: Value = serde_json::from_str(&render(&seen, Output::Json).unwrap()).unwrap();
    assert_eq!((&document["kind"], &document["success"]), (&"CheckReport".into(), &true.into()));
    assert_eq!(document["categories"][0]["categoryName"], "kubernetes-api");
    assert_eq!(document["categories"][0]["checks"][0]["result"], "success");
}

#[tokio::test]
async fn a_right_that_is_missing_is_named_with_its_verb() {
    let cluster = Cluster::start().await;
    cluster
        .reviews(|asked| {
            asked["verb"] == "patch" && asked["subresource"] == "scale"
                || asked["resource"] == "configmaps" && asked["name"] == "podswell"
        })
        .await;
    cluster.fill().await;
    let seen = cluster.checked(&["--service-account", "podswell", "--namespaces", "shop"]).await;
    assert_eq!(worst(&seen), Verdict::Error);
    let wrong: Vec<_> = of(&seen, CheckId::Rights)
        .into_iter()
        .filter_map(|check| Some((check.description, check.error?)))
        .collect();
    assert_eq!(wrong[0].0, "may get, patch deployments/scale.apps in shop, to write replicas");
    assert_eq!(wrong[0].1, "refused: patch");
    assert_eq!(wrong[1].1, "refused: get podswell, list podswell, watch podswell");
    assert_eq!(wrong.len(), 2);
}

#[tokio::test]
async fn before_the_installation_the_question_is_whether_you_may() {
    let cluster = Cluster::start().await;
    cluster.reviews(|asked| asked["resource"] == "clusterroles").await;
    cluster.fill().await;
    let seen = cluster.checked(&["--pre"]).await;
    let refused: Vec<_> =
        of(&seen, CheckId::MayInstall).into_iter().filter(|check| check.error.is_some()).collect();
    assert_eq!(refused.len(), 1);
    assert!(refused[0].description.contains("clusterroles.rbac.authorization.k8s.io"));
    assert!(of(&seen, CheckId::ConfigMaps).is_empty());
}

#[tokio::test]
async fn rivals_owners_and_problems_are_found() {
    let cluster = Cluster::start().await;
    cluster.reviews(|_| false).await;
    let fields = json!({"f:spec": {"f:replicas": {}}});
    let entry = |manager: &str, subresource: Option<&str>| {
        json!({"manager": manager, "operation": "Update", "subresource": subresource,
            "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": fields})
    };
    let managers = json!([
        entry("argocd-controller", None),
        entry("podswell", Some("scale")),
        entry("kubectl", Some("scale"))
    ]);
    let items = json!([deployment(&managers)]);
    cluster.get("/apis/apps/v1/deployments", &list("apps/v1", "Deployment", &items)).await;
    cluster.fill().await;
    let seen = cluster.checked(&[]).await;
    let error = |id| of(&seen, id)[0].error.clone().unwrap();
    assert_eq!(error(CheckId::Rivals), "shop/checkout: HorizontalPodAutoscaler old");
    assert_eq!(error(CheckId::FieldOwners), "shop/checkout: argocd-controller");
    let problems = error(CheckId::Workloads);
    assert!(problems.contains("did you mean") && problems.contains("ingress"), "{problems}");
    assert_eq!(worst(&seen), Verdict::Warning);
}

#[tokio::test]
async fn sources_are_asked_once_and_judged_by_their_data() {
    let cluster = Cluster::start().await;
    cluster.reviews(|_| false).await;
    cluster.config_map("podswell", &json!({"frieze": "true"})).await;
    let url = cluster.server.uri();
    let source = |url: &str| {
        format!(
            "server: {{url: '{url}'}}\nkind: rps\nselector: a\nform: counter\ninterval: 5s\n\
             match: {{namespace: ns, workload: app}}\n"
        )
    };
    let data =
        json!({"ingress": source(&url), "gone": source("http://127.0.0.1:1"), "bad": "kind: x"});
    cluster.config_map("podswell-sources", &data).await;
    let body = json!({"status": "success", "data": {"resultType": "matrix", "result": [
        {"metric": {"ns": "a", "app": "b"}, "values": [[1_700_000_000, "1"], [1_700_000_030, "2"]]}]}});
    cluster.get("/api/v1/query", &body).await;
    cluster.fill().await;
    let seen = cluster.checked(&[]).await;
    let errors =
        |id| -> Vec<String> { of(&seen, id).into_iter().filter_map(|check| check.error).collect() };
    assert_eq!(errors(CheckId::SourceAnswers), ["Unreachable"]);
    assert_eq!(errors(CheckId::SourceAge), ["staleAfter is 12.5s"]);
    assert_eq!(errors(CheckId::SourceFineness), ["the definition says interval: 5 s"]);
    let maps = errors(CheckId::ConfigMaps);
    assert!(maps.iter().any(|why| why.contains("frieze")), "{maps:?}");
    assert!(maps.iter().any(|why| why.starts_with("bad: ")), "{maps:?}");
    let seen = cluster.checked(&["--no-sources"]).await;
    assert!(of(&seen, CheckId::SourceAnswers).is_empty());
}

#[tokio::test]
async fn an_old_a_skewed_and_an_absent_server() {
    let cluster = Cluster::start().await;
    let answer = ResponseTemplate::new(200)
        .set_body_json(json!({"major": "1", "minor": "21", "gitVersion": "v1.21.0"}))
        .insert_header("date", "Sun, 06 Nov 1994 08:49:37 GMT");
    Mock::given(path("/version")).respond_with(answer).mount(&cluster.server).await;
    let seen = cluster.checked(&[]).await;
    assert_eq!(of(&seen, CheckId::ApiVersion)[0].error.as_deref(), Some("that is too old"));
    let skew = of(&seen, CheckId::ClockSkew)[0].error.clone().unwrap();
    assert!(skew.ends_with("s ahead of the API server"), "{skew}");
    cluster.point_at("http://127.0.0.1:1");
    let seen = cluster.checked(&[]).await;
    assert_eq!(seen.len(), 1);
    assert_eq!(of(&seen, CheckId::ApiReachable)[0].result, Verdict::Error);
}

#[test]
fn every_check_has_its_anchor() {
    let page = include_str!("../../../docs/checks.md");
    for id in CheckId::ALL {
        assert!(page.contains(&format!("\n### {}\n", id.as_str())), "{}", id.as_str());
    }
    assert_eq!(page.matches("\n### ").count(), CheckId::ALL.len());
}
