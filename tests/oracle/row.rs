//! Random rows: few keys, so that rows meet; NULLs, equal rows, and the values at which engines differ.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use rand::Rng;
use rand::rngs::SmallRng;

use super::table::{SECOND, START};

/// The columns that every table has.
pub(crate) fn schema() -> SchemaRef {
    let time = || DataType::Timestamp(TimeUnit::Microsecond, None);
    Arc::new(Schema::new(vec![
        Field::new("ts", time(), true),
        Field::new("k", DataType::Int32, true),
        Field::new("g", DataType::Int64, true),
        Field::new("s", DataType::Utf8, true),
        Field::new("x", DataType::Int64, true),
        Field::new("d", DataType::Float64, true),
        Field::new("b", DataType::Boolean, true),
        // Integers up to the greatest, and floats that are no numbers: never added up.
        Field::new("y", DataType::Int64, true),
        Field::new("f", DataType::Float64, true),
        Field::new("m", DataType::Decimal128(10, 2), true),
        // A time without a watermark.
        Field::new("u", time(), true),
        // The key of a table that has one.
        Field::new("i", DataType::Int64, true),
    ]))
}

/// The columns of a stream of which the last row of each key counts: what is read, and which row that is.
pub(crate) fn upserts_schema() -> SchemaRef {
    let mut fields: Vec<_> = schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("_order", DataType::Int64, false)));
    fields.push(Arc::new(Field::new("_deleted", DataType::Boolean, false)));
    Arc::new(Schema::new(fields))
}

/// Its key.
pub(crate) const UPSERTS_KEY: [&str; 2] = ["k", "s"];

/// One row's values.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Row {
    pub(super) ts: Option<i64>,
    k: Option<i32>,
    g: Option<i64>,
    s: Option<&'static str>,
    x: Option<i64>,
    d: Option<f64>,
    b: Option<bool>,
    y: Option<i64>,
    f: Option<f64>,
    m: Option<i128>,
    u: Option<i64>,
    pub(super) i: Option<i64>,
}

/// Rows of all tables of a case: some come again, in the same table or in another, so that rows are equal.
pub(crate) type Pool = Vec<Row>;

const TEXTS: [&str; 8] =
    ["", "a", "b", "Ab", "zone 7", "ünïcode", "a text that does not fit a view", "a text that does not fit either"];

const GREAT: [i64; 9] = [i64::MIN, i64::MIN + 1, i64::MAX, i64::MAX - 1, 1 << 53, (1 << 53) + 1, -1, 0, 1];

const ODD: [f64; 8] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, 1e300, -5e-324, 0.5];

fn one<T: Copy>(rng: &mut SmallRng, of: &[T]) -> T {
    of[rng.random_range(0..of.len())]
}

fn maybe<T>(rng: &mut SmallRng, value: T) -> Option<T> {
    (!rng.random_bool(0.1)).then_some(value)
}

impl Row {
    /// A row around `now`: mostly a little before, sometimes long before. Floats are quarters, so that their sums are
    /// exact whatever the order; texts repeat and some are longer than a view holds.
    pub(super) fn random(rng: &mut SmallRng, now: i64, pool: &mut Pool) -> Self {
        let behind =
            if rng.random_bool(0.1) { rng.random_range(0..60 * SECOND) } else { rng.random_range(0..6 * SECOND) };
        // Times of whole seconds are common, so that rows stand on the bounds of windows.
        let time = START + now - behind;
        let time = if rng.random_bool(0.6) { time - time.rem_euclid(SECOND) } else { time };
        if !pool.is_empty() && rng.random_bool(0.3) {
            let mut again = pool[rng.random_range(0..pool.len())];
            // The time of another epoch would lie below the watermark.
            again.ts = again.ts.map(|at| if (at - time).abs() < 2 * SECOND { at } else { time });
            return again;
        }
        let small = rng.random_bool(0.6);
        let x = if small { rng.random_range(-4..6) } else { rng.random_range(-1000..1000) };
        let quarters = if small { rng.random_range(-8..9) } else { rng.random_range(-400..400) };
        let other = if rng.random_bool(0.1) { -1_500_000 } else { START + SECOND * rng.random_range(0..40) };
        let row = Self {
            ts: (!rng.random_bool(0.03)).then_some(time),
            k: Some(rng.random_range(0..5)).and_then(|k| maybe(rng, k)),
            g: Some(rng.random_range(-2..3)).and_then(|g| maybe(rng, g)),
            s: Some(one(rng, &TEXTS)).and_then(|s| maybe(rng, s)),
            x: maybe(rng, x),
            d: maybe(rng, f64::from(quarters) / 4.0),
            b: Some(rng.random_bool(0.5)).and_then(|b| maybe(rng, b)),
            y: Some(one(rng, &GREAT)).and_then(|y| maybe(rng, y)),
            f: Some(one(rng, &ODD)).and_then(|f| maybe(rng, f)),
            m: Some(rng.random_range(-300..300)).and_then(|m| maybe(rng, m)),
            u: maybe(rng, other),
            i: Some(rng.random_range(0..7)).and_then(|i| maybe(rng, i)),
        };
        pool.push(row);
        row
    }

    /// The row as an UPDATE leaves it.
    pub(super) fn updated(mut self, rng: &mut SmallRng) -> Self {
        self.x = Some(rng.random_range(-4..1000));
        match rng.random_range(0..4) {
            0 => self.d = None,
            1 => self.s = Some(one(rng, &TEXTS)),
            2 => self.k = Some(rng.random_range(0..5)),
            _ => {}
        }
        self
    }
}

pub(super) fn columns(rows: &[Row]) -> RecordBatch {
    let decimals = Decimal128Array::from_iter(rows.iter().map(|row| row.m)).with_precision_and_scale(10, 2).unwrap();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from_iter(rows.iter().map(|row| row.ts))),
        Arc::new(Int32Array::from_iter(rows.iter().map(|row| row.k))),
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.g))),
        Arc::new(StringArray::from_iter(rows.iter().map(|row| row.s))),
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.x))),
        Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.d))),
        Arc::new(BooleanArray::from_iter(rows.iter().map(|row| row.b))),
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.y))),
        Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.f))),
        Arc::new(decimals),
        Arc::new(TimestampMicrosecondArray::from_iter(rows.iter().map(|row| row.u))),
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.i))),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// Rows that say what the row of their key is now: `orders` says which is the last, `gone` that there is none any more.
pub(super) fn upserts(rows: &[Row], orders: &[i64], gone: &[bool]) -> RecordBatch {
    let mut all = columns(rows).columns().to_vec();
    all.push(Arc::new(Int64Array::from(orders.to_vec())));
    all.push(Arc::new(BooleanArray::from(gone.to_vec())));
    RecordBatch::try_new(upserts_schema(), all).unwrap()
}
