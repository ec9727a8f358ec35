//! Rows that come out because they have a match, or because they have none: decided when the epoch ends.
//!
//! Of each row of a counted side it is known how many rows of the other side it meets. What an epoch touched is compared
//! with what it was before, so that a row that lost one match and gained another says nothing.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, new_null_array};

use super::super::expression::batch;
use super::store::Address;
use super::{Join, Output, PIECE, Step};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::plan::flow::JoinKind;

/// Rows of a side, and how much more often each is there than before.
#[derive(Default)]
struct Changes {
    addresses: Vec<Address>,
    weights: Vec<i64>,
}

impl Changes {
    fn add(&mut self, address: Address, weight: i64) {
        if weight != 0 {
            self.addresses.push(address);
            self.weights.push(weight);
        }
    }
}

impl Join {
    /// Says what has become of the rows that this epoch touched.
    pub(super) fn settle(&mut self, out: &mut Output) -> Result<Step> {
        for side in 0..2 {
            while self.sides[side].has_touched() {
                if out.exhausted() {
                    return Ok(Step::Yield);
                }
                self.settle_piece(side, out)?;
            }
        }
        self.outbox.flush(out)?;
        Ok(Step::Done)
    }

    fn settle_piece(&mut self, number: usize, out: &mut Output) -> Result<()> {
        let (mut unmatched, mut matched) = (Changes::default(), Changes::default());
        let mut gone = Vec::new();
        let side = &mut self.sides[number];
        for before in side.take_touched(PIECE) {
            let (weight, matches) = (side.weight(before.address), side.store().matches(before.address));
            let was = if before.matches > 0 { (0, before.weight) } else { (before.weight, 0) };
            let is = if matches > 0 { (0, weight) } else { (weight, 0) };
            unmatched.add(before.address, is.0 - was.0);
            matched.add(before.address, is.1 - was.1);
            if weight == 0 {
                gone.push(before.address);
            }
        }
        if self.kind.shows_unmatched(number) && !self.shows_unmatched_late {
            self.say_stored(number, unmatched, false, out)?;
        }
        if self.kind.shows_matched(number) {
            self.say_stored(number, matched, true, out)?;
        }
        self.sides[number].forget(&gone)
    }

    /// Rows of a side that are let go without ever having had a match, where they are shown only then.
    pub(super) fn say_leaving(&mut self, number: usize, block: usize, out: &mut Output) -> Result<()> {
        if !self.shows_unmatched_late || !self.kind.shows_unmatched(number) {
            return Ok(());
        }
        let (mut leaving, _) = self.sides[number].leaving(block)?;
        leaving.retain(|address| self.sides[number].store().matches(*address) <= 0);
        let weights = vec![1; leaving.len()];
        self.say_stored(number, Changes { addresses: leaving, weights }, false, out)
    }

    /// Rows whose key is NULL have no match, whatever comes.
    pub(super) fn say_keyless(&mut self, number: usize, rows: Delta, out: &mut Output) -> Result<()> {
        let weights = (0..rows.num_rows()).map(|row| rows.weight(row)).collect();
        let delta = self.shown(number, rows.rows().columns().to_vec(), false, weights)?;
        self.say(delta, out)
    }

    fn say_stored(&mut self, number: usize, changes: Changes, matched: bool, out: &mut Output) -> Result<()> {
        if changes.addresses.is_empty() {
            return Ok(());
        }
        let side = &self.sides[number];
        let gather = side.store().gather(&changes.addresses);
        let own = (0..side.schema.fields().len()).map(|column| gather.column(column)).collect::<Result<Vec<_>>>()?;
        let delta = self.shown(number, own, matched, changes.weights)?;
        self.say(delta, out)
    }

    /// Rows of one side as they come out: with NULLs for the other side's columns, with the mark, or as they are.
    fn shown(&self, number: usize, own: Vec<ArrayRef>, matched: bool, weights: Vec<i64>) -> Result<Delta> {
        let count = weights.len();
        let other =
            || self.sides[1 - number].schema.fields().iter().map(move |field| new_null_array(field.data_type(), count));
        let columns: Vec<ArrayRef> = match self.kind {
            JoinKind::LeftSemi | JoinKind::LeftAnti => own,
            JoinKind::LeftMark => {
                let mark: ArrayRef = Arc::new(BooleanArray::from(vec![matched; count]));
                own.into_iter().chain([mark]).collect()
            }
            _ if number == 0 => own.into_iter().chain(other()).collect(),
            _ => other().chain(own).collect(),
        };
        let rows = batch(&self.schema, columns, count)?;
        if self.changelog {
            return Ok(Delta::weighted(rows, Int64Array::from(weights)));
        }
        if weights.iter().any(|weight| *weight != 1) {
            return Err(Error::internal("a join that only adds rows would take one back"));
        }
        Ok(Delta::append(rows))
    }
}
