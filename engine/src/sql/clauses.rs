//! Clauses that several statements have: column lists, names, options.

use datafusion::sql::sqlparser::ast::ColumnDef;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::error::{Error, ErrorKind, Position};

use super::dialect::is_word;
use super::name::folded;
use super::parser::Parsed;
use super::statement::{OptionEntry, Options, WatermarkClause};
use super::text::position_of;

/// `(name TYPE …, …, WATERMARK FOR c AS expression)`; nothing if no parenthesis opens.
pub(super) fn parse_columns(
    parser: &mut Parser<'_>,
    watermarks: bool,
) -> Parsed<(Vec<ColumnDef>, Option<Box<WatermarkClause>>)> {
    let mut columns = Vec::new();
    let mut watermark = None;
    if !parser.consume_token(&Token::LParen) {
        return Ok((columns, watermark));
    }
    loop {
        let next = parser.peek_token();
        let position = position_of(next.span.start);
        if is_watermark(parser) {
            let clause = parse_watermark(parser, position)?;
            if !watermarks || watermark.is_some() {
                let sentence = if watermarks {
                    "a stream has one WATERMARK clause, and this is a second"
                } else {
                    "only a stream has a WATERMARK clause"
                };
                let error = Error::new(ErrorKind::Syntax, sentence);
                return Err(position.map_or(error.clone(), |position| error.at(position)).into());
            }
            watermark = Some(Box::new(clause));
        } else {
            columns.push(parser.parse_column_def()?);
        }
        if !parser.consume_token(&Token::Comma) {
            parser.expect_token(&Token::RParen)?;
            return Ok((columns, watermark));
        }
    }
}

/// Whether `WATERMARK FOR` follows.
pub(super) fn is_watermark(parser: &Parser<'_>) -> bool {
    let is = |place: usize, keyword: &str| matches!(&parser.peek_nth_token_ref(place).token, Token::Word(word) if is_word(word, keyword));
    is(0, "WATERMARK") && is(1, "FOR")
}

/// `WATERMARK FOR column AS expression`.
pub(super) fn parse_watermark(
    parser: &mut Parser<'_>,
    position: Option<Position>,
) -> Result<WatermarkClause, ParserError> {
    parser.advance_token();
    parser.advance_token();
    let column = folded(&parser.parse_identifier()?);
    parser.expect_keyword_is(Keyword::AS)?;
    Ok(WatermarkClause { column, expression: parser.parse_expr()?, position })
}

/// `(a, b)`; nothing if no parenthesis opens.
pub(super) fn parse_names(parser: &mut Parser<'_>) -> Result<Vec<String>, ParserError> {
    if !parser.consume_token(&Token::LParen) {
        return Ok(Vec::new());
    }
    let names = parser.parse_comma_separated(Parser::parse_identifier)?;
    parser.expect_token(&Token::RParen)?;
    Ok(names.iter().map(folded).collect())
}

/// `WITH (name = value, …)`; nothing if `WITH` does not follow.
pub(super) fn parse_options(parser: &mut Parser<'_>) -> Parsed<Options> {
    if !parser.parse_keyword(Keyword::WITH) {
        return Ok(Options::default());
    }
    parse_option_list(parser)
}

/// `(name = value, …)`
pub(super) fn parse_option_list(parser: &mut Parser<'_>) -> Parsed<Options> {
    parser.expect_token(&Token::LParen)?;
    if parser.consume_token(&Token::RParen) {
        return Ok(Options::default());
    }
    let entries = parser.parse_comma_separated(parse_option)?;
    parser.expect_token(&Token::RParen)?;
    Ok(Options::new(entries)?)
}

fn parse_option(parser: &mut Parser<'_>) -> Result<OptionEntry, ParserError> {
    let position = position_of(parser.peek_token_ref().span.start);
    let mut name = folded(&parser.parse_identifier()?);
    while parser.consume_token(&Token::Period) {
        name.push('.');
        name.push_str(&folded(&parser.parse_identifier()?));
    }
    parser.expect_token(&Token::Eq)?;
    let negative = parser.consume_token(&Token::Minus);
    let token = parser.next_token();
    let value = match &token.token {
        Token::Number(number, _) if negative => format!("-{number}"),
        _ if negative => return parser.expected("a number", token),
        Token::Number(number, _) => number.clone(),
        Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => text.clone(),
        Token::DollarQuotedString(text) => text.value.clone(),
        Token::Word(word) if word.quote_style.is_none() => word.value.to_lowercase(),
        _ => return parser.expected("a string, a number or a word", token),
    };
    Ok(OptionEntry { name, value, position })
}
