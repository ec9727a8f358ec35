//! Rows that come too late.

use arrow::datatypes::SchemaRef;

use crate::time::WatermarkId;

use super::NodeIndex;

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
