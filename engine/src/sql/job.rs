//! Statements about jobs: `ALTER JOB`, `START JOB`, `STOP JOB`, `CHECKPOINT` and savepoints.

use std::fmt;

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::clauses::parse_option_list;
use super::name::{folded, quoted, statement_name};
use super::parser::{Parsed, expect_word, take_word};
use super::statement::{Options, Statement};

/// What is asked of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobAction {
    /// Stop it, and let it be known.
    Stop,
    /// Let it run.
    Start {
        /// From this savepoint, not from its last checkpoint.
        savepoint: Option<String>,
    },
    /// Give it other options.
    Set(Options),
    /// Let options have the server's values.
    Reset(Vec<String>),
}

/// A savepoint of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Savepoint {
    /// Its name; a job's savepoints have different ones.
    pub name: String,
    /// The job's.
    pub job: String,
}

/// After `ALTER JOB`.
pub(super) fn parse_alter_job(parser: &mut Parser<'_>) -> Parsed<Statement> {
    let name = statement_name(&parser.parse_object_name(false)?)?;
    let action = if take_word(parser, "STOP") {
        JobAction::Stop
    } else if take_word(parser, "START") {
        JobAction::Start { savepoint: parse_from_savepoint(parser)? }
    } else if take_word(parser, "SET") {
        JobAction::Set(parse_option_list(parser)?)
    } else if take_word(parser, "RESET") {
        parser.expect_token(&Token::LParen)?;
        let names = parser.parse_comma_separated(Parser::parse_identifier)?;
        parser.expect_token(&Token::RParen)?;
        JobAction::Reset(names.iter().map(folded).collect())
    } else {
        return Ok(parser.expected("STOP, START, SET or RESET", parser.peek_token())?);
    };
    Ok(Statement::AlterJob { name, action })
}

/// After `START JOB`.
pub(super) fn parse_start_job(parser: &mut Parser<'_>) -> Parsed<Statement> {
    let name = statement_name(&parser.parse_object_name(false)?)?;
    Ok(Statement::AlterJob { name, action: JobAction::Start { savepoint: parse_from_savepoint(parser)? } })
}

/// After `STOP JOB`.
pub(super) fn parse_stop_job(parser: &mut Parser<'_>) -> Parsed<Statement> {
    Ok(Statement::AlterJob { name: statement_name(&parser.parse_object_name(false)?)?, action: JobAction::Stop })
}

fn parse_from_savepoint(parser: &mut Parser<'_>) -> Parsed<Option<String>> {
    if !parser.parse_keyword(Keyword::FROM) {
        return Ok(None);
    }
    expect_word(parser, "SAVEPOINT")?;
    Ok(Some(folded(&parser.parse_identifier()?)))
}

/// After `CHECKPOINT`.
pub(super) fn parse_checkpoint(parser: &mut Parser<'_>) -> Parsed<Statement> {
    let name = match take_word(parser, "JOB") {
        true => Some(statement_name(&parser.parse_object_name(false)?)?),
        false => None,
    };
    Ok(Statement::Checkpoint(name))
}

/// After `CREATE SAVEPOINT`.
pub(super) fn parse_create_savepoint(parser: &mut Parser<'_>) -> Parsed<Statement> {
    Ok(Statement::CreateSavepoint(parse_savepoint(parser)?))
}

/// After `DROP SAVEPOINT`.
pub(super) fn parse_drop_savepoint(parser: &mut Parser<'_>) -> Parsed<Statement> {
    let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
    Ok(Statement::DropSavepoint { savepoint: parse_savepoint(parser)?, if_exists })
}

fn parse_savepoint(parser: &mut Parser<'_>) -> Parsed<Savepoint> {
    let name = folded(&parser.parse_identifier()?);
    expect_word(parser, "FOR")?;
    expect_word(parser, "JOB")?;
    Ok(Savepoint { name, job: statement_name(&parser.parse_object_name(false)?)? })
}

impl fmt::Display for JobAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JobAction::Stop => f.write_str("STOP"),
            JobAction::Start { savepoint: None } => f.write_str("START"),
            JobAction::Start { savepoint: Some(name) } => write!(f, "START FROM SAVEPOINT {}", quoted(name)),
            JobAction::Set(options) => write!(f, "SET ({})", options.list()),
            JobAction::Reset(names) => {
                let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
                write!(f, "RESET ({})", names.join(", "))
            }
        }
    }
}

impl fmt::Display for Savepoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} FOR JOB {}", quoted(&self.name), quoted(&self.job))
    }
}
