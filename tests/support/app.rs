//! The program in a pod: an application and the queue-proxy beside it, on real sockets.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use prost::Message as _;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::stat::{Meter, Stat};

/// How often the queue-proxy makes a new report.
const REPORTING_PERIOD: Duration = Duration::from_secs(1);

/// No request may take longer, whatever `ms` it asks for.
const WORK_LIMIT: Duration = Duration::from_secs(3600);

/// What is wrong with both `/metrics` of a pod; its work goes on.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) enum Fault {
    /// Nothing is.
    #[default]
    None,
    /// The answer is this status, without a body.
    Status(StatusCode),
    /// The connection is closed without an answer.
    Closed,
    /// Every number reads NaN.
    NotANumber,
    /// Every gauge reads this number.
    Number(f64),
    /// The answer comes after this time.
    Slow(Duration),
    /// The answer is a redirect to this address.
    Redirect(String),
    /// The answer has this many bytes of comment before its content.
    Huge(usize),
    /// The answer is no such format at all.
    Garbage,
}

/// A pod's program: what it counts and how it behaves.
#[derive(Debug)]
pub(crate) struct App {
    pod: String,
    meter: Mutex<Meter>,
    stat: Mutex<Stat>,
    fault: Mutex<Fault>,
    /// How many requests are worked on at once; the others wait, and count as in flight.
    limit: Semaphore,
}

impl App {
    /// `limit`: how many requests are worked on at once.
    pub(crate) fn new(pod: &str, limit: Option<usize>) -> Arc<Self> {
        let stat = Stat { pod_name: pod.to_owned(), ..Stat::default() };
        Arc::new(Self {
            pod: pod.to_owned(),
            meter: Mutex::new(Meter::new()),
            stat: Mutex::new(stat),
            fault: Mutex::default(),
            limit: Semaphore::new(limit.unwrap_or(Semaphore::MAX_PERMITS)),
        })
    }

    /// Sets what is wrong with `/metrics`.
    pub(crate) fn set_fault(&self, fault: Fault) {
        *self.fault.lock() = fault;
    }

    /// Requests in flight at this moment.
    pub(crate) fn in_flight(&self) -> u64 {
        self.meter.lock().counts().0
    }

    /// Requests that ever arrived.
    pub(crate) fn started(&self) -> u64 {
        self.meter.lock().counts().1
    }

    /// Requests that ever ended, answered or given up by the client.
    pub(crate) fn finished(&self) -> u64 {
        self.meter.lock().counts().2
    }

    /// Serves until the future is dropped, which closes every connection.
    ///
    /// # Errors
    /// Fails if an address cannot be bound.
    pub(crate) async fn serve(
        self: Arc<Self>,
        ip: Ipv4Addr,
        app_port: u16,
        stat_port: u16,
    ) -> std::io::Result<impl Future<Output = ()> + Send + use<>> {
        let app = TcpListener::bind(SocketAddr::from((ip, app_port))).await?;
        let stat = TcpListener::bind(SocketAddr::from((ip, stat_port))).await?;
        let app_router = Router::new()
            .route("/work", get(work))
            .route("/metrics", get(text_metrics))
            .fallback(|| async { "ok\n" })
            .with_state(Arc::clone(&self));
        let stat_router =
            Router::new().route("/metrics", get(stat_metrics)).with_state(Arc::clone(&self));
        Ok(async move {
            tokio::select! {
                () = accept(app, app_router) => {}
                () = accept(stat, stat_router) => {}
                () = self.report_for_ever() => {}
            }
        })
    }

    async fn report_for_ever(&self) {
        let mut ticks = tokio::time::interval(REPORTING_PERIOD);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let stat = self.meter.lock().report(&self.pod);
            *self.stat.lock() = stat;
        }
    }

    fn text(&self, fault: &Fault) -> String {
        let (in_flight, started, finished) = self.meter.lock().counts();
        let gauge = match fault {
            Fault::NotANumber => "NaN".to_owned(),
            Fault::Number(number) => number.to_string(),
            _ => in_flight.to_string(),
        };
        let mut text = String::new();
        if let Fault::Huge(bytes) = fault {
            while text.len() < *bytes {
                text.push_str("# a line that says nothing, to be read and forgotten at once\n");
            }
        }
        let _ = write!(
            text,
            "# HELP app_requests_in_flight Requests in flight.\n\
             # TYPE app_requests_in_flight gauge\n\
             app_requests_in_flight {gauge}\n\
             # HELP app_requests_started_total Requests that arrived.\n\
             # TYPE app_requests_started_total counter\n\
             app_requests_started_total {started}\n\
             # HELP app_requests_finished_total Requests that ended.\n\
             # TYPE app_requests_finished_total counter\n\
             app_requests_finished_total {finished}\n"
        );
        text
    }

    fn stat(&self, fault: &Fault) -> Vec<u8> {
        let mut stat = self.stat.lock().clone();
        match fault {
            Fault::NotANumber => {
                stat.average_concurrent_requests = f64::NAN;
                stat.request_count = f64::NAN;
            }
            Fault::Number(number) => {
                stat.average_concurrent_requests = *number;
                stat.request_count = *number;
            }
            Fault::Huge(bytes) => stat.pod_name = "x".repeat(*bytes),
            _ => {}
        }
        stat.encode_to_vec()
    }
}

/// Counts a request in flight until it is dropped.
struct InFlight(Arc<App>);

impl InFlight {
    fn new(app: Arc<App>) -> Self {
        app.meter.lock().enter();
        Self(app)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.meter.lock().leave();
    }
}

#[derive(Debug, Deserialize)]
struct WorkQuery {
    #[serde(default)]
    ms: u64,
}

async fn work(State(app): State<Arc<App>>, Query(query): Query<WorkQuery>) -> &'static str {
    let in_flight = InFlight::new(Arc::clone(&app));
    let _permit = app.limit.acquire().await;
    tokio::time::sleep(Duration::from_millis(query.ms).min(WORK_LIMIT)).await;
    drop(in_flight);
    "done\n"
}

async fn text_metrics(State(app): State<Arc<App>>) -> Response {
    let fault = app.fault.lock().clone();
    if let Some(answer) = faulty(&fault).await {
        return answer;
    }
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, app.text(&fault)).into_response()
}

async fn stat_metrics(State(app): State<Arc<App>>) -> Response {
    let fault = app.fault.lock().clone();
    if let Some(answer) = faulty(&fault).await {
        return answer;
    }
    ([(header::CONTENT_TYPE, "application/protobuf")], app.stat(&fault)).into_response()
}

/// The answer that a fault gives instead of the metrics, if it does.
async fn faulty(fault: &Fault) -> Option<Response> {
    match fault {
        Fault::None | Fault::NotANumber | Fault::Number(_) | Fault::Huge(_) => None,
        Fault::Status(status) => Some(status.into_response()),
        Fault::Closed => {
            // A body that fails before its first byte makes the server drop the connection.
            let error = std::io::Error::other("closed by a test");
            let body = futures::stream::once(async move { Err::<Vec<u8>, _>(error) });
            Some(Body::from_stream(body).into_response())
        }
        Fault::Slow(delay) => {
            tokio::time::sleep(*delay).await;
            None
        }
        Fault::Redirect(to) => {
            Some((StatusCode::FOUND, [(header::LOCATION, to.clone())]).into_response())
        }
        Fault::Garbage => Some("<html>\u{fffd} 1 2 3 {{{</html>\n".into_response()),
    }
}

/// Accepts connections for ever; all of them close when the future is dropped.
pub(super) async fn accept(listener: TcpListener, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let _ = stream.set_nodelay(true);
                let service = TowerToHyperService::new(router.clone());
                connections.spawn(async move {
                    // A client that goes away is no concern of ours.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
