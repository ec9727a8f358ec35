//! Rows on the terminal: the same texts that psql would show.

use std::io::{self, Write};

use bytes::BytesMut;
use rondel_engine::{Error, ErrorKind, Result};

use super::RowFormat;
use crate::pg::{Ready, Rows};

/// So many rows decide how wide the columns are; they are also the most that is held back.
const ROWS_MEASURED: usize = 1000;

/// Prints answers.
pub struct Printer<W> {
    out: W,
    format: RowFormat,
}

impl<W: Write> Printer<W> {
    /// Prints to `out`.
    pub fn new(out: W, format: RowFormat) -> Self {
        Self { out, format }
    }

    /// What was printed.
    pub fn into_inner(self) -> W {
        self.out
    }

    /// A statement without rows.
    pub(super) fn done(&mut self, tag: &str, notices: &[String]) -> Result<()> {
        // CSV is for programs: only rows.
        if self.format == RowFormat::Csv {
            return Ok(());
        }
        let written = notices.iter().try_for_each(|notice| writeln!(self.out, "NOTICE: {notice}"));
        written.and_then(|()| writeln!(self.out, "{tag}")).map_err(unwritten)
    }

    /// A statement's rows, as they come.
    pub(super) async fn rows(&mut self, rows: &mut Rows) -> Result<()> {
        let names: Vec<String> = rows.schema.fields().iter().map(|field| field.name().clone()).collect();
        let mut page = Page { widths: None, lines: Vec::new(), names };
        let mut count = 0_u64;
        loop {
            match rows.poll()? {
                Ready::Row => {
                    if let Some((columns, row)) = rows.take_row() {
                        let values = columns.iter().map(|column| {
                            let mut text = BytesMut::new();
                            if column.is_null(row) {
                                return None;
                            }
                            column.write_text(row, &mut text);
                            Some(String::from_utf8_lossy(&text).into_owned())
                        });
                        page.lines.push(values.collect());
                        count += 1;
                    }
                    if page.lines.len() >= ROWS_MEASURED {
                        self.print(&mut page)?;
                    }
                }
                Ready::End => break,
                Ready::Nothing => {
                    // Of rows without an end, those that are there are shown.
                    if rows.is_endless && !page.lines.is_empty() {
                        self.print(&mut page)?;
                    }
                    rows.wait().await?;
                }
            }
        }
        self.print(&mut page)?;
        if self.format == RowFormat::Table {
            let ending = if count == 1 { "row" } else { "rows" };
            writeln!(self.out, "({count} {ending})\n").map_err(unwritten)?;
        }
        Ok(())
    }

    fn print(&mut self, page: &mut Page) -> Result<()> {
        let printed = match self.format {
            RowFormat::Table => page.print_aligned(&mut self.out),
            RowFormat::Csv => page.print_csv(&mut self.out),
        };
        printed.and_then(|()| self.out.flush()).map_err(unwritten)?;
        page.lines.clear();
        Ok(())
    }
}

fn unwritten(error: io::Error) -> Error {
    Error::new(ErrorKind::External, format!("the output can't be written: {error}"))
}

/// Rows that were not printed yet.
struct Page {
    names: Vec<String>,
    /// Settled by the first page, with its heading.
    widths: Option<Vec<usize>>,
    lines: Vec<Vec<Option<String>>>,
}

impl Page {
    fn print_aligned(&mut self, out: &mut impl Write) -> io::Result<()> {
        let is_first = self.widths.is_none();
        let widths = self.widths.get_or_insert_with(|| {
            let mut widths: Vec<usize> = self.names.iter().map(|name| name.chars().count()).collect();
            for line in &self.lines {
                for (width, value) in widths.iter_mut().zip(line) {
                    *width = (*width).max(value.as_deref().map_or(0, |value| value.chars().count()));
                }
            }
            widths
        });
        if is_first {
            let names = self.names.iter().zip(&*widths).map(|(name, width)| format!(" {name:width$} "));
            writeln!(out, "{}", names.collect::<Vec<_>>().join("|").trim_end())?;
            let rules: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
            writeln!(out, "{}", rules.join("+"))?;
        }
        for line in &self.lines {
            let values = line.iter().zip(&*widths).map(|(value, width)| {
                let value = value.as_deref().unwrap_or_default();
                format!(" {value:width$} ")
            });
            writeln!(out, "{}", values.collect::<Vec<_>>().join("|").trim_end())?;
        }
        Ok(())
    }

    fn print_csv(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.widths.is_none() {
            self.widths = Some(Vec::new());
            let names: Vec<String> = self.names.iter().map(|name| quoted(Some(name))).collect();
            writeln!(out, "{}", names.join(","))?;
        }
        for line in &self.lines {
            let values: Vec<String> = line.iter().map(|value| quoted(value.as_deref())).collect();
            writeln!(out, "{}", values.join(","))?;
        }
        Ok(())
    }
}

/// A CSV value; NULL is nothing, an empty text is quoted.
fn quoted(value: Option<&str>) -> String {
    match value {
        None => String::new(),
        Some(text) if text.is_empty() || text.contains([',', '"', '\n', '\r']) => {
            format!("\"{}\"", text.replace('"', "\"\""))
        }
        Some(text) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(values: &[[Option<&str>; 2]]) -> Page {
        let lines = values.iter().map(|line| line.iter().map(|value| value.map(str::to_owned)).collect()).collect();
        Page { names: vec!["a".to_owned(), "much".to_owned()], widths: None, lines }
    }

    #[test]
    fn columns_are_aligned() {
        let mut out = Vec::new();
        let mut page = page(&[[Some("long one"), Some("1")], [None, Some("ü")]]);
        page.print_aligned(&mut out).unwrap();
        page.lines = vec![vec![Some("second page".to_owned()), None]];
        page.print_aligned(&mut out).unwrap();
        let expected = " a        | much\n----------+------\n long one | 1\n          | ü\n second page |\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn csv_tells_null_from_nothing() {
        let mut out = Vec::new();
        page(&[[None, Some("")], [Some("a,b"), Some("\"")]]).print_csv(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a,much\n,\"\"\n\"a,b\",\"\"\"\"\n");
    }
}
