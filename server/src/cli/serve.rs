//! `rondel server`: the doors are opened, then the engine behind them, and closed in order.

use std::sync::Arc;

use rondel_engine::{Error, ErrorKind, Result};

use crate::allocator;
use crate::frontend::Frontend;
use crate::http::HttpServer;
use crate::pg::PgServer;
use crate::settings::ServerOptions;
use crate::shutdown;

/// Serves until `stop` is done; then nothing new is accepted, what runs is told to end, and the engine is closed.
///
/// Who comes before `open` is done is answered as `frontend` sees fit. If that fails, the server ends with its error.
pub async fn serve<F: Frontend>(
    frontend: Arc<F>,
    options: &ServerOptions,
    open: impl Future<Output = Result<()>>,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let (trigger, shutdown) = shutdown::channel();
    let http = HttpServer::bind(options.http, Arc::clone(&frontend), shutdown.clone()).await?;
    let pg = PgServer::bind(options.pg, Arc::clone(&frontend), options.limits(), shutdown)?;
    let unknown = |error| Error::new(ErrorKind::External, format!("the listening address is unknown: {error}"));
    let (pg_address, http_address) = (pg.address().map_err(unknown)?, http.address().map_err(unknown)?);
    tracing::info!(pg = %pg_address, http = %http_address, "listening");
    let memory = tokio::spawn(allocator::give_back_near(options.engine.memory_limit()));
    let mut doors = tokio::task::JoinSet::new();
    doors.spawn(pg.run());
    doors.spawn(http.run());
    let serving = async {
        open.await?;
        tracing::info!(pg = %pg_address, http = %http_address, workers = options.engine.workers(), "Rondel is ready");
        std::future::pending::<Result<()>>().await
    };
    let ended = tokio::select! {
        () = stop => Ok(()),
        failed = serving => failed,
        // A door that closes by itself, which is logged, leaves a server that can't be trusted.
        _ = doors.join_next() => {
            tracing::error!("a listener ended, so the server stops");
            Ok(())
        }
    };
    memory.abort();
    trigger.shut_down();
    let closing = async {
        while doors.join_next().await.is_some() {}
        frontend.close().await;
    };
    if tokio::time::timeout(options.shutdown_timeout, closing).await.is_err() {
        tracing::warn!(timeout = ?options.shutdown_timeout, "connections or jobs did not end in time");
    }
    ended
}
