//! `SHOW`, `SET` and `RESET`: settings and lists.

use std::fmt;

use datafusion::sql::sqlparser::ast::Value;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::name::{folded, quoted};
use super::parser::take_word;
use super::statement::{SetValue, Show, Statement};

/// After `SHOW`.
pub(super) fn parse_show(parser: &mut Parser<'_>) -> Result<Show, ParserError> {
    if take_word(parser, "MATERIALIZED") {
        if !take_word(parser, "VIEWS") {
            return parser.expected("VIEWS", parser.peek_token());
        }
        return Ok(Show::Views);
    }
    if let [Token::Word(first), Token::Word(second)] = parser.peek_tokens()
        && super::dialect::is_word(&first, "SCHEMA")
        && super::dialect::is_word(&second, "VERSIONS")
    {
        parser.advance_token();
        parser.advance_token();
        if !take_word(parser, "FOR") {
            return Ok(Show::SchemaVersions(None));
        }
        if !take_word(parser, "STREAM") {
            return parser.expected("STREAM", parser.peek_token());
        }
        return Ok(Show::SchemaVersions(Some(name_of(parser)?)));
    }
    let name = parse_setting_name(parser)?;
    Ok(match name.as_str() {
        "streams" => Show::Streams,
        "views" => Show::Views,
        "sinks" => Show::Sinks,
        "jobs" => Show::Jobs,
        "checkpoints" => Show::Checkpoints,
        "tables" => Show::Tables,
        "all" => Show::All,
        _ => Show::Setting(name),
    })
}

fn name_of(parser: &mut Parser<'_>) -> Result<String, ParserError> {
    let name = parser.parse_object_name(false)?;
    super::name::statement_name(&name).map_err(|error| ParserError::ParserError(error.message().to_owned()))
}

/// After `SET`. `None`: not an assignment (`SET TRANSACTION …`, `SET SESSION CHARACTERISTICS …`).
pub(super) fn parse_set(parser: &mut Parser<'_>) -> Result<Option<Statement>, ParserError> {
    let [first, second] = parser.peek_tokens();
    let word = |token: &Token, wanted: &str| matches!(token, Token::Word(w) if super::dialect::is_word(w, wanted));
    if word(&first, "TRANSACTION") || word(&first, "CONSTRAINTS") || word(&second, "CHARACTERISTICS") {
        return Ok(None);
    }
    if word(&first, "ROLE") || word(&second, "AUTHORIZATION") {
        return Ok(None);
    }
    let local = take_word(parser, "LOCAL");
    if !local {
        let _ = take_word(parser, "SESSION");
    }
    let name = parse_setting_name(parser)?;
    // `SET TIME ZONE 'UTC'` has nothing between.
    let assigned = parser.consume_token(&Token::Eq) || parser.parse_keyword(Keyword::TO);
    if !assigned && name != "timezone" {
        return parser.expected("= or TO", parser.peek_token());
    }
    if parser.parse_keyword(Keyword::DEFAULT) {
        return Ok(Some(Statement::Set { name, value: SetValue::Default, local }));
    }
    let values = parser.parse_comma_separated(parse_setting_value)?;
    Ok(Some(Statement::Set { name, value: SetValue::Values(values), local }))
}

/// After `RESET`.
pub(super) fn parse_reset(parser: &mut Parser<'_>) -> Result<Statement, ParserError> {
    let name = parse_setting_name(parser)?;
    Ok(Statement::Reset((name != "all").then_some(name)))
}

/// A name with dots, or one of the names of several words that SQL has for settings.
fn parse_setting_name(parser: &mut Parser<'_>) -> Result<String, ParserError> {
    let ident = parser.parse_identifier()?;
    let mut name = folded(&ident).to_lowercase();
    if name == "time" && take_word(parser, "ZONE") {
        return Ok("timezone".to_owned());
    }
    if name == "transaction" && take_word(parser, "ISOLATION") {
        if !take_word(parser, "LEVEL") {
            return parser.expected("LEVEL", parser.peek_token());
        }
        return Ok("transaction_isolation".to_owned());
    }
    while parser.consume_token(&Token::Period) {
        name.push('.');
        name.push_str(&folded(&parser.parse_identifier()?).to_lowercase());
    }
    Ok(name)
}

fn parse_setting_value(parser: &mut Parser<'_>) -> Result<String, ParserError> {
    let token = parser.next_token();
    match &token.token {
        Token::Word(word) if word.quote_style.is_some() => Ok(word.value.clone()),
        Token::Word(word) => Ok(word.value.to_lowercase()),
        Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => Ok(text.clone()),
        Token::Number(number, _) => Ok(number.clone()),
        Token::Minus | Token::Plus => {
            let sign = if token.token == Token::Minus { "-" } else { "" };
            match parser.parse_number_value()?.value {
                Value::Number(number, _) => Ok(format!("{sign}{number}")),
                _ => parser.expected("a number", token),
            }
        }
        _ => parser.expected("a value", token),
    }
}

/// A setting's name as SQL text: each part between dots quoted where it must be.
pub(super) struct Words<'a>(pub(super) &'a str);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.split('.').map(quoted).collect();
        f.write_str(&parts.join("."))
    }
}

impl fmt::Display for Show {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Show::Streams => f.write_str("SHOW STREAMS"),
            Show::Views => f.write_str("SHOW VIEWS"),
            Show::Sinks => f.write_str("SHOW SINKS"),
            Show::Jobs => f.write_str("SHOW JOBS"),
            Show::Checkpoints => f.write_str("SHOW CHECKPOINTS"),
            Show::Tables => f.write_str("SHOW TABLES"),
            Show::SchemaVersions(None) => f.write_str("SHOW SCHEMA VERSIONS"),
            Show::SchemaVersions(Some(name)) => write!(f, "SHOW SCHEMA VERSIONS FOR STREAM {}", quoted(name)),
            Show::All => f.write_str("SHOW ALL"),
            Show::Setting(name) => write!(f, "SHOW {}", Words(name)),
        }
    }
}

impl fmt::Display for SetValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetValue::Default => f.write_str("DEFAULT"),
            SetValue::Values(values) => {
                let values: Vec<String> =
                    values.iter().map(|value| format!("'{}'", value.replace('\'', "''"))).collect();
                f.write_str(&values.join(", "))
            }
        }
    }
}
