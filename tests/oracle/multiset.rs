//! Multisets of rows: sums of deltas, and what it means that two are equal.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// One value of a row. Floats stay numbers, since they are compared with a tolerance; all else is compared as text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Null,
    Text(String),
    Float(f64),
}

impl Cell {
    fn rank(&self) -> u8 {
        match self {
            Cell::Null => 0,
            Cell::Text(_) => 1,
            Cell::Float(_) => 2,
        }
    }
}

impl Eq for Cell {}

impl PartialOrd for Cell {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Cell {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Cell::Text(one), Cell::Text(other)) => one.cmp(other),
            (Cell::Float(one), Cell::Float(other)) => one.total_cmp(other),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cell::Null => f.write_str("NULL"),
            Cell::Text(text) => f.write_str(text),
            Cell::Float(value) => write!(f, "{value:?}"),
        }
    }
}

/// A row.
pub(crate) type Row = Vec<Cell>;

/// How often each row is there. Rows that are there zero times are not kept.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Multiset(BTreeMap<Row, i64>);

impl Multiset {
    /// Adds rows, each as often as `weight` says.
    pub(crate) fn add(&mut self, rows: &RecordBatch, weight: impl Fn(usize) -> i64) {
        for (number, row) in cells(rows).into_iter().enumerate() {
            self.add_row(row, weight(number));
        }
    }

    /// Adds a row, as often as `weight` says.
    pub(crate) fn add_row(&mut self, row: Row, weight: i64) {
        match self.0.entry(row) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                if weight != 0 {
                    entry.insert(weight);
                }
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                *entry.get_mut() += weight;
                if *entry.get() == 0 {
                    entry.remove();
                }
            }
        }
    }

    /// A row that is there less than zero times, if there is one: no epoch may end like that.
    pub(crate) fn negative(&self) -> Option<String> {
        self.0.iter().find(|(_, count)| **count < 0).map(|(row, count)| format!("{} ({count} times)", show(row)))
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.0.values().map(|count| usize::try_from(*count).unwrap_or(0)).sum()
    }

    /// What differs from `expected`, in words; `None` when nothing does. Floats may differ by `1e-9` of `scale`, the
    /// sum of all absolute values that could have been added up (sums of floats depend on their order).
    pub(crate) fn difference(&self, expected: &Multiset, scale: f64) -> Option<String> {
        if self == expected {
            return None;
        }
        let (ours, theirs) = (self.by_exact_cells(), expected.by_exact_cells());
        let mut lines = Vec::new();
        for key in ours.keys().chain(theirs.keys().filter(|key| !ours.contains_key(*key))) {
            let (mut surplus, mut missing) = (Vec::new(), theirs.get(key).cloned().unwrap_or_default());
            for floats in ours.get(key).into_iter().flatten() {
                match missing.iter().position(|other| close(floats, other, scale)) {
                    Some(found) => {
                        missing.swap_remove(found);
                    }
                    None => surplus.push(floats),
                }
            }
            let line = |sign: &str, floats: &[f64]| format!("  {sign} {} {floats:?}", show(key));
            lines.extend(surplus.iter().map(|floats| line("too much:", floats)));
            lines.extend(missing.iter().map(|floats| line("missing: ", floats)));
        }
        if lines.is_empty() {
            return None;
        }
        let count = lines.len();
        lines.truncate(20);
        if count > lines.len() {
            lines.push(format!("  … {count} differences in all"));
        }
        Some(lines.join("\n"))
    }

    /// Rows by their cells that must be equal (a float's place is marked), and the floats of each.
    fn by_exact_cells(&self) -> BTreeMap<Row, Vec<Vec<f64>>> {
        let mut groups: BTreeMap<Row, Vec<Vec<f64>>> = BTreeMap::new();
        for (row, count) in &self.0 {
            let mut floats = Vec::new();
            let key = row
                .iter()
                .map(|cell| match cell {
                    Cell::Float(value) => {
                        floats.push(*value);
                        Cell::Float(0.0)
                    }
                    other => other.clone(),
                })
                .collect();
            let times = usize::try_from(*count).unwrap_or(0);
            groups.entry(key).or_default().extend(std::iter::repeat_n(floats, times));
        }
        groups
    }
}

fn close(ours: &[f64], theirs: &[f64], scale: f64) -> bool {
    ours.iter().zip(theirs).all(|(one, other)| {
        one == other
            || (one.is_nan() && other.is_nan())
            || (one.is_finite()
                && other.is_finite()
                && (one - other).abs() <= 1e-9 * scale.max(one.abs()).max(other.abs()))
    })
}

fn show(row: &[Cell]) -> String {
    let cells: Vec<String> = row.iter().map(Cell::to_string).collect();
    format!("({})", cells.join(", "))
}

/// All rows of a batch.
pub(crate) fn cells(rows: &RecordBatch) -> Vec<Row> {
    let mut cells: Vec<Row> = vec![Vec::with_capacity(rows.num_columns()); rows.num_rows()];
    let options = FormatOptions::default();
    for column in rows.columns() {
        let floats = (*column.data_type() == DataType::Float64).then(|| column.as_primitive::<Float64Type>());
        let Ok(texts) = ArrayFormatter::try_new(column.as_ref(), &options) else { continue };
        for (number, row) in cells.iter_mut().enumerate() {
            row.push(match floats {
                _ if column.is_null(number) => Cell::Null,
                // −0 equals 0, and every NaN every NaN.
                Some(floats) if floats.value(number).is_nan() => Cell::Float(f64::NAN),
                Some(floats) => Cell::Float(floats.value(number) + 0.0),
                None => Cell::Text(texts.value(number).to_string()),
            });
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array};

    use super::*;

    fn set(rows: &[(i64, f64, i64)]) -> Multiset {
        let batch = RecordBatch::try_from_iter([
            ("n", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))) as _),
            ("f", Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.1))) as _),
        ])
        .unwrap();
        let mut set = Multiset::default();
        set.add(&batch, |row| rows[row].2);
        set
    }

    #[test]
    fn sums_cancel_and_negatives_show() {
        assert_eq!(set(&[(1, 0.0, 1), (1, -0.0, -1)]), Multiset::default());
        assert!(set(&[(1, 0.0, 1), (2, 0.0, -1)]).negative().is_some());
    }

    #[test]
    fn only_floats_have_a_tolerance() {
        let one = set(&[(1, 1.0, 2), (2, f64::NAN, 1)]);
        assert_eq!(one.difference(&set(&[(1, 1.0 + 1e-12, 1), (1, 1.0, 1), (2, f64::NAN, 1)]), 1.0), None);
        assert!(one.difference(&set(&[(1, 1.1, 1), (1, 1.0, 1), (2, f64::NAN, 1)]), 1.0).is_some());
        assert!(one.difference(&set(&[(1, 1.0, 1), (2, f64::NAN, 1)]), 1.0).is_some());
        assert!(one.difference(&set(&[(1, 1.0, 2), (3, f64::NAN, 1)]), 1.0).is_some());
        assert!(set(&[(1, f64::INFINITY, 1)]).difference(&set(&[(1, 0.0, 1)]), 1.0).is_some());
    }
}
