//! The keys of a sink's records.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::error::{Error, Result};
use crate::format::encoder::{EncodedRows, RowEncoder};

/// The keys of a batch.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys {
    rows: EncodedRows,
    /// Which rows have no key; empty: all have one.
    missing: Vec<bool>,
}

impl Keys {
    /// The key of row `row`.
    pub(super) fn get(&self, row: usize) -> Option<&[u8]> {
        (row < self.rows.len() && !self.missing.get(row).copied().unwrap_or(false)).then(|| self.rows.row(row))
    }
}

/// How a row's key is made.
pub(super) enum KeyEncoder {
    /// Records have no key.
    None,
    /// One column: bytes as they are, anything else as text; no key where the column is NULL.
    Text(usize),
    /// A JSON object of these columns, in this order.
    Json(Vec<(String, usize)>),
    /// A message of these columns.
    Message(Vec<usize>, Box<dyn RowEncoder>),
}

impl KeyEncoder {
    /// The keys of `rows`.
    pub(super) fn encode(&mut self, rows: &RecordBatch) -> Result<Keys> {
        let mut keys = Keys::default();
        match self {
            Self::None => {}
            Self::Text(column) => encode_text(rows.column(*column), &mut keys)?,
            Self::Json(columns) => encode_json(rows, columns, &mut keys.rows)?,
            Self::Message(columns, encoder) => encoder.encode(&rows.project(columns)?, &mut keys.rows)?,
        }
        Ok(keys)
    }
}

/// The places of the key's columns in the result.
pub(super) fn key_columns(sink: &str, schema: &SchemaRef, key: &[String]) -> Result<Vec<usize>> {
    key.iter()
        .map(|name| {
            schema.index_of(name).map_err(|_| {
                let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                Error::new(
                    crate::ErrorKind::UndefinedColumn,
                    format!("the key of sink {sink} names the column \"{name}\", which its query does not have"),
                )
                .with_hint(format!("The query's columns are {}.", names.join(", ")))
            })
        })
        .collect()
}

const FORMAT: FormatOptions<'static> = FormatOptions::new().with_display_error(false);

fn encode_text(column: &ArrayRef, keys: &mut Keys) -> Result<()> {
    keys.missing = (0..column.len()).map(|row| column.is_null(row)).collect();
    match column.data_type() {
        DataType::Binary => column.as_binary::<i32>().iter().for_each(|value| push(&mut keys.rows, value)),
        DataType::LargeBinary => column.as_binary::<i64>().iter().for_each(|value| push(&mut keys.rows, value)),
        DataType::BinaryView => column.as_binary_view().iter().for_each(|value| push(&mut keys.rows, value)),
        DataType::Utf8 => {
            column.as_string::<i32>().iter().for_each(|value| push(&mut keys.rows, value.map(str::as_bytes)));
        }
        DataType::Utf8View => {
            column.as_string_view().iter().for_each(|value| push(&mut keys.rows, value.map(str::as_bytes)));
        }
        _ => {
            let formatter = ArrayFormatter::try_new(column, &FORMAT)?;
            for row in 0..column.len() {
                let text = column.is_valid(row).then(|| formatter.value(row).try_to_string()).transpose()?;
                push(&mut keys.rows, text.as_deref().map(str::as_bytes));
            }
        }
    }
    Ok(())
}

fn push(rows: &mut EncodedRows, value: Option<&[u8]>) {
    rows.buffer().extend_from_slice(value.unwrap_or_default());
    rows.end_row();
}

fn encode_json(rows: &RecordBatch, columns: &[(String, usize)], out: &mut EncodedRows) -> Result<()> {
    let formatters = columns
        .iter()
        .map(|(_, column)| ArrayFormatter::try_new(rows.column(*column), &FORMAT))
        .collect::<Result<Vec<_>, _>>()?;
    for row in 0..rows.num_rows() {
        let mut separator = b'{';
        for ((name, column), formatter) in columns.iter().zip(&formatters) {
            let column = rows.column(*column);
            out.buffer().push(separator);
            separator = b',';
            push_json_text(out.buffer(), name)?;
            out.buffer().push(b':');
            if column.is_null(row) {
                out.buffer().extend_from_slice(b"null");
                continue;
            }
            let text = formatter.value(row).try_to_string()?;
            // A number that JSON cannot write (NaN, infinity) becomes a text.
            if is_plain(column.data_type()) && !text.contains(['N', 'n', 'I', 'i'])
                || *column.data_type() == DataType::Boolean
            {
                out.buffer().extend_from_slice(text.as_bytes());
            } else {
                push_json_text(out.buffer(), &text)?;
            }
        }
        out.buffer().push(b'}');
        out.end_row();
    }
    Ok(())
}

fn is_plain(data_type: &DataType) -> bool {
    data_type.is_integer() || data_type.is_floating() || data_type.is_decimal()
}

fn push_json_text(out: &mut Vec<u8>, text: &str) -> Result<()> {
    serde_json::to_writer(out, text).map_err(|error| Error::internal(format!("a key could not be written: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BinaryArray, BooleanArray, Float64Array, Int32Array, StringArray};
    use arrow::datatypes::{Field, Schema};
    use std::sync::Arc;

    fn rows() -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("name", DataType::Utf8, true),
            Field::new("id", DataType::Int32, false),
            Field::new("raw", DataType::Binary, true),
            Field::new("share", DataType::Float64, false),
            Field::new("live", DataType::Boolean, false),
        ]);
        RecordBatch::try_new(
            Arc::new(schema),
            vec![
                Arc::new(StringArray::from(vec![Some("a\"b"), None])),
                Arc::new(Int32Array::from(vec![7, -1])),
                Arc::new(BinaryArray::from_opt_vec(vec![Some(&[0, 255][..]), None])),
                Arc::new(Float64Array::from(vec![0.5, f64::NAN])),
                Arc::new(BooleanArray::from(vec![true, false])),
            ],
        )
        .unwrap()
    }

    #[test]
    fn one_column_as_text() {
        let key = |column| {
            let keys = KeyEncoder::Text(column).encode(&rows()).unwrap();
            [keys.get(0).map(<[u8]>::to_vec), keys.get(1).map(<[u8]>::to_vec)]
        };
        assert_eq!(key(0), [Some(b"a\"b".to_vec()), None]);
        assert_eq!(key(1), [Some(b"7".to_vec()), Some(b"-1".to_vec())]);
        assert_eq!(key(2), [Some(vec![0, 255]), None]);
    }

    #[test]
    fn several_columns_as_json() {
        let columns = ["name", "id", "share", "live"].into_iter().zip([0, 1, 3, 4]);
        let columns = columns.map(|(name, column)| (name.to_owned(), column)).collect();
        let keys = KeyEncoder::Json(columns).encode(&rows()).unwrap();
        assert_eq!(keys.get(0), Some(br#"{"name":"a\"b","id":7,"share":0.5,"live":true}"#.as_slice()));
        assert_eq!(keys.get(1), Some(br#"{"name":null,"id":-1,"share":"NaN","live":false}"#.as_slice()));
    }

    #[test]
    fn a_key_of_an_unknown_column_is_refused() {
        let error = key_columns("out", &rows().schema(), &["zone".to_owned()]).unwrap_err();
        assert!(error.message().contains("\"zone\"") && error.hint().unwrap().contains("name, id"), "{error}");
    }
}
