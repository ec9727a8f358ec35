//! Where a source stands, in words that outlive the process: `orders/3` → `2@1042`, the partition's number in the source
//! and the offset of the next record.
//!
//! The number stays, since watermarks are remembered by it. An offset that is not known yet is `beginning`.

use std::collections::BTreeMap;

use super::Partition;
use crate::connector::Positions;
use crate::error::{Error, Result};

/// The offset that means "at the oldest record", as librdkafka has it.
pub(in crate::connector) const OFFSET_BEGINNING: i64 = -2;

/// A topic's partition.
pub(in crate::connector) type Place = (String, i32);

/// Where an earlier run of the job stood in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::connector) struct Stood {
    pub(in crate::connector) number: u32,
    pub(in crate::connector) offset: i64,
}

const BEGINNING: &str = "beginning";

fn written(topic: &str, partition: i32, stood: Stood) -> (String, String) {
    let offset = if stood.offset == OFFSET_BEGINNING { BEGINNING.to_owned() } else { stood.offset.to_string() };
    (format!("{topic}/{partition}"), format!("{}@{offset}", stood.number))
}

/// The positions of partitions.
pub(in crate::connector) fn write<'a>(partitions: impl Iterator<Item = &'a Partition>) -> Positions {
    let stood = |partition: &Partition| {
        let stood = Stood { number: partition.number, offset: partition.next()? };
        Some(written(&partition.topic, partition.partition, stood))
    };
    Positions(partitions.filter_map(stood).collect())
}

/// Reads what [`write()`] wrote.
pub(in crate::connector) fn read(positions: &Positions) -> Result<BTreeMap<Place, Stood>> {
    let one = |(place, at): (&String, &String)| {
        let (topic, partition) = place.rsplit_once('/')?;
        let (number, offset) = at.split_once('@')?;
        let offset = if offset == BEGINNING { OFFSET_BEGINNING } else { offset.parse().ok()? };
        Some(((topic.to_owned(), partition.parse().ok()?), Stood { number: number.parse().ok()?, offset }))
    };
    let read = |entry: (&String, &String)| {
        one(entry).ok_or_else(|| Error::internal(format!("{} → {} is no position in a topic", entry.0, entry.1)))
    };
    positions.0.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_they_were_written() {
        let partition = Partition::new(4, "a/b".into(), 2, None);
        assert!(write([&partition].into_iter()).0.is_empty(), "nothing is known of it");
        partition.passed(OFFSET_BEGINNING);
        let other = Partition::new(7, "c".into(), 0, None);
        other.passed(12);
        let positions = write([&partition, &other].into_iter());
        let lines: Vec<String> = positions.0.iter().map(|(place, at)| format!("{place} {at}")).collect();
        assert_eq!(lines, ["a/b/2 4@beginning", "c/0 7@12"]);
        partition.passed(1042);
        let read = read(&write([&partition, &other].into_iter())).unwrap();
        assert_eq!(read[&("a/b".to_owned(), 2)], Stood { number: 4, offset: 1042 });
        assert_eq!(read[&("c".to_owned(), 0)], Stood { number: 7, offset: 12 });
        let odd = Positions([("t/0".to_owned(), "x@1".to_owned())].into());
        assert!(super::read(&odd).is_err());
    }
}
