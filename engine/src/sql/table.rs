//! Statements on tables: CREATE, ALTER, INSERT, UPDATE, DELETE, TRUNCATE.

use std::fmt;

use datafusion::sql::sqlparser::ast::{self, AlterTableOperation, Assignment, ColumnDef, SelectItem, TableConstraint};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::error::{Error, ErrorKind};

use super::clauses::{is_watermark, parse_names, parse_watermark};
use super::name::{folded, quoted, statement_name};
use super::parser::{Parsed, expect_word, take_word};
use super::statement::{Query, WatermarkClause, names};
use super::text::position_of;

/// `CREATE TABLE [IF NOT EXISTS] name (columns and constraints) [APPEND ONLY] [AS query]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTable {
    /// The name.
    pub name: String,
    /// Do nothing if the name is taken.
    pub if_not_exists: bool,
    /// Columns with their types and constraints.
    pub columns: Vec<ColumnDef>,
    /// Names for a query's columns, from the first on.
    pub names: Vec<String>,
    /// Constraints of the whole table.
    pub constraints: Vec<TableConstraint>,
    /// Event time.
    pub watermark: Option<Box<WatermarkClause>>,
    /// Rows are only ever added.
    pub append_only: bool,
    /// The query whose rows it begins with.
    pub query: Option<Query>,
}

/// `INSERT INTO target [AS alias] [(columns)] query | DEFAULT VALUES [ON CONFLICT …] [RETURNING …]`. A sink takes a query alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insert {
    /// The table or sink.
    pub target: String,
    /// What the table is called in ON CONFLICT and RETURNING.
    pub alias: Option<String>,
    /// Which of its columns the query's are; empty: all, in order.
    pub columns: Vec<String>,
    /// The rows; `None`: DEFAULT VALUES.
    pub query: Option<Query>,
    /// What to do with rows whose key is there.
    pub on_conflict: Option<OnConflict>,
    /// What is answered of each row.
    pub returning: Vec<SelectItem>,
}

/// `ON CONFLICT [(columns)] | ON CONSTRAINT name] DO NOTHING | DO UPDATE SET … [WHERE …]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnConflict {
    /// The columns that may conflict, if they are named.
    pub columns: Vec<String>,
    /// The constraint, if it is named.
    pub constraint: Option<String>,
    /// What to do; `None`: nothing.
    pub update: Option<DoUpdate>,
}

/// `DO UPDATE SET assignments [WHERE condition]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoUpdate {
    /// The assignments.
    pub assignments: Vec<Assignment>,
    /// The condition.
    pub condition: Option<ast::Expr>,
}

/// `ALTER TABLE [IF EXISTS] name operations`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterTable {
    /// The table.
    pub name: String,
    /// Do nothing if it does not exist.
    pub if_exists: bool,
    /// What is changed.
    pub operations: Vec<AlterTableOperation>,
}

/// What stands between the name and APPEND ONLY.
type Items = (Vec<ColumnDef>, Vec<String>, Vec<TableConstraint>, Option<Box<WatermarkClause>>);

/// From behind `CREATE TABLE` to `AS`, which is left.
pub(super) fn parse_create_table(parser: &mut Parser<'_>) -> Parsed<CreateTable> {
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = statement_name(&parser.parse_object_name(false)?)?;
    let (columns, names, constraints, watermark) = parse_items(parser)?;
    let append_only = take_word(parser, "APPEND");
    if append_only {
        expect_word(parser, "ONLY")?;
    }
    Ok(CreateTable { name, if_not_exists, columns, names, constraints, watermark, append_only, query: None })
}

fn parse_items(parser: &mut Parser<'_>) -> Parsed<Items> {
    let (mut columns, mut constraints, mut watermark) = (Vec::new(), Vec::new(), None);
    if parser.peek_token_ref().token != Token::LParen {
        return Ok((columns, Vec::new(), constraints, watermark));
    }
    // Names without types: of a query's columns.
    if matches!(parser.peek_nth_token_ref(2).token, Token::Comma | Token::RParen) {
        return Ok((columns, parse_names(parser)?, constraints, watermark));
    }
    parser.expect_token(&Token::LParen)?;
    loop {
        if parser.consume_token(&Token::RParen) {
            return Ok((columns, Vec::new(), constraints, watermark));
        }
        let position = position_of(parser.peek_token_ref().span.start);
        if is_watermark(parser) {
            let clause = parse_watermark(parser, position)?;
            if watermark.replace(Box::new(clause)).is_some() {
                let error = Error::new(ErrorKind::Syntax, "a table has one WATERMARK clause, and this is a second");
                return Err(position.map_or(error.clone(), |position| error.at(position)).into());
            }
        } else if let Some(constraint) = parser.parse_optional_table_constraint()? {
            constraints.push(constraint);
        } else {
            columns.push(parser.parse_column_def()?);
        }
        if !parser.consume_token(&Token::Comma) {
            parser.expect_token(&Token::RParen)?;
            return Ok((columns, Vec::new(), constraints, watermark));
        }
    }
}

/// From behind the query of an INSERT.
pub(super) fn parse_on_conflict(parser: &mut Parser<'_>) -> Parsed<Option<OnConflict>> {
    if !parser.parse_keywords(&[Keyword::ON, Keyword::CONFLICT]) {
        return Ok(None);
    }
    let mut constraint = None;
    let mut columns = Vec::new();
    if parser.parse_keywords(&[Keyword::ON, Keyword::CONSTRAINT]) {
        constraint = Some(folded(&parser.parse_identifier()?));
    } else {
        columns = parse_names(parser)?;
    }
    expect_word(parser, "DO")?;
    if take_word(parser, "NOTHING") {
        return Ok(Some(OnConflict { columns, constraint, update: None }));
    }
    expect_word(parser, "UPDATE")?;
    parser.expect_keyword_is(Keyword::SET)?;
    let assignments = parser.parse_comma_separated(Parser::parse_assignment)?;
    let condition = if parser.parse_keyword(Keyword::WHERE) { Some(parser.parse_expr()?) } else { None };
    Ok(Some(OnConflict { columns, constraint, update: Some(DoUpdate { assignments, condition }) }))
}

/// `RETURNING items`; nothing if the word does not follow.
pub(super) fn parse_returning(parser: &mut Parser<'_>) -> Parsed<Vec<SelectItem>> {
    if !parser.parse_keyword(Keyword::RETURNING) {
        return Ok(Vec::new());
    }
    Ok(parser.parse_comma_separated(Parser::parse_select_item)?)
}

/// From behind `ALTER TABLE`.
pub(super) fn parse_alter_table(parser: &mut Parser<'_>) -> Parsed<AlterTable> {
    let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
    let _ = parser.parse_keyword(Keyword::ONLY);
    let name = statement_name(&parser.parse_object_name(false)?)?;
    let operations = parser.parse_comma_separated(Parser::parse_alter_table_operation)?;
    Ok(AlterTable { name, if_exists, operations })
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for CreateTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let if_not_exists = if self.if_not_exists { "IF NOT EXISTS " } else { "" };
        write!(f, "CREATE TABLE {if_not_exists}{}", quoted(&self.name))?;
        let mut items: Vec<String> = self.columns.iter().map(ToString::to_string).collect();
        items.extend(self.constraints.iter().map(ToString::to_string));
        items.extend(self.watermark.iter().map(ToString::to_string));
        if !items.is_empty() || (self.names.is_empty() && self.query.is_none()) {
            write!(f, " ({})", items.join(", "))?;
        }
        f.write_str(&names(&self.names))?;
        if self.append_only {
            f.write_str(" APPEND ONLY")?;
        }
        match &self.query {
            Some(query) => write!(f, " AS {query}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Insert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "INSERT INTO {}", quoted(&self.target))?;
        if let Some(alias) = &self.alias {
            write!(f, " AS {}", quoted(alias))?;
        }
        f.write_str(&names(&self.columns))?;
        match &self.query {
            Some(query) => write!(f, " {query}")?,
            None => f.write_str(" DEFAULT VALUES")?,
        }
        if let Some(conflict) = &self.on_conflict {
            write!(f, " {conflict}")?;
        }
        if !self.returning.is_empty() {
            write!(f, " RETURNING {}", list(&self.returning))?;
        }
        Ok(())
    }
}

impl fmt::Display for OnConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ON CONFLICT")?;
        if let Some(constraint) = &self.constraint {
            write!(f, " ON CONSTRAINT {}", quoted(constraint))?;
        }
        f.write_str(&names(&self.columns))?;
        match &self.update {
            None => f.write_str(" DO NOTHING"),
            Some(update) => {
                write!(f, " DO UPDATE SET {}", list(&update.assignments))?;
                match &update.condition {
                    Some(condition) => write!(f, " WHERE {condition}"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl fmt::Display for AlterTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let if_exists = if self.if_exists { "IF EXISTS " } else { "" };
        write!(f, "ALTER TABLE {if_exists}{} {}", quoted(&self.name), list(&self.operations))
    }
}
