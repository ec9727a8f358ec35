//! Numbers by patterns: `9,999.99`, `FM0.00`, `S`, `MI`, `PR`, `RN`.

use datafusion::common::{Result, exec_datafusion_err, exec_err};

/// Where a sign stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// Before the first digit, with a place kept for it.
    Plain,
    /// `S` at the beginning, or `SG`.
    Before,
    /// `S` at the end.
    After,
    /// `MI` at the end.
    MinusAfter,
    /// `<12>`
    Brackets,
}

/// One character of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// `9` or `0`
    Digit { zero: bool },
    /// `,` or `G`
    Group,
    /// `.` or `D`
    Point,
    /// Anything else stands for itself.
    Other(char),
}

struct Picture {
    marks: Vec<Mark>,
    sign: Sign,
    plain: bool,
}

impl Picture {
    fn of(pattern: &str) -> Result<Self> {
        let mut picture = Self { marks: Vec::new(), sign: Sign::Plain, plain: false };
        let mut rest = pattern;
        while let Some(first) = rest.chars().next() {
            let upper = |length: usize| rest.get(..length).map(str::to_ascii_uppercase).unwrap_or_default();
            let two = upper(2);
            let length = match (two.as_str(), first.to_ascii_uppercase()) {
                ("FM", _) => {
                    picture.plain = true;
                    2
                }
                ("MI", _) => {
                    picture.sign = Sign::MinusAfter;
                    2
                }
                ("PR", _) => {
                    picture.sign = Sign::Brackets;
                    2
                }
                ("SG", _) => {
                    picture.sign = Sign::Before;
                    2
                }
                (_, 'S') => {
                    picture.sign = if picture.marks.is_empty() { Sign::Before } else { Sign::After };
                    1
                }
                (_, '9') => {
                    picture.marks.push(Mark::Digit { zero: false });
                    1
                }
                (_, '0') => {
                    picture.marks.push(Mark::Digit { zero: true });
                    1
                }
                (_, ',' | 'G') => {
                    picture.marks.push(Mark::Group);
                    1
                }
                (_, '.' | 'D') => {
                    if picture.marks.contains(&Mark::Point) {
                        return exec_err!("multiple decimal points in the pattern \"{pattern}\"");
                    }
                    picture.marks.push(Mark::Point);
                    1
                }
                (_, 'E' | 'V') => return exec_err!("the pattern \"{pattern}\" has {first}, which is not supported"),
                _ => {
                    picture.marks.push(Mark::Other(first));
                    first.len_utf8()
                }
            };
            rest = &rest[length..];
        }
        Ok(picture)
    }

    fn digits(&self) -> (usize, usize) {
        let point = self.marks.iter().position(|mark| *mark == Mark::Point).unwrap_or(self.marks.len());
        let count = |marks: &[Mark]| marks.iter().filter(|mark| matches!(mark, Mark::Digit { .. })).count();
        (count(&self.marks[..point]), count(&self.marks[point..]))
    }
}

pub(crate) fn write_number(value: f64, pattern: &str) -> Result<String> {
    let roman = pattern.trim_start_matches("FM").trim_start_matches("fm");
    if roman.eq_ignore_ascii_case("RN") {
        let numeral = roman_numeral(value).unwrap_or_else(|| "#".repeat(15));
        return Ok(if pattern.len() > 2 { numeral } else { format!("{numeral:>15}") });
    }
    let picture = Picture::of(pattern)?;
    let (before, behind) = picture.digits();
    let text = rounded(value.abs(), behind);
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let whole = if whole == "0" && before > 0 { "" } else { whole };
    let overflows = whole.len() > before || !value.is_finite();
    let is_negative = value < 0.0 && text.bytes().any(|digit| (b'1'..=b'9').contains(&digit));
    let digits = Digits { whole, fraction, before, overflows };
    let body = digits.fill(&picture);
    Ok(signed(&body, is_negative, &picture))
}

/// So many digits behind the point, half away from zero as NUMERIC is rounded.
fn rounded(value: f64, digits: usize) -> String {
    let shortest = format!("{value}");
    let Some((whole, fraction)) = shortest.split_once('.').filter(|(_, fraction)| fraction.len() > digits) else {
        return format!("{value:.digits$}");
    };
    let mut kept: Vec<u8> = whole.bytes().chain(fraction.bytes().take(digits)).collect();
    let mut carries = fraction.as_bytes()[digits] >= b'5';
    for digit in kept.iter_mut().rev() {
        if !carries {
            break;
        }
        carries = *digit == b'9';
        *digit = if carries { b'0' } else { *digit + 1 };
    }
    if carries {
        kept.insert(0, b'1');
    }
    let mut text = String::from_utf8_lossy(&kept).into_owned();
    if digits > 0 {
        text.insert(kept.len() - digits, '.');
    }
    text
}

struct Digits<'a> {
    whole: &'a str,
    fraction: &'a str,
    before: usize,
    overflows: bool,
}

impl Digits<'_> {
    /// The picture with its digits, spaces for those that are not needed.
    fn fill(&self, picture: &Picture) -> String {
        let first_zero = picture.marks.iter().position(|mark| *mark == Mark::Digit { zero: true });
        let point = picture.marks.iter().position(|mark| *mark == Mark::Point).unwrap_or(picture.marks.len());
        let mut filled = String::new();
        let (mut place, mut behind, mut started) = (0, 0, false);
        let mut fraction_kept = filled.len();
        for (at, mark) in picture.marks.iter().enumerate() {
            match mark {
                Mark::Digit { .. } if self.overflows => filled.push('#'),
                Mark::Digit { .. } if at < point => {
                    let missing = self.before - self.whole.len().min(self.before);
                    if place >= missing {
                        started = true;
                        filled.push(self.whole.as_bytes()[place - missing] as char);
                    } else if first_zero.is_some_and(|zero| at >= zero) {
                        started = true;
                        filled.push('0');
                    } else if !picture.plain {
                        filled.push(' ');
                    }
                    place += 1;
                }
                Mark::Digit { zero } => {
                    filled.push(self.fraction.as_bytes().get(behind).map_or('0', |digit| *digit as char));
                    let matters = *zero || self.fraction.as_bytes().get(behind).is_some_and(|digit| *digit != b'0');
                    if matters {
                        fraction_kept = filled.len();
                    }
                    behind += 1;
                }
                Mark::Point => {
                    filled.push('.');
                    fraction_kept = filled.len();
                }
                Mark::Group if started || self.overflows => filled.push(','),
                Mark::Group if picture.plain => {}
                Mark::Group => filled.push(' '),
                Mark::Other(character) => filled.push(*character),
            }
        }
        if picture.plain && behind > 0 && fraction_kept < filled.len() {
            filled.truncate(fraction_kept);
        }
        filled
    }
}

fn signed(body: &str, is_negative: bool, picture: &Picture) -> String {
    let start = body.len() - body.trim_start().len();
    let (space, digits) = body.split_at(start);
    match (picture.sign, is_negative) {
        (Sign::Plain, true) => format!("{space}-{digits}"),
        (Sign::Plain, false) if picture.plain => body.to_owned(),
        (Sign::Plain, false) => format!(" {body}"),
        (Sign::Before, true) => format!("{space}-{digits}"),
        (Sign::Before, false) => format!("{space}+{digits}"),
        (Sign::After, true) => format!("{body}-"),
        (Sign::After, false) => format!("{body}+"),
        (Sign::MinusAfter, true) => format!("{body}-"),
        (Sign::MinusAfter, false) if picture.plain => body.to_owned(),
        (Sign::MinusAfter, false) => format!("{body} "),
        (Sign::Brackets, true) => format!("{space}<{digits}>"),
        (Sign::Brackets, false) if picture.plain => body.to_owned(),
        (Sign::Brackets, false) => format!(" {body} "),
    }
}

fn roman_numeral(value: f64) -> Option<String> {
    const NUMERALS: [(u32, &str); 13] = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    let value = value.round();
    if !(1.0..4000.0).contains(&value) {
        return None;
    }
    let mut left = value as u32;
    let mut numeral = String::new();
    for (worth, letters) in NUMERALS {
        while left >= worth {
            numeral.push_str(letters);
            left -= worth;
        }
    }
    Some(numeral)
}

/// Digits, point and sign of the text, as the pattern has them.
pub(crate) fn read_number(text: &str, pattern: &str) -> Result<f64> {
    let picture = Picture::of(pattern)?;
    let (before, behind) = picture.digits();
    let mut digits = String::new();
    let mut point = false;
    let mut is_negative = false;
    let (mut whole, mut fraction) = (0, 0);
    for character in text.trim().chars() {
        match character {
            '0'..='9' if point && fraction < behind => {
                fraction += 1;
                digits.push(character);
            }
            '0'..='9' if !point && whole < before => {
                whole += 1;
                digits.push(character);
            }
            '0'..='9' => {}
            '.' if !point && picture.marks.contains(&Mark::Point) => {
                point = true;
                digits.push('.');
            }
            '-' | '<' => is_negative = true,
            _ => {}
        }
    }
    let value: f64 =
        digits.parse().map_err(|_| exec_datafusion_err!("invalid input syntax for type numeric: \"{text}\""))?;
    Ok(if is_negative { -value } else { value })
}
