//! Aggregates over the frames of consecutive rows.

use std::ops::Range;

use arrow::datatypes::DataType;
use datafusion::logical_expr::Accumulator;
use datafusion::scalar::ScalarValue;

use super::call::{Arguments, FrameAggregate, Way};
use crate::error::Result;

/// The frames of a span's rows, and what is known of them before any row was read.
pub(super) struct Frames {
    pub(super) frames: Vec<Range<usize>>,
    /// Holds the rows that need not be read, if there are any.
    pub(super) seed: Option<Box<dyn Accumulator>>,
    /// The rows that must be read: all of the frames' that the seed doesn't hold.
    pub(super) rows: Range<usize>,
}

impl Frames {
    /// One answer per frame, in their order. `place` says where a row's arguments stand.
    pub(super) fn answers(
        self,
        aggregate: &FrameAggregate,
        arguments: &Arguments,
        data_type: &DataType,
        place: impl Fn(usize) -> usize,
    ) -> Result<Vec<ScalarValue>> {
        let Self { frames, seed, rows } = self;
        let seeded = match seed {
            Some(seed) => seed,
            None => aggregate.accumulator()?,
        };
        let mut run = Run {
            accumulator: seeded,
            slice: |range: Range<usize>| arguments.of(place(range.start), place(range.start) + range.len()),
            nothing: aggregate.nothing(data_type)?,
            last: None,
        };
        match aggregate.way {
            Way::Growing => {
                let mut done = rows.start;
                frames.into_iter().map(|frame| run.grown(frame, &mut done)).collect()
            }
            Way::Whole => {
                run.add(rows)?;
                frames.into_iter().map(|frame| run.answer(frame)).collect()
            }
            Way::Shrinking => {
                let mut done = rows.end;
                let backwards = frames.into_iter().rev().map(|frame| {
                    if frame.start < done {
                        run.add(frame.start..done)?;
                        done = frame.start;
                    }
                    run.answer(frame)
                });
                let mut answers = backwards.collect::<Result<Vec<_>>>()?;
                answers.reverse();
                Ok(answers)
            }
            Way::Sliding => {
                let mut held = rows.start..rows.start;
                frames.into_iter().map(|frame| run.slid(frame, &mut held)).collect()
            }
            Way::Anew => frames
                .into_iter()
                .map(|frame| {
                    if run.last.as_ref().is_none_or(|(last, _)| *last != frame) {
                        run.accumulator = aggregate.accumulator()?;
                        run.add(frame.clone())?;
                    }
                    run.answer(frame)
                })
                .collect(),
        }
    }
}

/// An accumulator on its way from frame to frame.
struct Run<S> {
    accumulator: Box<dyn Accumulator>,
    slice: S,
    nothing: ScalarValue,
    /// The last frame and its answer: peers have the same.
    last: Option<(Range<usize>, ScalarValue)>,
}

impl<S: Fn(Range<usize>) -> Result<Vec<arrow::array::ArrayRef>>> Run<S> {
    fn add(&mut self, rows: Range<usize>) -> Result<()> {
        if !rows.is_empty() {
            self.accumulator.update_batch(&(self.slice)(rows)?)?;
        }
        Ok(())
    }

    fn grown(&mut self, frame: Range<usize>, done: &mut usize) -> Result<ScalarValue> {
        if frame.end > *done {
            self.add(*done..frame.end)?;
            *done = frame.end;
        }
        self.answer(frame)
    }

    fn slid(&mut self, frame: Range<usize>, held: &mut Range<usize>) -> Result<ScalarValue> {
        // Frames only move on: what comes is added first, so that what goes was there.
        if frame.end > held.end {
            self.add(held.end..frame.end)?;
            held.end = frame.end;
        }
        if frame.start > held.start {
            let gone = (self.slice)(held.start..frame.start)?;
            self.accumulator.retract_batch(&gone)?;
            held.start = frame.start;
        }
        self.answer(frame)
    }

    fn answer(&mut self, frame: Range<usize>) -> Result<ScalarValue> {
        if frame.is_empty() {
            return Ok(self.nothing.clone());
        }
        if let Some((last, answer)) = &self.last
            && *last == frame
        {
            return Ok(answer.clone());
        }
        let answer = self.accumulator.evaluate()?;
        self.last = Some((frame, answer.clone()));
        Ok(answer)
    }
}
