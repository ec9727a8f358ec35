//! The logical node of `SESSION`.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::common::{Column, DFSchemaRef};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};

use crate::error::{Error, Result};

use super::window::{Bounds, Length, with_bounds};

/// Each row of the input with the bounds of its session, `window_start` and `window_end`, added. Rows of one key share a
/// session as long as each follows the one before by less than the gap; a row without a time is in none.
#[derive(Debug, Clone)]
pub struct SessionNode {
    input: LogicalPlan,
    time: Column,
    partition: Vec<Expr>,
    gap_micros: i64,
    bounds: Bounds,
    schema: DFSchemaRef,
}

impl SessionNode {
    /// A node over `input`, whose column `time` is a timestamp; `partition` is the key.
    pub fn new(
        input: LogicalPlan,
        time: Column,
        partition: Vec<Expr>,
        gap_micros: i64,
        bounds: Bounds,
    ) -> Result<Self> {
        let schema = with_bounds(&input, &time, bounds)?;
        Ok(Self { input, time, partition, gap_micros, bounds, schema })
    }

    /// The node as a plan.
    pub fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }

    /// The rows.
    pub fn input(&self) -> &LogicalPlan {
        &self.input
    }

    /// Their event time.
    pub fn time(&self) -> &Column {
        &self.time
    }

    /// What rows have in common that share sessions.
    pub fn partition(&self) -> &[Expr] {
        &self.partition
    }

    /// The gap, in microseconds.
    pub fn gap_micros(&self) -> i64 {
        self.gap_micros
    }

    /// What the bounds are called.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The columns of the rows with their bounds.
    pub fn output(&self) -> &DFSchemaRef {
        &self.schema
    }
}

impl PartialEq for SessionNode {
    fn eq(&self, other: &Self) -> bool {
        (&self.input, &self.time, &self.partition, self.gap_micros, self.bounds)
            == (&other.input, &other.time, &other.partition, other.gap_micros, other.bounds)
    }
}

impl Eq for SessionNode {}

impl Hash for SessionNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.input, &self.time, &self.partition, self.gap_micros, self.bounds).hash(state);
    }
}

impl PartialOrd for SessionNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (&self.input, &self.time, &self.partition, self.gap_micros).partial_cmp(&(
            &other.input,
            &other.time,
            &other.partition,
            other.gap_micros,
        ))
    }
}

impl UserDefinedLogicalNodeCore for SessionNode {
    fn name(&self) -> &str {
        "Session"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        std::iter::once(Expr::Column(self.time.clone())).chain(self.partition.iter().cloned()).collect()
    }

    /// Only a condition on what sessions are kept apart by says the same below them as above.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let keys: Vec<&Column> = self
            .partition
            .iter()
            .filter_map(|key| match key {
                Expr::Column(column) => Some(column),
                _ => None,
            })
            .collect();
        let columns = self.schema.columns().into_iter();
        columns.filter(|column| !keys.contains(&column)).map(|column| column.name).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session: {} on {}", Length(self.gap_micros), self.time)
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> PlanResult<Self> {
        let wrong = || Error::internal("a session has a column, keys and one input");
        let partition = exprs.split_off(1.min(exprs.len()));
        let (Some(Expr::Column(time)), Ok([input])) = (exprs.pop(), <[LogicalPlan; 1]>::try_from(inputs)) else {
            return Err(wrong().into());
        };
        Ok(Self::new(input, time, partition, self.gap_micros, self.bounds)?)
    }

    /// The input's columns that are asked for, the event time and the keys.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let schema = self.input.schema();
        let width = schema.fields().len();
        let mut columns: Vec<usize> = output_columns.iter().copied().filter(|&column| column < width).collect();
        columns.push(schema.maybe_index_of_column(&self.time)?);
        for name in self.partition.iter().flat_map(Expr::column_refs) {
            columns.push(schema.maybe_index_of_column(name)?);
        }
        columns.sort_unstable();
        columns.dedup();
        Some(vec![columns])
    }
}
