//! From SQL to the flow plan.
//!
//! ```text
//! Query ──SqlToRel over our catalog──▶ LogicalPlan (+ WindowNode) ──canonical form──▶ the batch plan, which the law compares with
//!       ──streamability check──▶ analyzer, allowed rules ──▶ lowering with properties ──▶ FlowPlan
//! ```
//!
//! [`Planner`] is the door. What can't run continuously is refused with a sentence that names the construct.

mod asof;
mod canonical;
mod check;
mod checked_sums;
mod clock;
mod column_names;
mod compared;
mod context;
mod correlated_value;
mod dependent;
mod elements;
mod emission;
mod event_time;
mod explain;
mod fault;
mod fetch_first;
pub mod flow;
mod functions;
mod group_keys;
mod grouping;
mod identity;
mod late;
mod lateral;
mod leaves;
mod lower;
mod manners;
mod merged;
mod nest;
mod not_in;
mod null_keys;
mod one_value;
mod planner;
mod properties;
mod prune;
mod push_down;
mod quantified;
mod relation;
mod release;
mod row;
mod rules;
mod series;
mod session_node;
mod set_node;
mod shift;
mod single_row;
mod state_ttl;
mod subquery_values;
mod temporal_filter;
mod ties;
mod time_fields;
mod watermark;
mod wildcards;
mod window_functions;
mod window_node;
mod windowed;

#[cfg(test)]
mod tests;

pub use asof::AsOfNode;
pub(crate) use compared::NameComparedColumns;
pub use emission::Destination;
pub use explain::explain;
pub use functions::Functions;
pub(crate) use not_in::TakeNotInApart;
pub(crate) use null_keys::{ExtractKeys, FlattenJoins};
pub use planner::{ContinuousPlan, Planner, answer_columns};
#[cfg(test)]
pub(crate) use properties::is_computed_from_rows;
pub(crate) use prune::PruneColumns;
pub(crate) use push_down::PushDownConditions;
pub use relation::{Relation, RelationKind, RelationSource, Relations, WatermarkDefinition};
pub use release::{SideRelease, join_release, side_releases};
pub use row::RowValues;
pub use session_node::SessionNode;
pub use set_node::SetNode;
pub use state_ttl::{STATE_TTL, StateTtl, state_ttl};
pub use window_node::{Bounds, WindowNode};
