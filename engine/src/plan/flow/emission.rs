//! When results are shown, and how.

pub use crate::sql::EmitMode;
use crate::time::WatermarkId;

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
