//! Where a source stands, in words that outlive the process: `orders/3` → `2@1042`, the partition's number in the source
//! and the offset of the next record.
//!
//! The number stays, since watermarks are remembered by it. An offset that is not known yet is `beginning`.

use std::collections::BTreeMap;

use super::batch_queue::OFFSET_BEGINNING;
use super::partitions::Partition;
use crate::connector::Positions;
use crate::error::{Error, Result};

/// A topic's partition.
pub(super) type Place = (String, i32);

/// Where an earlier run of the job stood in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stood {
    pub(super) number: u32,
    pub(super) offset: i64,
}

const BEGINNING: &str = "beginning";

fn written(topic: &str, partition: i32, stood: Stood) -> (String, String) {
    let offset = if stood.offset == OFFSET_BEGINNING { BEGINNING.to_owned() } else { stood.offset.to_string() };
    (format!("{topic}/{partition}"), format!("{}@{offset}", stood.number))
}

/// The positions of partitions that are read, and of those that an earlier run has read and that were not found yet.
pub(super) fn write<'a>(
    read: impl Iterator<Item = &'a Partition>,
    unfound: impl Iterator<Item = (&'a Place, Stood)>,
) -> Positions {
    let read = read.filter_map(|partition| {
        let stood = Stood { number: partition.number, offset: partition.next()? };
        Some(written(&partition.topic, partition.partition, stood))
    });
    let unfound = unfound.map(|((topic, partition), stood)| written(topic, *partition, stood));
    Positions(read.chain(unfound).collect())
}

/// Reads what [`write()`] wrote.
pub(super) fn read(positions: &Positions) -> Result<BTreeMap<Place, Stood>> {
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
        assert!(write([&partition].into_iter(), std::iter::empty()).0.is_empty(), "nothing is known of it");
        partition.passed(OFFSET_BEGINNING);
        let place = ("c".to_owned(), 0);
        let unfound = Stood { number: 7, offset: 12 };
        let positions = write([&partition].into_iter(), [(&place, unfound)].into_iter());
        let lines: Vec<String> = positions.0.iter().map(|(place, at)| format!("{place} {at}")).collect();
        assert_eq!(lines, ["a/b/2 4@beginning", "c/0 7@12"]);
        partition.passed(1042);
        let positions = write([&partition].into_iter(), [(&place, unfound)].into_iter());
        let read = read(&positions).unwrap();
        assert_eq!(read[&("a/b".to_owned(), 2)], Stood { number: 4, offset: 1042 });
        assert_eq!(read[&place], unfound);
        let odd = Positions([("t/0".to_owned(), "x@1".to_owned())].into());
        assert!(super::read(&odd).is_err());
    }
}
