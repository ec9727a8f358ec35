//! The dialect: PostgreSQL's, with Rondel's hooks.

use std::any::TypeId;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName,
};
use datafusion::sql::sqlparser::dialect::{Dialect as ParserDialect, PostgreSqlDialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};
use serde::{Deserialize, Serialize};

/// What a text is written in: the session setting `dialect`. A statement in [`Flink`](Dialect::Flink)'s becomes one in
/// PostgreSQL's when it is read ([`super::flink`]); nobody behind the parser has to know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// PostgreSQL's, with Rondel's statements.
    #[default]
    Postgres,
    /// Apache Flink's queries, and Rondel's statements around them.
    Flink,
}

impl Dialect {
    /// The dialect of this name.
    pub fn named(name: &str) -> Option<Self> {
        match name.trim().to_ascii_lowercase().as_str() {
            "postgres" => Some(Dialect::Postgres),
            "flink" => Some(Dialect::Flink),
            _ => None,
        }
    }

    /// As the parser asks.
    pub(super) fn parser(self) -> &'static RondelDialect {
        const POSTGRES: RondelDialect = RondelDialect { backticks: false };
        const FLINK: RondelDialect = RondelDialect { backticks: true };
        match self {
            Dialect::Postgres => &POSTGRES,
            Dialect::Flink => &FLINK,
        }
    }
}

/// PostgreSQL's dialect, in which `TABLE t` may be an argument of a function and `EMIT` is no alias.
///
/// The parser knows a dialect by what it overrides, so everything that [`PostgreSqlDialect`] overrides is handed on here
/// by name. `tests::dialect` compares the two, because a new version of the parser may add to the list.
#[derive(Debug, Clone, Copy, Default)]
pub struct RondelDialect {
    /// Whether a name may stand in back-ticks too.
    backticks: bool,
}

const POSTGRES: PostgreSqlDialect = PostgreSqlDialect {};

/// Hands questions that are answered by yes or no on to PostgreSQL's dialect.
macro_rules! as_postgres {
    ($($question:ident)*) => {
        $(fn $question(&self) -> bool {
            POSTGRES.$question()
        })*
    };
}

impl ParserDialect for RondelDialect {
    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        POSTGRES.identifier_quote_style(identifier)
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        POSTGRES.is_delimited_identifier_start(ch) || (self.backticks && ch == '`')
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        POSTGRES.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        POSTGRES.is_identifier_part(ch)
    }

    fn is_custom_operator_part(&self, ch: char) -> bool {
        POSTGRES.is_custom_operator_part(ch)
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        POSTGRES.is_reserved_for_identifier(keyword)
    }

    fn get_next_precedence(&self, parser: &Parser<'_>) -> Option<Result<u8, ParserError>> {
        POSTGRES.get_next_precedence(parser)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        POSTGRES.prec_value(precedence)
    }

    /// Off, unlike PostgreSQL's: with it the parser reads every function argument twice per level of nesting, which is
    /// exponential in the depth. What it would give is `json_object('a' : 1)`.
    fn supports_named_fn_args_with_expr_name(&self) -> bool {
        false
    }

    /// `t FOR SYSTEM_TIME AS OF time`.
    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn supports_match_recognize(&self) -> bool {
        true
    }

    /// `TABLE t` as an argument: `(SELECT * FROM t)`; with PARTITION BY: see [`partition_function`].
    fn parse_prefix(&self, parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
        let [first, second] = parser.peek_tokens_ref();
        match (&first.token, &second.token) {
            (Token::Word(table), Token::Word(_)) if is_word(table, "TABLE") => Some(table_argument(parser)),
            _ => None,
        }
    }

    /// `a IS NOT DISTINCT FROM b AND c`: the parser takes all that follows for the right side.
    fn parse_infix(&self, parser: &mut Parser<'_>, left: &Expr, _: u8) -> Option<Result<Expr, ParserError>> {
        use Keyword::{DISTINCT, FROM, IS, NOT};
        let differs = parser.parse_keywords(&[IS, DISTINCT, FROM]);
        if !differs && !parser.parse_keywords(&[IS, NOT, DISTINCT, FROM]) {
            return None;
        }
        let left = Box::new(left.clone());
        let right = parser.parse_subexpr(self.prec_value(Precedence::Is)).map(Box::new);
        Some(right.map(|right| match differs {
            true => Expr::IsDistinctFrom(left, right),
            false => Expr::IsNotDistinctFrom(left, right),
        }))
    }

    fn is_table_factor_alias(&self, explicit: bool, keyword: &Keyword, parser: &mut Parser<'_>) -> bool {
        explicit || (!stands_at_emit(parser) && self.is_table_alias(keyword, parser))
    }

    fn is_select_item_alias(&self, explicit: bool, keyword: &Keyword, parser: &mut Parser<'_>) -> bool {
        explicit || (!stands_at_emit(parser) && self.is_column_alias(keyword, parser))
    }

    as_postgres! {
        supports_unicode_string_literal supports_filter_during_aggregation supports_group_by_expr allow_extract_custom
        allow_extract_single_quotes supports_create_index_with_clause supports_explain_with_utility_options
        supports_listen_notify supports_factorial_operator supports_bitwise_shift_operators supports_comment_on
        supports_load_extension supports_named_fn_args_with_colon_operator supports_empty_projections
        supports_nested_comments supports_string_escape_constant supports_numeric_literal_underscores
        supports_array_typedef_with_brackets supports_geometric_types supports_set_names
        supports_alter_column_type_using supports_notnull_operator supports_interval_options
        supports_insert_table_alias supports_create_table_like_parenthesized supports_select_wildcard_with_alias
        supports_comma_separated_trim supports_xml_expressions supports_comment_optimizer_hint
    }
}

/// Whether a word is this keyword, not quoted.
pub(super) fn is_word(word: &Word, keyword: &str) -> bool {
    word.quote_style.is_none() && word.value.eq_ignore_ascii_case(keyword)
}

/// The parser has consumed the word that may be an alias; it is asked about that one.
fn stands_at_emit(parser: &Parser<'_>) -> bool {
    matches!(&parser.get_current_token().token, Token::Word(word) if is_word(word, "EMIT"))
}

/// Reads `TABLE t` as `(SELECT * FROM t)`, with the positions of `t`'s own tokens: the planner's errors point there.
fn table_argument(parser: &mut Parser<'_>) -> Result<Expr, ParserError> {
    let table = parser.next_token();
    let mut tokens = vec![
        TokenWithSpan::new(Token::make_keyword("SELECT"), table.span),
        TokenWithSpan::new(Token::Mul, table.span),
        TokenWithSpan::new(Token::make_keyword("FROM"), table.span),
        parser.next_token(),
    ];
    while parser.peek_token_ref().token == Token::Period {
        tokens.push(parser.next_token());
        tokens.push(parser.next_token());
    }
    let query = Parser::new(Dialect::Postgres.parser()).with_tokens_with_locations(tokens).parse_query()?;
    if !parser.parse_keywords(&[Keyword::PARTITION, Keyword::BY]) {
        return Ok(Expr::Subquery(query));
    }
    let mut arguments = vec![Expr::Subquery(query)];
    loop {
        match parser.parse_expr()? {
            Expr::Tuple(keys) => arguments.extend(keys),
            Expr::Nested(key) => arguments.push(*key),
            key => arguments.push(key),
        }
        // The next argument of the window function is none of the keys.
        let [comma, word, after] = parser.peek_tokens_ref();
        let ends = match (&comma.token, &word.token, &after.token) {
            (Token::Comma, Token::Word(word), Token::LParen) => is_word(word, "DESCRIPTOR"),
            (Token::Comma, _, Token::RArrow) => true,
            (Token::Comma, ..) => false,
            _ => true,
        };
        if ends {
            break;
        }
        parser.next_token();
    }
    Ok(call(partition_function(), arguments))
}

/// A call of a function.
pub(super) fn call(name: ObjectName, arguments: Vec<Expr>) -> Expr {
    let argument = |value| FunctionArg::Unnamed(FunctionArgExpr::Expr(value));
    let list = FunctionArgumentList {
        duplicate_treatment: None,
        args: arguments.into_iter().map(argument).collect(),
        clauses: Vec::new(),
    };
    Expr::Function(Function {
        name,
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(list),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// What `TABLE t PARTITION BY a, b` is read as: a call, of the rows and the keys, of a function of this name. Nobody can
/// write it but in quotes, and it is nothing outside a window function.
pub fn partition_function() -> ObjectName {
    ObjectName::from(vec![Ident::with_quote('"', "TABLE PARTITION BY")])
}
