//! A *script* is a text of several statements; a *piece* is one of them, with its place in the text.
//!
//! The server splits scripts itself: it answers the statements of the protocol (SET, BEGIN, COPY … TO STDOUT, FETCH) and
//! hands the others to the engine one by one, so that an error's place can be told in the whole text, and in a file.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};
use rondel_engine::error::Position;
use rondel_engine::{Error, ErrorKind, Result};

/// One statement of a script.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The statement's text: no comment or space around it, no semicolon.
    pub text: String,
    /// Its tokens, without space and comments.
    pub tokens: Vec<Token>,
    /// Byte offset in `text` at which each token begins.
    offsets: Vec<usize>,
    /// Characters of the script before the piece.
    characters_before: usize,
    /// Where the piece begins in the script.
    start: Position,
    /// The dialect that an earlier statement of the script has set; none: the session's.
    dialect: Option<String>,
}

impl Piece {
    /// The dialect that an earlier statement of the script has set. None: the session's.
    pub fn dialect(&self) -> Option<&str> {
        self.dialect.as_deref()
    }

    /// The dialect that this statement sets.
    fn sets_dialect(&self) -> Option<String> {
        let mut words = self.tokens.iter().filter_map(|token| match token {
            Token::Word(word) => Some(word.value.to_ascii_lowercase()),
            Token::SingleQuotedString(text) => Some(text.to_ascii_lowercase()),
            _ => None,
        });
        let default = || Some("postgres".to_owned());
        match (words.next()?.as_str(), words.next()?.as_str()) {
            ("reset", "dialect" | "all") | ("discard", "all") => default(),
            ("set", first) => {
                let name = if matches!(first, "session" | "local") { words.next()? } else { first.to_owned() };
                let value = words.find(|word| word != "to")?;
                match (name.as_str(), value.as_str()) {
                    ("dialect", "default") => default(),
                    ("dialect", _) => Some(value),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// A place in the piece, as a place in the script.
    pub fn in_script(&self, at: Position) -> Position {
        if at.line <= 1 {
            Position { line: self.start.line, column: self.start.column + at.column.max(1) - 1 }
        } else {
            Position { line: self.start.line + at.line - 1, column: at.column }
        }
    }

    /// A place in the piece, as the 1-based number of a character in the script: what the wire shows a caret under.
    pub fn character(&self, at: Position) -> usize {
        let (mut line, mut column) = (1, 1);
        let mut before = 0;
        for character in self.text.chars() {
            if (line, column) >= (at.line, at.column) {
                break;
            }
            before += 1;
            if character == '\n' {
                (line, column) = (line + 1, 1);
            } else {
                column += 1;
            }
        }
        self.characters_before + before + 1
    }

    /// Byte offset in the text at which a token begins; the text's end if there is no such token.
    pub fn offset(&self, token: usize) -> usize {
        self.offsets.get(token).copied().unwrap_or(self.text.len())
    }

    /// Where the piece begins in the script.
    pub fn start(&self) -> Position {
        self.start
    }

    /// The text from token `from` up to token `to` (its end if there is no such token), as a piece of its own.
    pub fn part(&self, from: usize, to: usize) -> Self {
        let begin = self.offset(from);
        let end = self.offset(to).max(begin);
        let (from, to) = (from.min(self.tokens.len()), to.clamp(from, self.tokens.len().max(from)));
        let head = &self.text[..begin];
        let lines = head.matches('\n').count() as u64;
        let column = head.rsplit('\n').next().map_or(0, |last| last.chars().count()) as u64;
        let at = Position { line: lines + 1, column: column + 1 };
        Self {
            text: self.text[begin..end].trim_end().to_owned(),
            tokens: self.tokens.get(from..to.min(self.tokens.len())).unwrap_or_default().to_vec(),
            offsets: self.offsets[from..to.min(self.offsets.len())].iter().map(|offset| offset - begin).collect(),
            characters_before: self.characters_before + head.chars().count(),
            start: self.in_script(at),
            dialect: self.dialect.clone(),
        }
    }
}

/// Splits a script into its statements; empty ones are left out. An error's place is in the script.
pub fn split(script: &str) -> Result<Vec<Piece>> {
    let dialect = PostgreSqlDialect {};
    let tokens = Tokenizer::new(&dialect, script).tokenize_with_location().map_err(|error| {
        let Location { line, column } = error.location;
        Error::new(ErrorKind::Syntax, error.message).at(Position { line: line.max(1), column: column.max(1) })
    })?;
    let mut walk = Walk { script, line: 1, column: 1, bytes: 0, characters: 0 };
    let mut pieces = Vec::new();
    let mut open: Option<Open> = None;
    let mut dialect = None;
    for TokenWithSpan { token, span } in tokens {
        match token {
            Token::Whitespace(_) | Token::EOF => {}
            Token::SemiColon => {
                walk.to(span.start);
                if let Some(piece) = open.take() {
                    let piece = piece.close(script, &dialect);
                    dialect = piece.sets_dialect().or(dialect);
                    pieces.push(piece);
                }
            }
            token => {
                walk.to(span.start);
                let begin = walk.bytes;
                let piece = open.get_or_insert_with(|| Open {
                    characters_before: walk.characters,
                    start: Position { line: walk.line, column: walk.column },
                    begin,
                    end: begin,
                    tokens: Vec::new(),
                    offsets: Vec::new(),
                });
                piece.offsets.push(begin - piece.begin);
                walk.to(span.end);
                piece.end = walk.bytes;
                piece.tokens.push(token);
            }
        }
    }
    pieces.extend(open.map(|piece| piece.close(script, &dialect)));
    Ok(pieces)
}

/// A piece whose end is not reached.
struct Open {
    characters_before: usize,
    start: Position,
    begin: usize,
    end: usize,
    tokens: Vec<Token>,
    offsets: Vec<usize>,
}

impl Open {
    fn close(self, script: &str, dialect: &Option<String>) -> Piece {
        Piece {
            text: script[self.begin..self.end].to_owned(),
            tokens: self.tokens,
            offsets: self.offsets,
            characters_before: self.characters_before,
            start: self.start,
            dialect: dialect.clone(),
        }
    }
}

/// Turns the tokenizer's lines and columns into offsets, going through the text once.
struct Walk<'a> {
    script: &'a str,
    line: u64,
    column: u64,
    bytes: usize,
    characters: usize,
}

impl Walk<'_> {
    fn to(&mut self, at: Location) {
        for character in self.script[self.bytes..].chars() {
            if (self.line, self.column) >= (at.line, at.column) {
                break;
            }
            self.bytes += character.len_utf8();
            self.characters += 1;
            if character == '\n' {
                (self.line, self.column) = (self.line + 1, 1);
            } else {
                self.column += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_separated_by_semicolons_outside_of_literals() {
        let texts: Vec<_> =
            split("select ';'; -- a; comment\n\n create function f() as $$ a; b $$;;\n/* ; */ show jobs")
                .unwrap()
                .into_iter()
                .map(|piece| piece.text)
                .collect();
        assert_eq!(texts, ["select ';'", "create function f() as $$ a; b $$", "show jobs"]);
    }

    #[test]
    fn places_are_told_in_the_whole_script() {
        let pieces = split("select 'ü';\n  select x\n from y").unwrap();
        let second = &pieces[1];
        assert_eq!(second.start(), Position { line: 2, column: 3 });
        assert_eq!(second.in_script(Position { line: 1, column: 8 }), Position { line: 2, column: 10 });
        assert_eq!(second.in_script(Position { line: 2, column: 7 }), Position { line: 3, column: 7 });
        // Characters, not bytes: the ü counts once.
        assert_eq!(second.character(Position { line: 1, column: 8 }), 22);
        assert_eq!(second.character(Position { line: 2, column: 7 }), 30);
    }

    #[test]
    fn a_part_keeps_its_place() {
        let pieces = split("select 1; copy (select\n a from b) to stdout").unwrap();
        let part = pieces[1].part(2, 6);
        assert_eq!(part.text, "select\n a from b");
        assert_eq!(part.tokens.len(), 4);
        assert_eq!(part.in_script(Position { line: 1, column: 1 }), Position { line: 1, column: 17 });
        assert_eq!(part.character(Position { line: 1, column: 1 }), 17);
        assert_eq!(part.in_script(Position { line: 2, column: 2 }), Position { line: 2, column: 2 });
        assert_eq!(part.part(1, 2).text, "a");
    }

    #[test]
    fn an_unfinished_literal_is_a_syntax_error_with_its_place() {
        let error = split("select 1;\nselect 'abc").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Syntax);
        assert_eq!(error.position(), Some(Position { line: 2, column: 8 }));
    }

    #[test]
    fn a_statement_sets_the_dialect_of_those_behind_it() {
        let pieces = split(
            "select 1; set dialect = 'flink'; select 2; set timezone = 'utc'; select 3; SET SESSION dialect TO postgres;
             select 4; set dialect = flink; reset dialect; select 5",
        );
        let dialects: Vec<_> = pieces.unwrap().into_iter().map(|piece| piece.dialect().map(str::to_owned)).collect();
        let (flink, postgres) = (Some("flink".to_owned()), Some("postgres".to_owned()));
        let of = |name: &Option<String>, count: usize| vec![name.clone(); count];
        assert_eq!(dialects, [of(&None, 2), of(&flink, 4), of(&postgres, 2), of(&flink, 1), of(&postgres, 1)].concat());
    }

    #[test]
    fn nothing_is_no_statement() {
        assert!(split(" ;; -- nothing\n").unwrap().is_empty());
    }
}
