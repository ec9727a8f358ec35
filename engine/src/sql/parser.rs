//! The statement parser: Rondel's own statements, and DataFusion's parser for the rest.

use std::borrow::Cow;

use datafusion::sql::parser::{DFParser, DFParserBuilder, Statement as DataFusionStatement};
use datafusion::sql::sqlparser::ast::{self, Expr, ObjectName};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};

use crate::error::{Error, ErrorKind, Position, Result};

use super::asof::readable;
use super::clauses::{parse_columns, parse_names, parse_options};
use super::dialect::{Dialect, is_word};
use super::emit::{EmitClause, parse_emit};
use super::flink;
use super::job::{
    parse_alter_job, parse_checkpoint, parse_create_savepoint, parse_drop_savepoint, parse_start_job, parse_stop_job,
};
use super::name::{folded, statement_name};
use super::recognize;
use super::show::{parse_reset, parse_set, parse_show};
use super::statement::{
    CreateSink, CreateStream, CreateView, DropObjects, ObjectKind, ParsedStatement, Query, SetValue, Statement,
    Subscription, Transaction,
};
use super::table::{Insert, parse_alter_table, parse_create_table, parse_on_conflict, parse_returning};
use super::text::{Lines, position_of};

/// How deeply statements may be nested.
const RECURSION_LIMIT: usize = 50;

/// Reads all statements of a text. Empty ones are left out.
pub fn parse(text: &str) -> Result<Vec<ParsedStatement>> {
    parse_in(text, Dialect::Postgres)
}

/// Reads all statements of a text whose first is in this dialect; `SET dialect` in the text holds for what follows it.
pub fn parse_in(text: &str, dialect: Dialect) -> Result<Vec<ParsedStatement>> {
    StatementParser::new(text, dialect)?.statements()
}

/// Reads a text that holds one statement.
pub fn parse_one(text: &str) -> Result<ParsedStatement> {
    parse_one_in(text, Dialect::Postgres)
}

/// Reads a text that holds one statement of this dialect.
pub fn parse_one_in(text: &str, dialect: Dialect) -> Result<ParsedStatement> {
    let mut statements = parse_in(text, dialect)?;
    match (statements.pop(), statements.is_empty()) {
        (Some(one), true) => Ok(one),
        (Some(last), false) => {
            Err(Error::new(ErrorKind::Syntax, "one statement is wanted here, and the text holds several")
                .at(last.position))
        }
        (None, _) => Err(Error::new(ErrorKind::Syntax, "the text holds no statement")),
    }
}

/// Reads a text that is one query, perhaps with an `EMIT` suffix.
pub fn parse_query(text: &str) -> Result<Query> {
    let parsed = parse_one(text)?;
    match parsed.statement {
        Statement::Query(query) => Ok(query),
        other => Err(Error::new(ErrorKind::Syntax, format!("a query is wanted here, and this is {}", other.tag()))
            .at(parsed.position)),
    }
}

/// Reads a text that is one expression.
pub fn parse_expression(text: &str) -> Result<Expr> {
    let mut parser = StatementParser::new(text, Dialect::Postgres)?;
    let expression = parser.df.parser.parse_expr();
    let expression = expression.map_err(|error| parser.error(error))?;
    parser.expect_end(&[Token::EOF])?;
    Ok(expression)
}

/// Takes the next word if it is this one, whether the parser has it for a keyword or not.
pub(super) fn take_word(parser: &mut Parser<'_>, word: &str) -> bool {
    let found = matches!(&parser.peek_token_ref().token, Token::Word(next) if is_word(next, word));
    if found {
        parser.advance_token();
    }
    found
}

/// The parser behind so many words that are known.
fn advanced<'a, 'b>(parser: &'a mut Parser<'b>, words: usize) -> &'a mut Parser<'b> {
    (0..words).for_each(|_| parser.advance_token());
    parser
}

pub(super) fn expect_word(parser: &mut Parser<'_>, word: &str) -> Result<(), ParserError> {
    if take_word(parser, word) { Ok(()) } else { parser.expected(word, parser.peek_token()) }
}

/// A mistake in the text, the parser's or ours.
pub(super) enum Mistake {
    Parser(ParserError),
    Own(Error),
}

impl From<ParserError> for Mistake {
    fn from(error: ParserError) -> Self {
        Mistake::Parser(error)
    }
}

impl From<Error> for Mistake {
    fn from(error: Error) -> Self {
        Mistake::Own(error)
    }
}

pub(super) type Parsed<T> = std::result::Result<T, Mistake>;

/// Reads one text.
struct StatementParser<'a> {
    df: DFParser<'static>,
    dialect: Dialect,
    text: &'a str,
    lines: Lines<'a>,
    /// Where the tokens stand that are not blanks or comments.
    spans: Vec<Span>,
}

impl<'a> StatementParser<'a> {
    fn new(text: &'a str, dialect: Dialect) -> Result<Self> {
        Self::from_byte(text, 0, dialect)
    }

    /// Reads what follows a byte of the text.
    fn from_byte(text: &'a str, start: usize, dialect: Dialect) -> Result<Self> {
        let lines = Lines::of(text);
        // What was read before is blank now: places stay places in the whole text.
        let rest = match start {
            0 => Cow::Borrowed(text),
            _ => {
                let blank = text[..start].chars().map(|read| if read == '\n' { '\n' } else { ' ' });
                Cow::Owned(blank.collect::<String>() + &text[start..])
            }
        };
        let tokens = Tokenizer::new(dialect.parser(), &rest).tokenize_with_location().map_err(|error| {
            let place = position_of(error.location).unwrap_or_else(|| lines.end());
            Error::new(ErrorKind::Syntax, error.message).at(place)
        })?;
        let words = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_)));
        let spans = words.map(|token| token.span).collect();
        let tokens = match dialect {
            Dialect::Postgres => tokens,
            Dialect::Flink => flink::translated(tokens),
        };
        let tokens = recognize::readable(tokens).map_err(|place| {
            let place = position_of(place).unwrap_or_else(|| lines.end());
            Error::new(ErrorKind::Syntax, "the PATTERN is nested too deeply").at(place)
        })?;
        let df = DFParserBuilder::new(readable(tokens))
            .with_dialect(dialect.parser())
            .with_recursion_limit(RECURSION_LIMIT)
            .build()?;
        Ok(Self { df, dialect, text, lines, spans })
    }

    fn statements(mut self) -> Result<Vec<ParsedStatement>> {
        let mut statements: Vec<ParsedStatement> = Vec::new();
        loop {
            while self.df.parser.consume_token(&Token::SemiColon) {}
            if self.df.parser.peek_token_ref().token == Token::EOF {
                return Ok(statements);
            }
            let parsed = self.parsed_statement().map_err(|mistake| self.mistake(mistake))?;
            self.expect_end(&[Token::SemiColon, Token::EOF])?;
            let dialect = dialect_after(&parsed.statement).unwrap_or(self.dialect);
            if dialect != self.dialect {
                self = Self::from_byte(self.text, parsed.range.end, dialect)?;
            }
            statements.push(parsed);
        }
    }

    fn parsed_statement(&mut self) -> Parsed<ParsedStatement> {
        let start = self.df.parser.peek_token_ref().span.start;
        let statement = self.statement()?;
        let range = self.lines.offset(start)..self.lines.offset(self.last_end());
        let position = position_of(start).unwrap_or_else(|| self.lines.end());
        let text = self.text[range.clone()].to_owned();
        Ok(ParsedStatement { statement, text, range, position, dialect: self.dialect })
    }

    /// Where the last token ends that was taken.
    fn last_end(&self) -> Location {
        let next = self.df.parser.peek_token_ref();
        let taken = match next.token {
            Token::EOF => self.spans.len(),
            _ => self.spans.partition_point(|span| span.start < next.span.start),
        };
        self.spans[..taken].last().map_or(next.span.start, |span| span.end)
    }

    fn statement(&mut self) -> Parsed<Statement> {
        let parser = &mut self.df.parser;
        let [first, second] = parser.peek_tokens();
        let Token::Word(first) = first else { return self.query_or_other() };
        let second = match &second {
            Token::Word(word) if word.quote_style.is_none() => word.value.to_uppercase(),
            _ => String::new(),
        };
        if first.quote_style.is_some() {
            return self.query_or_other();
        }
        match (first.value.to_uppercase().as_str(), second.as_str()) {
            ("CREATE", "STREAM") => self.create_stream(),
            ("CREATE", "SINK") => self.create_sink(),
            ("CREATE", "VIEW" | "MATERIALIZED") => self.create_view(),
            ("CREATE", "TABLE") => self.create_table(),
            ("ALTER", "TABLE") => {
                parser.advance_token();
                parser.advance_token();
                Ok(Statement::AlterTable(parse_alter_table(parser)?))
            }
            ("TRUNCATE", _) => self.truncate(),
            ("CREATE", "OR") => {
                let error = Error::not_supported("CREATE OR REPLACE is not supported yet")
                    .with_hint("DROP the old one first, or use IF NOT EXISTS");
                Err(self.here(error).into())
            }
            ("INSERT", "INTO") => self.insert(),
            ("DROP", "TABLE" | "STREAM" | "VIEW" | "MATERIALIZED" | "SINK" | "JOB") => self.drop_objects(),
            ("SUBSCRIBE", _) => Ok(Statement::Subscribe { to: self.subscription()?, copy: false }),
            ("COPY", _) => self.copy(),
            ("EXPLAIN", _) => self.explain(),
            ("SHOW", _) => {
                parser.advance_token();
                Ok(Statement::Show(parse_show(parser)?))
            }
            ("SET", _) => self.set(),
            ("RESET", _) => {
                parser.advance_token();
                Ok(parse_reset(parser)?)
            }
            ("ALTER", "JOB") => parse_alter_job(advanced(parser, 2)),
            ("START", "JOB") => parse_start_job(advanced(parser, 2)),
            ("STOP", "JOB") => parse_stop_job(advanced(parser, 2)),
            ("CHECKPOINT", _) => parse_checkpoint(advanced(parser, 1)),
            ("CREATE", "SAVEPOINT") => parse_create_savepoint(advanced(parser, 2)),
            ("DROP", "SAVEPOINT") => parse_drop_savepoint(advanced(parser, 2)),
            ("DESCRIBE", word) if !matches!(word, "SELECT" | "WITH" | "VALUES") => {
                parser.advance_token();
                // A table may be called "stream".
                if matches!(parser.peek_nth_token(1).token, Token::Word(_)) {
                    let _ = take_word(parser, "STREAM");
                }
                Ok(Statement::Describe(statement_name(&parser.parse_object_name(false)?)?))
            }
            ("REFRESH", "STREAM") => {
                parser.advance_token();
                parser.advance_token();
                Ok(Statement::Refresh(statement_name(&parser.parse_object_name(false)?)?))
            }
            ("FLUSH", _) => {
                parser.advance_token();
                Ok(Statement::Flush)
            }
            ("BEGIN", _) | ("START", "TRANSACTION") => Ok(self.transaction(Transaction::Begin)),
            ("COMMIT" | "END", _) => Ok(self.transaction(Transaction::Commit)),
            ("ROLLBACK" | "ABORT", _) => Ok(self.transaction(Transaction::Rollback)),
            _ => self.query_or_other(),
        }
    }

    fn query_or_other(&mut self) -> Parsed<Statement> {
        let parser = &self.df.parser;
        let is_query = match &parser.peek_token_ref().token {
            Token::LParen => true,
            Token::Word(word) => {
                matches!(word.keyword, Keyword::SELECT | Keyword::WITH | Keyword::VALUES | Keyword::TABLE)
            }
            _ => false,
        };
        if is_query {
            return Ok(Statement::Query(self.query()?));
        }
        match self.df.parse_statement() {
            Ok(DataFusionStatement::Statement(statement)) => Ok(match *statement {
                ast::Statement::Update(update) => Statement::Update(Box::new(update)),
                ast::Statement::Delete(delete) => Statement::Delete(Box::new(delete)),
                other => Statement::Other(Box::new(other)),
            }),
            Ok(other) => Err(Error::not_supported(format!("Rondel does not know the statement {other}")).into()),
            Err(error) => Err(Mistake::Own(Error::from(error))),
        }
    }

    fn query(&mut self) -> Parsed<Query> {
        let parser = &mut self.df.parser;
        let mut body = parser.parse_query()?;
        recognize::restore(&mut body);
        let mut emit = parse_emit(parser)?.map(Box::new);
        if self.dialect == Dialect::Flink && flink::rewrite(&mut body)? && emit.is_none() {
            emit = Some(Box::new(EmitClause::after_watermark()));
        }
        Ok(Query { body, emit })
    }

    fn create_stream(&mut self) -> Parsed<Statement> {
        let parser = &mut self.df.parser;
        parser.advance_token();
        parser.advance_token();
        let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
        let name = statement_name(&parser.parse_object_name(false)?)?;
        let (columns, watermark) = parse_columns(parser, true)?;
        let options = parse_options(parser)?;
        Ok(Statement::CreateStream(CreateStream { name, if_not_exists, columns, watermark, options }))
    }

    fn create_view(&mut self) -> Parsed<Statement> {
        let parser = &mut self.df.parser;
        parser.advance_token();
        let materialized = take_word(parser, "MATERIALIZED");
        expect_word(parser, "VIEW")?;
        let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
        let name = statement_name(&parser.parse_object_name(false)?)?;
        let columns = parse_names(parser)?;
        let options = parse_options(parser)?;
        parser.expect_keyword_is(Keyword::AS)?;
        let query = self.query()?;
        Ok(Statement::CreateView(CreateView { name, materialized, if_not_exists, columns, options, query }))
    }

    fn create_sink(&mut self) -> Parsed<Statement> {
        let parser = &mut self.df.parser;
        parser.advance_token();
        parser.advance_token();
        let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
        let name = statement_name(&parser.parse_object_name(false)?)?;
        let (columns, _) = parse_columns(parser, false)?;
        let options = parse_options(parser)?;
        let query = if parser.parse_keyword(Keyword::AS) { Some(self.query()?) } else { None };
        Ok(Statement::CreateSink(CreateSink { name, if_not_exists, columns, options, query }))
    }

    fn create_table(&mut self) -> Parsed<Statement> {
        let parser = &mut self.df.parser;
        parser.advance_token();
        parser.advance_token();
        let mut create = parse_create_table(parser)?;
        let named = create.query.is_none() && !create.names.is_empty();
        if parser.parse_keyword(Keyword::AS) {
            create.query = Some(self.query()?);
        } else if named {
            return Err(parser
                .expected::<()>("AS and a query: the columns have no types", parser.peek_token())
                .err()
                .map_or_else(|| Mistake::Own(Error::internal("a parser's error without one")), Mistake::Parser));
        }
        Ok(Statement::CreateTable(create))
    }

    fn insert(&mut self) -> Parsed<Statement> {
        let parser = &mut self.df.parser;
        parser.advance_token();
        parser.advance_token();
        let target = statement_name(&parser.parse_object_name(false)?)?;
        let alias = if parser.parse_keyword(Keyword::AS) { Some(folded(&parser.parse_identifier()?)) } else { None };
        // A parenthesis may open a list of columns or the query itself.
        let opens_query = matches!(
            &parser.peek_nth_token_ref(1).token,
            Token::Word(word) if matches!(word.keyword, Keyword::SELECT | Keyword::WITH | Keyword::VALUES)
        );
        let columns = if opens_query { Vec::new() } else { parse_names(parser)? };
        let query = match parser.parse_keywords(&[Keyword::DEFAULT, Keyword::VALUES]) {
            true => None,
            false => Some(self.query()?),
        };
        let parser = &mut self.df.parser;
        let on_conflict = parse_on_conflict(parser)?;
        let returning = parse_returning(parser)?;
        Ok(Statement::Insert(Insert { target, alias, columns, query, on_conflict, returning }))
    }

    fn truncate(&mut self) -> Parsed<Statement> {
        let parser = &mut self.df.parser;
        parser.advance_token();
        let truncate = parser.parse_truncate()?;
        let names = truncate.table_names.iter().map(|target| statement_name(&target.name)).collect::<Result<_>>()?;
        if truncate.partitions.is_some() || truncate.cascade.is_some() || truncate.if_exists {
            let error = Error::not_supported("TRUNCATE takes the names of tables, and nothing else");
            return Err(self.here(error).into());
        }
        Ok(Statement::Truncate(names))
    }

    fn drop_objects(&mut self) -> Parsed<Statement> {
        let parser = &mut self.df.parser;
        parser.advance_token();
        let kind = if take_word(parser, "STREAM") {
            ObjectKind::Stream
        } else if take_word(parser, "TABLE") {
            ObjectKind::Table
        } else if take_word(parser, "SINK") {
            ObjectKind::Sink
        } else if take_word(parser, "JOB") {
            ObjectKind::Job
        } else if take_word(parser, "MATERIALIZED") {
            expect_word(parser, "VIEW")?;
            ObjectKind::MaterializedView
        } else {
            expect_word(parser, "VIEW")?;
            ObjectKind::View
        };
        let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
        let names: Vec<ObjectName> = parser.parse_comma_separated(|parser| parser.parse_object_name(false))?;
        let names = names.iter().map(statement_name).collect::<Result<_>>()?;
        let cascade = parser.parse_keyword(Keyword::CASCADE);
        if !cascade {
            let _ = parser.parse_keyword(Keyword::RESTRICT);
        }
        Ok(Statement::Drop(DropObjects { kind, if_exists, names, cascade }))
    }

    fn subscription(&mut self) -> Parsed<Subscription> {
        let parser = &mut self.df.parser;
        expect_word(parser, "SUBSCRIBE")?;
        if parser.consume_token(&Token::LParen) {
            let query = self.query()?;
            self.df.parser.expect_token(&Token::RParen)?;
            return Ok(Subscription::Query(query));
        }
        let _ = parser.parse_keyword(Keyword::TO);
        Ok(Subscription::Name(statement_name(&parser.parse_object_name(false)?)?))
    }

    fn copy(&mut self) -> Parsed<Statement> {
        let parser = &mut self.df.parser;
        parser.advance_token();
        let statement = if parser.consume_token(&Token::LParen) {
            let subscribes = matches!(&parser.peek_token_ref().token, Token::Word(word) if is_word(word, "SUBSCRIBE"));
            let statement = if subscribes {
                Statement::Subscribe { to: self.subscription()?, copy: true }
            } else {
                Statement::CopyQuery(self.query()?)
            };
            self.df.parser.expect_token(&Token::RParen)?;
            statement
        } else {
            let name = statement_name(&parser.parse_object_name(false)?)?;
            let all = super::parse_query(&format!("SELECT * FROM {}", super::quoted(&name)))?;
            Statement::CopyQuery(all)
        };
        let parser = &mut self.df.parser;
        if parser.parse_keyword(Keyword::FROM) {
            let error = Error::not_supported("COPY … FROM needs a client that sends the rows")
                .with_hint("COPY t FROM STDIN from psql or a driver; for other data register a stream that reads it");
            return Err(self.here(error).into());
        }
        parser.expect_keyword_is(Keyword::TO)?;
        expect_word(parser, "STDOUT")?;
        Ok(statement)
    }

    fn explain(&mut self) -> Parsed<Statement> {
        let parser = &mut self.df.parser;
        parser.advance_token();
        if parser.parse_keyword(Keyword::ANALYZE) {
            let error = Error::not_supported("EXPLAIN ANALYZE is not supported yet").with_hint("write EXPLAIN alone");
            return Err(self.here(error).into());
        }
        let inner = self.parsed_statement()?;
        match inner.statement {
            Statement::Query(_)
            | Statement::CreateView(_)
            | Statement::CreateSink(CreateSink { query: Some(_), .. })
            | Statement::Insert(_)
            | Statement::Subscribe { copy: false, .. } => Ok(Statement::Explain(Box::new(inner))),
            _ => Err(Error::not_supported(format!("EXPLAIN of {} has nothing to explain", inner.statement.tag()))
                .with_hint("EXPLAIN a query, a CREATE … AS query, INSERT INTO a sink or SUBSCRIBE")
                .at(inner.position)
                .into()),
        }
    }

    fn set(&mut self) -> Parsed<Statement> {
        // `SET TRANSACTION …` and its like are read by the parser behind, from the word SET on.
        let looks_on = self.df.parser.maybe_parse(|parser| {
            parser.advance_token();
            parse_set(parser)?.ok_or(ParserError::ParserError(String::new()))
        })?;
        match looks_on {
            Some(statement) => Ok(statement),
            None => self.query_or_other(),
        }
    }

    /// Isolation levels and modes have nothing to choose from here: they are read over.
    fn transaction(&mut self, transaction: Transaction) -> Statement {
        let parser = &mut self.df.parser;
        while !matches!(parser.peek_token_ref().token, Token::SemiColon | Token::EOF) {
            parser.advance_token();
        }
        Statement::Transaction(transaction)
    }

    fn expect_end(&self, wanted: &[Token]) -> Result<()> {
        let next = self.df.parser.peek_token();
        if wanted.contains(&next.token) {
            return Ok(());
        }
        let place = self.place(&next);
        Err(Error::new(ErrorKind::Syntax, format!("the statement should end before {next}")).at(place))
    }

    fn place(&self, token: &TokenWithSpan) -> Position {
        position_of(token.span.start).unwrap_or_else(|| self.lines.end())
    }

    /// An error at the token just read.
    fn here(&self, error: Error) -> Error {
        error.at(self.place(self.df.parser.get_current_token()))
    }

    fn mistake(&self, mistake: Mistake) -> Error {
        match mistake {
            Mistake::Parser(error) => self.error(error),
            Mistake::Own(error) if error.kind() == ErrorKind::Syntax && error.position().is_none() => {
                self.error(ParserError::ParserError(error.message().to_owned()))
            }
            Mistake::Own(error) => error,
        }
    }

    /// The parser puts the place at the end of its sentence (` at Line: 1, Column: 5`), or nowhere at the text's end.
    fn error(&self, error: ParserError) -> Error {
        let text = match error {
            ParserError::ParserError(text) | ParserError::TokenizerError(text) => text,
            ParserError::RecursionLimitExceeded => {
                return self.here(Error::new(ErrorKind::Syntax, "the statement is nested too deeply"));
            }
        };
        let split = text.rsplit_once(" at Line: ").and_then(|(sentence, place)| {
            let (line, column) = place.split_once(", Column: ")?;
            let position = Position { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? };
            Some((sentence.to_owned(), position))
        });
        let (sentence, position) = split.unwrap_or_else(|| (text, self.lines.end()));
        let sentence = sentence.strip_prefix("sql parser error: ").unwrap_or(&sentence);
        let sentence = sentence.replacen("Expected: ", "expected ", 1).replacen(", found: ", ", found ", 1);
        let sentence = sentence.strip_suffix("EOF").map_or(sentence.clone(), |rest| format!("{rest}the end"));
        Error::new(ErrorKind::Syntax, sentence).at(position)
    }
}

/// The dialect in which the text goes on after a statement, if that says it.
fn dialect_after(statement: &Statement) -> Option<Dialect> {
    match statement {
        Statement::Set { name, value: SetValue::Values(values), .. } if name == "dialect" => match values.as_slice() {
            [value] => Dialect::named(value),
            _ => None,
        },
        Statement::Set { name, value: SetValue::Default, .. } | Statement::Reset(Some(name)) if name == "dialect" => {
            Some(Dialect::Postgres)
        }
        Statement::Reset(None) => Some(Dialect::Postgres),
        _ => None,
    }
}

impl From<ast::Query> for Query {
    fn from(query: ast::Query) -> Self {
        Query { body: Box::new(query), emit: None }
    }
}
