//! What `CREATE STREAM … WITH (connector = 'nexmark')` says, checked.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use chrono::{NaiveDate, NaiveDateTime};

use super::events::Events;
use super::source::{Begin, NexmarkSource};
use super::table::Table;
use crate::connector::definition::{Definition, StreamDefinition};
use crate::connector::options::{OptionKind, OptionSpec, OptionTable, Options, check_known};
use crate::connector::{ScanRequest, Source};
use crate::error::{Error, Result};

/// The options of a stream with `connector = 'nexmark'`.
pub const OPTIONS: OptionTable = OptionTable {
    title: "Nexmark source",
    options: &[
        OptionSpec {
            name: "table",
            kind: OptionKind::Choice(&["person", "auction", "bid"]),
            default: None,
            required: true,
            doc: "Which of Nexmark's three tables the stream is.",
        },
        OptionSpec {
            name: "events",
            kind: OptionKind::Integer { min: 1, max: i64::MAX },
            default: None,
            required: false,
            doc: "The stream ends after so many events of all three tables, of which one in 50 is a person, three are auctions and 46 are bids; they are made as fast as they are read. Without it the stream never ends, and its rows come at the rate by the clock, from the moment when the job starts.",
        },
        OptionSpec {
            name: "rate",
            kind: OptionKind::Integer { min: 1, max: 1_000_000_000 },
            default: Some("10000"),
            required: false,
            doc: "Events of all three tables in a second of event time.",
        },
        OptionSpec {
            name: "seed",
            kind: OptionKind::Integer { min: 0, max: i64::MAX },
            default: Some("0"),
            required: false,
            doc: "The same seed makes the same events; the three streams of one seed, rate and start belong together.",
        },
        OptionSpec {
            name: "start",
            kind: OptionKind::Text,
            default: Some("2015-07-15 00:00:00"),
            required: false,
            doc: "The event time of the first event (UTC), or 'now' for the moment when the job starts.",
        },
        OptionSpec {
            name: "disorder",
            kind: OptionKind::Duration,
            default: Some("0s"),
            required: false,
            doc: "An event's time may be so much earlier than its place in the order says. A WATERMARK that waits as long makes no row late.",
        },
    ],
    prefixes: &[],
};

/// One of Nexmark's tables as a stream.
struct NexmarkStream {
    name: String,
    table: Table,
    events: Events,
    begin: Begin,
    /// How many events of all tables there are.
    end: Option<u64>,
}

/// Checks a stream's options.
pub(in crate::connector) fn define_stream(definition: &Definition<'_>) -> Result<Arc<dyn StreamDefinition>> {
    check_known(definition.options, &[&OPTIONS])?;
    let options = Options::new(&OPTIONS, definition.options);
    let table = match options.choice("table")? {
        Some("person") => Table::Person,
        Some("auction") => Table::Auction,
        _ => Table::Bid,
    };
    let number = |name: &str| Ok::<_, Error>(options.integer(name)?.map(i64::unsigned_abs));
    let mut events = Events::new(number("seed")?.unwrap_or_default(), number("rate")?.unwrap_or(1));
    let disorder = options.duration("disorder")?.unwrap_or_default();
    events.disorder_micros = i64::try_from(disorder.as_micros()).unwrap_or(i64::MAX);
    let start = options.required("start")?;
    let begin = if start.eq_ignore_ascii_case("now") { Begin::Now } else { Begin::Fixed };
    if begin == Begin::Fixed {
        events.start_micros = instant(start).ok_or_else(|| {
            Error::invalid(format!(
                "the option \"start\" cannot be '{start}': allowed is a time such as '2026-01-31 12:00:00', or 'now'"
            ))
        })?;
    }
    Ok(Arc::new(NexmarkStream { name: definition.name.to_owned(), table, events, begin, end: number("events")? }))
}

/// A day, or a day and a time, in microseconds since 1970.
fn instant(text: &str) -> Option<i64> {
    let at = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M"]
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
        .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0))?;
    Some(at.and_utc().timestamp_micros())
}

impl StreamDefinition for NexmarkStream {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn descriptor(&self) -> Option<Vec<u8>> {
        None
    }

    fn open(&self, scan: ScanRequest) -> Result<Box<dyn Source>> {
        if scan.bounded && self.end.is_none() {
            return Err(Error::not_supported(format!(
                "stream '{}' never ends, so a SELECT over it would not",
                self.name
            ))
            .with_hint("create it with events = '…', or make a materialized view of it and SELECT from that"));
        }
        Ok(Box::new(NexmarkSource::new(self.events.clone(), self.table, self.begin, self.end, scan)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn defined(pairs: &[(&str, &str)]) -> Result<Arc<dyn StreamDefinition>> {
        let options: BTreeMap<String, String> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        define_stream(&Definition { name: "s", options: &options, descriptor: None, columns: None, schemas: None })
    }

    #[test]
    fn wrong_options_are_told() {
        for (pairs, words) in [
            (vec![("seed", "1")], "needs the option \"table\""),
            (vec![("table", "bids")], "allowed is 'person', 'auction', 'bid'"),
            (vec![("table", "bid"), ("events", "0")], "a whole number from 1"),
            (vec![("table", "bid"), ("rate", "fast")], "\"rate\" cannot be 'fast'"),
            (vec![("table", "bid"), ("start", "tomorrow")], "\"start\" cannot be 'tomorrow'"),
            (vec![("table", "bid"), ("disorder", "some")], "a length of time"),
            (vec![("table", "bid"), ("evens", "5")], "no option \"evens\""),
        ] {
            let error = defined(&pairs).err().unwrap();
            assert!(error.message().contains(words), "{error}");
        }
    }

    #[test]
    fn a_select_over_an_endless_stream_is_refused() {
        let stream = defined(&[("table", "person")]).unwrap();
        let scan = ScanRequest { projection: vec![0], leaves: Vec::new(), schema: stream.schema(), bounded: true };
        let error = stream.open(scan).err().unwrap();
        assert!(error.message().contains("never ends"), "{error}");
    }

    #[test]
    fn starts_are_instants() {
        assert_eq!(instant("2015-07-15 00:00:00"), Some(super::super::events::BASE_MICROS));
        assert_eq!(instant("2015-07-15"), instant("2015-07-15T00:00:00.0"));
        assert_eq!(instant("2015-07-15 00:01"), Some(super::super::events::BASE_MICROS + 60_000_000));
        assert_eq!(instant("15.7.2015"), None);
    }
}
