//! Operators on timely workers: the only place that knows timely and spawns worker threads.
//!
//! A [`Pool`] runs jobs. A job's [flow plan](crate::plan::flow) is [laid out](layout) as sources, *chains* of operators
//! between exchanges, and a view or sink at the end; each of these is one timely operator. The pool's control moves the
//! jobs through epochs; see [`stepping`] for when, [`flow_control`] for how memory stays bounded, [`edge`] for how jobs
//! read other jobs' views.

mod blueprint;
mod chain;
mod common_epoch;
mod contents;
mod control;
mod edge;
mod event_time;
mod exchange;
mod figures;
mod flow_control;
mod gate;
mod given;
mod guarded;
mod inlet;
mod job;
mod late;
mod layout;
mod operators;
mod packet;
mod pool;
mod signal;
mod simulated;
mod snapshot;
mod source;
mod spill;
mod stepping;
mod subscription;
mod terminal;
mod view;
mod worker;

#[cfg(test)]
mod tests;

pub use blueprint::{Blueprint, Target};
pub use common_epoch::CommonEpoch;
pub use figures::OperatorFigures;
pub(crate) use flow_control::column_bytes;
pub use job::{JobId, JobLimits, JobMetrics, JobObserver};
pub use operators::{EngineOperators, OperatorFactory};
pub use pool::{EpochLease, JobHandle, Pool, PoolSettings};
pub use simulated::Outside;
pub use snapshot::JobSnapshot;
pub(crate) use snapshot::VIEW;
pub use subscription::Subscription;
pub use view::{View, ViewSnapshot, ViewStats};
