//! Batches to JSON records.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::error::{Error, Result};
use crate::format::encoder::{EncodedRows, RowEncoder};

/// Writes each row as an object of its columns, NULLs as `null`.
pub(crate) struct JsonEncoder;

impl JsonEncoder {
    /// An encoder of rows of `schema`; a column that JSON can't hold is an error.
    pub(crate) fn new(schema: &Schema) -> Result<Self> {
        schema.fields().iter().try_for_each(|field| check(field))?;
        Ok(Self)
    }
}

fn check(field: &Field) -> Result<()> {
    match field.data_type() {
        DataType::List(item) | DataType::LargeList(item) => check(item),
        DataType::Struct(fields) => fields.iter().try_for_each(|field| check(field)),
        DataType::Map(entries, _) => check(entries),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            Err(Error::not_supported(format!("the column {} is BYTEA, which JSON has no values of", field.name()))
                .with_hint(format!("write encode({}, 'base64') AS {}", field.name(), field.name())))
        }
        _ => Ok(()),
    }
}

const FORMAT: FormatOptions<'static> = FormatOptions::new()
    .with_display_error(false)
    .with_timestamp_format(Some("%Y-%m-%dT%H:%M:%S%.fZ"))
    .with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.fZ"));

impl RowEncoder for JsonEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut EncodedRows) -> Result<()> {
        let schema = rows.schema();
        for row in 0..rows.num_rows() {
            let columns = schema.fields().iter().zip(rows.columns());
            object(columns.map(|(field, array)| (field.name().as_str(), array)), row, out.buffer())?;
            out.end_row();
        }
        Ok(())
    }
}

fn object<'a>(members: impl Iterator<Item = (&'a str, &'a ArrayRef)>, row: usize, out: &mut Vec<u8>) -> Result<()> {
    out.push(b'{');
    for (place, (name, array)) in members.enumerate() {
        if place > 0 {
            out.push(b',');
        }
        text(name, out)?;
        out.push(b':');
        value(array, row, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn text(text: &str, out: &mut Vec<u8>) -> Result<()> {
    serde_json::to_writer(out, text).map_err(|error| Error::internal(format!("a text could not be written: {error}")))
}

fn value(array: &ArrayRef, row: usize, out: &mut Vec<u8>) -> Result<()> {
    if array.is_null(row) {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    match array.data_type() {
        DataType::Utf8 => text(array.as_string::<i32>().value(row), out),
        DataType::Utf8View => text(array.as_string_view().value(row), out),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            out.push(b'[');
            for item in 0..items.len() {
                if item > 0 {
                    out.push(b',');
                }
                value(&items, item, out)?;
            }
            out.push(b']');
            Ok(())
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            object(fields.iter().map(|field| field.name().as_str()).zip(columns), row, out)
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let keys = ArrayFormatter::try_new(entries.column(0), &FORMAT)?;
            out.push(b'{');
            for entry in 0..entries.len() {
                if entry > 0 {
                    out.push(b',');
                }
                text(&keys.value(entry).try_to_string()?, out)?;
                out.push(b':');
                value(entries.column(1), entry, out)?;
            }
            out.push(b'}');
            Ok(())
        }
        other => {
            let shown = ArrayFormatter::try_new(array, &FORMAT)?.value(row).try_to_string()?;
            let number = other.is_integer() || other.is_floating() || other.is_decimal();
            // A number that JSON cannot write (NaN, infinity) becomes a text.
            if *other == DataType::Boolean || number && !shown.contains(['N', 'n', 'I', 'i']) {
                out.extend_from_slice(shown.as_bytes());
                Ok(())
            } else {
                text(&shown, out)
            }
        }
    }
}
