//! UNNEST: a row for each element of its lists, and a column for each field of its structs.
//!
//! Several lists of a row are read side by side; where one is shorter than another it has NULLs. A row whose lists are all
//! empty or NULL disappears. Stateless, append-only and changelog alike.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Int64Type, SchemaRef};

use super::expression::batch;
use super::{Operator, Output, Step};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::plan::flow::UnnestSpec;

/// Rows of one delta of output.
const PIECE: usize = 8192;

/// See the [module](self).
#[derive(Debug)]
pub struct Unnest {
    spec: UnnestSpec,
    schema: SchemaRef,
    /// What is left of the delta, while it comes out in pieces.
    rest: Option<Expansion>,
}

/// A delta whose rows are being multiplied.
#[derive(Debug)]
struct Expansion {
    delta: Delta,
    lists: Vec<(usize, List)>,
    /// The next row, and the next of its elements.
    at: (usize, usize),
}

/// A column of lists: the elements, and where those of each row stand.
#[derive(Debug)]
struct List {
    elements: ArrayRef,
    rows: Vec<Range<usize>>,
}

impl List {
    fn new(column: &ArrayRef) -> Result<Self> {
        fn of<O: OffsetSizeTrait>(column: &ArrayRef) -> List {
            let lists = column.as_list::<O>();
            let row = |row: usize| match lists.is_null(row) {
                true => 0..0,
                false => lists.value_offsets()[row].as_usize()..lists.value_offsets()[row + 1].as_usize(),
            };
            List { elements: Arc::clone(lists.values()), rows: (0..lists.len()).map(row).collect() }
        }
        Ok(match column.data_type() {
            DataType::List(_) => of::<i32>(column),
            DataType::LargeList(_) => of::<i64>(column),
            DataType::FixedSizeList(_, size) => {
                let lists = column.as_fixed_size_list();
                let size = usize::try_from(*size).unwrap_or(0);
                let row = |row: usize| {
                    let start = lists.value_offset(row) as usize;
                    if lists.is_null(row) { 0..0 } else { start..start + size }
                };
                Self { elements: Arc::clone(lists.values()), rows: (0..lists.len()).map(row).collect() }
            }
            other => return Err(Error::internal(format!("unnest of {other}"))),
        })
    }
}

impl Unnest {
    /// An operator that emits rows of `schema`.
    pub fn new(spec: &UnnestSpec, schema: SchemaRef) -> Self {
        Self { spec: spec.clone(), schema, rest: None }
    }

    /// The next rows: each a row of the input, and which of its elements.
    fn piece(&mut self) -> Result<Option<Delta>> {
        let Some(rest) = &mut self.rest else { return Ok(None) };
        let (mut rows, mut elements) = (Vec::new(), Vec::new());
        while rows.len() < PIECE && rest.at.0 < rest.delta.num_rows() {
            let (row, from) = rest.at;
            let count = match rest.lists.is_empty() {
                true => 1,
                false => rest.lists.iter().map(|(_, list)| list.rows[row].len()).max().unwrap_or(0),
            };
            let count = if self.spec.keep_empty { count.max(1) } else { count };
            let to = count.min(from + PIECE - rows.len());
            for element in from..to {
                rows.push(row as u32);
                elements.push(element);
            }
            rest.at = if to < count { (row, to) } else { (row + 1, 0) };
        }
        if rows.is_empty() {
            self.rest = None;
            return Ok(None);
        }
        self.delta(rest_of(&self.rest)?, rows, &elements).map(Some)
    }

    fn delta(&self, rest: &Expansion, rows: Vec<u32>, elements: &[usize]) -> Result<Delta> {
        let rows = UInt32Array::from(rows);
        let mut columns = Vec::with_capacity(self.spec.columns.len());
        let mut fields = vec![0; rest.delta.rows().num_columns()];
        for &column in &self.spec.columns {
            let whole = rest.delta.rows().column(column);
            if let Some((_, list)) = rest.lists.iter().find(|(index, _)| *index == column) {
                let place = |(row, element): (&u32, &usize)| {
                    let of_row = list.rows[*row as usize].clone();
                    (of_row.start + element < of_row.end).then_some((of_row.start + element) as u64)
                };
                let places: UInt64Array = rows.values().iter().zip(elements).map(place).collect();
                columns.push(take(&list.elements, &places, None)?);
            } else if self.spec.structs.contains(&column) {
                let parts = whole.as_struct_opt().ok_or_else(|| Error::internal("unnest of fields of no struct"))?;
                let number = fields[column];
                fields[column] += 1;
                let part = parts.columns().get(number).ok_or_else(|| Error::internal("unnest of a missing field"))?;
                // The fields of a struct that is NULL are NULL.
                let part = match parts.nulls() {
                    None => Arc::clone(part),
                    Some(nulls) => {
                        let own: UInt32Array =
                            (0..part.len()).map(|row| nulls.is_valid(row).then_some(row as u32)).collect();
                        take(part, &own, None)?
                    }
                };
                columns.push(take(&part, &rows, None)?);
            } else {
                columns.push(take(whole, &rows, None)?);
            }
        }
        let weights = match rest.delta.weights() {
            Some(weights) => Some(take(weights, &rows, None)?.as_primitive::<Int64Type>().clone()),
            None => None,
        };
        Ok(Delta::new(batch(&self.schema, columns, rows.len())?, weights))
    }

    fn go_on(&mut self, out: &mut Output) -> Result<Step> {
        while let Some(delta) = self.piece()? {
            out.push(delta);
            if out.exhausted() {
                return Ok(Step::Yield);
            }
        }
        Ok(Step::Done)
    }
}

fn rest_of(rest: &Option<Expansion>) -> Result<&Expansion> {
    rest.as_ref().ok_or_else(|| Error::internal("unnest has nothing left"))
}

impl Operator for Unnest {
    fn on_delta(&mut self, _input: usize, delta: Delta, out: &mut Output) -> Result<Step> {
        let lists = self.spec.lists.iter().map(|&column| Ok((column, List::new(delta.rows().column(column))?)));
        let lists = lists.collect::<Result<Vec<_>>>()?;
        self.rest = Some(Expansion { delta, lists, at: (0, 0) });
        self.go_on(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Step> {
        self.go_on(out)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, Int64Array, ListArray, StructArray};
    use arrow::datatypes::{Field, Int32Type, Schema};

    use super::*;

    fn numbers(lists: Vec<Option<Vec<Option<i32>>>>) -> ArrayRef {
        Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists))
    }

    fn run(unnest: &mut Unnest, delta: Delta, fuel: usize) -> Vec<(Vec<Option<i32>>, i64)> {
        let mut out = Output::with_fuel(fuel);
        let mut step = unnest.on_delta(0, delta, &mut out).unwrap();
        let mut rows = Vec::new();
        loop {
            for delta in out.take().0 {
                let columns: Vec<&Int32Array> =
                    delta.rows().columns().iter().map(|column| column.as_primitive::<Int32Type>()).collect();
                for row in 0..delta.num_rows() {
                    let cells = columns.iter().map(|column| column.is_valid(row).then(|| column.value(row))).collect();
                    rows.push((cells, delta.weight(row)));
                }
            }
            if step == Step::Done {
                return rows;
            }
            step = unnest.resume(&mut out).unwrap();
        }
    }

    fn operator(spec: UnnestSpec, columns: usize) -> Unnest {
        let fields: Vec<Field> = (0..columns).map(|n| Field::new(format!("c{n}"), DataType::Int32, true)).collect();
        Unnest::new(&spec, Arc::new(Schema::new(fields)))
    }

    fn delta(columns: Vec<ArrayRef>, weights: Option<Vec<i64>>) -> Delta {
        let fields: Vec<Field> =
            columns.iter().map(|column| Field::new("c", column.data_type().clone(), true)).collect();
        let count = columns[0].len();
        let rows = batch(&Arc::new(Schema::new(fields)), columns, count).unwrap();
        Delta::new(rows, weights.map(Int64Array::from))
    }

    #[test]
    fn lists_of_a_row_stand_side_by_side() {
        let spec = UnnestSpec { lists: vec![0, 1], structs: Vec::new(), columns: vec![0, 1, 2], keep_empty: false };
        let one = numbers(vec![Some(vec![Some(1), Some(2), None]), None, Some(vec![]), Some(vec![Some(9)])]);
        let two = numbers(vec![Some(vec![Some(5)]), None, None, Some(vec![Some(7), Some(8)])]);
        let key: ArrayRef = Arc::new(Int32Array::from(vec![10, 20, 30, 40]));
        let rows = run(&mut operator(spec, 3), delta(vec![one, two, key], Some(vec![2, 1, 1, -1])), 2);
        let expected = [
            (vec![Some(1), Some(5), Some(10)], 2),
            (vec![Some(2), None, Some(10)], 2),
            (vec![None, None, Some(10)], 2),
            (vec![Some(9), Some(7), Some(40)], -1),
            (vec![None, Some(8), Some(40)], -1),
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn a_long_list_comes_in_pieces() {
        let spec = UnnestSpec { lists: vec![0], structs: Vec::new(), columns: vec![0], keep_empty: false };
        let long = numbers(vec![Some((0..20_000).map(Some).collect()), Some(vec![Some(-1)])]);
        let rows = run(&mut operator(spec, 1), delta(vec![long.slice(0, 2)], None), 1);
        assert_eq!(rows.len(), 20_001);
        assert!(rows[..20_000].iter().enumerate().all(|(n, (row, _))| row[0] == Some(n as i32)));
    }

    #[test]
    fn the_fields_of_a_struct_become_columns() {
        let fields = [("a", vec![Some(1), Some(2)]), ("b", vec![Some(3), None])].map(|(name, values)| {
            let column: ArrayRef = Arc::new(Int32Array::from(values));
            (Arc::new(Field::new(name, DataType::Int32, true)), column)
        });
        let (fields, columns): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
        let nulls = Some(vec![false, true].into());
        let parts: ArrayRef = Arc::new(StructArray::new(fields.into(), columns, nulls));
        let spec = UnnestSpec { lists: Vec::new(), structs: vec![0], columns: vec![0, 0], keep_empty: false };
        let rows = run(&mut operator(spec, 2), delta(vec![parts], None), 100);
        assert_eq!(rows, [(vec![None, None], 1), (vec![Some(2), None], 1)]);
    }
}
