//! Which topics a source reads, and from where in them.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use regex::Regex;

use super::settings::SOURCE;
use crate::connector::options::Options;
use crate::error::{Error, Result};

/// The topics of a source.
#[derive(Debug, Clone)]
pub(super) enum Topics {
    /// By name.
    Named(Vec<String>),
    /// All whose whole name matches.
    Matching(Regex),
}

impl Topics {
    /// Whether it is a single topic, by name.
    pub(super) fn is_one(&self) -> bool {
        matches!(self, Self::Named(names) if names.len() == 1)
    }

    pub(super) fn parse(options: &Options<'_>) -> Result<Self> {
        let pattern = options.text("topic_pattern")?;
        let topic = options.text("topic")?;
        let (pattern, option) = match (topic, pattern) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid("a Kafka source has either a topic or a topic_pattern, not both"));
            }
            (None, None) => {
                return Err(Error::invalid("the Kafka source needs the option \"topic\"")
                    .with_hint("Give a topic's name, several separated by commas, or a pattern as topic = '/…/'."));
            }
            (Some(topic), None) => match topic.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
                Some(pattern) => (pattern, "topic"),
                None => {
                    let mut names: Vec<String> = options.list("topic")?.into_iter().map(str::to_owned).collect();
                    names.sort();
                    names.dedup();
                    for name in &names {
                        check_topic_name("topic", name)?;
                    }
                    return Ok(Self::Named(names));
                }
            },
            (None, Some(pattern)) => (pattern, "topic_pattern"),
        };
        Regex::new(&format!("^(?:{pattern})$")).map(Self::Matching).map_err(|error| {
            Error::invalid(format!("the option \"{option}\" holds '{pattern}', which is not a regular expression"))
                .with_detail(error.to_string())
        })
    }

    /// The topics in words.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Named(names) if names.len() == 1 => format!("topic {}", names[0]),
            Self::Named(names) => format!("topics {}", names.join(", ")),
            Self::Matching(pattern) => format!("a topic that matches {}", pattern.as_str()),
        }
    }
}

/// Kafka's own rule for topic names.
pub(super) fn check_topic_name(option: &str, name: &str) -> Result<()> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 249 || name == "." || name == ".." || !name.chars().all(legal) {
        return Err(Error::invalid(format!("the option \"{option}\" holds '{name}', which cannot be a topic's name"))
            .with_hint("A topic's name has 1 to 249 letters, digits, dots, underscores and hyphens."));
    }
    Ok(())
}

/// Where reading starts in a partition that was there when the job started. One that is found later is read from its
/// beginning, so that nothing of it is missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Start {
    /// At the oldest record.
    Earliest,
    /// After the newest record.
    Latest,
    /// Where the consumer group stands; at the oldest record where it has no position.
    Committed,
    /// At the first record that is not older, in milliseconds since 1970.
    Timestamp(i64),
    /// At these offsets, by partition; the other partitions at the oldest record.
    Offsets(BTreeMap<i32, i64>),
}

impl Start {
    pub(super) fn parse(options: &Options<'_>, topics: &Topics) -> Result<Self> {
        let text = options.required("start")?;
        let wrong = |why: &str| {
            Error::invalid(format!("the option \"start\" cannot be '{text}': {why}"))
                .with_hint(SOURCE.spec("start").map_or("", |spec| spec.doc))
        };
        match text.to_ascii_lowercase().as_str() {
            "earliest" => return Ok(Self::Earliest),
            "latest" => return Ok(Self::Latest),
            "committed" => return Ok(Self::Committed),
            _ => {}
        }
        if let Some(time) = text.strip_prefix("timestamp:") {
            return parse_time(time.trim())
                .map(Self::Timestamp)
                .ok_or_else(|| wrong("after 'timestamp:' comes '2026-01-31T12:00:00Z' or milliseconds since 1970"));
        }
        if let Some(list) = text.strip_prefix("offsets:") {
            if !matches!(topics, Topics::Named(names) if names.len() == 1) {
                return Err(wrong("offsets can only be given for a source of one topic"));
            }
            return parse_offsets(list)
                .map(Self::Offsets)
                .ok_or_else(|| wrong("after 'offsets:' come partitions with their offsets, such as '0=12,1=40'"));
        }
        Err(wrong("allowed is 'earliest', 'latest', 'committed', 'timestamp:…' or 'offsets:…'"))
    }
}

fn parse_time(text: &str) -> Option<i64> {
    if let Ok(millis) = text.parse::<i64>() {
        return (millis >= 0).then_some(millis);
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_millis());
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, format) {
            return Some(time.and_utc().timestamp_millis());
        }
    }
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(day.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis())
}

fn parse_offsets(text: &str) -> Option<BTreeMap<i32, i64>> {
    let mut offsets = BTreeMap::new();
    for pair in text.split(',') {
        let (partition, offset) = pair.split_once('=')?;
        let partition = partition.trim().parse::<i32>().ok().filter(|partition| *partition >= 0)?;
        let offset = offset.trim().parse::<i64>().ok().filter(|offset| *offset >= 0)?;
        if offsets.insert(partition, offset).is_some() {
            return None;
        }
    }
    Some(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<(Topics, Start)> {
        let values: BTreeMap<String, String> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let options = Options::new(&SOURCE, &values);
        let topics = Topics::parse(&options)?;
        let start = Start::parse(&options, &topics)?;
        Ok((topics, start))
    }

    #[test]
    fn topics_by_name_and_by_pattern() {
        let named = |text| match read(&[("topic", text)]).unwrap().0 {
            Topics::Named(names) => names,
            Topics::Matching(_) => panic!("{text} is no pattern"),
        };
        assert_eq!(named("b, a,a"), ["a", "b"]);
        for pairs in [[("topic", "/rides-.*/")], [("topic_pattern", "rides-.*")]] {
            let Topics::Matching(pattern) = read(&pairs).unwrap().0 else { panic!("a pattern") };
            assert!(pattern.is_match("rides-eu") && !pattern.is_match("my-rides-eu"));
        }
        for (pairs, words) in [
            (&[("topic", "/(/")][..], "not a regular expression"),
            (&[("topic", "a b")], "cannot be a topic's name"),
            (&[("topic", "a"), ("topic_pattern", "b")], "not both"),
            (&[], "needs the option \"topic\""),
        ] {
            let error = read(pairs).unwrap_err();
            assert!(error.message().contains(words), "{error}");
        }
    }

    #[test]
    fn start_positions() {
        let start = |text| read(&[("topic", "a"), ("start", text)]).map(|(_, start)| start);
        assert_eq!(start("earliest").unwrap(), Start::Earliest);
        assert_eq!(start("LATEST").unwrap(), Start::Latest);
        assert_eq!(start("timestamp:1970-01-01T00:00:01.5Z").unwrap(), Start::Timestamp(1500));
        assert_eq!(start("timestamp:1970-01-02").unwrap(), Start::Timestamp(86_400_000));
        assert_eq!(start("timestamp: 77").unwrap(), Start::Timestamp(77));
        assert_eq!(start("offsets:0=12, 1=40").unwrap(), Start::Offsets(BTreeMap::from([(0, 12), (1, 40)])));
        for text in ["newest", "timestamp:noon", "offsets:", "offsets:0=-1", "offsets:0=1,0=2", "offsets:x=1"] {
            let error = start(text).unwrap_err();
            assert!(error.message().starts_with(&format!("the option \"start\" cannot be '{text}'")), "{error}");
        }
        let several = read(&[("topic", "a,b"), ("start", "offsets:0=1")]).unwrap_err();
        assert!(several.message().contains("one topic"));
    }
}
