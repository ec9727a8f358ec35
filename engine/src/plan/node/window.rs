//! The logical node of `TUMBLE`, `HOP` and `CUMULATE`.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::{Column, DFSchema, DFSchemaRef, TableReference};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};

use crate::error::{Error, ErrorKind, Result};
use crate::sql::GROUP_BOUNDS;

use crate::plan::flow::WindowSpec;

/// What the columns are called that a window adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bounds {
    /// `window_start` and `window_end`: a window function's.
    Columns,
    /// As nobody else calls a column: the windows of a GROUP BY.
    Group,
}

impl Bounds {
    /// The start's and the end's.
    pub fn names(self) -> [&'static str; 2] {
        match self {
            Bounds::Columns => ["window_start", "window_end"],
            Bounds::Group => GROUP_BOUNDS,
        }
    }
}

/// The schema of `input` with the bounds of windows added, of the type of its column `time`.
pub(in crate::plan) fn with_bounds(input: &LogicalPlan, time: &Column, bounds: Bounds) -> Result<DFSchemaRef> {
    for name in bounds.names() {
        if input.schema().has_column_with_unqualified_name(name) {
            return Err(Error::invalid(format!("the rows to be windowed have a column {name} already"))
                .with_hint("give it another name in a subquery, or leave it out"));
        }
    }
    let index = input
        .schema()
        .maybe_index_of_column(time)
        .ok_or_else(|| Error::new(ErrorKind::UndefinedColumn, format!("there is no column {time}")))?;
    let data_type = input.schema().field(index).data_type().clone();
    if !matches!(data_type, DataType::Timestamp(..)) {
        return Err(Error::new(
            ErrorKind::DatatypeMismatch,
            format!("the column {} is no timestamp but {data_type}, and windows are over event time", time.name),
        )
        .with_hint("CAST it to TIMESTAMP in a subquery"));
    }
    let bounds = bounds.names().map(|name| Arc::new(Field::new(name, data_type.clone(), false)));
    let fields: Vec<(Option<TableReference>, Arc<Field>)> = input
        .schema()
        .iter()
        .map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)))
        .chain(bounds.map(|field| (None, field)))
        .collect();
    let schema = DFSchema::new_with_metadata(fields, HashMap::new()).map_err(crate::plan::fault::planning_error)?;
    Ok(Arc::new(schema))
}

/// Each row of the input once for every window that covers it, with `window_start` and `window_end` added.
#[derive(Debug, Clone)]
pub struct WindowNode {
    input: LogicalPlan,
    time: Column,
    window: WindowSpec,
    bounds: Bounds,
    schema: DFSchemaRef,
}

impl WindowNode {
    /// A node over `input`, whose column `time` is a timestamp.
    pub fn new(input: LogicalPlan, time: Column, window: WindowSpec, bounds: Bounds) -> Result<Self> {
        let schema = with_bounds(&input, &time, bounds)?;
        Ok(Self { input, time, window, bounds, schema })
    }

    /// The node as a plan.
    pub fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }

    /// The rows.
    pub fn input(&self) -> &LogicalPlan {
        &self.input
    }

    /// Their event-time column.
    pub fn time(&self) -> &Column {
        &self.time
    }

    /// The windows.
    pub fn window(&self) -> WindowSpec {
        self.window
    }

    /// What the bounds are called.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The output's columns.
    pub fn output(&self) -> &DFSchemaRef {
        &self.schema
    }
}

impl fmt::Display for WindowSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = match *self {
            WindowSpec::Tumble { size, offset } => {
                write!(f, "TUMBLE {}", Length(size))?;
                offset
            }
            WindowSpec::Hop { slide, size, offset } => {
                write!(f, "HOP {} every {}", Length(size), Length(slide))?;
                offset
            }
            WindowSpec::Cumulate { step, size, offset } => {
                write!(f, "CUMULATE {} up to {}", Length(step), Length(size))?;
                offset
            }
        };
        if offset == 0 { Ok(()) } else { write!(f, " offset {}", Length(offset)) }
    }
}

/// A length of time in microseconds, in the largest unit that says it whole.
pub(in crate::plan) struct Length(pub(in crate::plan) i64);

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(i64, &str); 5] =
            [(86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "min"), (1_000_000, "s"), (1_000, "ms")];
        match UNITS.into_iter().find(|(unit, _)| self.0 != 0 && self.0 % unit == 0) {
            Some((unit, name)) => write!(f, "{} {name}", self.0 / unit),
            None => write!(f, "{} µs", self.0),
        }
    }
}

impl PartialEq for WindowNode {
    fn eq(&self, other: &Self) -> bool {
        (&self.input, &self.time, self.window, self.bounds) == (&other.input, &other.time, other.window, other.bounds)
    }
}

impl Eq for WindowNode {}

impl Hash for WindowNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.time.hash(state);
        self.window.hash(state);
        self.bounds.hash(state);
    }
}

impl PartialOrd for WindowNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.input.partial_cmp(&other.input) {
            Some(Ordering::Equal) => self.time.partial_cmp(&other.time),
            order => order,
        }
    }
}

impl UserDefinedLogicalNodeCore for WindowNode {
    fn name(&self) -> &str {
        "Window"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![Expr::Column(self.time.clone())]
    }

    /// A condition on other columns says the same below the windows as above.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.bounds.names().map(str::to_owned).into()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Window: {} on {}", self.window, self.time)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> PlanResult<Self> {
        let (Ok([Expr::Column(time)]), Ok([input])) =
            (<[Expr; 1]>::try_from(exprs), <[LogicalPlan; 1]>::try_from(inputs))
        else {
            return Err(Error::internal("a window has one column and one input").into());
        };
        Ok(Self::new(input, time, self.window, self.bounds)?)
    }

    /// The input's columns that are asked for, and the event time always.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.input.schema().fields().len();
        let time = self.input.schema().maybe_index_of_column(&self.time)?;
        let mut columns: Vec<usize> = output_columns.iter().copied().filter(|&column| column < width).collect();
        columns.push(time);
        columns.sort_unstable();
        columns.dedup();
        Some(vec![columns])
    }
}
