//! Decoding and encoding protobuf, against the usual ways.
//!
//! `cargo bench -p rondel-engine --bench protobuf` runs criterion. With `-- --ratios` every variant runs in turn on each
//! batch, the best of many repeats counts, and a table of rates and ratios is printed: on a machine whose speed wanders,
//! only ratios taken so mean anything.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

mod builders;
mod messages;

use std::hint::black_box;
use std::time::{Duration, Instant};

use arrow::record_batch::RecordBatch;
use criterion::{Criterion, Throughput};
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use rondel_engine::format::encoder::{EncodedRows, RowEncoder};
use rondel_engine::format::protobuf::{ProtobufDecoder, ProtobufEncoder};
use rondel_engine::schema::arrow_schema;

use crate::builders::{BidBuilders, BookingBuilders};
use crate::messages::{Bid, Booking, bids, bookings, descriptor};

/// Rows of a batch.
const ROWS: usize = 8192;

/// Records of one batch.
struct Records {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Records {
    fn of(messages: &[impl Message]) -> Self {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for message in messages {
            message.encode(&mut bytes).unwrap();
            ends.push(bytes.len());
        }
        Self { bytes, ends }
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let record = &self.bytes[start..*end];
            start = *end;
            record
        })
    }
}

fn decode(decoder: &mut ProtobufDecoder, records: &Records) -> RecordBatch {
    decoder.begin(records.ends.len(), records.bytes.len());
    for record in records.iter() {
        decoder.push(record).unwrap();
    }
    decoder.finish().unwrap()
}

/// One way to do the work on a batch.
type Variant<'a> = (&'static str, Box<dyn FnMut() + 'a>);

/// Everything about one message that is measured. `three` are the columns of the projection: two integers, a timestamp.
fn variants<'a, M: Message + Default>(
    descriptor: &'a MessageDescriptor,
    three: [usize; 3],
    messages: &'a [M],
    records: &'a Records,
    build: impl Fn(&Records) + 'a,
) -> Vec<Variant<'a>> {
    let fields = arrow_schema(descriptor).unwrap().fields().len();
    let all: Vec<usize> = (0..fields).collect();
    let mut whole = ProtobufDecoder::new(descriptor, &all).unwrap();
    let mut part = ProtobufDecoder::new(descriptor, &three).unwrap();
    let mut none = ProtobufDecoder::new(descriptor, &[]).unwrap();
    let batch = decode(&mut whole, records);
    let mut encoder = ProtobufEncoder::new(descriptor, &batch.schema()).unwrap();
    let mut out = EncodedRows::default();
    let mut buffer = Vec::new();
    vec![
        ("decode all columns", Box::new(move || drop(black_box(decode(&mut whole, records))))),
        ("decode 3 columns", Box::new(move || drop(black_box(decode(&mut part, records))))),
        ("decode no column", Box::new(move || drop(black_box(decode(&mut none, records))))),
        ("decode prost + builders", Box::new(move || build(records))),
        (
            "decode prost",
            Box::new(move || {
                for record in records.iter() {
                    black_box(M::decode(record).unwrap());
                }
            }),
        ),
        (
            "decode DynamicMessage",
            Box::new(move || {
                for record in records.iter() {
                    black_box(DynamicMessage::decode(descriptor.clone(), record).unwrap());
                }
            }),
        ),
        (
            "encode columns",
            Box::new(move || {
                out.clear();
                encoder.encode(&batch, &mut out).unwrap();
                black_box(out.byte_len());
            }),
        ),
        (
            "encode prost structs",
            Box::new(move || {
                buffer.clear();
                for message in messages {
                    message.encode(&mut buffer).unwrap();
                }
                black_box(buffer.len());
            }),
        ),
    ]
}

fn build_bids(records: &Records) {
    let mut builders = BidBuilders::new(records.ends.len());
    for record in records.iter() {
        builders.append(&Bid::decode(record).unwrap());
    }
    black_box(builders.finish());
}

fn build_bookings(records: &Records) {
    let mut builders = BookingBuilders::new(records.ends.len());
    for record in records.iter() {
        builders.append(&Booking::decode(record).unwrap());
    }
    black_box(builders.finish());
}

/// Best times of the variants, run in turn.
fn best_times(variants: &mut [Variant<'_>], repeats: usize) -> Vec<Duration> {
    let mut best = vec![Duration::MAX; variants.len()];
    for _ in 0..repeats {
        for (place, (_, run)) in variants.iter_mut().enumerate() {
            let start = Instant::now();
            run();
            best[place] = best[place].min(start.elapsed());
        }
    }
    best
}

fn print_ratios(name: &str, bytes: usize, variants: &mut [Variant<'_>], repeats: usize) {
    let best = best_times(variants, repeats);
    println!("{name}: {} bytes a record, {ROWS} rows, best of {repeats}", bytes / ROWS);
    for ((variant, _), time) in variants.iter().zip(&best) {
        let nanos = time.as_secs_f64() * 1e9 / ROWS as f64;
        println!("  {variant:26} {:7.2} M/s {nanos:8.1} ns", 1e3 / nanos);
    }
    let ratio = |over: usize, under: usize| best[over].as_secs_f64() / best[under].as_secs_f64();
    println!("  all columns / prost + builders  {:5.2}", ratio(3, 0));
    println!("  3 columns / DynamicMessage      {:5.2}", ratio(5, 1));
    println!("  encode / prost structs          {:5.2}", ratio(7, 6));
}

fn main() {
    let (bid, booking) = (descriptor("bench.Bid"), descriptor("bench.Booking"));
    let (bid_messages, booking_messages) = (bids(ROWS), bookings(ROWS));
    let (bid_records, booking_records) = (Records::of(&bid_messages), Records::of(&booking_messages));
    let mut bid_variants = variants(&bid, [0, 2, 5], &bid_messages, &bid_records, build_bids);
    let mut booking_variants = variants(&booking, [1, 5, 2], &booking_messages, &booking_records, build_bookings);
    if std::env::args().any(|argument| argument == "--ratios") {
        print_ratios("Bid", bid_records.bytes.len(), &mut bid_variants, 200);
        print_ratios("Booking", booking_records.bytes.len(), &mut booking_variants, 100);
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    for (name, variants) in [("bid", &mut bid_variants), ("booking", &mut booking_variants)] {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(ROWS as u64));
        for (variant, run) in variants {
            group.bench_function(*variant, |bencher| bencher.iter(&mut *run));
        }
        group.finish();
    }
    criterion.final_summary();
}
