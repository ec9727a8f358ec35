//! As-of joins, in words that the parser knows.
//!
//! It reads `ASOF JOIN t MATCH_CONDITION (…) ON …`. People also write `LEFT ASOF JOIN` and `ASOF LEFT JOIN`, and leave the
//! match condition to ON. The word GLOBAL, which PostgreSQL does not have and the parser reads before any JOIN, carries the
//! difference: `GLOBAL ASOF JOIN` keeps rows without a match, and `GLOBAL JOIN` and `GLOBAL LEFT JOIN` are as-of joins whose
//! match condition is part of ON. So GLOBAL in a text is a name, as in PostgreSQL ([`readable`]), and a query that is printed
//! gets the words of people back ([`text_of`]).
//!
//! An alias stands behind `FOR SYSTEM_TIME AS OF …`, and the parser prints it before that: it reads either.
//!
//! A dialect with `FOR SYSTEM_TIME AS OF` takes `at`, `before` and `changes` behind a table's name for the beginning of
//! another dialect's clauses; they are aliases here, and are given the word AS.

use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace};

use super::dialect::Dialect;

/// A query as text that reads back as the same query.
pub(crate) fn text_of(query: &ast::Query) -> String {
    let mut printed = query.to_string();
    if !printed.contains("GLOBAL") {
        return printed;
    }
    let Ok(tokens) = Tokenizer::new(Dialect::Postgres.parser(), &printed).tokenize_with_location() else {
        return printed;
    };
    let text = Words::of(tokens);
    for place in (0..text.places.len()).rev() {
        let said = text.printed_join(place).into_iter().flatten().enumerate();
        for (word, said) in said.collect::<Vec<_>>().into_iter().rev() {
            let length = text.word(place + word).len();
            if let Some(start) = byte_of(&printed, text.tokens[text.places[place + word]].span.start) {
                printed.replace_range(start..start + length, said);
            }
        }
    }
    printed
}

/// Where in a text a place is that the tokenizer gives.
fn byte_of(text: &str, location: Location) -> Option<usize> {
    let lines = text.split_inclusive('\n').take(usize::try_from(location.line.checked_sub(1)?).ok()?);
    let start: usize = lines.map(str::len).sum();
    let column = usize::try_from(location.column.checked_sub(1)?).ok()?;
    text[start..].char_indices().nth(column).map(|(at, _)| start + at)
}

/// The tokens of a text, with as-of joins and aliases as the parser reads them. Each keeps its place in the text.
pub(super) fn readable(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut text = Words::of(tokens);
    for place in 0..text.places.len() {
        text.read_global(place);
    }
    for place in 0..text.places.len() {
        match text.word(place).as_str() {
            "ASOF" => text.read_join(place),
            "FOR" => text.read_version(place),
            "AT" | "BEFORE" | "CHANGES" => text.read_alias(place),
            _ => {}
        }
    }
    text.into_tokens()
}

/// Tokens, and where those stand that are not blanks or comments.
struct Words {
    tokens: Vec<TokenWithSpan>,
    places: Vec<usize>,
    /// Tokens before which AS is missing.
    aliases: Vec<usize>,
}

impl Words {
    fn of(tokens: Vec<TokenWithSpan>) -> Self {
        let is_blank = |token: &TokenWithSpan| matches!(token.token, Token::Whitespace(_));
        let places = tokens.iter().enumerate().filter(|(_, token)| !is_blank(token)).map(|(at, _)| at).collect();
        Self { tokens, places, aliases: Vec::new() }
    }

    fn token(&self, place: usize) -> Option<&Token> {
        self.places.get(place).map(|&at| &self.tokens[at].token)
    }

    /// The word at a place in upper case, if one stands there that is not quoted.
    fn word(&self, place: usize) -> String {
        match self.token(place) {
            Some(Token::Word(word)) if word.quote_style.is_none() => word.value.to_uppercase(),
            _ => String::new(),
        }
    }

    /// The word so many places before.
    fn before(&self, place: usize, by: usize) -> String {
        place.checked_sub(by).map(|place| self.word(place)).unwrap_or_default()
    }

    /// Takes GLOBAL before a join for a name: it is an alias of what stands before it, or out of place.
    fn read_global(&mut self, place: usize) {
        const JOINS: [&str; 8] = ["JOIN", "INNER", "LEFT", "RIGHT", "FULL", "CROSS", "NATURAL", "ASOF"];
        if self.word(place) != "GLOBAL" || !JOINS.contains(&self.word(place + 1).as_str()) {
            return;
        }
        self.read_alias(place);
        let at = self.places[place];
        if let Token::Word(word) = &mut self.tokens[at].token {
            word.keyword = Keyword::NoKeyword;
        }
        let behind_parentheses = place.checked_sub(1).and_then(|before| self.token(before)) == Some(&Token::RParen);
        if behind_parentheses && !self.aliases.contains(&at) {
            self.aliases.push(at);
        }
    }

    /// The words that people write for the two at a place, where an as-of join is printed.
    fn printed_join(&self, place: usize) -> Option<[&'static str; 2]> {
        if self.word(place) != "GLOBAL" || self.before(place, 1) == "AS" {
            return None;
        }
        match (self.word(place + 1).as_str(), self.word(place + 2).as_str()) {
            ("ASOF" | "LEFT", "JOIN") => Some(["LEFT", "ASOF"]),
            ("JOIN", _) => Some(["ASOF", "JOIN"]),
            _ => None,
        }
    }

    /// Puts the words of an as-of join around ASOF in order.
    fn read_join(&mut self, asof: usize) {
        let (mut first, mut last, mut keeps) = (asof, asof, false);
        match (self.before(asof, 2).as_str(), self.before(asof, 1).as_str()) {
            ("LEFT", "OUTER") => (first, keeps) = (asof - 2, true),
            (_, "LEFT") => (first, keeps) = (asof - 1, true),
            (_, "INNER") => first = asof - 1,
            _ => {}
        }
        match (self.word(asof + 1).as_str(), self.word(asof + 2).as_str()) {
            ("LEFT", "OUTER") => (last, keeps) = (asof + 2, true),
            ("LEFT", _) => (last, keeps) = (asof + 1, true),
            ("INNER", _) => last = asof + 1,
            _ => {}
        }
        if self.word(last + 1) != "JOIN" {
            return;
        }
        let said: &[&str] = match (self.has_match_condition(last + 2), keeps) {
            (true, false) => &["ASOF"],
            (true, true) => &["GLOBAL", "ASOF"],
            (false, false) => &["GLOBAL"],
            (false, true) => &["GLOBAL", "LEFT"],
        };
        for (number, at) in self.places[first..=last].iter().enumerate() {
            let word = said.get(number).map(|word| Token::make_keyword(word));
            self.tokens[*at].token = word.unwrap_or(Token::Whitespace(Whitespace::Space));
        }
    }

    /// Whether MATCH_CONDITION follows the relation that begins here.
    fn has_match_condition(&self, from: usize) -> bool {
        let mut depth = 0_usize;
        for place in from..self.places.len() {
            match (self.token(place), self.word(place).as_str()) {
                (Some(Token::LParen), _) => depth += 1,
                (Some(Token::RParen), _) if depth == 0 => return false,
                (Some(Token::RParen), _) => depth -= 1,
                (Some(Token::SemiColon), _) => return false,
                (_, "MATCH_CONDITION") if depth == 0 => return true,
                (_, "ON" | "JOIN" | "USING") if depth == 0 => return false,
                _ => {}
            }
        }
        false
    }

    /// Puts an alias that stands before `FOR SYSTEM_TIME AS OF time` behind it.
    fn read_version(&mut self, start: usize) {
        let is_word =
            |by: usize| matches!(start.checked_sub(by).and_then(|place| self.token(place)), Some(Token::Word(_)));
        let alias = match self.before(start, 2).as_str() {
            "AS" => 2,
            "FROM" | "JOIN" => 0,
            // A word behind a word, which is the relation's name.
            _ => usize::from(is_word(2)),
        };
        let says_version =
            ["SYSTEM_TIME", "AS", "OF"].iter().zip(start + 1..).all(|(word, place)| self.word(place) == *word);
        if alias == 0 || !is_word(1) || !says_version {
            return;
        }
        // The time ends where the join's condition begins.
        let (mut end, mut depth) = (start + 4, 0_usize);
        while let Some(token) = self.token(end) {
            match (token, self.word(end).as_str()) {
                (Token::LParen, _) => depth += 1,
                (Token::RParen | Token::Comma | Token::SemiColon, _) if depth == 0 => break,
                (Token::RParen, _) => depth -= 1,
                (_, "ON" | "USING" | "JOIN" | "WHERE") if depth == 0 => break,
                _ => {}
            }
            end += 1;
        }
        let places = &self.places[start - alias..end];
        let mut tokens: Vec<TokenWithSpan> = places.iter().map(|&at| self.tokens[at].clone()).collect();
        tokens.rotate_left(alias);
        for (at, token) in places.iter().zip(tokens) {
            self.tokens[*at] = token;
        }
    }

    /// Notes an alias that stands behind a relation's name without AS.
    fn read_alias(&mut self, place: usize) {
        let Some(name) = place.checked_sub(1) else { return };
        let named = matches!(self.token(name), Some(Token::Word(_)));
        let lead = name.checked_sub(1).and_then(|lead| self.token(lead));
        let in_from = match lead {
            Some(Token::Comma | Token::Period) => true,
            Some(Token::Word(_)) => matches!(self.before(name, 1).as_str(), "FROM" | "JOIN"),
            _ => false,
        };
        let begins = matches!(self.token(place + 1), Some(Token::LParen)) || self.word(place + 1) == "TIME";
        if named && in_from && !begins {
            self.aliases.push(self.places[place]);
        }
    }

    fn into_tokens(self) -> Vec<TokenWithSpan> {
        if self.aliases.is_empty() {
            return self.tokens;
        }
        let mut tokens = Vec::with_capacity(self.tokens.len() + self.aliases.len());
        for (at, token) in self.tokens.into_iter().enumerate() {
            if self.aliases.contains(&at) {
                tokens.push(TokenWithSpan::new(Token::make_keyword("AS"), token.span));
            }
            tokens.push(token);
        }
        tokens
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::{parse_one, parse_query};

    use super::text_of;

    /// A query as the parser reads it; its text reads back as the same.
    fn read(text: &str) -> String {
        let read = parse_query(text).unwrap_or_else(|error| panic!("{text}: {error}")).body;
        assert_eq!(parse_query(&text_of(&read)).unwrap().body, read, "{}", text_of(&read));
        read.to_string()
    }

    #[test]
    fn global_is_a_name() {
        assert_eq!(read("SELECT * FROM a GLOBAL JOIN b ON true"), "SELECT * FROM a AS GLOBAL JOIN b ON true");
        assert_eq!(
            read("SELECT global.x FROM (SELECT 1 AS x) global LEFT JOIN b ON true"),
            "SELECT global.x FROM (SELECT 1 AS x) AS global LEFT JOIN b ON true"
        );
        assert_eq!(
            read("SELECT * FROM a GLOBAL ASOF JOIN b ON true"),
            "SELECT * FROM a AS GLOBAL GLOBAL JOIN b ON true"
        );
        for text in
            ["a x GLOBAL JOIN b ON true", "a AS x GLOBAL LEFT JOIN b ON true", "a JOIN b ON true GLOBAL JOIN c ON true"]
        {
            let error = parse_query(&format!("SELECT * FROM {text}")).unwrap_err();
            assert!(error.message().contains("GLOBAL"), "{text}: {error}");
        }
        let text = "SELECT 'it''s', E'\\'' FROM a LEFT ASOF JOIN b ON a.t > b.t";
        assert_eq!(text_of(&parse_query(text).unwrap().body), text);
    }

    #[test]
    fn every_way_to_write_an_as_of_join() {
        let matching = "b MATCH_CONDITION (a.t >= b.t) ON a.k = b.k";
        for (written, expected) in [
            ("ASOF JOIN", "ASOF JOIN"),
            ("asof inner join", "ASOF JOIN"),
            ("LEFT ASOF JOIN", "GLOBAL ASOF JOIN"),
            ("left outer asof join", "GLOBAL ASOF JOIN"),
            ("ASOF LEFT JOIN", "GLOBAL ASOF JOIN"),
            ("ASOF /* newest */ LEFT OUTER JOIN", "GLOBAL ASOF JOIN"),
        ] {
            let query = read(&format!("SELECT * FROM a {written} {matching}"));
            assert_eq!(query, format!("SELECT * FROM a {expected} {matching}"));
        }
        let within = "(SELECT * FROM b ASOF JOIN c MATCH_CONDITION (b.t > c.t)) AS b ON a.k = b.k AND a.t >= b.t";
        let query = read(&format!("SELECT * FROM a ASOF JOIN {within}"));
        assert_eq!(query, format!("SELECT * FROM a GLOBAL JOIN {within}"));
        let query = read("SELECT * FROM a ASOF LEFT JOIN b ON a.t >= b.t JOIN c ON true");
        assert_eq!(query, "SELECT * FROM a GLOBAL LEFT JOIN b ON a.t >= b.t JOIN c ON true");
        assert_eq!(read("SELECT asof, \"asof\" FROM a AS asof"), "SELECT asof, \"asof\" FROM a AS asof");
    }

    #[test]
    fn versions_and_the_aliases_that_look_like_them() {
        let versioned = "SELECT * FROM o LEFT JOIN r FOR SYSTEM_TIME AS OF o.t AS v ON o.k = v.k";
        // As the parser prints it.
        let printed = "SELECT * FROM o LEFT JOIN r AS v FOR SYSTEM_TIME AS OF o.t ON o.k = v.k";
        assert_eq!(read(versioned), printed);
        assert_eq!(read(printed), printed);
        let moved = "SELECT * FROM o JOIN r FOR SYSTEM_TIME AS OF date_trunc('day', o.t) - INTERVAL '1' HOUR v USING (k) WHERE v.x";
        assert!(read(moved).contains("r v FOR SYSTEM_TIME AS OF date_trunc('day', o.t) - INTERVAL '1' HOUR USING(k)"));
        assert_eq!(read("SELECT * FROM public.o at, r before"), "SELECT * FROM public.o AS at, r AS before");
        assert_eq!(read("SELECT a, b AT TIME ZONE 'UTC' FROM o"), "SELECT a, b AT TIME ZONE 'UTC' FROM o");
        assert!(parse_one("CREATE STREAM s (at TIMESTAMP, WATERMARK FOR at AS at) WITH (connector = 'x')").is_ok());
    }
}
