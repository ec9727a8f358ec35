//! The variants of one message, and how they are timed.

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
use crate::realistic::{Order, Payment, Telemetry, measurements, orders, payments};
use crate::realistic_builders::{OrderBuilders, PaymentBuilders, TelemetryBuilders};
use crate::through_structs;

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

/// Encodes columns the usual way, where it is written out.
type Through = fn(&RecordBatch, &mut Vec<u8>);

/// One way to do the work on a batch.
type Variant<'a> = (&'static str, Box<dyn FnMut() + 'a>);

/// Everything about one message that is measured. `three` are the columns of the projection: two integers, a timestamp.
fn variants<'a, M: Message + Default>(
    descriptor: &'a MessageDescriptor,
    three: [usize; 3],
    messages: &'a [M],
    records: &'a Records,
    build: impl Fn(&Records) + 'a,
    through: Option<Through>,
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
    let same_batch = batch.clone();
    let mut variants: Vec<Variant<'a>> = vec![
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
    ];
    if let Some(through) = through {
        let mut buffer = Vec::new();
        variants.push((
            "encode through structs",
            Box::new(move || {
                buffer.clear();
                through(&same_batch, &mut buffer);
                black_box(buffer.len());
            }),
        ));
    }
    #[cfg(feature = "ptars")]
    variants.push(("decode ptars", ptars(descriptor, records)));
    variants
}

/// The crate that turns messages into columns as well. Its input is an array of bytes, which is made before.
#[cfg(feature = "ptars")]
fn ptars<'a>(descriptor: &'a MessageDescriptor, records: &'a Records) -> Box<dyn FnMut() + 'a> {
    use ptars_core::{PtarsConfig, binary_array_to_record_batch_direct};
    let array: arrow::array::BinaryArray = records.iter().map(Some).collect();
    let config = PtarsConfig::default();
    Box::new(move || drop(black_box(binary_array_to_record_batch_direct(&array, descriptor, &config).unwrap())))
}

/// Builders of a message's columns.
macro_rules! built {
    ($message:ty, $builders:expr) => {
        |records: &Records| {
            let mut builders = $builders;
            for record in records.iter() {
                builders.append(&<$message>::decode(record).unwrap());
            }
            black_box(builders.finish());
        }
    };
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
    let time = |name: &str| {
        let place = variants.iter().position(|(variant, _)| *variant == name)?;
        Some(best[place].as_secs_f64())
    };
    let ratios = [
        ("all columns / prost + builders", "decode prost + builders", "decode all columns"),
        ("all columns / DynamicMessage", "decode DynamicMessage", "decode all columns"),
        ("3 columns / DynamicMessage", "decode DynamicMessage", "decode 3 columns"),
        ("encode / prost structs", "encode prost structs", "encode columns"),
        ("encode / through structs", "encode through structs", "encode columns"),
        ("all columns / ptars", "decode ptars", "decode all columns"),
    ];
    for (name, over, under) in ratios {
        if let (Some(over), Some(under)) = (time(over), time(under)) {
            println!("  {name:30}  {:5.2}", over / under);
        }
    }
    let gigabytes = bytes as f64 / best[0].as_secs_f64() / 1e9;
    println!("  all columns                     {gigabytes:5.2} GB/s");
}

fn print_alone(alone: &str, variants: &mut Vec<Variant<'_>>, repeats: usize) {
    variants.retain(|(variant, _)| *variant == alone);
    for time in best_times(variants, repeats) {
        println!("{:8.1} ns", time.as_secs_f64() * 1e9 / ROWS as f64);
    }
}

/// A message with everything that is done to it: its name, its records, and how often they are repeated for `--ratios`.
type Subject<'a> = (&'static str, &'a Records, usize, Vec<Variant<'a>>);

/// Runs criterion, or prints ratios.
pub(crate) fn run() {
    let names = [
        "bench.Bid",
        "bench.Booking",
        "rondel.realistic.Payment",
        "rondel.realistic.Order",
        "rondel.realistic.Telemetry",
    ];
    let types = names.map(descriptor);
    let (bids, bookings) = (bids(ROWS), bookings(ROWS));
    let (payments, orders, measured) = (payments(ROWS), orders(ROWS), measurements(ROWS));
    let records = [
        Records::of(&bids),
        Records::of(&bookings),
        Records::of(&payments),
        Records::of(&orders),
        Records::of(&measured),
    ];
    let build_bids = built!(Bid, BidBuilders::new(ROWS));
    let build_bookings = built!(Booking, BookingBuilders::new(ROWS));
    let mut subjects: Vec<Subject<'_>> = vec![
        (
            "Bid",
            &records[0],
            200,
            variants(&types[0], [0, 2, 5], &bids, &records[0], build_bids, Some(through_structs::bids)),
        ),
        (
            "Booking",
            &records[1],
            100,
            variants(&types[1], [1, 5, 2], &bookings, &records[1], build_bookings, Some(through_structs::bookings)),
        ),
        (
            "Payment",
            &records[2],
            100,
            variants(&types[2], [1, 3, 6], &payments, &records[2], built!(Payment, PaymentBuilders::default()), None),
        ),
        (
            "Order",
            &records[3],
            100,
            variants(&types[3], [0, 1, 5], &orders, &records[3], built!(Order, OrderBuilders::default()), None),
        ),
        (
            "Telemetry",
            &records[4],
            100,
            variants(
                &types[4],
                [0, 1, 2],
                &measured,
                &records[4],
                built!(Telemetry, TelemetryBuilders::default()),
                None,
            ),
        ),
    ];
    // `cargo bench` puts an argument of its own behind ours.
    let arguments: Vec<String> = std::env::args()
        .skip_while(|argument| argument != "--ratios")
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let is_asked = |name: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == name);
    if std::env::args().any(|argument| argument == "--ratios") {
        for (name, records, repeats, variants) in subjects.iter_mut().filter(|subject| is_asked(subject.0)) {
            match &arguments[..] {
                // Alone and for longer: for a profiler, and to compare builds.
                [_, alone] => print_alone(alone, variants, *repeats * 3),
                _ => print_ratios(name, records.bytes.len(), variants, *repeats),
            }
        }
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    for (name, _, _, variants) in &mut subjects {
        let mut group = criterion.benchmark_group(name.to_ascii_lowercase());
        group.throughput(Throughput::Elements(ROWS as u64));
        for (variant, run) in variants {
            group.bench_function(*variant, |bencher| bencher.iter(&mut *run));
        }
        group.finish();
    }
    criterion.final_summary();
}
