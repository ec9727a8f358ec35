//! Values as JSON: maps, and what else PostgreSQL has no type for.

use bytes::{BufMut, BytesMut};

use super::{Column, Values};

impl Column {
    /// Appends the value as JSON; NULL is `null`.
    pub(super) fn write_json(&self, row: usize, out: &mut BytesMut) {
        if self.is_null(row) {
            return out.put_slice(b"null");
        }
        match &self.values {
            Values::Boolean(array) => out.put_slice(if array.value(row) { b"true" } else { b"false" }),
            Values::Int16(_) | Values::Int32(_) | Values::Int64(_) | Values::Decimal128(_) | Values::Decimal256(_) => {
                self.write_text(row, out);
            }
            Values::Float32(array) if array.value(row).is_finite() => self.write_text(row, out),
            Values::Float64(array) if array.value(row).is_finite() => self.write_text(row, out),
            Values::Text(array) => string(out, array.value(row)),
            Values::List(list, items) => {
                let (from, to) = (list.value_offsets()[row] as usize, list.value_offsets()[row + 1] as usize);
                out.put_u8(b'[');
                for item in from..to {
                    separate(out, item > from);
                    items.write_json(item, out);
                }
                out.put_u8(b']');
            }
            Values::Struct(_, columns) => {
                out.put_u8(b'{');
                for (at, (name, column)) in columns.iter().enumerate() {
                    separate(out, at > 0);
                    string(out, name);
                    out.put_u8(b':');
                    column.write_json(row, out);
                }
                out.put_u8(b'}');
            }
            Values::Map(map, entries) => {
                let (keys, values) = entries.as_ref();
                let (from, to) = (map.value_offsets()[row] as usize, map.value_offsets()[row + 1] as usize);
                out.put_u8(b'{');
                for entry in from..to {
                    separate(out, entry > from);
                    let mut key = BytesMut::new();
                    keys.write_text(entry, &mut key);
                    string(out, &String::from_utf8_lossy(&key));
                    out.put_u8(b':');
                    values.write_json(entry, out);
                }
                out.put_u8(b'}');
            }
            // Times, bytes, and numbers that JSON has no form for: their text.
            _ => {
                let mut text = BytesMut::new();
                self.write_text(row, &mut text);
                string(out, &String::from_utf8_lossy(&text));
            }
        }
    }
}

fn separate(out: &mut BytesMut, needed: bool) {
    if needed {
        out.put_u8(b',');
    }
}

fn string(out: &mut BytesMut, text: &str) {
    // A string always serialises, and a growing buffer takes it.
    let _ = serde_json::to_writer(out.writer(), text);
}
