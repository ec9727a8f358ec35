//! Statements that belong to the protocol and not to the engine: transactions, cursors, COPY to the client.
//!
//! They are told apart by their first words. What isn't recognised goes to the engine, which has the better error.

use datafusion::sql::sqlparser::tokenizer::Token;
use rondel_engine::{Error, ErrorKind, Result};

use super::copy::CopyFormat;
use super::copy_in::CopyIn;
use crate::script::Piece;

/// A statement that the server answers itself.
#[derive(Debug, Clone)]
pub(super) enum Command {
    /// BEGIN, START TRANSACTION.
    Begin,
    /// COMMIT, END.
    Commit,
    /// ROLLBACK, ABORT.
    Rollback,
    /// SET TRANSACTION and what else has no meaning here but is sent by drivers: accepted.
    Nothing {
        /// The command tag.
        tag: &'static str,
    },
    /// DISCARD ALL.
    DiscardAll,
    /// DEALLOCATE; `None` is ALL.
    Deallocate(Option<String>),
    /// `COPY (query) TO STDOUT`.
    CopyOut {
        /// The query.
        query: Piece,
        /// How its rows are written.
        format: CopyFormat,
    },
    /// `COPY table FROM STDIN`.
    CopyIn(CopyIn),
    /// `DECLARE name CURSOR FOR query`.
    Declare {
        /// The cursor.
        name: String,
        /// Whether it outlives its transaction.
        hold: bool,
        /// The query.
        query: Piece,
    },
    /// `FETCH count FROM name`; `None` is ALL.
    Fetch {
        /// The cursor.
        name: String,
        /// Rows wanted.
        count: Option<u64>,
        /// MOVE: the rows are counted and not shown.
        silent: bool,
    },
    /// CLOSE; `None` is ALL.
    Close(Option<String>),
}

impl Command {
    /// The command that the piece is, if it is one of the server's.
    pub(super) fn recognise(piece: &Piece) -> Result<Option<Self>> {
        let mut words = Words { piece, at: 0 };
        let Some(first) = words.keyword() else { return Ok(None) };
        let command = match first.as_str() {
            "begin" => Self::Begin,
            "start" if words.take("transaction") => Self::Begin,
            "commit" | "end" => Self::Commit,
            "rollback" | "abort" if words.rest_has("to") => {
                return Err(Error::not_supported("savepoints are not supported")
                    .with_hint("leave the savepoint out: a transaction is committed or rolled back as a whole"));
            }
            "savepoint" | "release" => {
                return Err(Error::not_supported("savepoints are not supported")
                    .with_hint("leave the savepoint out: a transaction is committed or rolled back as a whole"));
            }
            "rollback" | "abort" => Self::Rollback,
            "set" if words.sets_nothing() => Self::Nothing { tag: "SET" },
            "discard" if words.take("all") => Self::DiscardAll,
            "discard" => Self::Nothing { tag: "DISCARD" },
            "unlisten" => Self::Nothing { tag: "UNLISTEN" },
            "deallocate" => {
                words.take("prepare");
                Self::Deallocate(if words.take("all") { None } else { Some(words.name()?) })
            }
            "copy" => match words.copy_in()? {
                Some(copy) => Self::CopyIn(copy),
                None => return words.copy_out(),
            },
            "declare" => return words.declare().map(Some),
            "fetch" => return words.fetch(false).map(Some),
            "move" => return words.fetch(true).map(Some),
            "close" => Self::Close(if words.take("all") { None } else { Some(words.name()?) }),
            _ => return Ok(None),
        };
        Ok(Some(command))
    }
}

/// Goes through a piece's tokens.
struct Words<'a> {
    piece: &'a Piece,
    at: usize,
}

impl Words<'_> {
    fn peek(&self) -> Option<&Token> {
        self.piece.tokens.get(self.at)
    }

    /// The next unquoted word, in lower case.
    fn keyword(&mut self) -> Option<String> {
        match self.peek() {
            Some(Token::Word(word)) if word.quote_style.is_none() => {
                let word = word.value.to_lowercase();
                self.at += 1;
                Some(word)
            }
            _ => None,
        }
    }

    fn is(&self, at: usize, word: &str) -> bool {
        matches!(self.piece.tokens.get(at), Some(Token::Word(found))
            if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word))
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.is(self.at, word);
        self.at += usize::from(found);
        found
    }

    fn take_token(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        self.at += usize::from(found);
        found
    }

    fn rest_has(&self, word: &str) -> bool {
        (self.at..self.piece.tokens.len()).any(|at| self.is(at, word))
    }

    fn expected(&self, what: &str) -> Error {
        let found = self.peek().map_or_else(|| "the end of the statement".to_owned(), |token| format!("\"{token}\""));
        let at = self.piece.part(self.at, self.at).start();
        let start = self.piece.start();
        let column = if at.line == start.line { at.column - start.column + 1 } else { at.column };
        let place = rondel_engine::error::Position { line: at.line - start.line + 1, column };
        Error::new(ErrorKind::Syntax, format!("expected {what}, found {found}")).at(place)
    }

    /// An identifier: unquoted ones in lower case.
    fn name(&mut self) -> Result<String> {
        match self.peek() {
            Some(Token::Word(word)) => {
                let name = if word.quote_style.is_some() { word.value.clone() } else { word.value.to_lowercase() };
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.expected("a name")),
        }
    }

    /// SET TRANSACTION and the like, which drivers send, and SET NAMES for what is so anyway.
    fn sets_nothing(&mut self) -> bool {
        if !self.take("session") {
            self.take("local");
        }
        let utf8 = |token: &Token| matches!(token, Token::SingleQuotedString(name) if name.replace('-', "").eq_ignore_ascii_case("utf8"));
        ["transaction", "characteristics", "constraints"].iter().any(|word| self.is(self.at, word))
            || (self.is(self.at, "names") && self.piece.tokens.get(self.at + 1).is_some_and(utf8))
    }

    /// `COPY table [(columns)] FROM STDIN [WITH] (options)`.
    fn copy_in(&mut self) -> Result<Option<CopyIn>> {
        let Some(from) = self.top_level("from").filter(|from| self.is(from + 1, "stdin")) else { return Ok(None) };
        let mut table = self.name()?;
        if self.take_token(&Token::Period) {
            if table != "public" {
                return Err(Error::not_supported("there is only the schema public").with_hint("write the name alone"));
            }
            table = self.name()?;
        }
        let mut columns = Vec::new();
        if self.take_token(&Token::LParen) {
            loop {
                columns.push(self.name()?);
                if !self.take_token(&Token::Comma) {
                    break;
                }
            }
            if !self.take_token(&Token::RParen) {
                return Err(self.expected("a closing parenthesis"));
            }
        }
        if self.at != from {
            return Err(self.expected("FROM"));
        }
        self.at = from + 2;
        Ok(Some(CopyIn { table, columns, format: self.copy_options()? }))
    }

    /// `COPY (query) TO STDOUT [WITH] (options)`, also `COPY relation [(columns)] TO STDOUT`.
    fn copy_out(&mut self) -> Result<Option<Command>> {
        let tokens = &self.piece.tokens;
        let Some(to) = self.top_level("to") else { return Ok(None) };
        if !self.is(to + 1, "stdout") {
            return Ok(None);
        }
        let query = if tokens.get(self.at) == Some(&Token::LParen) {
            if tokens.get(to - 1) != Some(&Token::RParen) {
                return Err(self.expected("a query in parentheses"));
            }
            self.piece.part(self.at + 1, to - 1)
        } else {
            let relation = self.piece.part(self.at, to);
            let columns = relation.tokens.iter().position(|token| *token == Token::LParen);
            let columns = columns.map(|from| {
                let columns = relation.part(from + 1, relation.tokens.len() - 1).text;
                (columns, relation.part(0, from).text)
            });
            let (columns, name) = columns.unwrap_or_else(|| ("*".to_owned(), relation.text.clone()));
            let query = crate::script::split(&format!("SELECT {columns} FROM {name}"))?;
            query.into_iter().next().ok_or_else(|| self.expected("a relation"))?
        };
        self.at = to + 2;
        let format = self.copy_options()?;
        Ok(Some(Command::CopyOut { query, format }))
    }

    /// Where a word stands outside of parentheses.
    fn top_level(&self, word: &str) -> Option<usize> {
        let mut depth = 0_i32;
        (self.at..self.piece.tokens.len()).find(|at| {
            match self.piece.tokens[*at] {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                _ => {}
            }
            depth == 0 && self.is(*at, word)
        })
    }

    /// Both spellings: `WITH (FORMAT csv, HEADER)` and the older `CSV HEADER`.
    fn copy_options(&mut self) -> Result<CopyFormat> {
        let mut format = CopyFormat::default();
        self.take("with");
        let in_parentheses = self.take_token(&Token::LParen);
        while self.peek().is_some() && self.peek() != Some(&Token::RParen) {
            let option = self.name()?.to_lowercase();
            match option.as_str() {
                "format" => {
                    let name = self.name()?.to_lowercase();
                    format.set_format(&name).ok_or_else(|| copy_format_error(&name))?;
                }
                "csv" | "text" | "binary" if !in_parentheses => {
                    format.set_format(&option).ok_or_else(|| copy_format_error(&option))?;
                }
                "header" => {
                    let off = self.take("false") || self.take("off");
                    let _ = !off && (self.take("true") || self.take("on"));
                    format.header = !off;
                }
                "delimiter" => format.delimiter = self.character()?,
                "quote" => format.quote = self.character()?,
                "escape" => format.escape = self.character()?,
                "null" => format.null = self.literal()?,
                "encoding" => {
                    let encoding = self.literal()?;
                    if !encoding.replace('-', "").eq_ignore_ascii_case("utf8") {
                        return Err(Error::not_supported("COPY writes UTF-8 only"));
                    }
                }
                _ => {
                    return Err(Error::not_supported(format!("COPY has no option \"{option}\""))
                        .with_hint("FORMAT text or csv, HEADER, DELIMITER, NULL, QUOTE, ESCAPE, ENCODING"));
                }
            }
            self.take_token(&Token::Comma);
        }
        if in_parentheses && !self.take_token(&Token::RParen) {
            return Err(self.expected("a closing parenthesis"));
        }
        if self.peek().is_some() {
            return Err(self.expected("the end of the statement"));
        }
        Ok(format)
    }

    fn literal(&mut self) -> Result<String> {
        match self.peek() {
            Some(Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text)) => {
                let text = text.clone();
                self.at += 1;
                Ok(text)
            }
            _ => Err(self.expected("a text")),
        }
    }

    fn character(&mut self) -> Result<u8> {
        let wrong = self.expected("one character");
        let text = self.literal()?;
        match text.as_bytes() {
            [byte] if byte.is_ascii() => Ok(*byte),
            _ => Err(wrong),
        }
    }

    fn declare(&mut self) -> Result<Command> {
        let name = self.name()?;
        while !self.take("cursor") {
            // BINARY, INSENSITIVE, NO SCROLL: every cursor goes forward over rows that don't change.
            self.keyword().ok_or_else(|| self.expected("CURSOR"))?;
        }
        let hold = self.take("with") && self.take("hold");
        if self.take("without") {
            self.take("hold");
        }
        if !self.take("for") {
            return Err(self.expected("FOR"));
        }
        let query = self.piece.part(self.at, self.piece.tokens.len());
        Ok(Command::Declare { name, hold, query })
    }

    fn fetch(&mut self, silent: bool) -> Result<Command> {
        let mut count = Some(1);
        if self.take("all") {
            count = None;
        } else if self.take("next") {
        } else {
            let forward = self.take("forward");
            if forward && self.take("all") {
                count = None;
            } else if let Some(Token::Number(number, _)) = self.peek() {
                count = Some(number.parse().map_err(|_| self.expected("a number of rows"))?);
                self.at += 1;
            } else if ["prior", "first", "last", "absolute", "relative", "backward"]
                .iter()
                .any(|word| self.is(self.at, word))
            {
                return Err(Error::not_supported("a cursor only goes forward").with_hint("FETCH FORWARD n FROM cursor"));
            }
        }
        let _ = self.take("from") || self.take("in");
        Ok(Command::Fetch { name: self.name()?, count, silent })
    }
}

fn copy_format_error(format: &str) -> Error {
    Error::not_supported(format!("COPY has no format \"{format}\"")).with_hint("FORMAT text, or FORMAT csv")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::split;

    fn recognise(text: &str) -> Result<Option<Command>> {
        Command::recognise(&split(text).unwrap()[0])
    }

    #[test]
    fn copy_to_the_client_keeps_the_query_and_its_place() {
        let Some(Command::CopyOut { query, format }) =
            recognise("COPY (SUBSCRIBE TO v) TO STDOUT WITH (FORMAT csv, HEADER true, NULL 'x')").unwrap()
        else {
            panic!()
        };
        assert_eq!(query.text, "SUBSCRIBE TO v");
        assert!(format.csv && format.header && format.null == "x" && format.delimiter == b',');
        let Some(Command::CopyOut { query, format }) = recognise("copy v (a, b) to stdout csv").unwrap() else {
            panic!()
        };
        assert_eq!(query.text, "SELECT a, b FROM v");
        assert!(format.csv);
        assert!(recognise("COPY (SELECT 1) TO 'file'").unwrap().is_none());
        assert!(recognise("COPY (SELECT 1) TO STDOUT (FORMAT binary)").is_err());
        assert!(recognise("COPY (SELECT a TO b) TO STDOUT").unwrap().is_some());
    }

    #[test]
    fn copy_from_the_client_names_the_table() {
        let Some(Command::CopyIn(copy)) = recognise("COPY public.\"T\" (a, \"B\") FROM STDIN CSV HEADER").unwrap()
        else {
            panic!()
        };
        assert_eq!((copy.table.as_str(), copy.columns), ("T", vec!["a".to_owned(), "B".to_owned()]));
        assert!(copy.format.csv && copy.format.header);
        assert!(matches!(recognise("copy t from stdin").unwrap(), Some(Command::CopyIn(_))));
        assert!(recognise("copy t from 'file'").unwrap().is_none());
        assert!(recognise("copy (select 1) from stdin").is_err());
    }

    #[test]
    fn cursors_go_forward() {
        let declared = recognise("DECLARE _psql_cursor NO SCROLL CURSOR FOR\nselect 1").unwrap();
        assert!(matches!(declared, Some(Command::Declare { hold: false, query, .. }) if query.text == "select 1"));
        for (text, expected) in [
            ("FETCH FORWARD 100 FROM c", Some(100)),
            ("fetch all in c", None),
            ("fetch next from c", Some(1)),
            ("fetch c", Some(1)),
            ("fetch 7 c", Some(7)),
        ] {
            assert!(
                matches!(recognise(text).unwrap(), Some(Command::Fetch { count, .. }) if count == expected),
                "{text}"
            );
        }
        assert!(recognise("fetch backward 3 from c").is_err());
    }

    #[test]
    fn other_statements_are_the_engines() {
        assert!(matches!(recognise("SET NAMES 'UTF8'").unwrap(), Some(Command::Nothing { .. })));
        assert!(matches!(recognise("set session characteristics as x").unwrap(), Some(Command::Nothing { .. })));
        for text in [
            "select 1",
            "show jobs",
            "set names 'latin1'",
            "set a = 1",
            "reset all",
            "create stream s",
            "explain select 1",
            "\"set\" x",
        ] {
            assert!(recognise(text).unwrap().is_none(), "{text}");
        }
        let error = recognise("declare c cursor\n fur select 1").unwrap_err();
        assert_eq!(error.position().map(|at| (at.line, at.column)), Some((2, 2)));
    }
}
