//! The batch answer: DataFusion over all that came.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use datafusion::datasource::MemTable;
use datafusion::execution::context::SessionContext;
use datafusion::prelude::SessionConfig;

use super::multiset::Multiset;
use super::statement::{Statement, Windows};
use super::table::{SECOND, Table, schema, times};

/// A session that knows the tables (`t0`, …) and what stands for the statement's windows (`w0`, …).
pub(crate) fn session(statement: &Statement, tables: &[Table]) -> datafusion::error::Result<SessionContext> {
    let config = SessionConfig::new().with_target_partitions(1).set_str("datafusion.sql_parser.dialect", "PostgreSQL");
    let context = SessionContext::new_with_config(config);
    for table in tables {
        let rows = MemTable::try_new(schema(), vec![table.rows()])?;
        context.register_table(&table.name, Arc::new(rows))?;
    }
    for (number, source) in statement.windows.iter().enumerate() {
        let Some(table) = tables.iter().find(|table| table.name == source.table) else { continue };
        let rows = table.rows_and_watermarks();
        let rows = match source.windows {
            Windows::Session { gap, keyed } => vec![sessions(&rows, gap * SECOND, keyed)],
            windows => rows.iter().map(|(rows, before)| expand(rows, windows, *before)).collect(),
        };
        context.register_table(format!("w{number}"), Arc::new(MemTable::try_new(windowed_schema(), vec![rows])?))?;
    }
    Ok(context)
}

/// The statement's answer.
pub(crate) async fn answer(context: &SessionContext, statement: &Statement) -> datafusion::error::Result<Multiset> {
    let mut answer = Multiset::default();
    for rows in context.sql(&statement.batch_sql).await?.collect().await? {
        answer.add(&rows, |_| 1);
    }
    Ok(answer)
}

fn windowed_schema() -> SchemaRef {
    let mut fields: Vec<Field> = schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    for name in ["window_start", "window_end"] {
        fields.push(Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, None), true));
    }
    Arc::new(Schema::new(fields))
}

/// Each row with its session's bounds, of those that were not below the watermark before they came: those are late.
fn sessions(rows: &[(RecordBatch, Option<i64>)], gap: i64, keyed: bool) -> RecordBatch {
    let all = concat_batches(&schema(), rows.iter().map(|(rows, _)| rows)).unwrap();
    let before = rows.iter().flat_map(|(rows, before)| vec![*before; rows.num_rows()]);
    let keys = all.column(2).as_primitive::<Int64Type>();
    let mut order: Vec<(Option<i64>, i64, u32)> = Vec::new();
    for ((row, time), before) in times(&all).iter().enumerate().zip(before) {
        let key = (keyed && keys.is_valid(row)).then(|| keys.value(row));
        order.extend(
            time.filter(|time| before.is_none_or(|before| *time >= before)).map(|time| (key, time, row as u32)),
        );
    }
    order.sort_unstable();
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for session in order.chunk_by(|one, next| one.0 == next.0 && next.1 - one.1 < gap) {
        starts.extend(vec![session[0].1; session.len()]);
        ends.extend(vec![session[session.len() - 1].1 + gap; session.len()]);
    }
    let places = UInt32Array::from_iter_values(order.iter().map(|(_, _, row)| *row));
    with_bounds(&all, &places, starts, ends)
}

/// Each row once for every window that covers it and had not ended at watermark `before`: it is late for those that had.
/// A row without a time is in no window.
fn expand(rows: &RecordBatch, windows: Windows, before: Option<i64>) -> RecordBatch {
    let (mut places, mut starts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for (row, time) in times(rows).iter().enumerate() {
        let covering = time.map(|time| windows.covering(time)).unwrap_or_default();
        for (start, end) in covering.into_iter().filter(|(_, end)| before.is_none_or(|before| *end > before)) {
            places.push(row as u32);
            starts.push(start);
            ends.push(end);
        }
    }
    with_bounds(rows, &UInt32Array::from(places), starts, ends)
}

fn with_bounds(rows: &RecordBatch, places: &UInt32Array, starts: Vec<i64>, ends: Vec<i64>) -> RecordBatch {
    let mut columns: Vec<ArrayRef> = rows.columns().iter().map(|column| take(column, places, None).unwrap()).collect();
    columns.push(Arc::new(TimestampMicrosecondArray::from(starts)));
    columns.push(Arc::new(TimestampMicrosecondArray::from(ends)));
    RecordBatch::try_new(windowed_schema(), columns).unwrap()
}
