//! As-of joins and temporal joins.

use datafusion::logical_expr::Expr;

use crate::time::WatermarkId;

use super::Emit;

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
