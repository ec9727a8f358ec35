//! Rondel's engine: SQL, planned by DataFusion, executed incrementally over streams.
//!
//! # Layout
//!
//! * [`sql`]: text → statement
//! * [`catalog`]: names → things, durable
//! * [`schema`]: protobuf descriptors, type mapping
//! * [`table`]: rows that Rondel keeps
//! * [`mod@format`]: bytes ↔ Arrow
//! * [`plan`]: logical plan → checked, changelog-aware [flow plan](plan::flow)
//! * [`operator`]: one operator, one file: pure, synchronous, deltas in, deltas out
//! * [`state`]: what operators remember
//! * [`spill`]: files for what memory has no room for
//! * [`dataflow`]: operators on timely workers
//! * [`connector`]: sources and sinks
//! * [`checkpoint`]: what jobs go on from
//! * [`job`]: the life of jobs: starting, stopping, how they are doing
//! * [`batch`]: bounded queries
//! * [`session`]: statements, from text to result
//! * [`engine`]: the door

pub mod batch;
pub mod catalog;
pub mod checkpoint;
pub mod connector;
pub mod dataflow;
mod datafusion_errors;
pub mod delta;
pub mod engine;
pub mod error;
pub mod format;
pub mod job;
pub mod operator;
pub mod plan;
mod safeguard;
pub mod schema;
pub mod session;
#[cfg(test)]
mod simulation;
pub mod spill;
pub mod sql;
pub mod state;
pub mod table;
pub mod time;

pub use delta::Delta;
pub use error::{Error, ErrorKind, Result};
