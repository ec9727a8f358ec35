//! INTERSECT and EXCEPT as nodes of their own.
//!
//! DataFusion plans them as semi and anti joins, which is right for sets and wrong for `ALL`: a row that is there twice on
//! the left and once on the right would be in `INTERSECT ALL` twice. The canonical form has these nodes in their place, on
//! the continuous side and on the batch side.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::common::{DFSchemaRef, JoinType, NullEquality};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::{
    Distinct, Expr, Extension, Join, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore,
};

use crate::error::Error;

use crate::plan::flow::SetKind;

/// Rows of the left input, as often as the operation says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SetNode {
    kind: SetKind,
    left: LogicalPlan,
    right: LogicalPlan,
}

impl SetNode {
    /// The set operation that a join stands for, if SQL said it as one: then it compares all columns, in order, and NULL
    /// with NULL.
    pub(in crate::plan) fn of(join: &Join) -> Option<Self> {
        let is_intersect = match join.join_type {
            JoinType::LeftSemi => true,
            JoinType::LeftAnti => false,
            _ => return None,
        };
        let (left, right) = (join.left.schema().columns(), join.right.schema().columns());
        let whole = join.on.len() == left.len()
            && left.len() == right.len()
            && join.on.iter().zip(left.iter().zip(&right)).all(|((on_left, on_right), (left, right))| {
                *on_left == Expr::Column(left.clone()) && *on_right == Expr::Column(right.clone())
            });
        if !whole || join.filter.is_some() || join.null_equality != NullEquality::NullEqualsNull {
            return None;
        }
        // Of a set, ALL says the same.
        let (left, all) = match &*join.left {
            LogicalPlan::Distinct(Distinct::All(input)) => (LogicalPlan::clone(input), false),
            other => (other.clone(), true),
        };
        let kind = if is_intersect { SetKind::Intersect { all } } else { SetKind::Except { all } };
        Some(Self { kind, left, right: LogicalPlan::clone(&join.right) })
    }

    /// The node as a plan, under a projection that changes nothing: DataFusion looks for a subquery's value in the topmost
    /// node, and not in nodes of ours.
    pub(in crate::plan) fn into_plan(self) -> PlanResult<LogicalPlan> {
        let columns: Vec<Expr> = self.left.schema().columns().into_iter().map(Expr::Column).collect();
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(self) });
        LogicalPlanBuilder::from(plan).project(columns)?.build()
    }

    /// Which operation.
    pub fn kind(&self) -> SetKind {
        self.kind
    }

    /// Both inputs.
    pub fn sides(&self) -> [&LogicalPlan; 2] {
        [&self.left, &self.right]
    }
}

impl PartialOrd for SetNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.left.partial_cmp(&other.left) {
            Some(Ordering::Equal) => self.right.partial_cmp(&other.right),
            order => order,
        }
    }
}

impl UserDefinedLogicalNodeCore for SetNode {
    fn name(&self) -> &str {
        "SetOperation"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.left.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> PlanResult<Self> {
        let Ok([left, right]) = <[LogicalPlan; 2]>::try_from(inputs) else {
            return Err(Error::internal("a set operation has two inputs").into());
        };
        Ok(Self { kind: self.kind, left, right })
    }
}
