//! PostgreSQL's binary form of values, as drivers ask for it. Big-endian; times count from 2000-01-01.

use arrow::datatypes::i256;
use bytes::{BufMut, BytesMut};
use pgwire::api::Type;

use super::{Column, Values, is_json};

const DAYS_TO_2000: i32 = 10_957;
const MICROS_TO_2000: i64 = DAYS_TO_2000 as i64 * 86_400_000_000;

impl Column {
    /// Appends the binary form of a value that is not NULL.
    pub(crate) fn write_binary(&self, row: usize, out: &mut BytesMut) {
        if is_json(&self.pg_type) {
            return self.write_json(row, out);
        }
        match &self.values {
            Values::Null => {}
            Values::Boolean(array) => out.put_u8(u8::from(array.value(row))),
            Values::Int16(array) => out.put_i16(array.value(row)),
            Values::Int32(array) => out.put_i32(array.value(row)),
            Values::Int64(array) => out.put_i64(array.value(row)),
            Values::Float32(array) => out.put_f32(array.value(row)),
            Values::Float64(array) => out.put_f64(array.value(row)),
            Values::Decimal128(array) => numeric(out, i256::from_i128(array.value(row)), array.scale()),
            Values::Decimal256(array) => numeric(out, array.value(row), array.scale()),
            Values::Text(array) if self.pg_type == Type::CHAR => {
                out.put_u8(array.value(row).as_bytes().first().copied().unwrap_or(0));
            }
            Values::Text(array) => out.put_slice(array.value(row).as_bytes()),
            Values::Bytes(array) => out.put_slice(array.value(row)),
            Values::Date(array) => out.put_i32(array.value(row).saturating_sub(DAYS_TO_2000)),
            Values::Time(array) => out.put_i64(array.value(row)),
            Values::Timestamp(array) | Values::TimestampTz(array, _) => {
                out.put_i64(array.value(row).saturating_sub(MICROS_TO_2000));
            }
            Values::Interval(array) => {
                let value = array.value(row);
                out.put_i64(value.nanoseconds / 1000);
                out.put_i32(value.days);
                out.put_i32(value.months);
            }
            Values::Duration(array) => {
                out.put_i64(array.value(row));
                out.put_i64(0);
            }
            Values::List(list, items) => {
                let (from, to) = (list.value_offsets()[row] as usize, list.value_offsets()[row + 1] as usize);
                out.put_i32(i32::from(to > from));
                out.put_i32(i32::from((from..to).any(|item| items.is_null(item))));
                out.put_u32(items.pg_type.oid());
                if to > from {
                    out.put_i32((to - from) as i32);
                    out.put_i32(1);
                }
                for item in from..to {
                    items.write_sized_binary(item, out);
                }
            }
            Values::Struct(_, columns) => {
                out.put_i32(columns.len() as i32);
                for (_, column) in columns {
                    out.put_u32(column.pg_type.oid());
                    column.write_sized_binary(row, out);
                }
            }
            Values::Map(..) => self.write_json(row, out),
        }
    }

    /// The value with its length before it; −1 is NULL.
    pub(crate) fn write_sized_binary(&self, row: usize, out: &mut BytesMut) {
        sized(self, row, out, Column::write_binary);
    }

    /// The value's text with its length before it; −1 is NULL.
    pub(crate) fn write_sized_text(&self, row: usize, out: &mut BytesMut) {
        sized(self, row, out, Column::write_text);
    }
}

fn sized(column: &Column, row: usize, out: &mut BytesMut, write: impl Fn(&Column, usize, &mut BytesMut)) {
    let at = out.len();
    out.put_i32(-1);
    if !column.is_null(row) {
        write(column, row, out);
        let length = (out.len() - at - 4) as i32;
        out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }
}

/// PostgreSQL's `numeric`: digits to the base of 10,000, the weight of the first, sign, digits after the point.
fn numeric(out: &mut BytesMut, value: i256, scale: i8) {
    let negative = value.is_negative();
    let mut digits = value.to_string().trim_start_matches('-').to_owned();
    if scale < 0 {
        digits.extend(std::iter::repeat_n('0', usize::from(scale.unsigned_abs())));
    }
    let after_point = usize::from(scale.max(0).unsigned_abs());
    // Both sides of the point are filled up to whole groups of four.
    if digits.len() < after_point {
        digits.insert_str(0, &"0".repeat(after_point - digits.len()));
    }
    let whole = digits.len() - after_point;
    let filled = format!("{}{digits}{}", "0".repeat((4 - whole % 4) % 4), "0".repeat((4 - after_point % 4) % 4));
    let mut groups: Vec<i16> = filled
        .as_bytes()
        .chunks(4)
        .map(|group| group.iter().fold(0, |sum, digit| sum * 10 + i16::from(digit - b'0')))
        .collect();
    let mut weight = whole.div_ceil(4) as i16 - 1;
    let leading = groups.iter().take_while(|group| **group == 0).count();
    groups.drain(..leading);
    weight -= leading as i16;
    while groups.last() == Some(&0) {
        groups.pop();
    }
    if groups.is_empty() {
        weight = 0;
    }
    out.put_i16(groups.len() as i16);
    out.put_i16(weight);
    out.put_u16(if negative { 0x4000 } else { 0 });
    out.put_i16(after_point as i16);
    for group in groups {
        out.put_i16(group);
    }
}
