//! PostgreSQL's wire protocol, version 3.0.
//!
//! A *connection* is one client's socket with its session; a *statement* is a piece of the text it sends; an *answer* is a
//! statement that runs; a *delivery* writes its rows to the client as they come. pgwire gives the messages; the
//! conversation is ours, because its own loop doesn't read the socket while rows are written and collects whole results.
//!
//! # Layout
//!
//! * `wire`: bytes and messages, in both directions
//! * `startup`, `cancel`, `variables`: the connection's beginning, Ctrl-C, session variables
//! * `connection`, `extended`, `parameters`: the two protocols
//! * `command`, `control`: statements that the server answers itself
//! * `statement`, `answer`, `delivery`: who answers the others, and how their rows travel
//! * `value`, `copy`: Arrow columns as PostgreSQL's values and as lines of COPY
//! * `catalog`: the system tables
//! * `sqlstate`: errors

mod answer;
mod cancel;
mod catalog;
mod command;
mod connection;
mod control;
mod copy;
mod copy_in;
mod delivery;
mod extended;
mod parameters;
mod sqlstate;
mod startup;
mod statement;
mod value;
mod variables;
mod wire;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use pgwire::messages::response::TransactionStatus;
use rondel_engine::{Error, ErrorKind, Result};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use cancel::CancelRegistry;
use connection::Connection;
use delivery::Interrupts;
use startup::Greeting;
use variables::Reported;
use wire::{Inbound, Outbound};

use crate::frontend::{Frontend, Session};
use crate::shutdown::Shutdown;

pub(crate) use answer::{Answer, Ready, Rows};
pub(crate) use catalog::SystemTables;
pub(crate) use sqlstate::Fault;
pub use sqlstate::sqlstate;
pub(crate) use statement::Query;

/// A client has so long to say who it is.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Sockets beyond the connection limit that may be open while clients are told of it, or ask to cancel something.
const SOCKETS_OVER_LIMIT: usize = 64;

/// What bounds the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at one time.
    pub connections_max: usize,
    /// Bytes of one message, and so of one statement's text.
    pub message_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections_max: 200, message_bytes_max: 16 << 20 }
    }
}

/// A server that accepts connections.
pub struct PgServer<F: Frontend> {
    listener: TcpListener,
    shared: Arc<Shared<F>>,
    shutdown: Shutdown,
}

/// What all connections share.
struct Shared<F: Frontend> {
    frontend: Arc<F>,
    system: SystemTables,
    registry: Arc<CancelRegistry>,
    limits: Limits,
    connections: Arc<Semaphore>,
}

impl<F: Frontend> PgServer<F> {
    /// Listens on `address`; port 0 takes a free one.
    pub fn bind(address: SocketAddr, frontend: Arc<F>, limits: Limits, shutdown: Shutdown) -> Result<Self> {
        let listener = listen(address).map_err(|error| {
            Error::new(ErrorKind::External, format!("cannot listen for PostgreSQL clients on {address}: {error}"))
                .with_hint("--pg takes another address")
        })?;
        let shared = Shared {
            system: SystemTables::new(Arc::clone(&frontend) as _)?,
            registry: Arc::default(),
            connections: Arc::new(Semaphore::new(limits.connections_max)),
            frontend,
            limits,
        };
        Ok(Self { listener, shared: Arc::new(shared), shutdown })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the shutdown, then until the last connection is closed.
    pub async fn run(mut self) {
        let sockets = Arc::new(Semaphore::new(self.shared.limits.connections_max + SOCKETS_OVER_LIMIT));
        let mut tasks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.shutdown.requested() => break,
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a connection's task failed");
                    }
                    continue;
                }
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, _)) => {
                    let Ok(place) = Arc::clone(&sockets).try_acquire_owned() else { continue };
                    let (shared, shutdown) = (Arc::clone(&self.shared), self.shutdown.clone());
                    tasks.spawn(async move {
                        attend(socket, shared, shutdown).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: others may be freed.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(self.listener);
        while tasks.join_next().await.is_some() {}
    }
}

/// Accepted sockets inherit the keep-alive, which ends connections to machines that vanished.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

/// One socket from its beginning to its end.
async fn attend<F: Frontend>(socket: TcpStream, shared: Arc<Shared<F>>, mut shutdown: Shutdown) {
    let _ = socket.set_nodelay(true);
    let (mut inbound, mut outbound) = wire::open(socket, shared.limits.message_bytes_max);
    let greeting = tokio::select! {
        biased;
        () = shutdown.requested() => return,
        greeting = tokio::time::timeout(
            STARTUP_TIMEOUT,
            startup::greet(&mut inbound, &mut outbound, &shared.registry),
        ) => greeting,
    };
    let greeting = match greeting {
        Ok(Ok(Some(greeting))) => greeting,
        Ok(Ok(None)) => return outbound.close().await,
        Ok(Err(error)) => return refuse(outbound, startup::fault_of(&error)).await,
        Err(_) => return outbound.close().await,
    };
    let Ok(_place) = shared.connections.try_acquire() else {
        counter!("rondel_pg_connections_refused_total").increment(1);
        let fault = Fault::fatal("53300", "sorry, too many clients already")
            .with_hint("the server's setting pg-connections-max raises the limit");
        return refuse(outbound, Some(fault)).await;
    };
    counter!("rondel_pg_connections_total").increment(1);
    gauge!("rondel_pg_connections").increment(1);
    converse(inbound, outbound, greeting, &shared, shutdown).await;
    gauge!("rondel_pg_connections").decrement(1);
}

async fn converse<F: Frontend>(
    inbound: Inbound,
    mut outbound: Outbound,
    greeting: Greeting,
    shared: &Arc<Shared<F>>,
    shutdown: Shutdown,
) {
    let session = match shared.frontend.connect(&greeting.user, &greeting.database) {
        Ok(session) => Arc::new(session),
        Err(error) => {
            let fault = Fault { is_fatal: true, ..error.into() };
            return refuse(outbound, Some(fault)).await;
        }
    };
    // The key leaves the registry when the conversation ends.
    let (key, cancellation) = shared.registry.enter();
    for (name, value) in &greeting.variables {
        // A driver sends what it would like: what can't be had is left as it is, and the client is told what that is.
        if let Err(error) = session.set(name, value) {
            tracing::debug!(name, value, %error, "a client's session variable is left as it is");
        }
    }
    let mut reported = Reported::new(&greeting.user);
    startup::welcome(&mut outbound, session.as_ref(), &mut reported, &key);
    let connection = Connection {
        session,
        system: shared.system.of_user(&greeting.user),
        interrupts: Interrupts { inbound, cancellation, shutdown },
        outbound,
        reported,
        transaction: TransactionStatus::Idle,
        has_changed: false,
        prepared: HashMap::new(),
        portals: HashMap::new(),
        cursors: HashMap::new(),
        skips_to_sync: false,
    };
    connection.serve().await;
}

async fn refuse(mut outbound: Outbound, fault: Option<Fault>) {
    if let Some(fault) = fault {
        outbound.queue(fault.message());
    }
    outbound.close().await;
}
