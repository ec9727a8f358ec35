//! The options of `WITH (…)`: declared once in a table, read from there with types.
//!
//! A connector or format declares its options in an [`OptionTable`]: name, kind, default and documentation. [`Options`]
//! reads a statement's values by that table; every error names the option, the value and what is allowed. An option that
//! no table knows is an error that names the nearest one, so that a typing mistake never passes as a default.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::error::{Error, Result};

/// What an option's value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionKind {
    /// Any text that is not empty.
    Text,
    /// Names separated by commas, at least one.
    List,
    /// A whole number in a range, both ends included.
    Integer {
        /// Least.
        min: i64,
        /// Greatest.
        max: i64,
    },
    /// A length of time: `500ms`, `30s`, `5 minutes`, `1h`.
    Duration,
    /// One of these words.
    Choice(&'static [&'static str]),
}

impl OptionKind {
    /// What is allowed, in words that finish "allowed is …".
    fn allowed(&self) -> String {
        match self {
            Self::Text => "a text that is not empty".to_owned(),
            Self::List => "a list of names separated by commas".to_owned(),
            Self::Integer { min, max: i64::MAX } => format!("a whole number from {min}"),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Duration => "a length of time such as '500ms', '30s', '5 minutes' or '1h'".to_owned(),
            Self::Choice(words) => words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", "),
        }
    }
}

/// One option.
#[derive(Debug, Clone, Copy)]
pub struct OptionSpec {
    /// As written in `WITH`.
    pub name: &'static str,
    /// What its value looks like.
    pub kind: OptionKind,
    /// What holds when it is not given.
    pub default: Option<&'static str>,
    /// Whether it must be given.
    pub required: bool,
    /// One or two sentences for the reader of the documentation.
    pub doc: &'static str,
}

/// A family of options that share a prefix and are passed on as they are (`"kafka.<name>"`).
#[derive(Debug, Clone, Copy)]
pub struct PrefixSpec {
    /// The prefix, with its dot.
    pub prefix: &'static str,
    /// One or two sentences for the reader of the documentation.
    pub doc: &'static str,
}

/// All options of one connector's source or sink, or of a format.
#[derive(Debug, Clone, Copy)]
pub struct OptionTable {
    /// What they belong to (`Kafka source`).
    pub title: &'static str,
    /// The options.
    pub options: &'static [OptionSpec],
    /// The families.
    pub prefixes: &'static [PrefixSpec],
}

impl OptionTable {
    /// The declaration of `name`.
    pub fn spec(&self, name: &str) -> Option<&'static OptionSpec> {
        self.options.iter().find(|spec| spec.name == name)
    }

    /// The table as Markdown, for the documentation.
    pub fn markdown(&self) -> String {
        let mut text = format!("### {}\n\n| option | value | default | |\n|---|---|---|---|\n", self.title);
        for spec in self.options {
            let default = match (spec.default, spec.required) {
                (Some(value), _) => format!("`{value}`"),
                (None, true) => "required".to_owned(),
                (None, false) => String::new(),
            };
            let allowed = spec.kind.allowed().replace('|', "\\|");
            let _ = writeln!(text, "| `{}` | {allowed} | {default} | {} |", spec.name, spec.doc.replace('|', "\\|"));
        }
        for family in self.prefixes {
            let _ = writeln!(text, "| `\"{}…\"` | | | {} |", family.prefix, family.doc.replace('|', "\\|"));
        }
        text
    }
}

/// Whether an option's value is nobody's business: it is shown in no message and no log. Known by its name, so that it holds
/// for librdkafka's own options and for names with a typing mistake as well.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_part = |part: &str| {
        matches!(part, "secret" | "token" | "credentials" | "headers" | "jaas" | "pem" | "pkcs12")
            || part.starts_with("pas")
    };
    name.split(['.', '_', '-']).any(is_part)
}

/// Refuses an option that none of the tables knows, naming the nearest one that exists.
pub fn check_known(values: &BTreeMap<String, String>, tables: &[&OptionTable]) -> Result<()> {
    for (name, value) in values {
        let known = tables.iter().any(|table| {
            table.spec(name).is_some() || table.prefixes.iter().any(|family| name.starts_with(family.prefix))
        });
        if known {
            continue;
        }
        let names = || tables.iter().flat_map(|table| table.options.iter().map(|spec| spec.name));
        let nearest = names().map(|known| (distance(name, known), known)).min();
        let given = match is_secret(name) || nearest.is_some_and(|(_, near)| is_secret(near)) {
            true => String::new(),
            false => format!(" (given as '{value}')"),
        };
        let error = Error::invalid(format!("there is no option \"{name}\"{given}"));
        return Err(match nearest {
            Some((steps, near)) if steps <= 1 + name.len() / 3 => error.with_hint(format!("Did you mean \"{near}\"?")),
            _ => error.with_hint(format!("The options here are: {}.", names().collect::<Vec<_>>().join(", "))),
        });
    }
    Ok(())
}

/// The values of one statement, read by one table.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    table: &'a OptionTable,
    values: &'a BTreeMap<String, String>,
}

impl<'a> Options<'a> {
    /// Reads `values` by `table`. Options of other tables are left alone: see [`check_known`].
    pub fn new(table: &'a OptionTable, values: &'a BTreeMap<String, String>) -> Self {
        Self { table, values }
    }

    /// Whether the statement has the option.
    pub fn is_given(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The value as given, or the default. A required option that is missing, and an empty value, are errors.
    pub fn text(&self, name: &str) -> Result<Option<&'a str>> {
        let Some(spec) = self.table.spec(name) else {
            return Err(Error::internal(format!("the {} declares no option \"{name}\"", self.table.title)));
        };
        match self.values.get(name).map(|value| value.trim()) {
            Some("") => Err(wrong(spec, "")),
            Some(value) => Ok(Some(value)),
            None if spec.required => Err(Error::invalid(format!(
                "the {} needs the option \"{name}\"",
                self.table.title
            ))
            .with_hint(format!("{} Allowed is {}.", spec.doc, spec.kind.allowed()))),
            None => Ok(spec.default),
        }
    }

    /// A value that must be there, by declaration or default.
    pub fn required(&self, name: &str) -> Result<&'a str> {
        self.text(name)?.ok_or_else(|| Error::invalid(format!("the {} needs the option \"{name}\"", self.table.title)))
    }

    /// A list of names, in order, without empty ones.
    pub fn list(&self, name: &str) -> Result<Vec<&'a str>> {
        let Some(text) = self.text(name)? else { return Ok(Vec::new()) };
        let names: Vec<&str> = text.split(',').map(str::trim).collect();
        if names.iter().any(|name| name.is_empty()) {
            return Err(self.wrong(name, text));
        }
        Ok(names)
    }

    /// A whole number within the declared range.
    pub fn integer(&self, name: &str) -> Result<Option<i64>> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let (min, max) = match self.table.spec(name).map(|spec| spec.kind) {
            Some(OptionKind::Integer { min, max }) => (min, max),
            _ => (i64::MIN, i64::MAX),
        };
        match text.parse::<i64>() {
            Ok(value) if (min..=max).contains(&value) => Ok(Some(value)),
            _ => Err(self.wrong(name, text)),
        }
    }

    /// A length of time.
    pub fn duration(&self, name: &str) -> Result<Option<Duration>> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        parse_duration(text).map(Some).ok_or_else(|| self.wrong(name, text))
    }

    /// One of the declared words, whatever its case.
    pub fn choice(&self, name: &str) -> Result<Option<&'static str>> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let words = match self.table.spec(name).map(|spec| spec.kind) {
            Some(OptionKind::Choice(words)) => words,
            _ => &[],
        };
        match words.iter().find(|word| word.eq_ignore_ascii_case(text)) {
            Some(word) => Ok(Some(word)),
            None => Err(self.wrong(name, text)),
        }
    }

    /// The options that start with `prefix`, without it.
    pub fn prefixed(&self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.values.iter().filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }

    /// The error for a value that is not allowed.
    pub fn wrong(&self, name: &str, value: &str) -> Error {
        match self.table.spec(name) {
            Some(spec) => wrong(spec, value),
            None => Error::invalid(format!("the option \"{name}\" cannot be '{value}'")),
        }
    }
}

fn wrong(spec: &OptionSpec, value: &str) -> Error {
    let value = if is_secret(spec.name) && !value.is_empty() { "…" } else { value };
    Error::invalid(format!("the option \"{}\" cannot be '{value}': allowed is {}", spec.name, spec.kind.allowed()))
        .with_hint(spec.doc)
}

/// Reads `30s`, `500 ms`, `1.5 hours`. `None` when it is not a length of time, or too long for the machine.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(unit_at);
    let unit_micros: f64 = match unit.trim().to_ascii_lowercase().as_str() {
        "us" | "µs" | "microsecond" | "microseconds" => 1.0,
        "ms" | "millisecond" | "milliseconds" => 1e3,
        "s" | "sec" | "secs" | "second" | "seconds" => 1e6,
        "m" | "min" | "mins" | "minute" | "minutes" => 6e7,
        "h" | "hour" | "hours" => 3.6e9,
        "d" | "day" | "days" => 8.64e10,
        _ => return None,
    };
    let micros = number.parse::<f64>().ok()? * unit_micros;
    // A hundred years is more than any option means, and far below what a Duration holds.
    (micros.is_finite() && (0.0..=3.2e15).contains(&micros)).then(|| Duration::from_micros(micros.round() as u64))
}

/// How many single-character changes lie between two names (Levenshtein, one row at a time).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let change = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: OptionTable = OptionTable {
        title: "test source",
        options: &[
            OptionSpec { name: "topic", kind: OptionKind::List, default: None, required: true, doc: "What to read." },
            OptionSpec {
                name: "idle_timeout",
                kind: OptionKind::Duration,
                default: Some("30s"),
                required: false,
                doc: "",
            },
            OptionSpec {
                name: "size",
                kind: OptionKind::Integer { min: 1, max: 10 },
                default: None,
                required: false,
                doc: "",
            },
            OptionSpec {
                name: "on_error",
                kind: OptionKind::Choice(&["fail", "skip"]),
                default: Some("fail"),
                required: false,
                doc: "",
            },
        ],
        prefixes: &[PrefixSpec { prefix: "kafka.", doc: "Passed on." }],
    };

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_unknown_option_names_the_nearest() {
        let error = check_known(&values(&[("topc", "a")]), &[&TABLE]).unwrap_err();
        assert_eq!(error.message(), "there is no option \"topc\" (given as 'a')");
        assert_eq!(error.hint(), Some("Did you mean \"topic\"?"));
        let far = check_known(&values(&[("xyzzy_plugh", "1")]), &[&TABLE]).unwrap_err();
        assert!(far.hint().unwrap().contains("topic, idle_timeout, size, on_error"));
        check_known(&values(&[("kafka.anything", "1"), ("topic", "t")]), &[&TABLE]).unwrap();
    }

    #[test]
    fn what_is_secret_is_not_shown() {
        for name in [
            "registry_password",
            "registry_pasword",
            "kafka.sasl.password",
            "kafka.ssl.key.pem",
            "registry_headers",
            "kafka.sasl.oauthbearer.client.secret",
            "kafka.ssl.key.password",
            "access_token",
        ] {
            assert!(is_secret(name), "{name}");
            let error =
                check_known(&values(&[(name, "hidden")]), &[&OptionTable { prefixes: &[], ..TABLE }]).unwrap_err();
            assert!(!error.message().contains("hidden"), "{error}");
        }
        for name in ["topic", "registry_user", "kafka.sasl.mechanisms", "key", "kafka.security.protocol", "key_format"]
        {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn values_have_types_and_defaults() {
        let given = values(&[("topic", "a, b"), ("size", "7"), ("on_error", "SKIP"), ("kafka.x", "y")]);
        let options = Options::new(&TABLE, &given);
        assert_eq!(options.list("topic").unwrap(), vec!["a", "b"]);
        assert_eq!(options.integer("size").unwrap(), Some(7));
        assert_eq!(options.choice("on_error").unwrap(), Some("skip"));
        assert_eq!(options.duration("idle_timeout").unwrap(), Some(Duration::from_secs(30)));
        assert_eq!(options.prefixed("kafka.").collect::<Vec<_>>(), vec![("x", "y")]);
    }

    #[test]
    fn a_wrong_value_says_what_is_allowed() {
        let given = values(&[("size", "11"), ("on_error", "ignore"), ("idle_timeout", "soon"), ("topic", "a,,b")]);
        let options = Options::new(&TABLE, &given);
        for (error, words) in [
            (options.integer("size").unwrap_err(), "\"size\" cannot be '11': allowed is a whole number from 1 to 10"),
            (options.choice("on_error").unwrap_err(), "\"on_error\" cannot be 'ignore': allowed is 'fail', 'skip'"),
            (options.duration("idle_timeout").unwrap_err(), "\"idle_timeout\" cannot be 'soon': allowed is a length"),
            (options.list("topic").unwrap_err(), "\"topic\" cannot be 'a,,b': allowed is a list"),
        ] {
            assert!(error.message().contains(words), "{}", error.message());
        }
        let missing = Options::new(&TABLE, &BTreeMap::new()).text("topic").unwrap_err();
        assert_eq!(missing.message(), "the test source needs the option \"topic\"");
    }

    #[test]
    fn durations() {
        for (text, micros) in
            [("500ms", 500_000), ("30 s", 30_000_000), ("5 minutes", 300_000_000), ("1.5h", 5_400_000_000), ("2us", 2)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_micros(micros)), "{text}");
        }
        for text in ["", "30", "-1s", "s", "1..2s", "1 fortnight", "99999999999999d"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn the_documentation_lists_every_option() {
        let text = TABLE.markdown();
        for spec in TABLE.options {
            assert!(text.contains(&format!("| `{}` |", spec.name)), "{text}");
        }
    }
}
