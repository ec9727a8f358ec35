//! The logical node of as-of joins and temporal joins.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::common::{DFSchema, DFSchemaRef, JoinType};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore, build_join_schema};

use crate::error::Error;
use crate::plan::flow::AsOfSide;

use super::pair::Pair;

/// Each row of the left input with the nearest row of the right one that has the same keys.
#[derive(Debug, Clone)]
pub struct AsOfNode {
    left: LogicalPlan,
    right: LogicalPlan,
    pub(super) rule: AsOfRule,
    /// Pairs of keys, then the times: left, right.
    pairs: Vec<Pair>,
    /// The columns of the right input by which rows of one time are told apart, once they are known.
    ties: Vec<Expr>,
    schema: DFSchemaRef,
}

/// What an as-of join does with its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AsOfRule {
    /// Left rows without a right one are kept, with NULLs.
    pub keeps_unmatched: bool,
    /// On which side of the left row's time the right row's lies.
    pub side: AsOfSide,
    /// A temporal join: rows are shown when they are final.
    pub temporal: bool,
}

impl AsOfNode {
    /// A node over two inputs. `on` are pairs of expressions over the left and the right one that must be equal, `times`
    /// what nearness is measured by; the types of each pair are the same.
    pub(super) fn new([left, right]: [LogicalPlan; 2], rule: AsOfRule, on: Vec<Pair>, times: Pair) -> PlanResult<Self> {
        let pairs = on.into_iter().chain([times]).collect();
        Self::with_ties([left, right], rule, pairs, Vec::new())
    }

    fn with_ties(
        [left, right]: [LogicalPlan; 2],
        rule: AsOfRule,
        pairs: Vec<Pair>,
        ties: Vec<Expr>,
    ) -> PlanResult<Self> {
        let join_type = if rule.keeps_unmatched { JoinType::Left } else { JoinType::Inner };
        let schema = Arc::new(build_join_schema(left.schema(), right.schema(), &join_type)?);
        Ok(Self { left, right, rule, pairs, ties, schema })
    }

    /// The node as a plan.
    pub(super) fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }

    /// The node that a plan is, if it is one.
    pub(crate) fn of(plan: &LogicalPlan) -> Option<&Self> {
        match plan {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<Self>(),
            _ => None,
        }
    }

    /// The plan with all columns of the right input for ties: to be called when it has those that the query reads, and no
    /// others.
    pub(in crate::plan) fn tied(&self) -> PlanResult<LogicalPlan> {
        let ties = self.right.schema().columns().into_iter().map(Expr::Column).collect();
        let inputs = [self.left.clone(), self.right.clone()];
        Ok(Self::with_ties(inputs, self.rule, self.pairs.clone(), ties)?.into_plan())
    }

    /// The plan over another left input of the same columns.
    pub(super) fn over_left(&self, left: LogicalPlan) -> PlanResult<LogicalPlan> {
        let inputs = [left, self.right.clone()];
        Ok(Self::with_ties(inputs, self.rule, self.pairs.clone(), self.ties.clone())?.into_plan())
    }

    /// The left and the right input.
    pub fn sides(&self) -> [&LogicalPlan; 2] {
        [&self.left, &self.right]
    }

    /// What is done with their rows.
    pub fn rule(&self) -> AsOfRule {
        self.rule
    }

    /// Pairs of expressions, over the left and the right input, that must be equal.
    pub fn on(&self) -> &[(Expr, Expr)] {
        self.pairs.split_last().map(|(_, on)| on).unwrap_or_default()
    }

    /// What nearness is measured by, over the left and the right input.
    pub fn times(&self) -> Option<&(Expr, Expr)> {
        self.pairs.last()
    }

    /// The columns of the right input by which rows of one time are told apart, the first one first: ascending, NULLs last.
    pub fn ties(&self) -> &[Expr] {
        &self.ties
    }

    fn identity(&self) -> ([&LogicalPlan; 2], AsOfRule, &[Pair], &[Expr]) {
        ([&self.left, &self.right], self.rule, &self.pairs, &self.ties)
    }
}

/// Whether an expression names columns, and only such of this side.
pub(super) fn belongs_to(expr: &Expr, side: &DFSchema) -> bool {
    let (named, columns) = (expr.column_refs(), side.columns());
    !named.is_empty() && named.into_iter().all(|column| columns.contains(column))
}

impl PartialEq for AsOfNode {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for AsOfNode {}

impl Hash for AsOfNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl PartialOrd for AsOfNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.identity().partial_cmp(&other.identity())
    }
}

impl UserDefinedLogicalNodeCore for AsOfNode {
    fn name(&self) -> &str {
        "AsOfJoin"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        let pairs = self.pairs.iter().flat_map(|(left, right)| [left.clone(), right.clone()]);
        pairs.chain(self.ties.iter().cloned()).collect()
    }

    /// A condition above may choose among rows that were found; below it would change which are found. Those on the left
    /// row alone are pushed down by a rule of their own.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsOfJoin:")?;
        for (left, right) in self.on() {
            write!(f, " {left} = {right},")?;
        }
        match self.times() {
            Some((left, right)) => write!(f, " {left} {} {right}", self.rule.side.sign()),
            None => Ok(()),
        }
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> PlanResult<Self> {
        let wrong = || Error::internal("an as-of join has two inputs, pairs of expressions and columns");
        let inputs = <[LogicalPlan; 2]>::try_from(inputs).map_err(|_| wrong())?;
        if exprs.len() != 2 * self.pairs.len() + self.ties.len() {
            return Err(wrong().into());
        }
        let ties = exprs.split_off(2 * self.pairs.len());
        let mut exprs = exprs.into_iter();
        let mut pairs = Vec::with_capacity(self.pairs.len());
        while let (Some(left), Some(right)) = (exprs.next(), exprs.next()) {
            pairs.push((left, right));
        }
        Self::with_ties(inputs, self.rule, pairs, ties)
    }

    /// The columns that are asked for, and those of the expressions.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.left.schema().fields().len();
        let (left, right): (Vec<usize>, Vec<usize>) = output_columns.iter().partition(|&&column| column < width);
        let mut sides = [left, right.into_iter().map(|column| column - width).collect::<Vec<_>>()];
        for (number, side) in sides.iter_mut().enumerate() {
            let (schema, pairs) = (self.sides()[number].schema(), &self.pairs);
            let of_pairs = pairs.iter().map(|(left, right)| if number == 0 { left } else { right });
            let ties = self.ties.iter().filter(|_| number == 1);
            for name in of_pairs.chain(ties).flat_map(Expr::column_refs) {
                side.push(schema.maybe_index_of_column(name)?);
            }
            side.sort_unstable();
            side.dedup();
        }
        Some(sides.into())
    }
}
