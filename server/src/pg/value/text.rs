//! PostgreSQL's text form of values, as `psql` shows them: ISO dates, shortest floats, hexadecimal bytes.

use std::fmt::Write as _;

use arrow::array::timezone::Tz;
use arrow::datatypes::{Decimal128Type, Decimal256Type, DecimalType};
use bytes::{BufMut, BytesMut};
use chrono::{DateTime, Offset, TimeZone};
use rondel_udfs::text;

use super::{Column, Values, is_json};

impl Column {
    /// Appends the text of a value that is not NULL.
    pub(crate) fn write_text(&self, row: usize, out: &mut BytesMut) {
        if is_json(&self.pg_type) {
            return self.write_json(row, out);
        }
        match &self.values {
            Values::Null => {}
            Values::Boolean(array) => out.put_u8(if array.value(row) { b't' } else { b'f' }),
            Values::Int16(array) => display(out, array.value(row)),
            // Object ids are unsigned, and so is what an Int32 column of them holds.
            Values::Int32(array) if self.pg_type == pgwire::api::Type::OID => display(out, array.value(row) as u32),
            Values::Int32(array) => display(out, array.value(row)),
            Values::Int64(array) => display(out, array.value(row)),
            Values::Float32(array) => text::float4(out, array.value(row)),
            Values::Float64(array) => text::float8(out, array.value(row)),
            Values::Decimal128(array) => {
                let text = Decimal128Type::format_decimal(array.value(row), array.precision(), array.scale());
                out.put_slice(text.as_bytes());
            }
            Values::Decimal256(array) => {
                let text = Decimal256Type::format_decimal(array.value(row), array.precision(), array.scale());
                out.put_slice(text.as_bytes());
            }
            Values::Text(array) => out.put_slice(array.value(row).as_bytes()),
            Values::Bytes(array) => text::bytea(out, array.value(row)),
            Values::Date(array) => text::date(out, array.value(row)),
            Values::Time(array) => text::time(out, array.value(row)),
            Values::Timestamp(array) => text::timestamp(out, array.value(row)),
            Values::TimestampTz(array, zone) => timestamp_tz(out, array.value(row), *zone),
            Values::Interval(array) => text::interval(out, array.value(row)),
            Values::Duration(array) => text::duration(out, array.value(row)),
            Values::List(list, items) => {
                let (from, to) = (list.value_offsets()[row] as usize, list.value_offsets()[row + 1] as usize);
                write_list(out, items, from..to);
            }
            Values::Struct(_, columns) => write_record(out, columns, row),
            Values::Map(..) => self.write_json(row, out),
        }
    }
}

fn display(out: &mut BytesMut, value: impl std::fmt::Display) {
    // Writing to a growing buffer cannot fail.
    let _ = write!(out, "{value}");
}

fn timestamp_tz(out: &mut BytesMut, micros: i64, zone: Tz) {
    let Some(utc) = DateTime::from_timestamp_micros(micros) else { return text::timestamp(out, micros) };
    let offset = zone.offset_from_utc_datetime(&utc.naive_utc()).fix().local_minus_utc();
    text::timestamp_tz(out, micros, offset);
}

fn write_list(out: &mut BytesMut, items: &Column, rows: std::ops::Range<usize>) {
    out.put_u8(b'{');
    let mut scratch = BytesMut::new();
    for row in rows.clone() {
        if row > rows.start {
            out.put_u8(b',');
        }
        if items.is_null(row) {
            out.put_slice(b"NULL");
            continue;
        }
        scratch.clear();
        items.write_text(row, &mut scratch);
        text::element(out, &String::from_utf8_lossy(&scratch));
    }
    out.put_u8(b'}');
}

fn write_record(out: &mut BytesMut, columns: &[(String, Column)], row: usize) {
    out.put_u8(b'(');
    let mut scratch = BytesMut::new();
    for (at, (_, column)) in columns.iter().enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        if column.is_null(row) {
            continue;
        }
        scratch.clear();
        column.write_text(row, &mut scratch);
        text::field(out, &String::from_utf8_lossy(&scratch));
    }
    out.put_u8(b')');
}
