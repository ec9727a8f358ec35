//! A statement's text, as each of its readers is given it.
//!
//! What not all of them understand is written twice: as a twin (`⟦n⟧` in the text, put in at the end), or, where only the order
//! of rows that tie differs, as `⟪stream's|batch's⟫`. A judge reads what users write, the stream's twin, unless only we know
//! such words; it knows nothing of how we settle ties, so that its choice is the batch's, or a third one: `⟪…|…|judge's⟫`.

use super::WindowSource;

/// Who reads a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// Our planner.
    Stream,
    /// DataFusion.
    Batch,
    /// Another database.
    Judge,
}

/// A part of a statement that the batch must say in other words.
pub(super) struct Twin {
    pub(super) streamed: String,
    pub(super) batched: String,
    /// Whether no other database knows the stream's words.
    pub(super) ours: bool,
}

impl Twin {
    fn read_by(&self, reader: Reader) -> &str {
        match reader {
            Reader::Stream => &self.streamed,
            Reader::Judge if !self.ours => &self.streamed,
            Reader::Batch | Reader::Judge => &self.batched,
        }
    }
}

/// What stands in a text for a window function over a stream.
pub(super) fn marker(number: usize) -> String {
    format!("⟨{number}⟩")
}

/// What stands in a text for a twin.
pub(super) fn twin(number: usize) -> String {
    format!("⟦{number}⟧")
}

/// The text as a reader is given it: window functions over streams are tables for all but our planner.
pub(super) fn written(text: &str, twins: &[Twin], windows: &[WindowSource], reader: Reader) -> String {
    let mut written = text.to_owned();
    // The outermost were made last.
    for (number, of) in twins.iter().enumerate().rev() {
        written = written.replace(&twin(number), of.read_by(reader));
    }
    written = chosen(&written, reader);
    for (number, source) in windows.iter().enumerate() {
        let rows = match reader {
            Reader::Stream => source.as_sql(),
            Reader::Batch | Reader::Judge => format!("w{number}"),
        };
        written = written.replace(&marker(number), &rows);
    }
    written
}

/// The text with one side of each `⟪…|…⟫`.
fn chosen(text: &str, reader: Reader) -> String {
    let mut parts = text.split(['⟪', '⟫']);
    let mut chosen = parts.next().unwrap_or_default().to_owned();
    while let Some(choice) = parts.next() {
        let sides: Vec<&str> = choice.split('|').collect();
        let side = match reader {
            Reader::Stream => sides.first(),
            Reader::Batch => sides.get(1),
            Reader::Judge => sides.get(2).or(sides.get(1)),
        };
        chosen.push_str(side.copied().unwrap_or_default());
        chosen.push_str(parts.next().unwrap_or_default());
    }
    chosen
}
