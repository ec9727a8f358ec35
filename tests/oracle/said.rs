//! What a job has said, added up to the answer that it stands for, as the modes of `EMIT` define it.
//!
//! * nothing, and `RETRACTING`: the changes are added up
//! * `STREAM`: rows only come; those with an empty `undo` count for the answer, the others against it, and the numbers in `ver`
//!   follow each other within a group
//! * `ACCUMULATING`: a row stands for the one that its group had before
//! * `DISCARDING`: the parts of a group make the whole, each column as its aggregate says

use std::borrow::Cow;
use std::collections::BTreeMap;

use rondel_engine::Delta;
use rondel_engine::plan::flow::{Corrections, FlowOp, FlowPlan, ShowSpec};

use super::multiset::{Cell, Multiset, Row, cells};

/// How the parts of a column make the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fold {
    /// It says which group it is.
    Key,
    Sum,
    Least,
    Greatest,
}

/// See the [module](self).
pub(crate) struct Said<'a> {
    show: Option<&'a ShowSpec>,
    /// Of a statement that says parts: how each column is made of them.
    folds: &'a [Fold],
    sum: Multiset,
    /// By group, where each has one row: that row.
    newest: BTreeMap<Row, Row>,
    /// By group: the number that its next row has.
    numbers: BTreeMap<Row, i64>,
}

impl<'a> Said<'a> {
    /// Nothing yet, of a plan whose columns are made of parts by `folds` if there are some.
    pub(crate) fn new(plan: &'a FlowPlan, folds: &'a [Fold]) -> Self {
        let show = match plan.root().map(|root| &root.op) {
            Some(FlowOp::Show(spec)) => Some(spec),
            _ => None,
        };
        let (sum, newest, numbers) = Default::default();
        Self { show, folds, sum, newest, numbers }
    }

    /// A delta that the job has said.
    pub(crate) fn add(&mut self, delta: &Delta) -> Result<(), String> {
        let stream = self.show.is_some_and(|show| show.stream);
        let replaces = self.show.is_some_and(|show| show.corrections == Corrections::Replaced);
        if !stream && !replaces && self.folds.is_empty() {
            self.sum.add(delta.rows(), |row| delta.weight(row));
            return Ok(());
        }
        for (number, mut row) in cells(delta.rows()).into_iter().enumerate() {
            let mut weight = delta.weight(number);
            if stream {
                weight = self.unstamped(&mut row, weight)?;
            }
            match (replaces, self.folds.is_empty()) {
                (true, _) => self.replace(row, weight)?,
                (false, false) => self.fold(row, weight)?,
                (false, true) => self.sum.add_row(row, weight),
            }
        }
        Ok(())
    }

    /// The answer that it stands for.
    pub(crate) fn sum(&self) -> Cow<'_, Multiset> {
        if self.newest.is_empty() {
            return Cow::Borrowed(&self.sum);
        }
        let mut sum = Multiset::default();
        self.newest.values().for_each(|row| sum.add_row(row.clone(), 1));
        Cow::Owned(sum)
    }

    /// Takes `undo`, `ptime` and `ver` off a row of the changelog; answers how often the row counts.
    fn unstamped(&mut self, row: &mut Row, weight: i64) -> Result<i64, String> {
        let stamp = row.split_off(row.len() - 3);
        let [Cell::Text(undo), Cell::Text(_), Cell::Text(number)] = stamp.as_slice() else {
            return Err(format!("a row of the changelog ends in {stamp:?}"));
        };
        if weight < 1 {
            return Err(format!("the changelog takes a row back: {row:?}"));
        }
        let numbered = self.show.filter(|show| show.numbered).and_then(|show| key(show, row));
        let expected = match numbered {
            Some(group) => {
                let next = self.numbers.entry(group).or_default();
                *next += 1;
                Some(*next - 1)
            }
            None => None,
        };
        if expected.is_some_and(|expected| number.parse() != Ok(expected)) {
            return Err(format!("{row:?} has the number {number} in its group, and not {expected:?}"));
        }
        Ok(if undo == "undo" { -weight } else { weight })
    }

    fn replace(&mut self, row: Row, weight: i64) -> Result<(), String> {
        let group = self.show.and_then(|show| key(show, &row)).ok_or("a row that replaces another has no group")?;
        let fits = match weight {
            1 => {
                self.newest.insert(group, row);
                true
            }
            -1 => self.newest.remove(&group).is_some_and(|newest| newest.cmp(&row).is_eq()),
            _ => false,
        };
        match fits {
            true => Ok(()),
            false => Err(format!("a row that is not the newest of its group goes, or one comes {weight} times")),
        }
    }

    fn fold(&mut self, row: Row, weight: i64) -> Result<(), String> {
        if weight != 1 || row.len() != self.folds.len() {
            return Err(format!("a part comes {weight} times: {row:?}"));
        }
        let is_key = |fold: &Fold| *fold == Fold::Key;
        let group = row.iter().zip(self.folds).filter(|(_, fold)| is_key(fold)).map(|(cell, _)| cell.clone()).collect();
        let folds = self.folds;
        match self.newest.entry(group) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(row);
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                for ((whole, part), fold) in entry.get_mut().iter_mut().zip(row).zip(folds) {
                    *whole = folded(whole, part, *fold)?;
                }
            }
        }
        Ok(())
    }
}

/// The columns of a row that say its group, if all of them are shown.
fn key(show: &ShowSpec, row: &Row) -> Option<Row> {
    show.key.iter().map(|column| row.get(*column).filter(|_| *column < show.visible).cloned()).collect()
}

fn folded(whole: &Cell, part: Cell, fold: Fold) -> Result<Cell, String> {
    let numbers = |one: &str, other: &str| Some((one.parse::<i128>().ok()?, other.parse::<i128>().ok()?));
    Ok(match (whole, part, fold) {
        (whole, Cell::Null, _) | (whole, _, Fold::Key) => whole.clone(),
        (Cell::Null, part, _) => part,
        (Cell::Float(one), Cell::Float(other), Fold::Sum) => Cell::Float(one + other),
        (Cell::Text(one), Cell::Text(other), fold) => match (numbers(one, &other), fold) {
            (Some((one, other)), Fold::Sum) => Cell::Text((one + other).to_string()),
            (Some((one, other)), Fold::Least) => Cell::Text(one.min(other).to_string()),
            (Some((one, other)), _) => Cell::Text(one.max(other).to_string()),
            (None, Fold::Sum) => return Err(format!("{one} and {other} are no numbers")),
            (None, Fold::Least) => Cell::Text(one.clone().min(other)),
            (None, _) => Cell::Text(one.clone().max(other)),
        },
        (one, other, fold) => return Err(format!("{one} and {other} are no parts of a {fold:?}")),
    })
}
