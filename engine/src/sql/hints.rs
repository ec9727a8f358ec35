//! Hints: what a query says in a comment behind SELECT, `/*+ STATE_TTL('orders' = '1 day') */`. It is Flink's form; other hints
//! are comments.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Query, Select, Visit, Visitor};
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::error::{Error, ErrorKind, Result};

use super::dialect::{RondelDialect, is_word};

const STATE_TTL: &str = "STATE_TTL";

/// How long what is read under a name is remembered, as all hints of a query say.
pub fn state_ttl_hints(query: &Query) -> Result<BTreeMap<String, String>> {
    let mut found = Found(BTreeMap::new());
    match query.visit(&mut found) {
        ControlFlow::Continue(()) => Ok(found.0),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Found(BTreeMap<String, String>);

impl Visitor for Found {
    type Break = Error;

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Error> {
        for hint in select.optimizer_hints.iter().filter(|hint| hint.prefix.is_empty()) {
            let entries = match entries(&hint.text) {
                Ok(entries) => entries,
                Err(error) => return ControlFlow::Break(error),
            };
            for (name, ttl) in entries {
                if let Some(before) = self.0.insert(name.clone(), ttl.clone())
                    && before != ttl
                {
                    let sentence = format!("{STATE_TTL} says '{before}' of '{name}', and '{ttl}'");
                    return ControlFlow::Break(
                        Error::new(ErrorKind::InvalidDefinition, sentence)
                            .with_hint("give one of the relations another alias, and name that"),
                    );
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// What a hint says of state: names and lengths of time.
fn entries(text: &str) -> Result<Vec<(String, String)>> {
    let tokens = Tokenizer::new(&RondelDialect::default(), text).tokenize();
    let Ok(tokens) = tokens else {
        return if text.to_ascii_uppercase().contains(STATE_TTL) { Err(usage(text)) } else { Ok(Vec::new()) };
    };
    let mut tokens = tokens.into_iter().filter(|token| !matches!(token, Token::Whitespace(_)));
    let mut entries = Vec::new();
    while let Some(token) = tokens.next() {
        if !matches!(&token, Token::Word(word) if is_word(word, STATE_TTL)) {
            continue;
        }
        if tokens.next() != Some(Token::LParen) {
            return Err(usage(text));
        }
        loop {
            let name = match tokens.next() {
                Some(Token::SingleQuotedString(name)) => name,
                Some(Token::Word(word)) if word.quote_style.is_some() => word.value,
                Some(Token::Word(word)) => word.value.to_lowercase(),
                _ => return Err(usage(text)),
            };
            let (Some(Token::Eq), Some(Token::SingleQuotedString(ttl))) = (tokens.next(), tokens.next()) else {
                return Err(usage(text));
            };
            entries.push((name, ttl));
            match tokens.next() {
                Some(Token::Comma) => {}
                Some(Token::RParen) => break,
                _ => return Err(usage(text)),
            }
        }
    }
    Ok(entries)
}

fn usage(text: &str) -> Error {
    Error::new(ErrorKind::Syntax, format!("the hint /*+{text}*/ cannot be read"))
        .with_hint("write /*+ STATE_TTL('orders' = '1 day', 'payments' = '2 h') */, with names or aliases of FROM")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parse_query;

    fn hints(text: &str) -> Result<Vec<String>> {
        let hints = state_ttl_hints(&parse_query(text)?.body)?;
        Ok(hints.into_iter().map(|(name, ttl)| format!("{name} {ttl}")).collect())
    }

    #[test]
    fn lengths_of_time_are_read_by_name() {
        for (text, expected) in [
            ("SELECT /*+ STATE_TTL('a'='1d','B' = '2 h') */ * FROM a, b", vec!["B 2 h", "a 1d"]),
            ("SELECT /*+ BROADCAST(a), state_ttl(A = '1 day') */ * FROM a", vec!["a 1 day"]),
            (
                "SELECT /*+ STATE_TTL('q'='1d') */ * FROM (SELECT /*+ STATE_TTL('a'='2d') */ * FROM a) q",
                vec!["a 2d", "q 1d"],
            ),
            ("SELECT /* STATE_TTL('a'='1d') */ * FROM a", vec![]),
            ("SELECT /*+ don't mind me */ * FROM a", vec![]),
        ] {
            assert_eq!(hints(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for text in [
            "SELECT /*+ STATE_TTL */ 1",
            "SELECT /*+ STATE_TTL('a') */ 1",
            "SELECT /*+ STATE_TTL('a'='1d' 'b'='1d') */ 1",
            "SELECT /*+ STATE_TTL('a'=1) */ 1",
            "SELECT /*+ STATE_TTL('a'='1d) */ 1",
            "SELECT /*+ STATE_TTL() */ 1",
        ] {
            assert!(hints(text).unwrap_err().message().contains("cannot be read"), "{text}");
        }
        let twice = "SELECT /*+ STATE_TTL('a'='1d') */ * FROM a UNION SELECT /*+ STATE_TTL('a'='2d') */ * FROM a";
        assert!(hints(twice).unwrap_err().message().contains("says '1d' of 'a', and '2d'"));
    }
}
