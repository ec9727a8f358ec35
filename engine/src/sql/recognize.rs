//! `MATCH_RECOGNIZE`, in words that the parser knows.
//!
//! The parser has no WITHIN behind PATTERN: it is read as the definition of a variable of that name in quotes, which nobody
//! else can write ([`WITHIN`]). And where a pattern is written PostgreSQL's operators are none: `B+?` is B, `+` and `?`.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use super::dialect::is_word;

/// The variable whose definition is what stands behind WITHIN.
pub const WITHIN: &str = "PATTERN WITHIN";

/// The tokens of a text, with patterns as the parser reads them. Each keeps its place in the text.
pub(super) fn readable(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let is = |token: &TokenWithSpan, word: &str| matches!(&token.token, Token::Word(found) if is_word(found, word));
    if !tokens.iter().any(|token| is(token, "MATCH_RECOGNIZE")) {
        return tokens;
    }
    let mut read: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut tokens = tokens.into_iter().peekable();
    let mut inside = false;
    while let Some(token) = tokens.next() {
        inside |= is(&token, "MATCH_RECOGNIZE");
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
        let mut depth = 0_usize;
        for token in tokens.by_ref() {
            match token.token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                _ => {}
            }
            let ends = depth == 0;
            read.extend(signs(token));
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
    read
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
