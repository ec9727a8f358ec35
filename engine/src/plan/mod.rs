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
mod context;
mod emission;
mod event_time;
mod explain;
mod fault;
mod fetch_first;
pub mod flow;
mod from;
mod functions;
mod group_keys;
mod grouping;
mod identity;
mod late;
mod leaves;
mod lower;
mod manners;
mod node;
mod outermost_order;
mod planner;
mod properties;
mod recognize;
mod relation;
mod release;
mod row;
mod rules;
mod shift;
mod state_ttl;
mod subquery;
mod temporal_filter;
mod ties;
mod time_fields;
mod watermark;
mod wildcards;
mod windowed;

#[cfg(test)]
mod tests;

pub use asof::AsOfNode;
pub use emission::Destination;
pub use explain::explain;
pub use functions::Functions;
pub use node::session::SessionNode;
pub use node::set::SetNode;
pub use node::window::{Bounds, WindowNode};
pub use planner::{ContinuousPlan, Planner, answer_columns};
#[cfg(test)]
pub(crate) use properties::is_computed_from_rows;
pub use recognize::{End, Finds, Formula, Navigation, Operand, Pattern, Recognition, Recognize, Skip, Variable};
pub use relation::{Relation, RelationKind, RelationSource, Relations, WatermarkDefinition};
pub use release::{SideRelease, join_release, side_releases};
pub use row::RowValues;
pub(crate) use rules::null_keys::{ExtractKeys, FlattenJoins};
pub(crate) use rules::prune::PruneColumns;
pub(crate) use rules::push_down::PushDownConditions;
pub use state_ttl::{STATE_TTL, StateTtl, state_ttl};
pub(crate) use subquery::compared::NameComparedColumns;
pub(crate) use subquery::dependent::is_volatile;
pub(crate) use subquery::not_in::TakeNotInApart;
