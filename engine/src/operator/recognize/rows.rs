//! The rows of a partition in which a match is looked for: read a piece at a time, when somebody looks at them.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, new_null_array};
use arrow::compute::{concat, interleave};
use arrow::datatypes::DataType;

use crate::error::{Error, Result};
use crate::operator::aggregate::windows::micros;

/// Rows of a piece.
pub(super) const PIECE: usize = 1024;

/// Gives the arguments of some rows, by their positions in the partition.
pub(crate) type Load<'a> = Box<dyn FnMut(Range<usize>) -> Result<Vec<ArrayRef>> + 'a>;

/// See the [module](self).
pub(crate) struct Rows<'a> {
    /// The first row that may be looked at.
    first: usize,
    /// Behind the last row.
    end: usize,
    types: &'a [DataType],
    load: Load<'a>,
    pieces: Vec<Option<Piece>>,
}

/// Rows that were read.
struct Piece {
    arguments: Vec<ArrayRef>,
    /// The first argument in microseconds, if it is asked for.
    times: Option<Int64Array>,
    /// Of conditions that look at a row and its neighbours: which rows satisfy them, by variable.
    pub(super) satisfied: Vec<Option<BooleanArray>>,
}

impl<'a> Rows<'a> {
    /// Rows of a partition from `first` on, up to `end`. `types`: of the arguments.
    pub(crate) fn new(range: Range<usize>, types: &'a [DataType], load: Load<'a>) -> Self {
        let count = range.len().div_ceil(PIECE);
        let pieces = std::iter::repeat_with(|| None).take(count).collect();
        Self { first: range.start, end: range.end, types, load, pieces }
    }

    /// Behind the last row.
    pub(super) fn end(&self) -> usize {
        self.end
    }

    fn place(&self, row: usize) -> Result<(usize, usize)> {
        match row.checked_sub(self.first) {
            Some(at) if row < self.end => Ok((at / PIECE, at % PIECE)),
            _ => Err(Error::internal("a pattern looks at a row that it may not see")),
        }
    }

    fn piece(&mut self, number: usize) -> Result<&mut Piece> {
        let slot = self.pieces.get_mut(number).ok_or_else(|| Error::internal("there is no such piece of rows"))?;
        if slot.is_none() {
            let start = self.first + number * PIECE;
            let arguments = (self.load)(start..(start + PIECE).min(self.end))?;
            *slot = Some(Piece { arguments, times: None, satisfied: Vec::new() });
        }
        slot.as_mut().ok_or_else(|| Error::internal("a piece of rows was not read"))
    }

    /// The time of a row in microseconds: the first argument.
    pub(super) fn time(&mut self, row: usize) -> Result<Option<i64>> {
        let (number, at) = self.place(row)?;
        let piece = self.piece(number)?;
        if piece.times.is_none() {
            let column = piece.arguments.first().ok_or_else(|| Error::internal("rows of a pattern have no time"))?;
            piece.times = Some(micros(column)?);
        }
        Ok(piece.times.as_ref().filter(|times| times.is_valid(at)).map(|times| times.value(at)))
    }

    /// Whether a row satisfies a variable's condition; `of` gives that of the rows of a piece.
    pub(super) fn satisfies(
        &mut self,
        row: usize,
        variable: usize,
        of: impl FnOnce(&mut Self, Range<usize>) -> Result<BooleanArray>,
    ) -> Result<bool> {
        let (number, at) = self.place(row)?;
        let is = |satisfied: &BooleanArray| satisfied.is_valid(at) && satisfied.value(at);
        if let Some(Some(satisfied)) = self.piece(number)?.satisfied.get(variable) {
            return Ok(is(satisfied));
        }
        let start = self.first + number * PIECE;
        let satisfied = of(self, start..(start + PIECE).min(self.end))?;
        let answer = is(&satisfied);
        let known = &mut self.piece(number)?.satisfied;
        if known.len() <= variable {
            known.resize(variable + 1, None);
        }
        known[variable] = Some(satisfied);
        Ok(answer)
    }

    /// Whether a row may be looked at.
    pub(super) fn holds(&self, row: usize) -> bool {
        (self.first..self.end).contains(&row)
    }

    /// An argument in one row; NULL where there is no row.
    pub(super) fn one(&mut self, argument: usize, row: Option<usize>) -> Result<ArrayRef> {
        let Some(row) = row else { return self.nulls(argument, 1) };
        let (number, at) = self.place(row)?;
        Ok(column(self.piece(number)?, argument)?.slice(at, 1))
    }

    fn nulls(&self, argument: usize, count: usize) -> Result<ArrayRef> {
        let data_type = self.types.get(argument).ok_or_else(|| Error::internal("a pattern has no such argument"))?;
        Ok(new_null_array(data_type, count))
    }

    /// An argument in the rows of a range that is moved; NULL where there is no row.
    pub(super) fn moved(&mut self, argument: usize, range: Range<usize>, by: i64) -> Result<ArrayRef> {
        let moved = |row: usize| row as i64 + by;
        let (first, end) = (self.first as i64, self.end as i64);
        let from = moved(range.start).clamp(first, end) as usize;
        let to = moved(range.end).clamp(first, end) as usize;
        let before = (first - moved(range.start)).clamp(0, range.len() as i64) as usize;
        let mut parts: Vec<ArrayRef> = Vec::new();
        if before > 0 {
            parts.push(self.nulls(argument, before)?);
        }
        let mut row = from;
        while row < to {
            let (number, at) = self.place(row)?;
            let count = (PIECE - at).min(to - row);
            parts.push(column(self.piece(number)?, argument)?.slice(at, count));
            row += count;
        }
        let behind = range.len() - before - to.saturating_sub(from);
        if behind > 0 {
            parts.push(self.nulls(argument, behind)?);
        }
        match parts.as_slice() {
            [] => self.nulls(argument, 0),
            [only] => Ok(Arc::clone(only)),
            parts => Ok(concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>())?),
        }
    }

    /// An argument in some rows; NULL where there is none.
    pub(super) fn gathered(&mut self, argument: usize, rows: &[Option<usize>]) -> Result<ArrayRef> {
        let mut pieces: Vec<ArrayRef> = vec![self.nulls(argument, 1)?];
        let mut known: Vec<(usize, usize)> = Vec::new();
        let mut places = Vec::with_capacity(rows.len());
        for row in rows {
            let Some(row) = row else {
                places.push((0, 0));
                continue;
            };
            let (number, at) = self.place(*row)?;
            let piece = match known.iter().rev().find(|(known, _)| *known == number) {
                Some((_, place)) => *place,
                None => {
                    pieces.push(Arc::clone(column(self.piece(number)?, argument)?));
                    known.push((number, pieces.len() - 1));
                    pieces.len() - 1
                }
            };
            places.push((piece, at));
        }
        Ok(interleave(&pieces.iter().map(AsRef::as_ref).collect::<Vec<_>>(), &places)?)
    }
}

fn column(piece: &Piece, argument: usize) -> Result<&ArrayRef> {
    piece.arguments.get(argument).ok_or_else(|| Error::internal("a pattern has no such argument"))
}
