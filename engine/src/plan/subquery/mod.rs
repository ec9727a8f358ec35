//! Subqueries, in whatever place they stand, as joins and aggregates.
//!
//! Those that DataFusion's rules know are left to them; what they leave, or get wrong, is here: by the place of the subquery
//! ([`lateral`] in FROM, [`elsewhere`] in ON and ORDER BY, [`values`], [`no_row`] and [`correlated_value`] as values, [`compared`], [`not_in`] and [`quantified`] beside IN, ANY
//! and ALL), and, for whatever names the row outside in another way than by an equality, [`dependent`].

pub(super) mod compared;
pub(super) mod correlated_value;
pub(super) mod dependent;
pub(super) mod elsewhere;
pub(super) mod lateral;
pub(super) mod no_row;
pub(super) mod not_in;
pub(super) mod one_value;
pub(super) mod quantified;
pub(super) mod single_row;
pub(super) mod values;

use datafusion::logical_expr::{Expr, Subquery};

/// The subquery of an expression that is one, whatever it stands for.
pub(super) fn subquery_of(expr: &Expr) -> Option<&Subquery> {
    match expr {
        Expr::Exists(of) => Some(&of.subquery),
        Expr::InSubquery(of) => Some(&of.subquery),
        Expr::SetComparison(of) => Some(&of.subquery),
        Expr::ScalarSubquery(of) => Some(of),
        _ => None,
    }
}
