//! The SQL that Rondel ships: files under `sql/`, and the fenced blocks of the Markdown pages.
//!
//! In a page, a block marked `sql` is run statement by statement; one marked `sql error` must fail. A block marked `text`
//! whose first line has columns (`a | b`) shows what the block before it prints. A page's blocks are one session, from
//! top to bottom.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Result, root};

/// A fenced block of SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlBlock {
    /// The line of the opening fence, from 1.
    pub line: usize,
    /// Whether its last statement must fail.
    pub fails: bool,
    /// The first line of the `text` block that follows: the columns of the table that psql prints.
    pub shown: Option<String>,
    /// Its statements, without their semicolons.
    pub statements: Vec<String>,
}

/// All Markdown pages: the README and `docs/`, by name.
pub fn pages() -> Result<Vec<PathBuf>> {
    let mut pages = vec![root().join("README.md")];
    pages.extend(files_below(&root().join("docs"), "md")?);
    Ok(pages)
}

/// All files under `sql/`, by name.
pub fn sql_files() -> Result<Vec<PathBuf>> {
    files_below(&root().join("sql"), "sql")
}

/// The files with an extension in a folder and the folders below it, by name.
pub fn files_below(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        if !folder.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The SQL blocks of a page's text, from top to bottom.
pub fn sql_blocks(page: &str) -> Vec<SqlBlock> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    let mut text = String::new();
    for (index, line) in page.lines().enumerate() {
        match (&open, line.trim_start().strip_prefix("```")) {
            (None, Some(info)) => {
                open = Some((index + 1, info.trim().to_owned()));
                text.clear();
            }
            (Some((start, info)), Some(_)) => {
                let mut words = info.split_whitespace();
                match words.next() {
                    Some("sql") => {
                        let fails = words.next() == Some("error");
                        blocks.push(SqlBlock { line: *start, fails, shown: None, statements: statements(&text) });
                    }
                    Some("text") => {
                        let header = text.lines().next().filter(|line| line.contains('|'));
                        if let (Some(block), Some(header)) = (blocks.last_mut(), header) {
                            block.shown = Some(header.trim().to_owned());
                        }
                    }
                    _ => {}
                }
                open = None;
            }
            (Some(_), None) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

/// Splits SQL text at its semicolons, those in quotes and comments excepted. Statements without a word are left out;
/// comments inside a statement stay, those before it go.
pub fn statements(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut statement = String::new();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\'' | '"' => quoted(rest, first),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '$' => dollar_quoted(rest),
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        let comment = token.starts_with("--") || token.starts_with("/*");
        if token == ";" {
            found.push(std::mem::take(&mut statement));
        } else if !(comment && statement.trim().is_empty()) {
            statement.push_str(token);
        }
    }
    found.push(statement);
    found.iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect()
}

/// The length of a quoted text, its quotes included; a doubled quote is seen as two texts side by side.
fn quoted(text: &str, quote: char) -> usize {
    text[1..].find(quote).map_or(text.len(), |end| end + 2)
}

/// The length of `$tag$…$tag$`, or of the dollar sign alone where no tag follows (`$1`).
fn dollar_quoted(text: &str) -> usize {
    let tag = text[1..].find('$').map(|end| &text[..end + 2]);
    let is_tag = |tag: &&str| {
        let name = &tag[1..tag.len() - 1];
        name.chars().all(|c| c.is_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    let Some(tag) = tag.filter(is_tag) else { return 1 };
    text[tag.len()..].find(tag).map_or(text.len(), |end| end + 2 * tag.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_at_semicolons_outside_of_quotes_and_comments() {
        let text = "-- a first; comment\nSELECT ';', \"a;b\", 'it''s;' /* not; here */, $1;\n\
                    CREATE FUNCTION f AS $body$ one; two $body$ ; -- the end;\n;";
        assert_eq!(
            statements(text),
            ["SELECT ';', \"a;b\", 'it''s;' /* not; here */, $1", "CREATE FUNCTION f AS $body$ one; two $body$"]
        );
    }

    #[test]
    fn only_blocks_of_sql_are_found() {
        let page =
            "# A page\n```sql\nSELECT 1;\nSELECT 2;\n```\n```text\n a | b\n---+--\n```\n```sql error\nSELEC\n```\n";
        let found = sql_blocks(page);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].line, found[0].fails, found[0].statements.len()), (2, false, 2));
        assert_eq!(found[0].shown.as_deref(), Some("a | b"));
        assert_eq!((found[1].line, found[1].fails, found[1].shown.as_deref()), (10, true, None));
    }

    #[test]
    fn an_unfinished_quote_ends_with_the_text() {
        assert_eq!(statements("SELECT 'a; b"), ["SELECT 'a; b"]);
        assert_eq!(statements("SELECT $a$ b; c"), ["SELECT $a$ b; c"]);
        assert!(statements(" ; -- nothing\n;").is_empty());
    }
}
