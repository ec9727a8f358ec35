//! The flow plan: the tree of operators that runs a continuous query, as the planner leaves it and EXPLAIN shows it.
//!
//! It says nothing about workers: exchanges and the local halves of aggregates are put in when it is built for a pool
//! (`dataflow/`), from the keys that the nodes name.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::DFSchemaRef;
use datafusion::logical_expr::expr::NullTreatment;
use datafusion::logical_expr::{Expr, SortExpr, WindowFrameBound};

pub use crate::sql::EmitMode;
use crate::time::{WatermarkId, Watermarks};

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
    /// Where rows go that come too late, if not nowhere.
    pub late: Option<LatePlan>,
}

/// `LATE ROWS TO target`: rows that come too late, as rows of one relation.
#[derive(Debug, Clone)]
pub struct LatePlan {
    /// The sink or table that takes them.
    pub target: String,
    /// Their columns: those of the operators' inputs by name, then `late_operator`, `late_ptime` and `late_watermark`.
    pub schema: SchemaRef,
    /// The operators that decide which rows are late.
    pub sources: Vec<LateSource>,
}

/// An operator's input that rows may come too late for.
#[derive(Debug, Clone)]
pub struct LateSource {
    /// The operator.
    pub node: NodeIndex,
    /// Which of its inputs.
    pub input: usize,
    /// What it is called in `late_operator`.
    pub operator: String,
    /// The watermark that decides.
    pub watermark: WatermarkId,
    /// Of each column of the relation, where it is in the input; `None`: it has it not.
    pub columns: Vec<Option<usize>>,
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
        /// compared with every row, all on one worker.
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

/// What makes the changes of a group show that are held back; any of them does. None at all: nothing is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Firing {
    /// So many microseconds have passed since the first change that was not shown.
    pub delay_micros: Option<i64>,
    /// So many rows have come since the group was shown.
    pub rows: Option<u64>,
    /// The group is complete: one of the columns that name it has been passed by a watermark less a delay (index into the
    /// group's columns, watermark, delay). From then on every change is shown at once.
    pub complete: Option<(usize, WatermarkId, i64)>,
}

impl Firing {
    /// Whether changes wait for something.
    pub fn holds_back(&self) -> bool {
        *self != Self::default()
    }
}

/// When the changes of a result are shown, and how. Output columns: the first `visible` of the input's; of a changelog as a
/// result (`EMIT STREAM`) then `undo`, `ptime` and `ver`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShowSpec {
    /// The input's columns that say which group a row belongs to; empty: the whole result is one group.
    pub key: Vec<usize>,
    /// How many of the input's columns are shown: those behind them only say the group, or count its rows.
    pub visible: usize,
    /// What makes changes show.
    pub firing: Firing,
    /// The column that counts the rows of a group. `None`: its changes are counted.
    pub counts: Option<usize>,
    /// How a correction looks.
    pub corrections: Corrections,
    /// Whether the changelog itself is the result.
    pub stream: bool,
    /// Whether rows of the changelog are numbered within their group. Otherwise each is the first and last of its group.
    pub numbered: bool,
    /// When nothing of a group will change any more: as [`Firing::complete`].
    pub closes: Option<(usize, WatermarkId, i64)>,
}

/// How a correction of what was shown looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corrections {
    /// The old row is taken back, and the new one is added.
    Retracted,
    /// The new row stands for the old one. One that nothing replaces is taken back.
    Replaced,
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

/// An as-of join, and a temporal join, which is one whose rows are shown when they are final. Each left row meets of the
/// right rows with equal keys that [`AsOfSpec::side`] names the one that is nearest to it. Output columns: the left ones,
/// then the right ones.
#[derive(Debug, Clone)]
pub struct AsOfSpec {
    /// Left rows without a right one are kept, with NULLs.
    pub keeps_unmatched: bool,
    /// Pairs of expressions, over the left and the right input's schema, that must be equal. None: all rows meet on one
    /// worker.
    pub on: Vec<(Expr, Expr)>,
    /// What nearness is measured by, over the left and the right input's schema.
    pub times: (Expr, Expr),
    /// On which side of the left row's time the right row's lies.
    pub side: AsOfSide,
    /// All columns of the right input, in the order by which rows of one time are told apart: the first one is nearest.
    pub ties: Vec<usize>,
    /// Which inputs, left and right, are changelogs.
    pub changelogs: [bool; 2],
    /// What the inputs promise of their times: no row with one below watermark − delay follows or changes.
    pub promises: [Option<(WatermarkId, i64)>; 2],
    /// When rows are shown: at once and corrected, or when no nearer row can come any more.
    pub emit: Emit,
}

/// On which side of a left row's time the right row's lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AsOfSide {
    /// `left >= right`: the latest at or before it.
    AtOrBefore,
    /// `left > right`: the latest before it.
    Before,
    /// `left <= right`: the earliest at or after it.
    AtOrAfter,
    /// `left < right`: the earliest after it.
    After,
}

impl AsOfSide {
    /// Whether the right row lies back in time.
    pub fn is_back(self) -> bool {
        matches!(self, AsOfSide::AtOrBefore | AsOfSide::Before)
    }

    /// Whether a right row of the very same time is none.
    pub fn is_strict(self) -> bool {
        matches!(self, AsOfSide::Before | AsOfSide::After)
    }

    /// The comparison, from the left row's time to the right row's.
    pub fn sign(self) -> &'static str {
        match self {
            AsOfSide::AtOrBefore => ">=",
            AsOfSide::Before => ">",
            AsOfSide::AtOrAfter => "<=",
            AsOfSide::After => "<",
        }
    }
}

impl AsOfSpec {
    /// The promises by which left rows are settled: when their nearest row is final, and they themselves are. `None`: they
    /// never are.
    pub fn settles(&self) -> Option<Vec<(WatermarkId, i64)>> {
        self.both(1)
    }

    /// The promises by which right rows are released, since no left row to come reaches them and nothing that replaces them
    /// goes again. `None`: they never are.
    pub fn releases(&self) -> Option<Vec<(WatermarkId, i64)>> {
        self.both(0)
    }

    /// The promise of one side, and of the other if its rows may go again.
    fn both(&self, side: usize) -> Option<Vec<(WatermarkId, i64)>> {
        let mut promises = vec![self.promises[side]?];
        if self.changelogs[1 - side] {
            promises.push(self.promises[1 - side]?);
        }
        Some(promises)
    }

    /// Whether rows of an input that lie below its own promise are late: the rows that they would meet may be gone.
    pub fn drops_late(&self, side: usize) -> bool {
        let released = if side == 0 { self.releases() } else { self.settles() };
        !self.changelogs[side] && released.is_some()
    }
}

/// The kinds of set operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SetKind {
    /// Each row of one input once.
    Distinct,
    /// Rows that are in both inputs: once, or as often as in the one that has fewer.
    Intersect {
        /// Whether copies count.
        all: bool,
    },
    /// Rows of the first input that are not in the second: once, or as often as there are more.
    Except {
        /// Whether copies count.
        all: bool,
    },
}

impl std::fmt::Display for SetKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SetKind::Distinct => "Distinct",
            SetKind::Intersect { all: false } => "Intersect",
            SetKind::Intersect { all: true } => "Intersect all",
            SetKind::Except { all: false } => "Except",
            SetKind::Except { all: true } => "Except all",
        })
    }
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

/// OVER, ORDER BY … LIMIT, DISTINCT ON and deduplication. Output columns: the input's, then the functions'.
#[derive(Debug, Clone)]
pub struct OverSpec {
    /// PARTITION BY, over the input's schema; empty: all rows are one partition.
    pub partition: Vec<Expr>,
    /// ORDER BY, over the input's schema. Rows that tie are peers; among themselves they stand in the order of all their
    /// columns, NULLs last.
    pub order: Vec<SortExpr>,
    /// The calls (`Expr::WindowFunction`) over the input's schema; none for a top-N that shows no numbers. What they say
    /// of PARTITION BY and ORDER BY is what stands above.
    pub functions: Vec<Expr>,
    /// Which rows are shown; `None`: all.
    pub limit: Option<OverLimit>,
    /// An expression of `partition` that grows with a watermark: (index, watermark, delay). Partitions below it are
    /// complete: they are released, and with [`Emit::AfterWatermark`] shown then.
    pub closes: Option<(usize, WatermarkId, i64)>,
    /// The first of `order` grows with a watermark (with this delay), and rows only come: no row comes below it any more.
    /// Later ones are late. Rows that it settles are shown then with [`Emit::AfterWatermark`], and those that no frame
    /// reaches any more are released.
    pub settles: Option<(WatermarkId, i64)>,
    /// When results are shown.
    pub emit: Emit,
}

impl OverSpec {
    /// Whether rows that are settled are released: every function looks back over a bounded number of rows or length of
    /// time, or needs no more than how many rows there were.
    pub fn forgets_settled_rows(&self) -> bool {
        self.settles.is_some() && self.functions.iter().all(looks_back_a_bounded_way)
    }

    /// Whether no function sees a row behind the current one and its peers.
    pub fn looks_back_only(&self) -> bool {
        self.functions.iter().all(|function| {
            let Expr::WindowFunction(call) = function else { return false };
            let ends = matches!(
                call.params.window_frame.end_bound,
                WindowFrameBound::CurrentRow | WindowFrameBound::Preceding(_)
            );
            match call.fun.name() {
                "row_number" | "rank" | "dense_rank" | "lag" => true,
                "percent_rank" | "cume_dist" | "ntile" | "lead" => false,
                _ => ends,
            }
        })
    }
}

/// The kinds of joins. A row *matches* if the other side has a row with which the conditions are true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JoinKind {
    /// All pairs.
    Inner,
    /// All pairs, and left rows without a match with NULLs for the right columns.
    Left,
    /// All pairs, and right rows without a match with NULLs for the left columns.
    Right,
    /// All pairs, and rows of both sides without a match.
    Full,
    /// Left rows with a match, each once.
    LeftSemi,
    /// Left rows without a match.
    LeftAnti,
    /// All left rows, with one column more: whether they have a match.
    LeftMark,
}

impl JoinKind {
    /// Whether pairs of rows come out.
    pub fn has_pairs(self) -> bool {
        matches!(self, JoinKind::Inner | JoinKind::Left | JoinKind::Right | JoinKind::Full)
    }

    /// Whether rows of a side (0: left, 1: right) come out without a match.
    pub fn shows_unmatched(self, side: usize) -> bool {
        match self {
            JoinKind::Inner | JoinKind::LeftSemi => false,
            JoinKind::Left | JoinKind::LeftAnti | JoinKind::LeftMark => side == 0,
            JoinKind::Right => side == 1,
            JoinKind::Full => true,
        }
    }

    /// Whether rows of a side come out for their own sake because they have a match.
    pub fn shows_matched(self, side: usize) -> bool {
        matches!(self, JoinKind::LeftSemi | JoinKind::LeftMark) && side == 0
    }
}

fn looks_back_a_bounded_way(function: &Expr) -> bool {
    let Expr::WindowFunction(call) = function else { return false };
    match call.fun.name() {
        "row_number" | "rank" => true,
        "dense_rank" | "percent_rank" | "cume_dist" | "ntile" => false,
        "lag" | "lead" => call.params.null_treatment != Some(NullTreatment::IgnoreNulls),
        _ => !call.params.window_frame.start_bound.is_unbounded(),
    }
}

/// Top-N: the rows of a partition that are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverLimit {
    /// What counts them.
    pub by: RankedBy,
    /// How many are left out first (only by row number).
    pub skip: u64,
    /// Up to which number they are shown; `None`: all further ones.
    pub take: Option<u64>,
}

/// What numbers the rows of a top-N.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankedBy {
    /// `row_number()`
    RowNumber,
    /// `rank()`
    Rank,
    /// `dense_rank()`
    DenseRank,
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

/// Windows over event time. All lengths in microseconds; windows start at multiples of the slide since 1970, plus the offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WindowSpec {
    /// One window after the other.
    Tumble {
        /// Length.
        size: i64,
        /// Shift.
        offset: i64,
    },
    /// Overlapping windows, a new one every `slide`. `size` need not be a multiple of `slide`.
    Hop {
        /// Distance of starts.
        slide: i64,
        /// Length.
        size: i64,
        /// Shift.
        offset: i64,
    },
    /// Windows that share a start and grow by `step` up to `size` (a multiple of `step`).
    Cumulate {
        /// Distance of ends.
        step: i64,
        /// Length of the longest.
        size: i64,
        /// Shift.
        offset: i64,
    },
}

/// A group expression of a windowed aggregate.
#[derive(Debug, Clone)]
pub enum WindowKey {
    /// `window_start`
    Start,
    /// `window_end`
    End,
    /// Any other, over the input's schema (before the window).
    Key(Expr),
}

/// What `EMIT` says: when the results of a query are shown, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Emission {
    /// When the operators show their results.
    pub emit: Emit,
    /// With [`Emit::OnChange`]: late rows correct windows for so many microseconds.
    pub lateness: Option<i64>,
    /// Changes are held back at the query's end until so much time has passed, in microseconds.
    pub delay_micros: Option<i64>,
    /// Changes are held back at the query's end until so many rows have come.
    pub rows: Option<u64>,
    /// `AFTER WATERMARK` is among the triggers.
    pub on_time: bool,
    /// The changelog itself is the result.
    pub stream: bool,
    /// How a correction looks; `None`: nothing is said.
    pub mode: Option<EmitMode>,
}

impl Emission {
    /// Whether results are shown before the watermark completes them.
    pub fn is_early(&self) -> bool {
        self.delay_micros.is_some() || self.rows.is_some()
    }

    /// Whether windows wait for the watermark, and are corrected by late rows from then on.
    pub fn waits_in_windows(&self) -> bool {
        self.on_time && self.lateness.is_some() && !self.is_early()
    }
}

/// When a result is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Emit {
    /// At the end of every epoch that changed it: the current value, corrected as rows come.
    #[default]
    OnChange,
    /// Once, when the watermark says that it is complete.
    AfterWatermark,
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
