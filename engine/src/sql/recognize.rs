//! `MATCH_RECOGNIZE`, in words that the parser knows.
//!
//! The parser has no WITHIN behind PATTERN: it is read as the definition of a variable of that name in quotes, which nobody
//! else can write ([`WITHIN`]). And where a pattern is written PostgreSQL's operators are none: `B+?` is B, `+` and `?`.
//!
//! The parser takes it behind the name of a table or a call only: a query in parentheses is read as the argument of one, and
//! stands there as itself again when the parser is done ([`restore`]).

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, ObjectName, Query, TableFactor, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Word};

use super::dialect::is_word;

/// The variable whose definition is what stands behind WITHIN.
pub const WITHIN: &str = "PATTERN WITHIN";

/// The call whose argument is a query in parentheses.
const ROWS: &str = "ROWS OF";

/// How deep the parts of a pattern may lie in each other, and how many signs may follow each other: the parser reads both by
/// calling itself, and does not count.
const DEEPEST: usize = 50;

/// The tokens of a text, with patterns as the parser reads them. Each keeps its place in the text. Fails with the place of a
/// pattern that is nested too deeply.
pub(super) fn readable(tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>, Location> {
    let is = |token: &TokenWithSpan, word: &str| matches!(&token.token, Token::Word(found) if is_word(found, word));
    if !tokens.iter().any(|token| is(token, "MATCH_RECOGNIZE")) {
        return Ok(tokens);
    }
    let mut read: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut tokens = tokens.into_iter().peekable();
    let mut inside = false;
    while let Some(token) = tokens.next() {
        if is(&token, "MATCH_RECOGNIZE") {
            inside = true;
            call_of_query(&mut read);
        }
        let begins = inside && is(&token, "PATTERN");
        read.push(token);
        if !begins {
            continue;
        }
        while let Some(blank) = tokens.next_if(is_blank) {
            read.push(blank);
        }
        if tokens.peek().is_none_or(|next| next.token != Token::LParen) {
            continue;
        }
        inside = false;
        let (mut depth, mut in_a_row) = (0_usize, 0_usize);
        for token in tokens.by_ref() {
            match token.token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                _ => {}
            }
            let (ends, place) = (depth == 0, token.span.start);
            let is_sign = !matches!(token.token, Token::Word(_) | Token::Number(..) | Token::LParen | Token::RParen);
            let signs = signs(token);
            in_a_row = if is_sign { in_a_row + signs.len() } else { 0 };
            if depth.max(in_a_row) > DEEPEST {
                return Err(place);
            }
            read.extend(signs);
            if ends {
                break;
            }
        }
        while let Some(blank) = tokens.next_if(is_blank) {
            read.push(blank);
        }
        let Some(within) = tokens.next_if(|next| is(next, "WITHIN")) else { continue };
        // What stands between WITHIN and DEFINE goes behind DEFINE.
        let mut length: Vec<TokenWithSpan> = Vec::new();
        while let Some(token) = tokens.next_if(|next| !is(next, "DEFINE") && next.token != Token::EOF) {
            length.push(token);
        }
        let Some(define) = tokens.next_if(|next| is(next, "DEFINE")) else {
            read.push(within);
            read.append(&mut length);
            continue;
        };
        let variable = Word { value: WITHIN.to_owned(), quote_style: Some('"'), keyword: Keyword::NoKeyword };
        let variable = TokenWithSpan::new(Token::Word(variable), within.span);
        let comma = TokenWithSpan::new(Token::Comma, define.span);
        let said = TokenWithSpan::new(Token::make_keyword("AS"), within.span);
        read.extend([define, variable, said]);
        read.append(&mut length);
        read.push(comma);
    }
    Ok(read)
}

/// Puts a query in parentheses that stands at the end, perhaps with an alias, into a call.
fn call_of_query(read: &mut Vec<TokenWithSpan>) {
    let places: Vec<usize> = (0..read.len()).filter(|at| !is_blank(&read[*at])).collect();
    let token = |place: usize| &read[places[place]].token;
    // The place of the parenthesis that one closes.
    let opened = |close: usize| {
        let mut depth = 0_usize;
        (0..=close).rev().find(|place| {
            match token(*place) {
                Token::RParen => depth += 1,
                Token::LParen => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0
        })
    };
    let is_name = |place: usize| matches!(token(place), Token::Word(word) if !matches!(word.keyword, Keyword::FROM | Keyword::JOIN));
    let Some(mut close) = places.len().checked_sub(1) else { return };
    // Its alias, with names of columns.
    if *token(close) == Token::RParen
        && let Some(open) = opened(close)
        && let Some(name) = open.checked_sub(1).filter(|name| is_name(*name))
    {
        close = name;
    }
    if is_name(close) {
        close = close.saturating_sub(1);
        if matches!(token(close), Token::Word(word) if word.keyword == Keyword::AS) {
            close = close.saturating_sub(1);
        }
    }
    if *token(close) != Token::RParen {
        return;
    }
    let Some(open) = opened(close) else { return };
    let keyword = match token(open + 1) {
        Token::Word(word) => word.keyword,
        _ => Keyword::NoKeyword,
    };
    let called = open.checked_sub(1).is_some_and(is_name);
    if called || !matches!(keyword, Keyword::SELECT | Keyword::WITH | Keyword::VALUES) {
        return;
    }
    let (open, close) = (places[open], places[close]);
    let (first, last) = (read[open].span, read[close].span);
    let word = |word: &str, quote: Option<char>| TokenWithSpan::new(Token::make_word(word, quote), first);
    let mut before = vec![word(ROWS, Some('"')), TokenWithSpan::new(Token::LParen, first)];
    let mut behind = vec![TokenWithSpan::new(Token::RParen, last)];
    if keyword == Keyword::VALUES {
        // An argument is no VALUES.
        before.push(TokenWithSpan::new(Token::LParen, first));
        before.extend([word("SELECT", None), TokenWithSpan::new(Token::Mul, first), word("FROM", None)]);
        behind.push(TokenWithSpan::new(Token::RParen, last));
    }
    read.splice(close + 1..close + 1, behind);
    read.splice(open..open, before);
}

/// Puts queries in parentheses back where a call stands for them.
pub(super) fn restore(query: &mut Query) {
    // The visitor never breaks off.
    let _ = query.visit(&mut Restoring);
}

struct Restoring;

impl VisitorMut for Restoring {
    type Break = ();

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::MatchRecognize { table, .. } = factor
            && let TableFactor::Table { name, args: Some(arguments), alias, .. } = &**table
            && is_call(name)
            && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Subquery(query)))] = arguments.args.as_slice()
        {
            let (subquery, alias) = (query.clone(), alias.clone());
            **table = TableFactor::Derived { lateral: false, subquery, alias, sample: None };
        }
        ControlFlow::Continue(())
    }
}

fn is_call(name: &ObjectName) -> bool {
    let [part] = name.0.as_slice() else { return false };
    part.as_ident().is_some_and(|name| name.quote_style.is_some() && name.value == ROWS)
}

fn is_blank(token: &TokenWithSpan) -> bool {
    matches!(token.token, Token::Whitespace(_))
}

/// The signs of a pattern that stand together in one token, one by one.
fn signs(token: TokenWithSpan) -> Vec<TokenWithSpan> {
    let sign = |letter: char| {
        Some(match letter {
            '*' => Token::Mul,
            '+' => Token::Plus,
            '?' => Token::Placeholder("?".to_owned()),
            '|' => Token::Pipe,
            '^' => Token::Caret,
            '-' => Token::Minus,
            '$' => Token::Placeholder("$".to_owned()),
            _ => return None,
        })
    };
    let text = token.token.to_string();
    match text.chars().map(sign).collect::<Option<Vec<Token>>>() {
        Some(signs) if !signs.is_empty() => {
            signs.into_iter().map(|sign| TokenWithSpan::new(sign, token.span)).collect()
        }
        _ => vec![token],
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Dialect, parse_one_in, parse_query};
    use crate::sql::Statement;

    fn read(text: &str) -> String {
        parse_query(text).unwrap_or_else(|error| panic!("{text}: {error}")).body.to_string()
    }

    #[test]
    fn what_is_printed_is_read_again() {
        for text in [
            "SELECT * FROM t MATCH_RECOGNIZE (PARTITION BY k ORDER BY at MEASURES a.x AS x ONE ROW PER MATCH \
             AFTER MATCH SKIP TO LAST b PATTERN (a b+? (c | d){2,3}? e*) WITHIN INTERVAL '1' HOUR DEFINE b AS b.x > 1) AS m",
            "SELECT * FROM (SELECT x FROM (SELECT x FROM t) AS u) AS s (y) MATCH_RECOGNIZE (ORDER BY y MEASURES y AS z \
             PATTERN (a??) DEFINE a AS y > 1)",
            "SELECT * FROM u JOIN (VALUES (1), (2)) AS s (y) MATCH_RECOGNIZE (ORDER BY y MEASURES y AS z PATTERN (a) \
             DEFINE a AS y > 1) AS m ON u.y = m.z",
            "SELECT * FROM TUMBLE(TABLE t, DESCRIPTOR(at), INTERVAL '1' MINUTE) MATCH_RECOGNIZE (ORDER BY at \
             MEASURES at AS z PATTERN (a b{,2}) DEFINE a AS y > 1)",
        ] {
            let printed = read(text);
            assert_eq!(read(&printed), printed);
            assert!(!printed.contains("ROWS OF"), "{printed}");
        }
    }

    #[test]
    fn flinks_names_keep_their_case() {
        let text = "SELECT * FROM Ticker MATCH_RECOGNIZE (PARTITION BY symbol ORDER BY rowtime MEASURES LAST(PRICE_UP.rowtime) AS e \
                    ONE ROW PER MATCH AFTER MATCH SKIP TO LAST PRICE_UP PATTERN (START_ROW PRICE_DOWN+ PRICE_UP) \
                    WITHIN INTERVAL '1' HOUR DEFINE PRICE_UP AS PRICE_UP.price > LAST(PRICE_DOWN.price, 1))";
        let Statement::Query(query) = parse_one_in(text, Dialect::Flink).unwrap().statement else { panic!() };
        let printed = query.body.to_string();
        assert!(printed.contains("\"PRICE_UP\".price > LAST(\"PRICE_DOWN\".price, 1)"), "{printed}");
        assert!(query.emit.is_some(), "matches are shown at the watermark, as windows are");
    }

    #[test]
    fn a_pattern_may_not_be_nested_without_end() {
        let of = |pattern: String| {
            let text = format!(
                "SELECT * FROM t\nMATCH_RECOGNIZE (ORDER BY x MEASURES x AS x PATTERN ({pattern}) DEFINE a AS x > 1)"
            );
            parse_query(&text)
        };
        let nested = |depth: usize| of(format!("{}a{}", "(".repeat(depth), ")".repeat(depth)));
        assert!(nested(40).is_ok());
        for error in
            [nested(100_000), of(format!("a{}", "?".repeat(100_000))), of(format!("a{}", "* ".repeat(100_000)))]
        {
            let error = error.unwrap_err();
            assert_eq!(error.message(), "the PATTERN is nested too deeply");
            assert_eq!(error.position().unwrap().line, 2);
        }
        assert!(of(format!("a{}", " b{1,2}? c+".repeat(2_000))).is_ok(), "long is not deep");
    }

    #[test]
    fn a_pattern_that_is_not_closed_is_an_error() {
        for text in [
            "SELECT * FROM t MATCH_RECOGNIZE (ORDER BY x MEASURES x AS x PATTERN (a",
            "SELECT * FROM t MATCH_RECOGNIZE (ORDER BY x MEASURES x AS x PATTERN (a) WITHIN INTERVAL '1' HOUR)",
            "SELECT * FROM (SELECT 1)) MATCH_RECOGNIZE",
            "MATCH_RECOGNIZE",
            ") MATCH_RECOGNIZE (",
        ] {
            assert!(parse_query(text).is_err(), "{text}");
        }
    }
}
