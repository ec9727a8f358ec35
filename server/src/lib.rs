//! Rondel's doors: PostgreSQL's wire protocol, HTTP and the command line.
//!
//! # Layout
//!
//! * [`frontend`]: what the doors ask of the engine
//! * [`embedded`]: the engine in this process, behind them; [`opening`]: an engine that is still being opened
//! * [`script`]: a text of several statements, and places in it
//! * [`pg`]: PostgreSQL's wire protocol, with the system tables that clients look into
//! * [`http`]: health and metrics
//! * [`demo`]: everything in one process, for the first five minutes
//! * [`cli`]: the `rondel` command
//! * [`process`]: what the process uses
//! * [`allocator`]: how long it keeps memory that was given back
//! * [`settings`]: what can be set, each declared once
//! * [`shutdown`]: stopping in order
//!
//! # The life of a statement
//!
//! psql sends a text; [`script`] splits it; [`pg`] answers what belongs to the protocol or to the system tables itself and
//! hands the rest to a [`frontend::Session`]. The answer runs in a task of its own, which the connection reads from while
//! it also watches for a cancel request, for the client's going and for the server's shutdown.

mod allocator;
pub mod cli;
pub mod demo;
pub mod embedded;
pub mod frontend;
pub mod http;
mod machine;
pub mod opening;
pub mod pg;
pub mod process;
pub mod script;
pub mod settings;
pub mod shutdown;

/// The functions that statements can call: DataFusion's, and Rondel's own.
pub fn functions() -> rondel_engine::plan::Functions {
    rondel_engine::plan::Functions::builtin().with_scalars(rondel_udfs::functions())
}
