//! What clients write and DataFusion can't plan, in words that it can.
//!
//! datafusion-pg-catalog rewrites the most of it; these are the rest of what psql 15 sends. Texts are changed by the places
//! of their tokens, so that literals stay as they were written.

use datafusion::sql::sqlparser::tokenizer::Token;

use crate::script::Piece;

/// The piece's text, in words that can be planned.
pub(super) fn rewritten(piece: &Piece) -> String {
    let tokens = Tokens(piece);
    let mut text = String::with_capacity(piece.text.len());
    let (mut at, mut copied) = (0, 0);
    while at < piece.tokens.len() {
        let found = tokens.array_of_query(at).or_else(|| tokens.is_composite(at));
        let Some((until, replacement)) = found.or_else(|| tokens.operator(at)).or_else(|| tokens.user(at)) else {
            at += 1;
            continue;
        };
        text.push_str(&piece.text[copied..piece.offset(at)]);
        text.push_str(&replacement);
        copied = piece.offset(until);
        at = until;
    }
    text.push_str(&piece.text[copied..]);
    text
}

struct Tokens<'a>(&'a Piece);

impl Tokens<'_> {
    fn word(&self, at: usize, word: &str) -> bool {
        matches!(self.0.tokens.get(at), Some(Token::Word(found)) if found.value.eq_ignore_ascii_case(word))
    }

    fn token(&self, at: usize, token: &Token) -> bool {
        self.0.tokens.get(at) == Some(token)
    }

    /// `ARRAY(SELECT …)`: privileges, role memberships, options. Rondel has none of them.
    fn array_of_query(&self, at: usize) -> Option<(usize, String)> {
        if !(self.word(at, "array") && self.token(at + 1, &Token::LParen) && self.word(at + 2, "select")) {
            return None;
        }
        let mut depth = 0_usize;
        let closing = (at + 1..self.0.tokens.len()).find(|index| {
            match self.0.tokens[*index] {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                _ => {}
            }
            depth == 0
        })?;
        Some((closing + 1, "CAST(NULL AS TEXT[])".to_owned()))
    }

    /// `(SELECT c.relkind = 'c' FROM …)`: whether a type is a row type. A scalar subquery has to be an aggregate.
    fn is_composite(&self, at: usize) -> Option<(usize, String)> {
        let fits = self.word(at, "select")
            && self.word(at + 1, "c")
            && self.token(at + 2, &Token::Period)
            && self.word(at + 3, "relkind")
            && self.token(at + 4, &Token::Eq)
            && self.word(at + 6, "from");
        fits.then(|| (at + 4, "SELECT max(c.relkind) ".to_owned()))
    }

    /// `OPERATOR(pg_catalog.<>)`: the operator.
    fn operator(&self, at: usize) -> Option<(usize, String)> {
        let fits = self.word(at, "operator")
            && self.token(at + 1, &Token::LParen)
            && self.word(at + 2, "pg_catalog")
            && self.token(at + 3, &Token::Period)
            && self.token(at + 5, &Token::RParen);
        fits.then(|| (at + 6, format!("{} ", self.0.tokens[at + 4])))
    }

    /// `CURRENT_USER` and its like, which are functions without parentheses.
    fn user(&self, at: usize) -> Option<(usize, String)> {
        let Token::Word(word) = self.0.tokens.get(at)? else { return None };
        let name = word.value.to_lowercase();
        let fits = word.quote_style.is_none()
            && matches!(name.as_str(), "current_user" | "session_user")
            && !(at > 0 && self.token(at - 1, &Token::Period))
            && !self.token(at + 1, &Token::LParen)
            && !self.token(at + 1, &Token::Period);
        fits.then(|| (at + 1, format!("rondel_{name}() ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_known_constructs_are_changed() {
        for (text, expected) in [
            ("SELECT array(select f(x) from y), E'\\n'", "SELECT CAST(NULL AS TEXT[]), E'\\n'"),
            ("SELECT ARRAY[1, 2], array_length(a)", "SELECT ARRAY[1, 2], array_length(a)"),
            (
                "SELECT 1 WHERE (SELECT c.relkind = 'c' FROM pg_class c)",
                "SELECT 1 WHERE (SELECT max(c.relkind) = 'c' FROM pg_class c)",
            ),
            ("SELECT 'array(select'", "SELECT 'array(select'"),
            ("SELECT a OPERATOR(pg_catalog.<>) 1", "SELECT a <> 1"),
            ("SELECT current_user, x.session_user", "SELECT rondel_current_user() , x.session_user"),
        ] {
            let pieces = crate::script::split(text).unwrap();
            assert_eq!(rewritten(&pieces[0]), expected);
        }
    }
}
