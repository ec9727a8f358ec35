//! CSV, text and raw bytes: a record is one line, one text, or just bytes.

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use csv::{QuoteStyle, ReaderBuilder, StringRecord, WriterBuilder};
use serde_json::Value as Json;

use super::cells::{Cell, Rows};
use super::decoder::{DecodeError, RowDecoder};
use super::encoder::{EncodedRows, RowEncoder};
use super::json::read::{TimeNumbers, cell};
use crate::error::{Error, Result};

/// How a record's bytes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineForm {
    /// Fields between this character, in the order of the columns; an empty one is NULL.
    Csv(u8),
    /// The only column is the text.
    Text,
    /// The only column is the bytes.
    Raw,
}

/// Reads records of one line.
pub(crate) struct LineDecoder {
    form: LineForm,
    /// All columns that a record has.
    columns: SchemaRef,
    /// Those that are wanted, and their places among all.
    schema: SchemaRef,
    projection: Vec<usize>,
    times: TimeNumbers,
    rows: Rows,
}

impl LineDecoder {
    pub(crate) fn new(form: LineForm, columns: SchemaRef, projection: &[usize], times: TimeNumbers) -> Result<Self> {
        let schema = SchemaRef::new(columns.project(projection)?);
        Ok(Self { form, columns, schema, projection: projection.to_vec(), times, rows: Rows::default() })
    }

    fn row(&self, record: &[u8]) -> Result<Vec<Cell>, DecodeError> {
        match self.form {
            LineForm::Raw => Ok(self.projection.iter().map(|_| Cell::Bytes(record.to_vec())).collect()),
            LineForm::Text => {
                let text = std::str::from_utf8(record)
                    .map_err(|error| refused("", error.valid_up_to(), "the text is not UTF-8"))?;
                Ok(self.projection.iter().map(|_| Cell::Text(text.to_owned())).collect())
            }
            LineForm::Csv(delimiter) => self.fields(record, delimiter),
        }
    }

    fn fields(&self, record: &[u8], delimiter: u8) -> Result<Vec<Cell>, DecodeError> {
        let mut reader =
            ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(record);
        let mut fields = StringRecord::new();
        let read = reader.read_record(&mut fields).map_err(|error| refused("", 0, error.to_string()))?;
        let wanted = self.columns.fields().len();
        if !read || fields.len() != wanted {
            let found = if read { fields.len() } else { 0 };
            return Err(refused("", 0, format!("the line has {found} fields, and the stream has {wanted} columns")));
        }
        if reader.read_record(&mut StringRecord::new()).is_ok_and(|more| more) {
            return Err(refused("", 0, "the record has more than one line"));
        }
        let value = |place: &usize| {
            let field = self.columns.field(*place);
            let text = fields.get(*place).unwrap_or_default();
            if text.is_empty() && field.is_nullable() {
                return Ok(Cell::Null);
            }
            let value = cell(&Json::String(text.to_owned()), field.data_type(), self.times);
            value.map_err(|misfit| refused(field.name(), 0, misfit.reason))
        };
        self.projection.iter().map(value).collect()
    }
}

fn refused(field: &str, offset: usize, reason: impl Into<String>) -> DecodeError {
    DecodeError { field: field.to_owned(), offset, reason: reason.into(), batch_full: false, awaits: false }
}

impl RowDecoder for LineDecoder {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn begin(&mut self, _rows: usize, _bytes: usize) {
        self.rows.clear();
    }

    fn push(&mut self, record: &[u8]) -> Result<(), DecodeError> {
        let row = self.row(record)?;
        self.rows.push(row);
        Ok(())
    }

    fn push_absent(&mut self) -> Result<(), DecodeError> {
        self.rows.push(vec![Cell::Null; self.schema.fields().len()]);
        Ok(())
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        let (columns, rows) = self.rows.finish(self.schema.fields())?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.schema(), columns, &options)?)
    }
}

/// Writes records of one line.
pub(crate) struct LineEncoder {
    form: LineForm,
}

impl LineEncoder {
    /// An encoder of rows of `schema`; columns that the form can't hold are an error.
    pub(crate) fn new(form: LineForm, schema: &Schema) -> Result<Self> {
        let only = |wanted: &str, fits: fn(&DataType) -> bool| match &schema.fields()[..] {
            [one] if fits(one.data_type()) => Ok(()),
            _ => Err(Error::invalid(format!("this format writes one column of {wanted}, and the query has others"))
                .with_hint(format!("select one column, CAST(… AS {wanted})"))),
        };
        match form {
            LineForm::Text => only("TEXT", |data_type| data_type.is_string())?,
            LineForm::Raw => only("BYTEA", |data_type| data_type.is_binary())?,
            LineForm::Csv(_) => {
                for field in schema.fields() {
                    if field.data_type().is_nested() || field.data_type().is_binary() {
                        return Err(Error::not_supported(format!(
                            "the column {} of type {} can't be a field of CSV",
                            field.name(),
                            field.data_type()
                        ))
                        .with_hint("select its parts, or write it as a text"));
                    }
                }
            }
        }
        Ok(Self { form })
    }
}

const FORMAT: FormatOptions<'static> = FormatOptions::new().with_display_error(false);

impl RowEncoder for LineEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut EncodedRows) -> Result<()> {
        match self.form {
            LineForm::Csv(delimiter) => csv_lines(rows, delimiter, out),
            LineForm::Text | LineForm::Raw => {
                let bytes = cast(rows.column(0), &DataType::Binary)?;
                for value in bytes.as_binary::<i32>() {
                    out.buffer().extend_from_slice(value.unwrap_or_default());
                    out.end_row();
                }
                Ok(())
            }
        }
    }
}

fn csv_lines(rows: &RecordBatch, delimiter: u8, out: &mut EncodedRows) -> Result<()> {
    let formatters =
        rows.columns().iter().map(|column| ArrayFormatter::try_new(column, &FORMAT)).collect::<Result<Vec<_>, _>>()?;
    for row in 0..rows.num_rows() {
        let mut writer = WriterBuilder::new()
            .delimiter(delimiter)
            .quote_style(QuoteStyle::Necessary)
            .has_headers(false)
            .from_writer(Vec::new());
        for (column, formatter) in rows.columns().iter().zip(&formatters) {
            let text = if column.is_null(row) { String::new() } else { formatter.value(row).try_to_string()? };
            let field = writer.write_field(text);
            field.map_err(|error| Error::internal(format!("a field could not be written: {error}")))?;
        }
        writer
            .write_record(None::<&[u8]>)
            .map_err(|error| Error::internal(format!("a line could not be written: {error}")))?;
        let line = writer.into_inner().map_err(|error| Error::internal(format!("a line was lost: {error}")))?;
        // A record is the line without its end.
        out.buffer().extend_from_slice(line.strip_suffix(b"\n").unwrap_or(&line));
        out.end_row();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Field;

    use super::*;

    fn decoder(form: LineForm, columns: Vec<Field>) -> LineDecoder {
        let all: Vec<usize> = (0..columns.len()).collect();
        LineDecoder::new(form, Arc::new(Schema::new(columns)), &all, TimeNumbers::Millis).unwrap()
    }

    fn lines(form: LineForm, batch: &RecordBatch) -> Vec<String> {
        let mut out = EncodedRows::default();
        LineEncoder::new(form, &batch.schema()).unwrap().encode(batch, &mut out).unwrap();
        out.iter().map(|line| String::from_utf8(line.to_vec()).unwrap()).collect()
    }

    #[test]
    fn csv_there_and_back() {
        let columns = vec![Field::new("id", DataType::Int32, false), Field::new("name", DataType::Utf8, true)];
        let form = LineForm::Csv(b';');
        let mut decoder = decoder(form, columns);
        decoder.push(b"1;\"a;\"\"b\"\"\"\n").unwrap();
        decoder.push(b"2;").unwrap();
        let mut refused = |record: &[u8]| decoder.push(record).unwrap_err().to_string();
        assert!(refused(b"1").contains("1 fields, and the stream has 2 columns"));
        assert!(refused(b"x;y").starts_with("field id, byte 0: \"x\" is not an INTEGER"));
        assert!(refused(b"1;y\n2;z").contains("more than one line"));
        assert!(refused(b"").contains("0 fields"));
        assert_eq!(lines(form, &decoder.finish().unwrap()), ["1;\"a;\"\"b\"\"\"", "2;"]);
    }

    #[test]
    fn texts_and_bytes() {
        let mut text = decoder(LineForm::Text, vec![Field::new("value", DataType::Utf8, true)]);
        text.push("ä\n".as_bytes()).unwrap();
        assert_eq!(text.push(b"a\xff").unwrap_err().offset, 1);
        assert_eq!(lines(LineForm::Text, &text.finish().unwrap()), ["ä\n"]);
        let mut raw = decoder(LineForm::Raw, vec![Field::new("value", DataType::Binary, true)]);
        raw.push(b"\xff\x00").unwrap();
        assert_eq!(raw.finish().unwrap().column(0).as_binary::<i32>().value(0), b"\xff\x00");
        let two = Schema::new(vec![Field::new("a", DataType::Utf8, true), Field::new("b", DataType::Utf8, true)]);
        assert!(LineEncoder::new(LineForm::Text, &two).is_err());
    }
}
