//! Health and metrics over HTTP.
//!
//! `/healthz` answers as long as the process lives, `/readyz` when statements are answered, and `/metrics` shows what the
//! server, the engine and the process count, in Prometheus's text format.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics::{counter, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use rondel_engine::{Error, ErrorKind, Result};
use tokio::net::TcpListener;

use crate::frontend::{Figure, Frontend};
use crate::process;
use crate::shutdown::Shutdown;

/// Histograms of durations are counted in these: seconds.
const SECONDS: [f64; 14] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How often the recorder folds what histograms have gathered, so that it stays small when nobody asks for metrics.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// What the handlers share.
struct Shared<F> {
    frontend: Arc<F>,
    metrics: PrometheusHandle,
}

/// The HTTP server.
pub struct HttpServer {
    listener: TcpListener,
    router: Router,
    metrics: PrometheusHandle,
    shutdown: Shutdown,
}

impl HttpServer {
    /// Listens on `address`; port 0 takes a free one.
    pub async fn bind<F: Frontend>(address: SocketAddr, frontend: Arc<F>, shutdown: Shutdown) -> Result<Self> {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            Error::new(ErrorKind::External, format!("cannot listen for HTTP on {address}: {error}"))
                .with_hint("--http takes another address")
        })?;
        let metrics = recorder()?;
        let shared = Arc::new(Shared { frontend, metrics: metrics.clone() });
        let router = Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(ready::<F>))
            .route("/metrics", get(show_metrics::<F>))
            .with_state(shared);
        Ok(Self { listener, router, metrics, shutdown })
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the shutdown.
    pub async fn run(self) {
        let Self { listener, router, metrics, mut shutdown } = self;
        let mut until = shutdown.clone();
        let serve = axum::serve(listener, router).with_graceful_shutdown(async move { until.requested().await });
        let upkeep = async {
            let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
            loop {
                interval.tick().await;
                metrics.run_upkeep();
            }
        };
        tokio::select! {
            served = serve => {
                if let Err(error) = served {
                    tracing::error!(%error, "the HTTP server ended");
                }
            }
            // A client that keeps its connection open does not keep the server.
            () = async { shutdown.requested().await; tokio::time::sleep(Duration::from_secs(1)).await } => {}
            () = upkeep => {}
        }
    }
}

/// The process's recorder of metrics; it is made once.
pub fn recorder() -> Result<PrometheusHandle> {
    static RECORDER: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
    let recorder = RECORDER.get_or_init(|| {
        let builder = PrometheusBuilder::new().set_buckets(&SECONDS).map_err(|error| error.to_string())?;
        builder.install_recorder().map_err(|error| error.to_string())
    });
    recorder.clone().map_err(|error| Error::internal(format!("metrics can't be recorded: {error}")))
}

/// The engine's figures in Prometheus's text format. They are asked for and not recorded, so that a dropped job leaves none.
fn page(figures: &[Figure]) -> String {
    let mut names: Vec<&str> = figures.iter().map(|figure| figure.name).collect();
    names.sort_unstable();
    names.dedup();
    let mut text = String::new();
    for name in names {
        let mut of_name = figures.iter().filter(|figure| figure.name == name).peekable();
        if let Some(Figure { help, is_counter, .. }) = of_name.peek() {
            let kind = if *is_counter { "counter" } else { "gauge" };
            text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        }
        for Figure { job, operator, value, .. } in of_name {
            let escaped = |text: &String| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let labels = [("job", job), ("operator", operator)];
            let labels =
                labels.iter().filter_map(|(name, text)| Some(format!("{name}=\"{}\"", escaped(text.as_ref()?))));
            let labels = labels.collect::<Vec<_>>().join(",");
            let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
            text.push_str(&format!("{name}{labels} {value}\n"));
        }
        text.push('\n');
    }
    text
}

async fn ready<F: Frontend>(State(shared): State<Arc<Shared<F>>>) -> impl IntoResponse {
    if shared.frontend.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn show_metrics<F: Frontend>(State(shared): State<Arc<Shared<F>>>) -> impl IntoResponse {
    record_process();
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (content_type, shared.metrics.render() + &page(&shared.frontend.figures()))
}

/// Sets the process's metrics, under the names that Prometheus's own clients use.
fn record_process() {
    if let Some(usage) = process::usage() {
        gauge!("process_cpu_seconds_total").set(usage.cpu_seconds);
        gauge!("process_threads").set(usage.threads);
    }
    if let Some(memory) = process::memory() {
        gauge!("process_resident_memory_bytes").set(memory.resident);
        gauge!("process_resident_memory_max_bytes").set(memory.peak);
        gauge!("process_virtual_memory_bytes").set(memory.virtual_size);
    }
    if let Some(files) = process::open_files() {
        gauge!("process_open_fds").set(files as f64);
    }
    counter!("rondel_metrics_requests_total").increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_one_metric_stand_together() {
        let figure = |name, job: &str, value| Figure {
            name,
            help: "It counts.",
            is_counter: true,
            job: Some(job.to_owned()),
            operator: None,
            value,
        };
        let text = page(&[figure("b", "x", 1.0), figure("a", "say \"x\"", 2.5), figure("b", "y", 3.0)]);
        let expected = "# HELP a It counts.\n# TYPE a counter\na{job=\"say \\\"x\\\"\"} 2.5\n\n\
                        # HELP b It counts.\n# TYPE b counter\nb{job=\"x\"} 1\nb{job=\"y\"} 3\n\n";
        assert_eq!(text, expected);
        let of_operator = Figure { operator: Some("join-1".to_owned()), ..figure("a", "x", 2.0) };
        assert!(page(&[of_operator]).contains("\na{job=\"x\",operator=\"join-1\"} 2\n"));
    }
}
