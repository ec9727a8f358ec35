//! A pattern of times, taken apart.

use super::time::FIELDS;

/// One piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// A field: its name as FIELDS has it, whether `FM` stands before it, and what `TH` or `th` behind it adds.
    Field { name: &'static str, plain: bool, ordinal: Option<bool> },
    /// Text that stands for itself.
    Text(String),
}

/// The pattern's pieces.
pub(super) fn pieces(pattern: &str) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut rest = pattern;
    let mut plain = false;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("FM").or_else(|| rest.strip_prefix("fm")) {
            (plain, rest) = (true, after);
            continue;
        }
        if first == '"' {
            let inner = &rest[1..];
            let end = inner.find('"').unwrap_or(inner.len());
            push_text(&mut pieces, &inner[..end]);
            rest = inner.get(end + 1..).unwrap_or_default();
            continue;
        }
        if let Some(name) = FIELDS.iter().copied().find(|name| begins_with(rest, name)) {
            rest = &rest[name.len()..];
            let ordinal = match rest.get(..2) {
                Some("TH") => Some(true),
                Some("th") => Some(false),
                _ => None,
            };
            if ordinal.is_some() {
                rest = &rest[2..];
            }
            pieces.push(Piece::Field { name, plain, ordinal });
            plain = false;
            continue;
        }
        push_text(&mut pieces, &rest[..first.len_utf8()]);
        rest = &rest[first.len_utf8()..];
    }
    pieces
}

/// Names and halves of the day say by their case how they are written; the other fields have no case.
fn begins_with(text: &str, name: &str) -> bool {
    let Some(start) = text.get(..name.len()) else { return false };
    let has_case =
        ["MONTH", "MON", "DAY", "DY", "AM", "PM", "A.M.", "P.M.", "RM"].contains(&name.to_ascii_uppercase().as_str());
    if has_case { start == name } else { start.eq_ignore_ascii_case(name) }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        Some(Piece::Text(last)) => last.push_str(text),
        _ => pieces.push(Piece::Text(text.to_owned())),
    }
}
