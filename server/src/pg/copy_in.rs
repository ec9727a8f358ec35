//! COPY … FROM STDIN: lines of text or CSV become columns of text, which the engine reads as the table's types.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use pgwire::messages::copy::CopyInResponse;
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use rondel_engine::{Error, ErrorKind, Result};

use super::connection::Connection;
use super::copy::CopyFormat;
use super::delivery::Stop;
use super::sqlstate::Fault;
use crate::frontend::Session;

/// Bytes of rows that one COPY may bring: it is one statement, held until its end.
const MOST_BYTES: usize = 256 << 20;

/// Where rows are copied to, and how they are written.
#[derive(Debug, Clone)]
pub(super) struct CopyIn {
    /// The table.
    pub(super) table: String,
    /// The columns that the fields are for; none: all.
    pub(super) columns: Vec<String>,
    /// How the fields are written.
    pub(super) format: CopyFormat,
}

impl<S: Session> Connection<S> {
    /// Takes the client's rows, all of them, and adds them to the table as one statement. Answers the command tag.
    pub(super) async fn copy_in(&mut self, copy: &CopyIn) -> Result<String, Stop> {
        let columns = self.session.copy_columns(&copy.table, &copy.columns)?;
        let width = columns.fields().len();
        let response = CopyInResponse::new(0, width as i16, vec![0; width]);
        self.outbound.queue(PgWireBackendMessage::CopyInResponse(response));
        self.outbound.flush().await.map_err(|_| Stop::Gone)?;
        let mut reader = CopyReader::new(copy, &columns);
        loop {
            match self.copy_message().await? {
                PgWireFrontendMessage::CopyData(data) => reader.push(&data.data)?,
                PgWireFrontendMessage::CopyDone(_) => break,
                PgWireFrontendMessage::CopyFail(failure) => {
                    let sentence = format!("COPY from stdin failed: {}", failure.message);
                    return Err(Fault::new("57014", sentence).into());
                }
                // Drivers send them behind the statement; they have no meaning while rows come.
                PgWireFrontendMessage::Flush(_) | PgWireFrontendMessage::Sync(_) => {}
                _ => return Err(Fault::fatal("08P01", "the message is not expected while rows are copied").into()),
            }
        }
        let rows = reader.finish()?;
        let session = Arc::clone(&self.session);
        let added = self.interrupts.guard(session.copy_in(&copy.table, &copy.columns, rows)).await??;
        Ok(format!("COPY {added}"))
    }

    async fn copy_message(&mut self) -> Result<PgWireFrontendMessage, Stop> {
        let received = tokio::select! {
            biased;
            () = self.interrupts.cancellation.requested() => return Err(Fault::canceled().into()),
            () = self.interrupts.shutdown.requested() => return Err(Fault::shutdown().into()),
            received = self.interrupts.inbound.receive() => received,
        };
        match received {
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(Stop::Gone),
            Err(error) => Err(super::startup::fault_of(&error).map_or(Stop::Gone, Stop::Fault)),
        }
    }
}

/// Turns bytes, cut anywhere, into rows.
struct CopyReader {
    format: CopyFormat,
    table: String,
    schema: SchemaRef,
    names: Vec<String>,
    columns: Vec<StringBuilder>,
    /// Rows in `columns`.
    rows: usize,
    batches: Vec<RecordBatch>,
    /// Bytes without their line's end.
    rest: Vec<u8>,
    /// How much of `rest` was looked at for a line's end, and whether that stands in quotes.
    scanned: usize,
    in_quotes: bool,
    line: usize,
    bytes: usize,
    skips_header: bool,
    /// `\.` was read.
    is_over: bool,
}

const BATCH_ROWS: usize = 8192;

impl CopyReader {
    fn new(copy: &CopyIn, columns: &SchemaRef) -> Self {
        let names: Vec<String> = columns.fields().iter().map(|field| field.name().clone()).collect();
        let fields: Vec<Field> = names.iter().map(|name| Field::new(name, DataType::Utf8, true)).collect();
        Self {
            format: copy.format.clone(),
            table: copy.table.clone(),
            schema: Arc::new(Schema::new(fields)),
            columns: names.iter().map(|_| StringBuilder::new()).collect(),
            names,
            rows: 0,
            batches: Vec::new(),
            rest: Vec::new(),
            scanned: 0,
            in_quotes: false,
            line: 0,
            bytes: 0,
            skips_header: copy.format.header,
            is_over: false,
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len();
        if self.bytes > MOST_BYTES {
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                format!("COPY takes at most {} MB at once", MOST_BYTES >> 20),
            )
            .with_hint("copy in several parts"));
        }
        let mut rest = std::mem::take(&mut self.rest);
        rest.extend_from_slice(bytes);
        let mut begin = 0;
        while let Some(end) = self.line_end(&rest) {
            self.line(&rest[begin..end])?;
            begin = end + 1;
        }
        rest.drain(..begin);
        self.scanned -= begin;
        self.rest = rest;
        Ok(())
    }

    /// The next line's end in `bytes`; where it was looked for is remembered.
    fn line_end(&mut self, bytes: &[u8]) -> Option<usize> {
        while let Some(byte) = bytes.get(self.scanned) {
            let at = self.scanned;
            self.scanned += 1;
            if self.format.csv
                && self.in_quotes
                && *byte == self.format.escape
                && self.format.escape != self.format.quote
            {
                // What it escapes is no quote; it may not have come yet.
                if bytes.get(self.scanned).is_none() {
                    self.scanned = at;
                    return None;
                }
                self.scanned += 1;
            } else if self.format.csv && *byte == self.format.quote {
                self.in_quotes = !self.in_quotes;
            } else if *byte == b'\n' && !self.in_quotes {
                return Some(at);
            }
        }
        None
    }

    fn line(&mut self, line: &[u8]) -> Result<()> {
        self.line += 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if std::mem::take(&mut self.skips_header) || self.is_over {
            return Ok(());
        }
        if line == b"\\." {
            self.is_over = true;
            return Ok(());
        }
        let fields = if self.format.csv { self.csv_fields(line)? } else { self.text_fields(line)? };
        if fields.len() > self.columns.len() {
            return Err(self.bad("extra data after last expected column"));
        }
        if let Some(missing) = self.names.get(fields.len()) {
            return Err(self.bad(&format!("missing data for column \"{missing}\"")));
        }
        for (column, field) in self.columns.iter_mut().zip(fields) {
            match field {
                None => column.append_null(),
                Some(bytes) => match std::str::from_utf8(&bytes) {
                    Ok(text) => column.append_value(text),
                    Err(_) => {
                        let place = format!("COPY {}, line {}", self.table, self.line);
                        return Err(Error::new(ErrorKind::Data, "invalid byte sequence for encoding \"UTF8\"")
                            .with_code("22021")
                            .with_detail(place));
                    }
                },
            }
        }
        self.rows += 1;
        if self.rows == BATCH_ROWS { self.end_batch() } else { Ok(()) }
    }

    fn bad(&self, message: &str) -> Error {
        Error::new(ErrorKind::Data, message)
            .with_code("22P04")
            .with_detail(format!("COPY {}, line {}", self.table, self.line))
    }

    fn text_fields(&self, line: &[u8]) -> Result<Vec<Option<Vec<u8>>>> {
        let mut fields = Vec::with_capacity(self.columns.len());
        let (mut field, mut begin, mut at) = (Vec::new(), 0, 0);
        loop {
            let byte = line.get(at).copied();
            if byte.is_none() || byte == Some(self.format.delimiter) {
                let is_null = &line[begin..at] == self.format.null.as_bytes();
                fields.push((!is_null).then(|| std::mem::take(&mut field)));
                field.clear();
                if byte.is_none() {
                    return Ok(fields);
                }
                at += 1;
                begin = at;
                continue;
            }
            at += 1;
            match byte {
                Some(b'\\') => {
                    let Some(letter) = line.get(at).copied() else {
                        field.push(b'\\');
                        continue;
                    };
                    at += 1;
                    match letter {
                        b'b' => field.push(8),
                        b'f' => field.push(12),
                        b'n' => field.push(b'\n'),
                        b'r' => field.push(b'\r'),
                        b't' => field.push(b'\t'),
                        b'v' => field.push(11),
                        b'x' => {
                            let digits =
                                line[at..].iter().take(2).take_while(|digit| digit.is_ascii_hexdigit()).count();
                            match number(&line[at..at + digits], 16) {
                                Some(byte) => field.push(byte),
                                None => field.push(b'x'),
                            }
                            at += digits;
                        }
                        b'0'..=b'7' => {
                            at -= 1;
                            let digits =
                                line[at..].iter().take(3).take_while(|digit| matches!(digit, b'0'..=b'7')).count();
                            field.push(number(&line[at..at + digits], 8).unwrap_or(0));
                            at += digits;
                        }
                        other => field.push(other),
                    }
                }
                Some(other) => field.push(other),
                None => {}
            }
        }
    }

    fn csv_fields(&self, line: &[u8]) -> Result<Vec<Option<Vec<u8>>>> {
        let format = &self.format;
        let mut fields = Vec::with_capacity(self.columns.len());
        let (mut field, mut was_quoted, mut in_quotes, mut at) = (Vec::new(), false, false, 0);
        loop {
            let Some(byte) = line.get(at).copied() else {
                if in_quotes {
                    return Err(self.bad("unterminated CSV quoted field"));
                }
                let is_null = !was_quoted && field == format.null.as_bytes();
                fields.push((!is_null).then_some(field));
                return Ok(fields);
            };
            at += 1;
            if in_quotes
                && byte == format.escape
                && line.get(at).is_some_and(|next| *next == format.quote || *next == format.escape)
            {
                field.push(line[at]);
                at += 1;
            } else if byte == format.quote {
                in_quotes = !in_quotes;
                was_quoted = true;
            } else if byte == format.delimiter && !in_quotes {
                let is_null = !was_quoted && field == format.null.as_bytes();
                fields.push((!is_null).then(|| std::mem::take(&mut field)));
                field.clear();
                was_quoted = false;
            } else {
                field.push(byte);
            }
        }
    }

    fn end_batch(&mut self) -> Result<()> {
        let columns = self.columns.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef).collect();
        let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(self.rows));
        self.batches.push(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?);
        self.rows = 0;
        Ok(())
    }

    /// The rows, with a last line that has no end.
    fn finish(mut self) -> Result<Vec<RecordBatch>> {
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            self.line(&rest)?;
        }
        if self.rows > 0 {
            self.end_batch()?;
        }
        Ok(self.batches)
    }
}

fn number(digits: &[u8], radix: u32) -> Option<u8> {
    let number = u32::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()?;
    Some((number & 255) as u8)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};

    use super::*;

    fn read(format: CopyFormat, text: &[u8], piece: usize) -> Result<Vec<String>> {
        let columns = ["a", "b"].map(|name| Field::new(name, DataType::Utf8, true)).to_vec();
        let copy = CopyIn { table: "t".to_owned(), columns: Vec::new(), format };
        let mut reader = CopyReader::new(&copy, &Arc::new(Schema::new(columns)));
        text.chunks(piece).try_for_each(|piece| reader.push(piece))?;
        let shown = |array: &ArrayRef, row: usize| match array.is_null(row) {
            true => "NULL".to_owned(),
            false => array.as_string::<i32>().value(row).to_owned(),
        };
        let rows = reader.finish()?;
        Ok(rows
            .iter()
            .flat_map(|batch| (0..batch.num_rows()).map(|row| (batch.column(0), batch.column(1), row)))
            .map(|(a, b, row)| format!("{}|{}", shown(a, row), shown(b, row)))
            .collect())
    }

    fn csv() -> CopyFormat {
        let mut csv = CopyFormat::default();
        csv.set_format("csv").unwrap();
        csv
    }

    #[test]
    fn lines_may_be_cut_anywhere() {
        let text = "1\ta\\tb\n2\t\\N\r\n\\\\x\t\\x41\\101\\q\n3\t\n\\.\nignored\n".as_bytes();
        let table = "1,\"a,\"\"b\n\"\n2,\n\"\",\"NULL\"\n3,x".as_bytes();
        for piece in 1..12 {
            let rows = read(CopyFormat::default(), text, piece).unwrap();
            assert_eq!(rows, ["1|a\tb", "2|NULL", "\\x|AAq", "3|"], "{piece}");
            let rows = read(csv(), table, piece).unwrap();
            assert_eq!(rows, ["1|a,\"b\n", "2|NULL", "|NULL", "3|x"], "{piece}");
        }
        let mut other = csv();
        (other.header, other.escape, other.delimiter) = (true, b'\\', b';');
        let rows = read(other, b"a;b\n1;\"x\\\"\n;\\\\\"\n", 3).unwrap();
        assert_eq!(rows, ["1|x\"\n;\\"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, message) in [
            ("1\t2\n1\n", "missing data for column \"b\""),
            ("1\t2\n1\t2\t3\n", "extra data after last expected column"),
        ] {
            let error = read(CopyFormat::default(), text.as_bytes(), 5).unwrap_err();
            assert_eq!(
                (error.message(), error.code(), error.detail()),
                (message, Some("22P04"), Some("COPY t, line 2"))
            );
        }
        assert_eq!(read(csv(), b"1,\"x\n", 9).unwrap_err().message(), "unterminated CSV quoted field");
        assert_eq!(read(csv(), b"1,\xff\n", 9).unwrap_err().code(), Some("22021"));
    }
}
