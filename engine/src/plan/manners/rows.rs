//! `(a, b) IN (SELECT x, y …)`: DataFusion compares one column.
//!
//! A row is in the subquery if one of its rows is equal in all columns. If none is, the answer is unknown where one of them
//! differs in no column for certain: it has a NULL, or the row outside has. As a condition by itself, where unknown is as good as
//! false, it is EXISTS, and NOT IN is NOT EXISTS of such a row that does not differ for certain; anywhere else it is a CASE
//! of both.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, CaseWhen, Expr, Ident, Query, SetExpr, TableAliasColumnDef, TableFactor, UnaryOperator,
    Value, VisitMut, VisitorMut,
};

use crate::sql::parse_query;

/// What the subquery's rows are called within.
const ROWS: &str = "__rows";

/// Rewrites all such conditions of a query.
pub(super) fn rewrite(query: &mut Query) {
    // The visitor never breaks off.
    let _ = query.visit(&mut Rows);
}

struct Rows;

impl VisitorMut for Rows {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<()> {
        [&mut select.selection, &mut select.having].into_iter().flatten().for_each(conditions);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Some(parts) = Parts::of(expr)
            && let (Some(equal), Some(unknown)) = (parts.exists(false, false), parts.exists(true, false))
        {
            let when = |condition, result: Value| CaseWhen { condition, result: Expr::Value(result.into()) };
            let is_in = Expr::Case {
                case_token: ast::helpers::attached_token::AttachedToken::empty(),
                end_token: ast::helpers::attached_token::AttachedToken::empty(),
                operand: None,
                conditions: vec![when(equal, Value::Boolean(true)), when(unknown, Value::Null)],
                else_result: Some(Box::new(Expr::Value(Value::Boolean(false).into()))),
            };
            *expr = match parts.negated {
                true => Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(Expr::Nested(Box::new(is_in))) },
                false => is_in,
            };
        }
        ControlFlow::Continue(())
    }
}

/// The parts of a condition that all have to hold.
fn conditions(condition: &mut Expr) {
    match condition {
        Expr::Nested(inner) => conditions(inner),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            conditions(left);
            conditions(right);
        }
        other => {
            if let Some(exists) = Parts::of(other).and_then(|parts| parts.exists(parts.negated, parts.negated)) {
                *other = exists;
            }
        }
    }
}

struct Parts<'a> {
    row: &'a [Expr],
    subquery: &'a Query,
    negated: bool,
}

impl<'a> Parts<'a> {
    fn of(expr: &'a Expr) -> Option<Self> {
        let Expr::InSubquery { expr, subquery, negated } = expr else { return None };
        match expr.as_ref() {
            Expr::Tuple(row) if row.len() > 1 => Some(Self { row, subquery, negated: *negated }),
            _ => None,
        }
    }

    /// Whether the subquery has a row that is equal, or, `maybe`, does not differ for certain.
    fn exists(&self, maybe: bool, negated: bool) -> Option<Expr> {
        let of = parse_query(&format!("SELECT 1 FROM (SELECT 1) AS \"{ROWS}\"")).ok()?;
        let mut query = of.body;
        let SetExpr::Select(select) = query.body.as_mut() else { return None };
        let TableFactor::Derived { subquery, alias: Some(alias), .. } = &mut select.from.first_mut()?.relation else {
            return None;
        };
        **subquery = self.subquery.clone();
        let name = |place: usize| Ident::with_quote('"', format!("__{place}"));
        alias.columns =
            (0..self.row.len()).map(|place| TableAliasColumnDef { name: name(place), data_type: None }).collect();
        select.selection = self
            .row
            .iter()
            .enumerate()
            .map(|(place, value)| {
                let column = Expr::CompoundIdentifier(vec![Ident::with_quote('"', ROWS), name(place)]);
                let equal = Expr::Nested(Box::new(binary(value.clone(), BinaryOperator::Eq, column)));
                if maybe { Expr::IsNotFalse(Box::new(equal)) } else { equal }
            })
            .reduce(|one, other| binary(one, BinaryOperator::And, other));
        Some(Expr::Exists { subquery: query, negated })
    }
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}
