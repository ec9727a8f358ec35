//! Text: quoting, `format`, regular expressions.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int32Array, ListBuilder, StringArray, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err};
use regex::{Regex, RegexBuilder};

use crate::casts::shown;
use crate::declared::{Gives, Kind, Spec, texts};
use crate::rows::{integers, is_null, strict, text};

const TEXT: Gives = Gives::Type(|| DataType::Utf8);

pub(crate) static STRINGS: &[Spec] = &[
    Spec {
        name: "quote_ident",
        usage: "quote_ident(text)",
        doc: "The name as SQL writes it, in quotes if it needs them.",
        takes: &[&[Kind::Text]],
        repeats: false,
        gives: TEXT,
        is_plain: None,
        run: |args| strict::<String, StringArray>(args, |row| Ok(Some(identifier(text(args, 0).value(row))))),
    },
    Spec {
        name: "quote_literal",
        usage: "quote_literal(any)",
        doc: "The value as a literal of SQL.",
        takes: &[&[Kind::Any]],
        repeats: false,
        gives: TEXT,
        is_plain: None,
        run: |args| quoted(args, None),
    },
    Spec {
        name: "quote_nullable",
        usage: "quote_nullable(any)",
        doc: "As quote_literal; NULL is the word NULL.",
        takes: &[&[Kind::Any]],
        repeats: false,
        gives: TEXT,
        is_plain: None,
        run: |args| quoted(args, Some("NULL")),
    },
    Spec {
        name: "format",
        usage: "format(text, any, …)",
        doc: "The text with %s, %I (a name), %L (a literal) and %% replaced; %2$s is the second value, %10s and %-10s fill up.",
        takes: &[&[Kind::Text], &[Kind::Text, Kind::Any]],
        repeats: true,
        gives: TEXT,
        is_plain: None,
        run: formatted,
    },
    Spec {
        name: "regexp_split_to_array",
        usage: "regexp_split_to_array(text, pattern [, flags])",
        doc: "What stands between the pattern's matches.",
        takes: &[&[Kind::Text, Kind::Text], &[Kind::Text, Kind::Text, Kind::Text]],
        repeats: false,
        gives: Gives::Type(texts),
        is_plain: None,
        run: split,
    },
    Spec {
        name: "regexp_substr",
        usage: "regexp_substr(text, pattern)",
        doc: "The pattern's first match, or NULL.",
        takes: &[&[Kind::Text, Kind::Text]],
        repeats: false,
        gives: TEXT,
        is_plain: None,
        run: |args| {
            let mut patterns = Patterns::default();
            let mut found = StringBuilder::new();
            for row in 0..args[0].len() {
                match args.iter().all(|argument| argument.is_valid(row)) {
                    true => {
                        let pattern = patterns.get(text(args, 1).value(row), "")?;
                        found.append_option(pattern.find(text(args, 0).value(row)).map(|found| found.as_str()));
                    }
                    false => found.append_null(),
                }
            }
            Ok(Arc::new(found.finish()))
        },
    },
    Spec {
        name: "split_part",
        usage: "split_part(text, delimiter, n)",
        doc: "The nth part of a text, from the end if n is negative.",
        takes: &[&[Kind::Text, Kind::Text, Kind::Integer]],
        repeats: false,
        gives: TEXT,
        is_plain: None,
        run: |args| {
            strict::<String, StringArray>(args, |row| {
                part(text(args, 0).value(row), text(args, 1).value(row), integers(args, 2).value(row)).map(Some)
            })
        },
    },
    Spec {
        name: "initcap",
        usage: "initcap(text)",
        doc: "Each word with a capital letter, and the rest of it small.",
        takes: &[&[Kind::Text]],
        repeats: false,
        gives: TEXT,
        is_plain: None,
        run: |args| strict::<String, StringArray>(args, |row| Ok(Some(capitalised(text(args, 0).value(row))))),
    },
    Spec {
        name: "num_nulls",
        usage: "num_nulls(any, …)",
        doc: "How many of the values are NULL.",
        takes: &[&[Kind::Any]],
        repeats: true,
        gives: Gives::Type(|| DataType::Int32),
        is_plain: None,
        run: |args| Ok(count(args, true)),
    },
    Spec {
        name: "num_nonnulls",
        usage: "num_nonnulls(any, …)",
        doc: "How many of the values are not NULL.",
        takes: &[&[Kind::Any]],
        repeats: true,
        gives: Gives::Type(|| DataType::Int32),
        is_plain: None,
        run: |args| Ok(count(args, false)),
    },
    Spec {
        name: "to_hex",
        usage: "to_hex(integer)",
        doc: "Hexadecimal digits; a negative number in two's complement.",
        takes: &[&[Kind::Integer]],
        repeats: false,
        gives: TEXT,
        is_plain: None,
        run: |args| {
            strict::<String, StringArray>(args, |row| {
                let number = integers(args, 0).value(row);
                // As many digits as an INTEGER has, if it is one.
                Ok(Some(match i32::try_from(number) {
                    Ok(small) => format!("{small:x}"),
                    Err(_) => format!("{number:x}"),
                }))
            })
        },
    },
    Spec {
        name: "bool_text",
        usage: "bool_text(boolean)",
        doc: "",
        takes: &[&[Kind::Boolean]],
        repeats: false,
        gives: TEXT,
        is_plain: None,
        run: |args| Ok(Arc::new(shown(&args[0])?)),
    },
    Spec {
        name: "isfinite",
        usage: "isfinite(timestamp or date)",
        doc: "Whether a time is a day of the calendar: always.",
        takes: &[&[Kind::Timestamp], &[Kind::TimestampTz], &[Kind::Interval]],
        repeats: false,
        gives: Gives::Type(|| DataType::Boolean),
        is_plain: None,
        run: |args| strict::<bool, BooleanArray>(args, |_| Ok(Some(true))),
    },
];

fn identifier(name: &str) -> String {
    let plain = name.chars().next().is_some_and(|first| first.is_ascii_lowercase() || first == '_')
        && name
            .chars()
            .all(|character| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

fn literal(value: &str) -> String {
    let escape = if value.contains('\\') { " E" } else { "" };
    format!("{escape}'{}'", value.replace('\'', "''").replace('\\', "\\\\"))
}

fn quoted(args: &[ArrayRef], null: Option<&str>) -> Result<ArrayRef> {
    let values = shown(&args[0])?;
    let quoted = values.iter().map(|value| value.map(literal).or(null.map(str::to_owned)));
    Ok(Arc::new(quoted.collect::<StringArray>()))
}

fn count(args: &[ArrayRef], nulls: bool) -> ArrayRef {
    let rows = args.first().map_or(0, Array::len);
    let count = |row: usize| args.iter().filter(|argument| is_null(argument, row) == nulls).count() as i32;
    Arc::new((0..rows).map(count).collect::<Int32Array>())
}

fn capitalised(text: &str) -> String {
    let mut in_word = false;
    let mut capitalised = String::with_capacity(text.len());
    for character in text.chars() {
        match in_word {
            true => capitalised.extend(character.to_lowercase()),
            false => capitalised.extend(character.to_uppercase()),
        }
        in_word = character.is_alphanumeric();
    }
    capitalised
}

fn part(text: &str, delimiter: &str, number: i64) -> Result<String> {
    if number == 0 {
        return exec_err!("field position must not be zero");
    }
    let place = usize::try_from(number.unsigned_abs() - 1).unwrap_or(usize::MAX);
    let found = match (delimiter.is_empty(), number > 0) {
        (true, _) => (place == 0).then_some(text),
        (false, true) => text.split(delimiter).nth(place),
        (false, false) => text.rsplit(delimiter).nth(place),
    };
    Ok(found.unwrap_or_default().to_owned())
}

fn formatted(args: &[ArrayRef]) -> Result<ArrayRef> {
    let values = args[1..].iter().map(shown).collect::<Result<Vec<_>>>()?;
    let formats = text(args, 0);
    let shown = (0..formats.len()).map(|row| match formats.is_null(row) {
        true => Ok(None),
        false => {
            let value = |place: usize| values.get(place).map(|values| values.is_valid(row).then(|| values.value(row)));
            format(formats.value(row), value).map(Some)
        }
    });
    Ok(Arc::new(shown.collect::<Result<StringArray>>()?))
}

/// `value` answers `None` for an argument that was not given, and `Some(None)` for NULL.
fn format<'a>(format: &str, value: impl Fn(usize) -> Option<Option<&'a str>>) -> Result<String> {
    let mut out = String::with_capacity(format.len());
    let mut characters = format.chars().peekable();
    let mut next = 0;
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let number = |characters: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let mut digits = String::new();
            while let Some(digit) = characters.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            digits.parse::<usize>().ok()
        };
        let mut width = number(&mut characters);
        if characters.next_if_eq(&'$').is_some() {
            next = width
                .unwrap_or(0)
                .checked_sub(1)
                .ok_or_else(|| exec_datafusion_err!("format: arguments count from 1"))?;
            width = None;
        }
        let left = characters.next_if_eq(&'-').is_some();
        let width = width.or_else(|| number(&mut characters)).unwrap_or(0);
        let kind = characters.next();
        if kind == Some('%') {
            out.push('%');
            continue;
        }
        let given = value(next).ok_or_else(|| exec_datafusion_err!("too few arguments for format()"))?;
        next += 1;
        let shown = match (kind, given) {
            (Some('s'), given) => given.unwrap_or_default().to_owned(),
            (Some('I'), Some(name)) => identifier(name),
            (Some('I'), None) => return exec_err!("null values cannot be formatted as an SQL identifier"),
            (Some('L'), given) => given.map_or_else(|| "NULL".to_owned(), literal),
            _ => return exec_err!("unrecognized format() type specifier: write %s, %I, %L or %%"),
        };
        match left {
            true => write!(out, "{shown:<width$}"),
            false => write!(out, "{shown:>width$}"),
        }
        .map_err(|error| exec_datafusion_err!("format: {error}"))?;
    }
    Ok(out)
}

/// Patterns that were compiled already: most calls have one.
#[derive(Default)]
struct Patterns {
    last: Option<(String, String, Regex)>,
}

impl Patterns {
    fn get(&mut self, pattern: &str, flags: &str) -> Result<&Regex> {
        let known = self.last.as_ref().is_some_and(|(last, with, _)| last == pattern && with == flags);
        if !known {
            let mut builder = RegexBuilder::new(pattern);
            for flag in flags.chars() {
                match flag {
                    'i' => builder.case_insensitive(true),
                    'n' | 'm' => builder.multi_line(true),
                    'x' => builder.ignore_whitespace(true),
                    'g' | 's' | 'c' => &mut builder,
                    other => return exec_err!("invalid regular expression option: \"{other}\""),
                };
            }
            let compiled =
                builder.build().map_err(|error| exec_datafusion_err!("invalid regular expression: {error}"))?;
            self.last = Some((pattern.to_owned(), flags.to_owned(), compiled));
        }
        let (_, _, compiled) = self.last.as_ref().ok_or_else(|| DataFusionError::Internal("no pattern".to_owned()))?;
        Ok(compiled)
    }
}

fn split(args: &[ArrayRef]) -> Result<ArrayRef> {
    let mut patterns = Patterns::default();
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in 0..args[0].len() {
        if args.iter().any(|argument| argument.is_null(row)) {
            lists.append_null();
            continue;
        }
        let flags = if args.len() > 2 { text(args, 2).value(row) } else { "" };
        let pattern = patterns.get(text(args, 1).value(row), flags)?;
        for part in pattern.split(text(args, 0).value(row)) {
            lists.values().append_value(part);
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}
