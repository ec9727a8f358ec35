//! The flow plan: the tree of operators that runs a continuous query, as the planner leaves it and EXPLAIN shows it.
//!
//! It says nothing about workers: exchanges and the local halves of aggregates are put in when it is built for a pool
//! (`dataflow/`), from the keys that the nodes name.

mod asof;
mod emission;
mod join;
mod late;
mod over;
mod set;
mod windows;

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::DFSchemaRef;
use datafusion::logical_expr::Expr;

use crate::time::{WatermarkId, Watermarks};

pub use asof::{AsOfSide, AsOfSpec};
pub use emission::{Corrections, Emission, Emit, EmitMode, Firing, ShowSpec};
pub use join::JoinKind;
pub use late::{LatePlan, LateSource};
pub use over::{OverLimit, OverSpec, RankedBy};
pub use set::SetKind;
pub use windows::{WindowKey, WindowSpec};

/// A node's place in [`FlowPlan::nodes`].
pub type NodeIndex = usize;

/// A plan: nodes in topological order (inputs before users); the last is the root.
#[derive(Debug, Clone, Default)]
pub struct FlowPlan {
    /// The nodes.
    pub nodes: Vec<FlowNode>,
    /// What each watermark is: the scan that promises it. Their numbers are their places here.
    pub watermarks: Vec<WatermarkOrigin>,
    /// Watermarks that follow from those, numbered on from them: see [`FlowPlan::derive_watermarks`].
    pub derived: Vec<DerivedWatermark>,
    /// How long operators remember keys that no row touches, in microseconds: see [`super::state_ttl`].
    pub state_ttl: Option<i64>,
    /// Of nodes for which the statement says something of its own: of a join by side, of others the first counts.
    pub state_ttls: BTreeMap<NodeIndex, [Option<i64>; 2]>,
    /// Where rows go that come too late, if not nowhere.
    pub late: Option<LatePlan>,
}

/// A watermark of rows that come from several scans (a union, a join on event time): the least of theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DerivedWatermark {
    /// Which watermarks, each less a delay in microseconds. Never empty; only earlier ones.
    pub least_of: Vec<(WatermarkId, i64)>,
}

/// Where a watermark comes from.
#[derive(Debug, Clone)]
pub struct WatermarkOrigin {
    /// The scan's node.
    pub scan: NodeIndex,
    /// The relation's name, for EXPLAIN and metrics.
    pub relation: String,
    /// The event-time column's name.
    pub column: String,
}

/// One operator.
#[derive(Debug, Clone)]
pub struct FlowNode {
    /// Stable identity: from the kind, the keys and the inputs' identities, not from the position (state is found by it).
    pub id: String,
    /// What it does.
    pub op: FlowOp,
    /// Where its rows come from.
    pub inputs: Vec<NodeIndex>,
    /// Its output's columns, qualified as the expressions above refer to them.
    pub schema: DFSchemaRef,
    /// What is known of its output.
    pub properties: FlowProperties,
}

/// What the planner has proved of a node's output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowProperties {
    /// Rows may be retracted: deltas carry weights. Otherwise append-only, and deltas never carry them.
    pub changelog: bool,
    /// Unique keys: sets of columns (empty set: at most one row).
    pub keys: Vec<Vec<usize>>,
    /// Columns that grow with a watermark.
    pub time_columns: Vec<TimeColumn>,
}

/// A column that grows with a watermark: after the end of an epoch no row follows (append-only output) or changes
/// (changelog) whose value, in microseconds, lies below `watermark − delay_micros`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeColumn {
    /// The column.
    pub column: usize,
    /// Which watermark.
    pub watermark: WatermarkId,
    /// How far behind it, in microseconds.
    pub delay_micros: i64,
}

/// The kinds of operators.
#[derive(Debug, Clone)]
pub enum FlowOp {
    /// Rows of a stream or view.
    Scan {
        /// Its name in the catalog.
        relation: String,
        /// Whether it is a stream or a view.
        kind: ScanKind,
        /// The columns read, by index into the relation's schema.
        projection: Vec<usize>,
        /// The promise of a stream: computed on these rows, per partition, before any filter.
        watermark: Option<ScanWatermark>,
    },
    /// Constant rows, in the first epoch.
    Values {
        /// The rows.
        rows: Vec<arrow::record_batch::RecordBatch>,
    },
    /// Rows for which the predicate is true.
    Filter {
        /// Boolean, over the input's schema.
        predicate: Expr,
    },
    /// Rows for which conditions on the time of day are true: they come and go as time passes.
    TemporalFilter {
        /// Boolean, over the input's schema, joined by AND; `now()` is the epoch's time.
        conditions: Vec<Expr>,
        /// The same, as from or until when each holds for a row.
        bounds: Vec<TimeBound>,
    },
    /// One expression per output column.
    Project {
        /// Over the input's schema.
        expressions: Vec<Expr>,
    },
    /// All rows of all inputs (UNION ALL). The inputs have the types of the output, column by column; names may differ.
    Union,
    /// Each row once for every window that covers it, with `window_start` and `window_end` (the last two columns) added,
    /// of the event-time column's own type. A row whose time is NULL is in no window and is dropped.
    /// Where a windowed aggregate reads a window directly the planner fuses the two into [`FlowOp::WindowAggregate`].
    Window {
        /// The windows.
        window: WindowSpec,
        /// The event-time column of the input.
        time_column: usize,
    },
    /// Each row with the bounds of its session, `window_start` and `window_end` (the last two columns), of the event-time
    /// column's own type: rows of one key share a session as long as each follows the one before by less than the gap.
    /// A row whose time is NULL is in no session and is dropped.
    Session {
        /// The event-time column of the input.
        time_column: usize,
        /// The gap, in microseconds.
        gap_micros: i64,
        /// What rows have in common that share sessions, over the input's schema; empty: all rows.
        partition: Vec<Expr>,
        /// The watermark that closes sessions, and by how much the time column may lie behind it.
        watermark: Option<(WatermarkId, i64)>,
        /// When a session's rows are shown.
        emit: Emit,
    },
    /// Aggregates per window and key, over an input that has not been expanded: slices shared by windows.
    /// Output columns: the group expressions in the order of the SQL aggregate node (`WindowKey` says which of them are
    /// the window's bounds), then the aggregates.
    WindowAggregate {
        /// The windows.
        window: WindowSpec,
        /// The event-time column of the input.
        time_column: usize,
        /// The watermark that closes windows, and by how much the time column may lie behind it.
        watermark: Option<(WatermarkId, i64)>,
        /// With [`Emit::OnChange`]: a window is first shown when this watermark, less the delay, has passed its end.
        /// `None`: at once.
        shown_from: Option<(WatermarkId, i64)>,
        /// The group expressions.
        group: Vec<WindowKey>,
        /// The aggregate calls (`Expr::AggregateFunction`), over the input's schema.
        aggregates: Vec<Expr>,
        /// When a window's row is shown.
        emit: Emit,
    },
    /// Aggregates per key. Output columns: the group expressions, then the aggregates. An aggregate without group
    /// expressions has exactly one row, from the first epoch on.
    Aggregate {
        /// The group expressions, over the input's schema.
        group: Vec<Expr>,
        /// The aggregate calls, over the input's schema; empty for DISTINCT.
        aggregates: Vec<Expr>,
        /// A group expression that grows with a watermark: (index into `group`, watermark, delay). Groups below it are
        /// complete: they are released, and with [`Emit::AfterWatermark`] shown then.
        closes: Option<(usize, WatermarkId, i64)>,
        /// When a group's row is shown.
        emit: Emit,
    },
    /// Rows of two inputs that belong together.
    Join {
        /// Which rows come out, and with which columns.
        kind: JoinKind,
        /// Pairs of expressions, over the left and the right input's schema, that must be equal. None: every row is
        /// compared with every row.
        on: Vec<(Expr, Expr)>,
        /// Any further condition, over the left columns, then the right columns (whatever columns come out).
        residual: Option<Expr>,
        /// Whether NULL equals NULL.
        null_equals_null: bool,
        /// When rows without a match are shown: at once, and taken back when one comes; or once no match can come.
        emit: Emit,
    },
    /// Each left row with the nearest right row: see [`AsOfSpec`].
    AsOf(AsOfSpec),
    /// DISTINCT over rows that may be retracted, INTERSECT and EXCEPT: by how often each row is there. The inputs have the
    /// types of the output, column by column; names may differ.
    Set {
        /// Which.
        kind: SetKind,
        /// A column that grows with a watermark: (column, watermark, delay). Rows below it don't change any more and are
        /// released.
        closes: Option<(usize, WatermarkId, i64)>,
    },
    /// The rows of a subquery that stands for a value: it is an error if an epoch ends with two.
    SingleRow,
    /// Window functions over the rows of a partition in order, and top-N: see [`OverSpec`].
    Over(OverSpec),
    /// Rows multiplied by the elements of their lists, and structs taken apart.
    Unnest(UnnestSpec),
    /// Aggregates per key of what has come since the group was last shown (`DISCARDING`), over rows that only come.
    /// Output columns as of [`FlowOp::Aggregate`]; a group has a row for each time that it is shown.
    PaneAggregate {
        /// The group expressions, over the input's schema.
        group: Vec<Expr>,
        /// The aggregate calls, over the input's schema.
        aggregates: Vec<Expr>,
        /// A group expression that grows with a watermark: (index into `group`, watermark, delay). Rows below it are late.
        closes: Option<(usize, WatermarkId, i64)>,
        /// What makes a group show.
        firing: Firing,
    },
    /// The end of a query with `EMIT`: see [`ShowSpec`].
    Show(ShowSpec),
}

/// From or until when a condition on the time of day holds for a row.
#[derive(Debug, Clone)]
pub struct TimeBound {
    /// The condition, over the input's schema: false and then true as time passes, or true and then false.
    pub condition: Expr,
    /// Whether it becomes true.
    pub enters: bool,
    /// When that changes: this timestamp in microseconds, plus so many. `None`: it is to be looked for.
    pub at: Option<(Expr, i64)>,
}

/// UNNEST over the columns of its input. A row becomes as many as its longest list has elements; shorter lists are filled
/// up with NULLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnnestSpec {
    /// The columns that are lists to be unnested.
    pub lists: Vec<usize>,
    /// The columns that are structs to be taken apart.
    pub structs: Vec<usize>,
    /// Per output column the input column that it comes from; a struct's fields one after the other.
    pub columns: Vec<usize>,
    /// Whether a row all of whose lists are empty or NULL stays, once, with NULLs.
    pub keep_empty: bool,
}

/// What a scan reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanKind {
    /// A registered stream: the job has a reader of its own.
    Stream,
    /// A table: the job has a reader of its own.
    Table,
    /// A materialized view: an edge inside each worker.
    View,
}

/// A stream's `WATERMARK FOR column AS expression`, over the scan's (projected) schema.
#[derive(Debug, Clone)]
pub struct ScanWatermark {
    /// Its number.
    pub id: WatermarkId,
    /// The event-time column.
    pub column: usize,
    /// A timestamp of any unit: the source promises that no later row's event time lies below its maximum so far.
    /// (For a view, what its own job passes on with its changes; then this is the column itself and is not evaluated.)
    pub expression: Expr,
}

/// A watermark less a delay; the end of an input stays the end.
fn less(watermark: i64, delay: i64) -> i64 {
    if watermark == i64::MAX { watermark } else { watermark.saturating_sub(delay) }
}

impl FlowPlan {
    /// Whether changes may be held back until something other than a row or a watermark comes.
    pub fn holds_back(&self) -> bool {
        self.nodes.iter().any(|node| match &node.op {
            FlowOp::PaneAggregate { firing, .. } | FlowOp::Show(ShowSpec { firing, .. }) => firing.holds_back(),
            _ => false,
        })
    }

    /// The root node.
    pub fn root(&self) -> Option<&FlowNode> {
        self.nodes.last()
    }

    /// How many watermarks there are, the derived ones included.
    pub fn watermark_count(&self) -> usize {
        self.watermarks.len() + self.derived.len()
    }

    /// Moves the derived watermarks to where the scans' watermarks stand: to be called after those were merged over all
    /// workers, before anything is told of them.
    pub fn derive_watermarks(&self, watermarks: &mut Watermarks) {
        for (index, derived) in self.derived.iter().enumerate() {
            let least = derived.least_of.iter().map(|&(id, delay)| watermarks.get(id).map(|at| less(at, delay))).min();
            if let Some(Some(least)) = least {
                watermarks.advance(WatermarkId((self.watermarks.len() + index) as u32), least);
            }
        }
    }

    /// The Arrow schema of a node's output.
    pub fn arrow_schema(&self, node: NodeIndex) -> arrow::datatypes::SchemaRef {
        Arc::clone(self.nodes[node].schema.inner())
    }
}
