//! From SQL to the flow plan.
//!
//! ```text
//! Query ──SqlToRel over our catalog──▶ LogicalPlan (+ WindowNode) ──canonical form──▶ the batch plan, which the law compares with
//!       ──streamability check──▶ analyzer, allowed rules ──▶ lowering with properties ──▶ FlowPlan
//! ```
//!
//! [`Planner`] is the door. What can't run continuously is refused with a sentence that names the construct.

mod canonical;
mod check;
mod column_names;
mod context;
mod event_time;
mod explain;
mod fault;
pub mod flow;
mod functions;
mod identity;
mod lower;
mod planner;
mod properties;
mod relation;
mod row;
mod rules;
mod watermark;
mod window_functions;
mod window_node;
mod windowed;

#[cfg(test)]
mod tests;

pub use explain::explain;
pub use functions::Functions;
pub use planner::{ContinuousPlan, Planner};
pub use properties::{JoinRelease, join_release};
pub use relation::{Relation, RelationKind, RelationSource, Relations, WatermarkDefinition};
pub use row::RowValues;
pub use window_node::WindowNode;
