//! Random tables: rows in epochs, with event times out of order and some rows late, or taken back.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, SchemaRef, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rondel_engine::Delta;
use rondel_engine::operator::consolidate::consolidate_all;

use super::row::{Pool, Row, columns, schema, upserts, upserts_schema};
use super::statement::Readable;

/// Microseconds in a second.
pub(crate) const SECOND: i64 = 1_000_000;

/// Where all event times begin: midnight of 2024-01-01.
pub(crate) const START: i64 = 1_704_067_200 * SECOND;

/// Most rows of an arrival: of a small table, one of middling size, and a large one.
const MOST_ROWS: [usize; 3] = [4, 10, 24];

/// The column of floats that are no numbers.
const ODD_FLOATS: usize = 8;

/// The column that is a key; in a stream of upserts there are two more behind it.
pub(crate) const KEY: usize = 11;

/// Rows that come together from one partition.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) partition: u32,
    pub(crate) rows: RecordBatch,
    /// How often each row comes, or goes; `None`: each comes once.
    pub(crate) weights: Option<Int64Array>,
}

impl Arrival {
    pub(crate) fn delta(&self) -> Delta {
        Delta::new(self.rows.clone(), self.weights.clone())
    }
}

/// What is known of a table's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Nothing: rows may be equal.
    Plain,
    /// Column `i` is a key.
    Keyed,
    /// Of what comes the last row of each key counts, and there is no watermark.
    Upserts,
}

impl Form {
    fn random(rng: &mut SmallRng) -> Self {
        match rng.random_range(0..10) {
            0..=2 => Self::Keyed,
            _ => Self::Plain,
        }
    }

    /// The row, with a key of its own if the table has one.
    fn given(self, mut row: Row, last: &mut i64) -> Row {
        if self == Self::Keyed {
            *last += 1;
            row.i = Some(*last);
        }
        row
    }
}

/// A stream with `WATERMARK FOR ts AS ts - INTERVAL '<delay> seconds'`.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) delay_seconds: i64,
    pub(crate) partitions: u32,
    /// Whether its rows may also go again, those that lie below the watermark excepted.
    pub(crate) changing: bool,
    pub(crate) form: Form,
    /// What comes in each epoch.
    pub(crate) epochs: Vec<Vec<Arrival>>,
}

impl Table {
    /// A table whose rows come in `epochs` epochs, or come, go and change.
    pub(crate) fn random(rng: &mut SmallRng, name: &str, epochs: usize, late_rows: bool, pool: &mut Pool) -> Self {
        match rng.random_range(0..50) {
            0..20 => Self::changing(rng, name, epochs, pool),
            20..47 => Self::growing(rng, name, epochs, late_rows, pool),
            _ => Self::upserts(rng, name, epochs, pool),
        }
    }

    /// A table of which each row that comes takes the place of the one with its key.
    fn upserts(rng: &mut SmallRng, name: &str, epochs: usize, pool: &mut Pool) -> Self {
        let partitions = rng.random_range(1..=3);
        let most = MOST_ROWS[rng.random_range(0..3)];
        let (mut now, mut order) = (0, 0);
        let epochs = (0..epochs).map(|_| {
            let arrivals = (0..rng.random_range(0..4)).map(|_| {
                now += rng.random_range(0..20 * SECOND);
                let rows: Vec<Row> = (0..rng.random_range(1..=most)).map(|_| Row::random(rng, now, pool)).collect();
                let orders: Vec<i64> = (order + 1..).take(rows.len()).collect();
                order += rows.len() as i64;
                let gone: Vec<bool> = rows.iter().map(|_| rng.random_bool(0.2)).collect();
                Arrival {
                    partition: rng.random_range(0..partitions),
                    rows: upserts(&rows, &orders, &gone),
                    weights: None,
                }
            });
            arrivals.collect()
        });
        let epochs = epochs.collect();
        Self { name: name.to_owned(), delay_seconds: 0, partitions, changing: true, form: Form::Upserts, epochs }
    }

    /// A table whose rows only come. Without late rows its watermark stays behind all that may come.
    fn growing(rng: &mut SmallRng, name: &str, epochs: usize, late_rows: bool, pool: &mut Pool) -> Self {
        let partitions = rng.random_range(1..=3);
        let delay_seconds = if late_rows { rng.random_range(0..8) } else { rng.random_range(66..90) };
        let most = MOST_ROWS[rng.random_range(0..3)];
        let (form, mut id) = (Form::random(rng), 0);
        let mut now = 0;
        let epochs = (0..epochs)
            .map(|epoch| {
                let batches = rng.random_range(usize::from(epoch == 0)..3);
                let arrivals = (0..batches).map(|_| {
                    now += rng.random_range(0..20 * SECOND);
                    let count = rng.random_range(1..=most);
                    let rows: Vec<Row> = (0..count).map(|_| form.given(Row::random(rng, now, pool), &mut id)).collect();
                    Arrival { partition: rng.random_range(0..partitions), rows: columns(&rows), weights: None }
                });
                arrivals.collect()
            })
            .collect();
        Self { name: name.to_owned(), delay_seconds, partitions, changing: false, form, epochs }
    }

    /// A table whose rows come, go and change in `epochs` epochs. None is late.
    fn changing(rng: &mut SmallRng, name: &str, epochs: usize, pool: &mut Pool) -> Self {
        let (partitions, delay_seconds) = (rng.random_range(1..=3), rng.random_range(66..90));
        let name = name.to_owned();
        let (form, mut id) = (Form::random(rng), 0);
        let mut table = Self { name, delay_seconds, partitions, changing: true, form, epochs: Vec::new() };
        let most = MOST_ROWS[rng.random_range(0..3)];
        let goes = [0.2, 0.4, 0.8][rng.random_range(0..3)];
        let (mut now, mut present): (i64, Vec<Row>) = (0, Vec::new());
        for epoch in 0..epochs {
            // What lies below the watermark stays as it is.
            let fixed = table.watermarks().last().copied().flatten();
            let mut changes: Vec<(Row, i64)> = Vec::new();
            present.retain(|row| {
                let stays =
                    row.ts.is_some_and(|time| fixed.is_some_and(|fixed| time < fixed)) || !rng.random_bool(goes);
                if !stays {
                    changes.push((*row, -1));
                }
                stays
            });
            let updates = changes.iter().filter(|_| rng.random_bool(0.4)).map(|(row, _)| *row).collect::<Vec<_>>();
            changes.extend(updates.into_iter().map(|row| (row.updated(rng), 1)));
            if epoch == 0 || epoch + 1 == epochs || rng.random_bool(0.8) {
                now += rng.random_range(0..30 * SECOND);
                for _ in 0..rng.random_range(1..=most) {
                    let times = if rng.random_bool(0.1) && form == Form::Plain { 3 } else { 1 };
                    changes.push((form.given(Row::random(rng, now, pool), &mut id), times));
                }
            }
            for (row, weight) in &changes {
                present.extend(std::iter::repeat_n(*row, (*weight).max(0) as usize));
            }
            // Some rows come and go within the epoch.
            let brief = changes.iter().filter(|_| rng.random_bool(0.1)).copied().collect::<Vec<_>>();
            changes.extend(brief.iter().flat_map(|(row, _)| [(*row, 2), (*row, -2)]));
            changes.shuffle(rng);
            let mut arrivals = Vec::new();
            while !changes.is_empty() {
                let rest = changes.split_off(rng.random_range(1..=changes.len()));
                let (rows, weights): (Vec<Row>, Vec<i64>) = std::mem::replace(&mut changes, rest).into_iter().unzip();
                let partition = rng.random_range(0..partitions);
                // Rows that only come have no weights, as from a source; equal ones may be among them.
                let only_come = weights.iter().all(|weight| *weight == 1);
                let weights = (!only_come).then(|| weights.into());
                arrivals.push(Arrival { partition, rows: columns(&rows), weights });
            }
            table.epochs.push(arrivals);
        }
        table
    }

    /// The table as statements may read it.
    pub(crate) fn readable(&self) -> Readable {
        Readable { name: self.name.clone(), rows: self.row_count(), changing: self.changing }
    }

    /// How many rows came.
    fn row_count(&self) -> usize {
        self.epochs.iter().flatten().map(|arrival| arrival.rows.num_rows()).sum()
    }

    /// All rows that came.
    fn all_rows(&self) -> Vec<RecordBatch> {
        self.epochs.iter().flatten().map(|arrival| arrival.rows.clone()).collect()
    }

    /// The rows that are there in the end.
    pub(crate) fn rows(&self) -> Vec<RecordBatch> {
        if !self.changing {
            return self.all_rows();
        }
        if self.form == Form::Upserts {
            return vec![self.last_rows()];
        }
        let deltas: Vec<Delta> = self.epochs.iter().flatten().map(Arrival::delta).collect();
        let sum = consolidate_all(&schema(), &deltas).unwrap();
        let repeated = (0..sum.num_rows()).flat_map(|row| std::iter::repeat_n(row as u32, sum.weight(row) as usize));
        vec![take_record_batch(sum.rows(), &UInt32Array::from_iter_values(repeated)).unwrap()]
    }

    /// The last row of each key, where that is not gone.
    fn last_rows(&self) -> RecordBatch {
        let all = concat_batches(&upserts_schema(), &self.all_rows()).unwrap();
        let mut last: HashMap<_, (i64, usize)> = HashMap::new();
        let (k, s) = (all.column(1).as_primitive::<Int32Type>(), all.column(3).as_string::<i32>());
        for (row, order) in all.column(KEY + 1).as_primitive::<Int64Type>().values().iter().enumerate() {
            let key = (k.is_valid(row).then(|| k.value(row)), s.is_valid(row).then(|| s.value(row)));
            let known = last.entry(key).or_insert((*order, row));
            *known = (*known).max((*order, row));
        }
        let gone = all.column(KEY + 2).as_boolean();
        let there = last.into_values().map(|(_, row)| row as u32).filter(|row| !gone.value(*row as usize));
        let rows = take_record_batch(&all, &UInt32Array::from_iter_values(there)).unwrap();
        rows.project(&(0..=KEY).collect::<Vec<_>>()).unwrap()
    }

    /// Everything that came, as a scan reads it, if the table is to be read whole.
    pub(crate) fn scanned(&self) -> (SchemaRef, Vec<RecordBatch>) {
        match self.form {
            Form::Upserts => (upserts_schema(), self.all_rows()),
            Form::Plain | Form::Keyed => (schema(), self.rows()),
        }
    }

    /// The watermark at the end of each epoch: the least of the partitions' greatest times, less the delay; `None`
    /// until every partition has had a row.
    pub(crate) fn watermarks(&self) -> Vec<Option<i64>> {
        let mut latest: Vec<Option<i64>> = vec![None; self.partitions as usize];
        self.epochs
            .iter()
            .map(|arrivals| {
                for arrival in arrivals {
                    let known = &mut latest[arrival.partition as usize];
                    *known = (*known).max(times(&arrival.rows).iter().flatten().max());
                }
                let least = latest.iter().copied().min().flatten();
                least.map(|least| least - self.delay_seconds * SECOND)
            })
            .collect()
    }

    /// Everything that came, with the watermark at the end of the epoch before it: what makes a row late.
    pub(crate) fn rows_and_watermarks(&self) -> Vec<(RecordBatch, Option<i64>)> {
        if self.changing {
            return self.rows().into_iter().map(|rows| (rows, None)).collect();
        }
        let before = std::iter::once(None).chain(self.watermarks());
        let epochs = self.epochs.iter().zip(before);
        epochs.flat_map(|(arrivals, at)| arrivals.iter().map(move |arrival| (arrival.rows.clone(), at))).collect()
    }

    /// The sum of absolute values of all numbers: what a float's tolerance is relative to.
    pub(crate) fn scale(&self) -> f64 {
        let rows = self.all_rows();
        let sum = |rows: &RecordBatch| {
            let floats = rows.column(5).as_primitive::<Float64Type>().iter().flatten().map(f64::abs).sum::<f64>();
            let integers = rows.column(4).as_primitive::<Int64Type>().iter().flatten().map(|x| x.abs() as f64);
            floats + integers.sum::<f64>()
        };
        rows.iter().map(sum).sum::<f64>().max(1.0)
    }
}

/// The event times of rows, in microseconds.
pub(crate) fn times(rows: &RecordBatch) -> TimestampMicrosecondArray {
    rows.column(0).as_primitive::<TimestampMicrosecondType>().clone()
}

/// Rows as the canonical form has them: −0 is 0, and every NaN the same.
pub(crate) fn normalised(rows: &RecordBatch) -> RecordBatch {
    let one = |value: f64| if value.is_nan() { f64::NAN } else { value + 0.0 };
    let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
    let floats: Float64Array = rows.column(ODD_FLOATS).as_primitive::<Float64Type>().unary(one);
    columns[ODD_FLOATS] = Arc::new(floats);
    RecordBatch::try_new(rows.schema(), columns).unwrap()
}
