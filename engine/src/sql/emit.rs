//! The `EMIT` suffix of a query: when a result is shown, and how its corrections look.
//!
//! ```text
//! query EMIT [STREAM] [trigger] [ALLOWED LATENESS interval] [DISCARDING | ACCUMULATING | RETRACTING] [LATE ROWS TO name]
//! trigger := AFTER WATERMARK | AFTER DELAY interval | AFTER n ROWS | trigger AND trigger
//! ```
//!
//! The ideas are the Dataflow model's, the syntax follows "One SQL to Rule Them All" (SIGMOD 2019).

use std::fmt;

use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};

use super::name::{quoted, statement_name};
use super::parser::{expect_word, take_word};

/// An `EMIT` clause. Every part may be absent, but not all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmitClause {
    /// The changelog itself is the result, with columns that say so.
    pub stream: bool,
    /// What makes a result show; all of them fire.
    pub triggers: Vec<Trigger>,
    /// How long after the watermark a late row still corrects a result.
    pub allowed_lateness: Option<Expr>,
    /// How a correction looks.
    pub mode: Option<EmitMode>,
    /// The sink or table that takes rows which come too late.
    pub late_rows: Option<String>,
}

/// What makes a result show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// The watermark says that it is complete.
    AfterWatermark,
    /// So much time has passed since its first change that was not shown.
    AfterDelay(Box<Expr>),
    /// So many rows have come.
    AfterRows(u64),
}

/// How a correction looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmitMode {
    /// Only what has come since the last time.
    Discarding,
    /// The new value, without taking back the old one.
    Accumulating,
    /// The old value taken back, and the new one.
    Retracting,
}

impl EmitClause {
    /// `EMIT AFTER WATERMARK`.
    pub(super) fn after_watermark() -> Self {
        let triggers = vec![Trigger::AfterWatermark];
        Self { stream: false, triggers, allowed_lateness: None, mode: None, late_rows: None }
    }
}

impl fmt::Display for EmitClause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EMIT")?;
        if self.stream {
            f.write_str(" STREAM")?;
        }
        for (index, trigger) in self.triggers.iter().enumerate() {
            write!(f, "{} {trigger}", if index > 0 { " AND" } else { "" })?;
        }
        if let Some(interval) = &self.allowed_lateness {
            write!(f, " ALLOWED LATENESS {interval}")?;
        }
        f.write_str(match self.mode {
            Some(EmitMode::Discarding) => " DISCARDING",
            Some(EmitMode::Accumulating) => " ACCUMULATING",
            Some(EmitMode::Retracting) => " RETRACTING",
            None => "",
        })?;
        match &self.late_rows {
            Some(name) => write!(f, " LATE ROWS TO {}", quoted(name)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trigger::AfterWatermark => f.write_str("AFTER WATERMARK"),
            Trigger::AfterDelay(interval) => write!(f, "AFTER DELAY {interval}"),
            Trigger::AfterRows(rows) => write!(f, "AFTER {rows} ROWS"),
        }
    }
}

/// Reads the clause if it stands next.
pub(super) fn parse_emit(parser: &mut Parser<'_>) -> Result<Option<EmitClause>, ParserError> {
    if !take_word(parser, "EMIT") {
        return Ok(None);
    }
    let stream = take_word(parser, "STREAM");
    let mut triggers = Vec::new();
    if take_word(parser, "AFTER") {
        triggers.push(parse_trigger(parser)?);
        while parser.parse_keyword(Keyword::AND) {
            if !take_word(parser, "AFTER") {
                return parser.expected("AFTER", parser.peek_token());
            }
            triggers.push(parse_trigger(parser)?);
        }
    }
    let mut allowed_lateness = None;
    if take_word(parser, "ALLOWED") {
        if !take_word(parser, "LATENESS") {
            return parser.expected("LATENESS", parser.peek_token());
        }
        allowed_lateness = Some(parse_interval(parser)?);
    }
    let mode = if take_word(parser, "DISCARDING") {
        Some(EmitMode::Discarding)
    } else if take_word(parser, "ACCUMULATING") {
        Some(EmitMode::Accumulating)
    } else if take_word(parser, "RETRACTING") {
        Some(EmitMode::Retracting)
    } else {
        None
    };
    let late_rows = parse_late_rows(parser)?;
    if !stream && triggers.is_empty() && allowed_lateness.is_none() && mode.is_none() && late_rows.is_none() {
        return parser.expected("STREAM, AFTER, ALLOWED LATENESS, a mode or LATE ROWS after EMIT", parser.peek_token());
    }
    Ok(Some(EmitClause { stream, triggers, allowed_lateness, mode, late_rows }))
}

fn parse_late_rows(parser: &mut Parser<'_>) -> Result<Option<String>, ParserError> {
    if !take_word(parser, "LATE") {
        return Ok(None);
    }
    expect_word(parser, "ROWS")?;
    expect_word(parser, "TO")?;
    let name = parser.parse_object_name(false)?;
    let name = statement_name(&name).map_err(|error| ParserError::ParserError(error.message().to_owned()))?;
    Ok(Some(name))
}

fn parse_trigger(parser: &mut Parser<'_>) -> Result<Trigger, ParserError> {
    if take_word(parser, "WATERMARK") {
        return Ok(Trigger::AfterWatermark);
    }
    if take_word(parser, "DELAY") {
        return Ok(Trigger::AfterDelay(Box::new(parse_interval(parser)?)));
    }
    let Ok(rows) = parser.parse_literal_uint() else {
        return parser.expected("WATERMARK, DELAY or a number of rows", parser.peek_token());
    };
    if !take_word(parser, "ROWS") && !take_word(parser, "ROW") {
        return parser.expected("ROWS", parser.peek_token());
    }
    Ok(Trigger::AfterRows(rows))
}

fn parse_interval(parser: &mut Parser<'_>) -> Result<Expr, ParserError> {
    parser.expect_keyword_is(Keyword::INTERVAL)?;
    parser.parse_interval()
}
