//! OVER and top-N.

use datafusion::logical_expr::expr::NullTreatment;
use datafusion::logical_expr::{Expr, SortExpr, WindowFrameBound};

use crate::plan::recognize::Recognize;
use crate::time::WatermarkId;

use super::Emit;

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
    /// A column of the input that is true in a row which ends its key: where that row is the first, nothing is kept of its
    /// partition. Of a topic that is a table, whose rows come in their order; what is above shows no such row.
    pub ends: Option<usize>,
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

fn looks_back_a_bounded_way(function: &Expr) -> bool {
    if let Some(function) = Recognize::of(function) {
        return function.recognition().forgets_settled_rows();
    }
    let Expr::WindowFunction(call) = function else { return false };
    match call.fun.name() {
        "row_number" | "rank" => true,
        "dense_rank" | "percent_rank" | "cume_dist" | "ntile" => false,
        "lag" | "lead" => call.params.null_treatment != Some(NullTreatment::IgnoreNulls),
        _ => !call.params.window_frame.start_bound.is_unbounded(),
    }
}
