//! The wire protocol over a real socket, driven by a driver (tokio-postgres) and by psql itself.
//!
//! The engine behind it is a small one of the test's: DataFusion over tables in memory, and subscriptions that tick, flood or
//! stay silent.

mod catalog;
pub(crate) mod doors;
mod driver;
mod memory;
pub(crate) mod psql;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rondel_server::pg::{Limits, PgServer};
use rondel_server::shutdown::{self, ShutdownTrigger};
use tokio::task::JoinHandle;

use memory::MemoryEngine;

/// A server on a free port.
struct Server {
    address: SocketAddr,
    engine: Arc<MemoryEngine>,
    trigger: ShutdownTrigger,
    task: JoinHandle<()>,
}

impl Server {
    fn start() -> Self {
        Self::start_with(Limits::default())
    }

    fn start_with(limits: Limits) -> Self {
        let engine = Arc::new(MemoryEngine::new());
        let (trigger, shutdown) = shutdown::channel();
        let server = PgServer::bind((Ipv4Addr::LOCALHOST, 0).into(), Arc::clone(&engine), limits, shutdown).unwrap();
        let address = server.address().unwrap();
        Self { address, engine, trigger, task: tokio::spawn(server.run()) }
    }

    /// Stops, and waits until every connection is closed.
    async fn stop(self) {
        self.trigger.shut_down();
        tokio::time::timeout(Duration::from_secs(30), self.task).await.unwrap().unwrap();
        // A connection's own task may still be letting go.
        wait_for("the subscriptions end", || self.engine.running_subscriptions() == 0).await;
    }
}

/// Waits until something is so, a few seconds at most.
async fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
