//! Places in a statement's text.

use datafusion::sql::sqlparser::tokenizer::Location;

use crate::error::Position;

/// A place as the engine's errors carry it; `None` for the parser's "nowhere".
pub(super) fn position_of(location: Location) -> Option<Position> {
    (location.line > 0).then_some(Position { line: location.line, column: location.column })
}

/// Where the lines of a text begin, to find the bytes at a line and column.
pub(super) struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// The byte at a place; the text's length for a place behind its end.
    pub(super) fn offset(&self, location: Location) -> usize {
        let line = usize::try_from(location.line).unwrap_or(usize::MAX).saturating_sub(1);
        let column = usize::try_from(location.column).unwrap_or(usize::MAX).saturating_sub(1);
        let Some(&start) = self.starts.get(line) else { return self.text.len() };
        self.text[start..].char_indices().nth(column).map_or(self.text.len(), |(at, _)| start + at)
    }

    /// The place just behind the text.
    pub(super) fn end(&self) -> Position {
        let start = self.starts.last().copied().unwrap_or_default();
        let column = self.text[start..].chars().count() as u64 + 1;
        Position { line: self.starts.len() as u64, column }
    }
}
