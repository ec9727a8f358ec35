//! JSON values: read from text, written as PostgreSQL's JSONB is.

use std::fmt::Write as _;

/// How deeply values may be nested.
const DEEPEST: usize = 500;

/// A value, and the text that it was read from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Value<'a> {
    pub(super) kind: Kind<'a>,
    /// As it stands in the text.
    pub(super) text: &'a str,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind<'a> {
    Null,
    Boolean(bool),
    /// Its digits.
    Number(&'a str),
    Text(String),
    Array(Vec<Value<'a>>),
    /// Keys in the order of the text; a key that stands twice is here twice.
    Object(Vec<(String, Value<'a>)>),
}

impl<'a> Value<'a> {
    /// The value of a whole text.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let mut reader = Reader { text, at: 0 };
        reader.blanks();
        let value = reader.value(0)?;
        reader.blanks();
        (reader.at == text.len()).then_some(value)
    }

    /// The member of a name: the last one, if it stands twice.
    pub(super) fn member(&self, name: &str) -> Option<&Value<'a>> {
        match &self.kind {
            Kind::Object(members) => members.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The element at a place, from the end if that is negative.
    pub(super) fn element(&self, place: i64) -> Option<&Value<'a>> {
        let Kind::Array(elements) = &self.kind else { return None };
        let place = if place < 0 { place + elements.len() as i64 } else { place };
        elements.get(usize::try_from(place).ok()?)
    }

    /// The value at the end of a path of names and places.
    pub(super) fn at<'b>(&self, path: impl Iterator<Item = &'b str>) -> Option<&Value<'a>> {
        let mut value = self;
        for step in path {
            value = match &value.kind {
                Kind::Array(_) => value.element(step.parse().ok()?)?,
                _ => value.member(step)?,
            };
        }
        Some(value)
    }

    /// The value as text: a text without quotes; NULL is none.
    pub(super) fn plain(&self) -> Option<String> {
        match &self.kind {
            Kind::Null => None,
            Kind::Text(text) => Some(text.clone()),
            _ => Some(self.text.to_owned()),
        }
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Null => "null",
            Kind::Boolean(_) => "boolean",
            Kind::Number(_) => "number",
            Kind::Text(_) => "string",
            Kind::Array(_) => "array",
            Kind::Object(_) => "object",
        }
    }

    /// As JSONB is shown: one space behind `:` and `,`, each key once, shorter keys first.
    pub(super) fn normal(&self) -> String {
        let mut out = String::with_capacity(self.text.len());
        self.write_normal(&mut out);
        out
    }

    fn write_normal(&self, out: &mut String) {
        match &self.kind {
            Kind::Null => out.push_str("null"),
            Kind::Boolean(value) => out.push_str(if *value { "true" } else { "false" }),
            Kind::Number(digits) => out.push_str(&number(digits)),
            Kind::Text(text) => quote(out, text),
            Kind::Array(elements) => {
                out.push('[');
                for (place, element) in elements.iter().enumerate() {
                    if place > 0 {
                        out.push_str(", ");
                    }
                    element.write_normal(out);
                }
                out.push(']');
            }
            Kind::Object(_) => {
                out.push('{');
                for (place, (key, value)) in self.members().into_iter().enumerate() {
                    if place > 0 {
                        out.push_str(", ");
                    }
                    quote(out, key);
                    out.push_str(": ");
                    value.write_normal(out);
                }
                out.push('}');
            }
        }
    }

    /// An object's members as JSONB has them.
    pub(super) fn members(&self) -> Vec<(&str, &Value<'a>)> {
        let Kind::Object(members) = &self.kind else { return Vec::new() };
        let mut last: Vec<(&str, &Value<'a>)> = Vec::with_capacity(members.len());
        for (key, value) in members {
            match last.iter_mut().find(|(known, _)| known == key) {
                Some(known) => known.1 = value,
                None => last.push((key, value)),
            }
        }
        last.sort_by(|(left, _), (right, _)| left.len().cmp(&right.len()).then(left.cmp(right)));
        last
    }

    /// Whether two values are the same, whatever their texts.
    pub(super) fn equals(&self, other: &Value<'_>) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Number(left), Kind::Number(right)) => {
                left == right || (left.parse::<f64>().ok() == right.parse::<f64>().ok())
            }
            (Kind::Array(left), Kind::Array(right)) => {
                left.len() == right.len() && left.iter().zip(right).all(|(left, right)| left.equals(right))
            }
            (Kind::Object(_), Kind::Object(_)) => {
                let (left, right) = (self.members(), other.members());
                left.len() == right.len()
                    && left.iter().zip(&right).all(|((key, value), (other, of))| key == other && value.equals(of))
            }
            (Kind::Null, Kind::Null) => true,
            (Kind::Boolean(left), Kind::Boolean(right)) => left == right,
            (Kind::Text(left), Kind::Text(right)) => left == right,
            _ => false,
        }
    }

    /// `@>`: whether all of another value is in this one.
    pub(super) fn contains(&self, other: &Value<'_>) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Object(_), Kind::Object(members)) => {
                members.iter().all(|(key, wanted)| self.member(key).is_some_and(|value| value.contains(wanted)))
            }
            (Kind::Array(elements), Kind::Array(wanted)) => {
                wanted.iter().all(|wanted| elements.iter().any(|element| element.contains(wanted)))
            }
            (Kind::Array(elements), _) if !matches!(other.kind, Kind::Object(_)) => {
                elements.iter().any(|element| element.equals(other))
            }
            _ => self.equals(other),
        }
    }

    /// `?`: whether it has a key, or a text among its elements.
    pub(super) fn has(&self, key: &str) -> bool {
        match &self.kind {
            Kind::Object(_) => self.member(key).is_some(),
            Kind::Array(elements) => {
                elements.iter().any(|element| matches!(&element.kind, Kind::Text(text) if text == key))
            }
            Kind::Text(text) => text == key,
            _ => false,
        }
    }
}

/// A number without its exponent, as NUMERIC shows it.
fn number(digits: &str) -> String {
    let Some((mantissa, exponent)) = digits.split_once(['e', 'E']) else { return digits.to_owned() };
    let Some(exponent) = exponent.trim_start_matches('+').parse::<i32>().ok().filter(|exponent| exponent.abs() < 400)
    else {
        return digits.to_owned();
    };
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let point = whole.len() as i32 + exponent;
    let shown = match usize::try_from(point) {
        Ok(point) if point >= all.len() => format!("{all}{}", "0".repeat(point - all.len())),
        Ok(point) if point > 0 => format!("{}.{}", &all[..point], &all[point..]),
        _ => format!("0.{}{all}", "0".repeat(point.unsigned_abs() as usize)),
    };
    let kept = shown.trim_start_matches('0');
    let zero = if kept.is_empty() || kept.starts_with('.') { "0" } else { "" };
    format!("{sign}{zero}{kept}")
}

/// Appends a text in quotes.
pub(super) fn quote(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            control if control < ' ' => {
                // Writing to memory does not fail.
                let _ = write!(out, "\\u{:04x}", control as u32);
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn next(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.next(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        self.blanks();
        (self.next() == Some(byte)).then(|| self.at += 1)
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.text[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    fn value(&mut self, depth: usize) -> Option<Value<'a>> {
        if depth > DEEPEST {
            return None;
        }
        self.blanks();
        let from = self.at;
        let kind = match self.next()? {
            b'{' => self.object(depth)?,
            b'[' => self.array(depth)?,
            b'"' => Kind::Text(self.string()?),
            b't' => self.word("true").map(|()| Kind::Boolean(true))?,
            b'f' => self.word("false").map(|()| Kind::Boolean(false))?,
            b'n' => self.word("null").map(|()| Kind::Null)?,
            _ => Kind::Number(self.number()?),
        };
        Some(Value { kind, text: &self.text[from..self.at] })
    }

    fn object(&mut self, depth: usize) -> Option<Kind<'a>> {
        self.at += 1;
        let mut members = Vec::new();
        self.blanks();
        if self.take(b'}').is_some() {
            return Some(Kind::Object(members));
        }
        loop {
            self.blanks();
            let key = self.string()?;
            self.take(b':')?;
            members.push((key, self.value(depth + 1)?));
            if self.take(b',').is_none() {
                self.take(b'}')?;
                return Some(Kind::Object(members));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<Kind<'a>> {
        self.at += 1;
        let mut elements = Vec::new();
        if self.take(b']').is_some() {
            return Some(Kind::Array(elements));
        }
        loop {
            elements.push(self.value(depth + 1)?);
            if self.take(b',').is_none() {
                self.take(b']')?;
                return Some(Kind::Array(elements));
            }
        }
    }

    fn number(&mut self) -> Option<&'a str> {
        let from = self.at;
        let digits = |reader: &mut Self| {
            let from = reader.at;
            while matches!(reader.next(), Some(b'0'..=b'9')) {
                reader.at += 1;
            }
            (reader.at > from).then_some(reader.at - from)
        };
        if self.next() == Some(b'-') {
            self.at += 1;
        }
        let begins_with_zero = self.next() == Some(b'0');
        if digits(self)? > 1 && begins_with_zero {
            return None;
        }
        if self.next() == Some(b'.') {
            self.at += 1;
            digits(self)?;
        }
        if matches!(self.next(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.next(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            digits(self)?;
        }
        Some(&self.text[from..self.at])
    }

    fn string(&mut self) -> Option<String> {
        if self.next() != Some(b'"') {
            return None;
        }
        self.at += 1;
        let mut text = String::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.find(|character: char| character == '"' || character == '\\' || character < ' ')?;
            text.push_str(&rest[..plain]);
            self.at += plain;
            match self.next()? {
                b'"' => {
                    self.at += 1;
                    return Some(text);
                }
                b'\\' => {
                    self.at += 1;
                    text.push(self.escaped()?);
                }
                _ => return None,
            }
        }
    }

    fn escaped(&mut self) -> Option<char> {
        let escaped = self.next()?;
        self.at += 1;
        Some(match escaped {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.hexadecimal()?;
                if !(0xd800..0xdc00).contains(&high) {
                    return char::from_u32(high);
                }
                self.word("\\u")?;
                let low = self.hexadecimal()?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                return char::from_u32(0x10000 + ((high - 0xd800) << 10) + low);
            }
            _ => return None,
        })
    }

    fn hexadecimal(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}
