//! A result that only grows, as a changelog: each row is the first and the last of its group.

use std::collections::VecDeque;

use arrow::datatypes::SchemaRef;

use super::PIECE;
use super::output::Shown;
use crate::delta::Delta;
use crate::error::Result;
use crate::operator::{EpochContext, Operator, Output, Step};
use crate::plan::flow::ShowSpec;

/// See the [module](self).
pub struct Stamped {
    visible: usize,
    shown: Shown,
    /// Rows of the current epoch: its time is known at its end.
    gathered: VecDeque<Delta>,
}

impl Stamped {
    /// An end that shows rows as rows of `output`.
    pub fn new(spec: &ShowSpec, output: SchemaRef) -> Self {
        Self { visible: spec.visible, shown: Shown::new(spec, output, false), gathered: VecDeque::new() }
    }
}

impl Operator for Stamped {
    fn on_delta(&mut self, _input: usize, delta: Delta, _out: &mut Output) -> Result<Step> {
        self.gathered.push_back(delta);
        Ok(Step::Done)
    }

    fn on_epoch_end(&mut self, epoch: &EpochContext<'_>, out: &mut Output) -> Result<Step> {
        self.shown.begin(epoch);
        self.resume(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Step> {
        while let Some(delta) = self.gathered.pop_front() {
            if out.exhausted() {
                self.gathered.push_front(delta);
                return Ok(Step::Yield);
            }
            let rows = delta.num_rows().min(PIECE);
            let columns = delta.rows().columns()[..self.visible].iter().map(|column| column.slice(0, rows)).collect();
            out.push(self.shown.delta(columns, vec![1; rows], vec![0; rows])?);
            if rows < delta.num_rows() {
                self.gathered.push_front(delta.slice(rows, delta.num_rows() - rows));
            }
        }
        Ok(Step::Done)
    }
}
