//! COPY … TO STDOUT: rows as lines of text or CSV, each in a message of its own.

use bytes::{BufMut, BytesMut};

use super::value::Column;

/// How rows are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CopyFormat {
    /// CSV and not text.
    pub(super) csv: bool,
    /// A first line with the columns' names.
    pub(super) header: bool,
    /// Between two values.
    pub(super) delimiter: u8,
    /// Around CSV values that need it.
    pub(super) quote: u8,
    /// Before a quote inside of quotes.
    pub(super) escape: u8,
    /// Stands for NULL.
    pub(super) null: String,
}

impl Default for CopyFormat {
    fn default() -> Self {
        Self { csv: false, header: false, delimiter: b'\t', quote: b'"', escape: b'"', null: "\\N".to_owned() }
    }
}

impl CopyFormat {
    /// Takes the defaults of `text` or `csv`; `None` if the name is another.
    pub(super) fn set_format(&mut self, name: &str) -> Option<()> {
        match name {
            "text" => {}
            "csv" => {
                self.csv = true;
                self.delimiter = b',';
                self.null = String::new();
            }
            _ => return None,
        }
        Some(())
    }

    /// Appends the message with the columns' names.
    pub(super) fn write_header<'a>(&self, names: impl Iterator<Item = &'a str>, out: &mut BytesMut) {
        message(out, |out| {
            for (at, name) in names.enumerate() {
                if at > 0 {
                    out.put_u8(self.delimiter);
                }
                self.put(name.as_bytes(), out);
            }
        });
    }

    /// Appends the message of one row. `scratch` is overwritten.
    pub(super) fn write_row(&self, columns: &[Column], row: usize, scratch: &mut BytesMut, out: &mut BytesMut) {
        message(out, |out| {
            for (at, column) in columns.iter().enumerate() {
                if at > 0 {
                    out.put_u8(self.delimiter);
                }
                if column.is_null(row) {
                    out.put_slice(self.null.as_bytes());
                } else {
                    scratch.clear();
                    column.write_text(row, scratch);
                    self.put(scratch, out);
                }
            }
        });
    }

    fn put(&self, value: &[u8], out: &mut BytesMut) {
        if self.csv { self.put_csv(value, out) } else { self.put_text(value, out) }
    }

    fn put_text(&self, value: &[u8], out: &mut BytesMut) {
        for byte in value {
            let letter = match *byte {
                b'\\' => b'\\',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                8 => b'b',
                11 => b'v',
                12 => b'f',
                byte if byte == self.delimiter => byte,
                byte => {
                    out.put_u8(byte);
                    continue;
                }
            };
            out.put_u8(b'\\');
            out.put_u8(letter);
        }
    }

    fn put_csv(&self, value: &[u8], out: &mut BytesMut) {
        let special = |byte: &u8| *byte == self.delimiter || *byte == self.quote || *byte == b'\n' || *byte == b'\r';
        // A value that looks like NULL, or like the end mark of older clients, is quoted.
        if value != self.null.as_bytes() && value != b"\\." && !value.iter().any(special) {
            return out.put_slice(value);
        }
        out.put_u8(self.quote);
        for byte in value {
            if *byte == self.quote || *byte == self.escape {
                out.put_u8(self.escape);
            }
            out.put_u8(*byte);
        }
        out.put_u8(self.quote);
    }
}

/// A CopyData message with a line in it.
fn message(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    out.put_u8(b'd');
    let at = out.len();
    out.put_i32(0);
    write(out);
    out.put_u8(b'\n');
    let length = (out.len() - at) as i32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray};
    use arrow::datatypes::{DataType, Field};

    use super::*;

    fn line(format: &CopyFormat, values: &[Option<&str>]) -> String {
        let columns: Vec<Column> = values
            .iter()
            .map(|value| {
                let array: ArrayRef = Arc::new(StringArray::from(vec![*value]));
                Column::new(&array, &Field::new("c", DataType::Utf8, true)).unwrap()
            })
            .collect();
        let (mut scratch, mut out) = (BytesMut::new(), BytesMut::new());
        format.write_row(&columns, 0, &mut scratch, &mut out);
        assert_eq!(out[0], b'd');
        assert_eq!(u32::from_be_bytes([out[1], out[2], out[3], out[4]]) as usize, out.len() - 1);
        String::from_utf8(out[5..].to_vec()).unwrap()
    }

    #[test]
    fn text_escapes_what_separates() {
        let text = CopyFormat::default();
        assert_eq!(line(&text, &[Some("a\tb\n\\"), None, Some("")]), "a\\tb\\n\\\\\t\\N\t\n");
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        let mut csv = CopyFormat::default();
        csv.set_format("csv").unwrap();
        assert_eq!(
            line(&csv, &[Some("a,b"), Some("say \"x\""), None, Some(""), Some("é")]),
            "\"a,b\",\"say \"\"x\"\"\",,\"\",é\n"
        );
        csv.null = "NULL".to_owned();
        assert_eq!(line(&csv, &[None, Some("NULL")]), "NULL,\"NULL\"\n");
    }
}
