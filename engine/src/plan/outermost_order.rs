//! The ORDER BY of a whole continuous query: its result is a set of rows that changes, and has no order.
//!
//! It is left out, and the user is told. In subqueries DataFusion leaves it out itself; where it does not, in the inputs of a
//! UNION, it is refused ([`super::check`]).

use std::sync::Arc;

use datafusion::logical_expr::{LogicalPlan, Projection, Sort};

use crate::error::Result;

use super::fault::planning_error;

/// What the user is told.
pub(super) const IGNORED: &str =
    "ORDER BY orders nothing here: the result is a set of rows that changes. Sort when you SELECT from it";

/// The plan without it, and whether it had one.
pub(super) fn without(plan: LogicalPlan) -> Result<(LogicalPlan, bool)> {
    match plan {
        LogicalPlan::Sort(Sort { input, fetch: None, .. }) => Ok((Arc::unwrap_or_clone(input), true)),
        // Rows are sorted by what is not selected.
        LogicalPlan::Projection(Projection { expr, input, schema, .. }) if matches!(&*input, LogicalPlan::Sort(_)) => {
            let (input, sorted) = without(Arc::unwrap_or_clone(input))?;
            let plan = Projection::try_new_with_schema(expr, Arc::new(input), schema).map_err(planning_error)?;
            Ok((LogicalPlan::Projection(plan), sorted))
        }
        plan => Ok((plan, false)),
    }
}
