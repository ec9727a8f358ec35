//! The broker that the benchmark reads from: librdkafka's mock broker with bids in it, in a process of its own, so that
//! what it takes is not counted.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use clap::Args;
use rondel_engine::connector::kafka::client::Producer;
use rondel_engine::connector::kafka::mock::MockBroker;
use rondel_engine::connector::nexmark::{BidGenerator, bid_schema};
use rondel_engine::format::encoder::EncodedRows;
use rondel_engine::format::value::ValueFormat;
use rondel_engine::{Error, ErrorKind, Result};

/// The topic.
pub(super) const TOPIC: &str = "bid";
/// Bids above this price pass the benchmark's filters.
const DEAR: i64 = 1_000_000;
/// The mock broker keeps 5 MB of a partition; records have a head besides their value.
const PARTITION_BYTES: usize = 4_500_000;
const HEAD_BYTES: usize = 16;
const BATCH_ROWS: usize = 8192;
const SEED: u64 = 0x0A0C_7104;

/// Options of `rondel bench-broker`.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct BrokerOptions {
    /// Partitions of the topic
    #[arg(long)]
    partitions: i32,
    /// Where the bids' message is defined
    #[arg(long)]
    messages: PathBuf,
}

/// What the topic holds; written to the parent in one line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// Records that pass the filters.
    pub(super) dear: u64,
}

/// Fills a broker, says where it is and what it holds, and serves until standard input ends.
pub(in crate::cli) fn serve_broker(options: &BrokerOptions) -> Result<()> {
    let broker = MockBroker::start(1)?;
    broker.create_topic(TOPIC, options.partitions)?;
    let Contents { records, bytes, dear } = fill(&broker, options)?;
    let failed = |error: std::io::Error| Error::new(ErrorKind::External, error.to_string());
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{} {records} {bytes} {dear}", broker.bootstrap())
        .and_then(|()| stdout.flush())
        .map_err(failed)?;
    std::io::stdin().lock().read_to_end(&mut Vec::new()).map_err(failed)?;
    Ok(())
}

/// Reads the line back: the broker's address, and what it holds.
pub(super) fn parse(line: &str) -> Option<(String, Contents)> {
    let mut words = line.split_ascii_whitespace();
    let bootstrap = words.next()?.to_owned();
    let mut number = || words.next()?.parse().ok();
    Some((bootstrap, Contents { records: number()?, bytes: number()?, dear: number()? }))
}

/// One partition after the other, so that the producer's batches are full: the mock broker answers one of them to a fetch.
fn fill(broker: &MockBroker, options: &BrokerOptions) -> Result<Contents> {
    let large = [("linger.ms", "100"), ("batch.size", "1000000"), ("batch.num.messages", "100000")];
    let producer = Producer::with(broker.bootstrap(), &large)?;
    let format = ValueFormat::new(
        &BTreeMap::from([
            ("message".to_owned(), "rondel.nexmark.Bid".to_owned()),
            ("descriptor".to_owned(), format!("file:{}", options.messages.display())),
        ]),
        None,
        None,
    )?;
    let mut encoder = format.encoder(&bid_schema())?;
    let mut generator = BidGenerator::new(SEED, 100_000);
    let mut encoded = EncodedRows::default();
    let mut contents = Contents::default();
    for partition in 0..options.partitions {
        let mut room = PARTITION_BYTES;
        while room > 0 {
            let bids = generator.next_batch(BATCH_ROWS)?;
            encoded.clear();
            encoder.encode(&bids, &mut encoded)?;
            let prices = bids.column(2).as_primitive::<Int64Type>().values();
            for (record, price) in encoded.iter().zip(prices) {
                if record.len() + HEAD_BYTES > room {
                    room = 0;
                    break;
                }
                room -= record.len() + HEAD_BYTES;
                producer.send_value(TOPIC, partition, record)?;
                contents.records += 1;
                contents.bytes += record.len() as u64;
                contents.dear += u64::from(*price > DEAR);
            }
        }
        producer.flush(Duration::from_secs(60))?;
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_reads_the_line() {
        let contents = Contents { records: 7, bytes: 99, dear: 2 };
        assert_eq!(parse("127.0.0.1:1234 7 99 2\n"), Some(("127.0.0.1:1234".to_owned(), contents)));
        assert_eq!(parse("127.0.0.1:1234 7 99"), None);
    }
}
