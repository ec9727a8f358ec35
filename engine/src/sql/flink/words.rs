//! Names as Flink reads them: in back-ticks, and with their case kept.
//!
//! PostgreSQL folds a name that is not quoted; Flink doesn't. So a name with a capital letter is quoted here. What may be a
//! keyword (`Select`, `Status`) is left alone, and so is the name of a function, which has no case in either dialect.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// Words of Rondel's statements that the parser has for names.
const OURS: &[&str] = &[
    "ACCUMULATING",
    "ALLOWED",
    "APPEND",
    "DELAY",
    "DESCRIPTOR",
    "DIALECT",
    "DISCARDING",
    "EMIT",
    "LATE",
    "LATENESS",
    "RETRACTING",
    "SINK",
    "SUBSCRIBE",
    "WATERMARK",
];

/// The text's tokens as PostgreSQL's dialect would have them.
pub(in crate::sql) fn translated(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let blank = |token: &TokenWithSpan| matches!(token.token, Token::Whitespace(_));
    let significant: Vec<usize> = (0..tokens.len()).filter(|&index| !blank(&tokens[index])).collect();
    let mut translated = tokens.clone();
    for (place, &index) in significant.iter().enumerate() {
        let near = |distance: isize| {
            let place = place.checked_add_signed(distance)?;
            significant.get(place).map(|&index| &tokens[index].token)
        };
        if let Some(token) = translation(&tokens[index].token, near(-1), near(1)) {
            translated[index].token = token;
        }
    }
    translated
}

/// What a token becomes, if it does not stay, between two others.
fn translation(token: &Token, before: Option<&Token>, after: Option<&Token>) -> Option<Token> {
    let Token::Word(word) = token else { return None };
    let keyword = |token: Option<&Token>, keywords: &[Keyword]| matches!(token, Some(Token::Word(word)) if word.quote_style.is_none() && keywords.contains(&word.keyword));
    match word.quote_style {
        Some('`') => return Some(Token::make_word(&word.value, Some('"'))),
        Some(_) => return None,
        None => {}
    }
    if word.value.eq_ignore_ascii_case("TIMESTAMP_LTZ") {
        return Some(Token::make_keyword("TIMESTAMPTZ"));
    }
    // `TIMESTAMP(3) WITH LOCAL TIME ZONE` is what PostgreSQL calls WITH TIME ZONE.
    if word.keyword == Keyword::LOCAL && keyword(before, &[Keyword::WITH]) && keyword(after, &[Keyword::TIME]) {
        return Some(Token::Whitespace(datafusion::sql::sqlparser::tokenizer::Whitespace::Space));
    }
    let folds = word.value.chars().any(char::is_uppercase);
    let ours = OURS.iter().any(|ours| word.value.eq_ignore_ascii_case(ours));
    if word.keyword != Keyword::NoKeyword || !folds || ours {
        return None;
    }
    // A name before a parenthesis is a function's, unless it is what something is called: `AS Items (Id, Name)`.
    let is_called = keyword(before, &[Keyword::AS, Keyword::WITH]) || matches!(before, Some(Token::RParen));
    let is_function = after == Some(&Token::LParen) && !is_called;
    (!is_function).then(|| Token::make_word(&word.value, Some('"')))
}
