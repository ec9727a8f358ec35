use super::*;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, TimestampMicrosecondType};

use crate::connector::kafka::client::{KafkaRecord, Producer, commit_offsets, read_topic};
use crate::connector::kafka::mock::MockBroker;
use crate::connector::kafka::testing::{Job, NumberDecoder, PATIENCE, ROOM, values};
use crate::time::ManualClock;

fn broker(topics: &[(&str, i32)]) -> MockBroker {
    let broker = MockBroker::start(1).unwrap();
    for (topic, partitions) in topics {
        broker.create_topic(topic, *partitions).unwrap();
    }
    broker
}

/// Writes each number to the partition that stands before it.
fn write(broker: &MockBroker, topic: &str, numbers: impl IntoIterator<Item = (i32, i64)>) {
    let producer = Producer::new(broker.bootstrap()).unwrap();
    for (partition, number) in numbers {
        producer.send_value(topic, partition, number.to_string().as_bytes()).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

#[test]
fn every_record_of_every_partition_comes_once() {
    let broker = broker(&[("t", 5)]);
    write(&broker, "t", (0..5_000).map(|n| ((n % 5) as i32, n)));
    let mut job = Job::open(&broker, &[("topic", "t"), ("metadata", "_partition")], 3, false);
    job.until("5,000 records", |job| job.numbers().len() >= 5_000);
    assert_eq!(job.numbers(), (0..5_000).collect::<Vec<_>>());
    // Partitions 0 and 3, 1 and 4, 2: dealt by their number.
    assert_eq!(job.by_reader, [2_000, 2_000, 1_000]);
    let dealt: Vec<u32> = job.readers[0].partitions().iter().map(|state| state.partition).collect();
    assert_eq!(dealt, [0, 3]);
    // The decoder ran out of room in between: nothing is lost, no batch is larger than it can make.
    assert!(job.batches.iter().all(|batch| (1..=ROOM).contains(&batch.rows.num_rows())));
    for batch in &job.batches {
        let expanded = batch.runs.iter().flat_map(|(partition, rows)| std::iter::repeat_n(*partition as i32, *rows));
        let column = batch.rows.column(1).as_primitive::<Int32Type>();
        assert_eq!(expanded.collect::<Vec<_>>(), column.values().to_vec());
    }
}

#[test]
fn start_positions() {
    let broker = broker(&[("t", 2)]);
    write(&broker, "t", (0..10).map(|n| (0, n)).chain((100..110).map(|n| (1, n))));
    commit_offsets(broker.bootstrap(), "readers", "t", &[(0, 4)]).unwrap();
    let cases = [
        ("earliest", (0..10).chain(100..110).collect::<Vec<i64>>()),
        ("latest", Vec::new()),
        ("offsets:0=7", (7..10).chain(100..110).collect()),
        ("offsets:0=10,1=8", vec![108, 109]),
        // Partition 1 has no committed position: from its beginning.
        ("committed", (4..10).chain(100..110).collect()),
    ];
    for (round, (start, expected)) in (1_000..).step_by(2).zip(cases) {
        let options = [("topic", "t"), ("start", start), ("group", "readers")];
        let mut job = Job::open(&broker, &options, 1, false);
        job.until(start, |job| job.partitions().len() == 2);
        // What is written now comes in every case, and after what was there.
        write(&broker, "t", [(0, round), (1, round + 1)]);
        let both = [round, round + 1];
        job.until(start, |job| both.iter().all(|new| job.numbers().contains(new)));
        let old: Vec<i64> = job.numbers().into_iter().filter(|n| *n < 1_000).collect();
        assert_eq!(old, expected, "{start}");
    }
}

#[test]
fn a_position_that_is_gone_stops_the_job() {
    let broker = broker(&[("t", 1)]);
    write(&broker, "t", [(0, 1)]);
    let mut job = Job::open(&broker, &[("topic", "t"), ("start", "offsets:0=77")], 1, false);
    let error = job.until_error();
    assert!(error.message().contains("topic t, partition 0, offset 77 is no longer"), "{error}");
    assert!(error.hint().unwrap().contains("kafka.auto.offset.reset"));
    // Said so, it goes on with a gap.
    let options = [("topic", "t"), ("start", "offsets:0=77"), ("kafka.auto.offset.reset", "earliest")];
    let mut job = Job::open(&broker, &options, 1, false);
    job.until("the record", |job| job.numbers() == [1]);
}

#[test]
fn metadata_columns() {
    let broker = broker(&[("t", 2)]);
    let producer = Producer::new(broker.bootstrap()).unwrap();
    let first = KafkaRecord {
        partition: Some(1),
        key: Some(vec![0, 255]),
        value: Some(b"5".to_vec()),
        timestamp_millis: Some(1_700_000_000_123),
        headers: vec![("trace".to_owned(), Some(b"abc".to_vec())), ("none".to_owned(), None)],
        ..KafkaRecord::default()
    };
    producer.send("t", &first).unwrap();
    producer.send_value("t", 1, b"6").unwrap();
    producer.flush(PATIENCE).unwrap();
    let names = "_key,_topic,_partition,_offset,_timestamp,_headers";
    let mut job = Job::open(&broker, &[("topic", "t"), ("metadata", names)], 1, false);
    job.until("both", |job| job.numbers() == [5, 6]);
    let schema = job.batches[0].rows.schema();
    let rows: Vec<_> = job.batches.iter().map(|batch| batch.rows.clone()).collect();
    let rows = arrow::compute::concat_batches(&schema, &rows).unwrap();
    let key = rows.column(1).as_binary::<i32>();
    assert_eq!((key.value(0), key.is_null(1)), (&[0, 255][..], true));
    assert_eq!(rows.column(2).as_string::<i32>().value(0), "t");
    assert_eq!(rows.column(3).as_primitive::<Int32Type>().values(), &[1, 1]);
    assert_eq!(rows.column(4).as_primitive::<Int64Type>().values(), &[0, 1]);
    let times = rows.column(5).as_primitive::<TimestampMicrosecondType>();
    assert_eq!(times.value(0), 1_700_000_000_123_000);
    assert!(times.value(1) > 1_700_000_000_123_000);
    let headers = rows.column(6).as_map();
    assert_eq!((headers.value_length(0), headers.value_length(1)), (2, 0));
    assert_eq!(headers.keys().as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["trace", "none"]);
    let header_values = headers.values().as_binary::<i32>();
    assert_eq!((header_values.value(0), header_values.is_null(1)), (&b"abc"[..], true));
}

#[test]
fn only_the_projected_columns_are_made() {
    let broker = broker(&[("t", 1)]);
    write(&broker, "t", [(0, 5), (0, 6)]);
    let given = values(&[("topic", "t"), ("metadata", "_key,_offset"), ("brokers", broker.bootstrap())]);
    let options = KafkaSourceOptions::parse(&given, &[]).unwrap();
    // The stream's columns are n, _key, _offset; the query reads the last.
    let schema = Arc::new(Schema::new(vec![Field::new("_offset", DataType::Int64, false)]));
    let request = ScanRequest { projection: vec![2], leaves: Vec::new(), schema, bounded: true };
    assert!(KafkaSource::value_projection(&request.projection, 1).is_empty());
    let source = KafkaSource::new("t", options, request, 1, Arc::new(|| Ok(Box::new(NumberDecoder::new(false)))));
    let mut job = Job::start(source, 1, Arc::new(crate::time::SystemClock));
    job.until("the end", |job| job.finished == 1);
    assert_eq!(job.numbers(), [0, 1]);
}

#[test]
fn new_topics_of_a_pattern_are_read_from_their_beginning() {
    let broker = broker(&[("rides-a", 1), ("other", 1)]);
    write(&broker, "rides-a", [(0, 1)]);
    write(&broker, "other", [(0, 50)]);
    let options = [("topic", "/rides-.*/"), ("start", "latest"), ("discovery_interval", "50ms")];
    let mut job = Job::open(&broker, &options, 2, false);
    job.until("the first topic", |job| job.partitions().len() == 1);
    broker.create_topic("rides-b", 2).unwrap();
    write(&broker, "rides-b", [(0, 2), (1, 3)]);
    job.until("the new topic", |job| job.numbers() == [2, 3]);
    assert_eq!(job.partitions().iter().map(|state| state.partition).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn a_broker_that_is_down_is_waited_for() {
    let broker = broker(&[("t", 2)]);
    write(&broker, "t", [(0, 1), (1, 2)]);
    broker.go_down().unwrap();
    let mut job = Job::open(&broker, &[("topic", "t")], 2, false);
    job.until("a state", |job| job.reporter.waits().contains("Connection refused"));
    assert!(job.reporter.waits().starts_with(&format!("broker {}: ", broker.bootstrap())), "{}", job.reporter.waits());
    // Nothing is known yet, and nobody may take the watermark for free of these partitions.
    assert_eq!(
        job.partitions().iter().map(|state| (state.partition, state.idle)).collect::<Vec<_>>(),
        [(u32::MAX, false), (u32::MAX, false)]
    );
    broker.come_up().unwrap();
    job.until("the records", |job| job.numbers() == [1, 2]);
    job.until("the state is cleared", |job| job.reporter.waits().is_empty());
    broker.go_down().unwrap();
    job.until("a state again", |job| !job.reporter.waits().is_empty());
    broker.come_up().unwrap();
    write(&broker, "t", [(0, 3)]);
    job.until("the rest", |job| job.numbers() == [1, 2, 3] && job.reporter.waits().is_empty());
}

#[test]
fn a_topic_that_does_not_exist_is_waited_for() {
    let broker = broker(&[("there", 1)]);
    write(&broker, "there", [(0, 1)]);
    let mut job = Job::open(&broker, &[("topic", "there, missing"), ("discovery_interval", "50ms")], 1, false);
    let words = format!("topic missing, which does not exist on {}", broker.bootstrap());
    job.until("what is there, and a state", |job| job.numbers() == [1] && job.reporter.waits() == words);
    broker.create_topic("missing", 1).unwrap();
    write(&broker, "missing", [(0, 2)]);
    job.until("both", |job| job.numbers() == [1, 2] && job.reporter.waits().is_empty());
    // A snapshot query has nothing to wait for.
    let mut job = Job::open(&broker, &[("topic", "absent")], 1, true);
    let error = job.until_error();
    assert!(error.message().starts_with("there is no topic absent"), "{error}");
}

/// A topic that an earlier run had read and that is not there holds the watermark, until the broker has not known it for the
/// whole idle time-out; it is read on when it comes. So are topics of a pattern.
#[test]
fn a_topic_of_an_earlier_run_holds_the_watermark() {
    for topics in ["there, missing", "/there|missing/"] {
        let broker = broker(&[("there", 1)]);
        write(&broker, "there", [(0, 1), (0, 2)]);
        let clock = ManualClock::at(1_000_000);
        let mut source =
            Job::source(&broker, &[("topic", topics), ("idle_timeout", "60s"), ("discovery_interval", "50ms")], false);
        let stood = [("there/0", "0@1"), ("missing/0", "1@0")].map(|(place, at)| (place.to_owned(), at.to_owned()));
        source.start_at(Positions(stood.into())).unwrap();
        let mut job = Job::start(source, 1, Arc::new(clock.clone()));
        let said = |job: &Job| job.partitions().iter().map(|state| (state.partition, state.idle)).collect::<Vec<_>>();
        let waits = if topics.starts_with('/') {
            format!("partition 0 of topic missing, read before and not there on {}", broker.bootstrap())
        } else {
            format!("topic missing, which does not exist on {}", broker.bootstrap())
        };
        job.until("what is there", |job| job.numbers() == [2] && job.reporter.waits() == waits);
        assert_eq!(said(&job), [(0, false), (1, false)]);
        clock.advance_micros(60_000_000);
        job.until("the missing one is idle", |job| said(job).contains(&(1, true)));
        broker.create_topic("missing", 1).unwrap();
        write(&broker, "missing", [(0, 3)]);
        job.until("both", |job| job.numbers() == [2, 3] && job.reporter.waits().is_empty());
        assert!(said(&job).contains(&(1, false)));
    }
}

#[test]
fn a_bounded_scan_ends_at_what_was_there() {
    let broker = broker(&[("t", 4), ("empty", 3)]);
    write(&broker, "t", (0..3_000).map(|n| ((n % 3) as i32, n)));
    let mut job = Job::open(&broker, &[("topic", "t")], 2, true);
    job.until("both workers finish", |job| job.finished == 2);
    assert_eq!(job.numbers(), (0..3_000).collect::<Vec<_>>());
    let mut job = Job::open(&broker, &[("topic", "t"), ("start", "offsets:0=998,1=1000,2=1000")], 1, true);
    job.until("the end", |job| job.finished == 1);
    assert_eq!(job.numbers(), [2_994, 2_997]);
    // A snapshot is of what there is, also of a stream that jobs read from now on.
    let mut job = Job::open(&broker, &[("topic", "t"), ("start", "latest")], 1, true);
    job.until("the end", |job| job.finished == 1);
    assert_eq!(job.numbers().len(), 3_000);
    // Nothing in it, and more workers than partitions.
    let mut job = Job::open(&broker, &[("topic", "empty")], 5, true);
    job.until("all finish", |job| job.finished == 5);
    assert!(job.batches.is_empty());
}

#[test]
fn a_bounded_scan_leaves_what_comes_later() {
    let broker = broker(&[("t", 1)]);
    write(&broker, "t", (0..100).map(|n| (0, n)));
    let mut job = Job::open(&broker, &[("topic", "t")], 1, true);
    // Partitions are dealt, with their ends, before the reader reads for the first time.
    let until = std::time::Instant::now() + PATIENCE;
    while job.readers[0].partitions() == [PartitionState { partition: 0, idle: false }] && job.batches.is_empty() {
        assert!(std::time::Instant::now() < until);
        job.poll();
    }
    write(&broker, "t", (100..200).map(|n| (0, n)));
    job.until("the end", |job| job.finished == 1);
    assert_eq!(job.numbers(), (0..100).collect::<Vec<_>>());
}

/// 1, then a record that is no number, a tombstone, and 2.
fn with_a_bad_record() -> MockBroker {
    let broker = broker(&[("t", 1), ("bad", 1)]);
    let producer = Producer::new(broker.bootstrap()).unwrap();
    producer.send_value("t", 0, b"1").unwrap();
    let bad = KafkaRecord {
        partition: Some(0),
        key: Some(b"k".to_vec()),
        value: Some(b"one".to_vec()),
        headers: vec![("trace".to_owned(), Some(b"abc".to_vec()))],
        ..KafkaRecord::default()
    };
    producer.send("t", &bad).unwrap();
    producer.send("t", &KafkaRecord { partition: Some(0), ..KafkaRecord::default() }).unwrap();
    producer.send_value("t", 0, b"2").unwrap();
    producer.flush(PATIENCE).unwrap();
    broker
}

#[test]
fn a_bad_record_stops_the_job() {
    let broker = with_a_bad_record();
    let error = Job::open(&broker, &[("topic", "t")], 1, false).until_error();
    assert_eq!(error.message(), "topic t, partition 0, offset 1: field n, byte 0: not a number");
    assert_eq!(error.kind(), crate::ErrorKind::Data);
}

#[test]
fn a_bad_record_is_skipped_and_counted() {
    let broker = with_a_bad_record();
    let mut job = Job::open(&broker, &[("topic", "t"), ("on_error", "skip")], 1, true);
    job.until("the end", |job| job.finished == 1);
    assert_eq!(job.numbers(), [1, 2]);
    let skipped = job.reporter.told().skipped;
    assert_eq!(skipped.len(), 2, "{skipped:?}");
    assert!(skipped.iter().any(|(rows, why)| *rows == 1 && why.contains("tombstone")), "{skipped:?}");
    let words = "topic t, partition 0, offset 1: field n, byte 0: not a number";
    assert!(skipped.iter().any(|(rows, why)| *rows == 1 && why == words), "{skipped:?}");
}

#[test]
fn a_bad_record_goes_to_the_dead_letters() {
    let broker = with_a_bad_record();
    let options = [("topic", "t"), ("on_error", "dead_letter"), ("dead_letter_topic", "bad")];
    let mut job = Job::open(&broker, &options, 2, true);
    job.until("the end", |job| job.finished == 2);
    assert_eq!(job.numbers(), [1, 2]);
    // Finished means that the letter is there, and only then it counts.
    assert_eq!(job.reporter.skipped(), 2);
    let letters = read_topic(broker.bootstrap(), "bad", PATIENCE).unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].key.as_deref(), letters[0].value.as_deref()), (Some(&b"k"[..]), Some(&b"one"[..])));
    let header = |name: &str| {
        let found = letters[0].headers.iter().find(|(header, _)| header == name);
        found.and_then(|(_, value)| value.clone()).map(|value| String::from_utf8(value).unwrap())
    };
    for (name, value) in [
        ("trace", "abc"),
        ("rondel.error", "field n, byte 0: not a number"),
        ("rondel.topic", "t"),
        ("rondel.partition", "0"),
        ("rondel.offset", "1"),
        ("rondel.stream", "numbers"),
    ] {
        assert_eq!(header(name).as_deref(), Some(value), "{name}");
    }
}

#[test]
fn a_dead_letter_that_cannot_be_written_stops_the_job() {
    let broker = with_a_bad_record();
    broker.refuse_writes(20).unwrap();
    let options = [("topic", "t"), ("on_error", "dead_letter"), ("dead_letter_topic", "bad")];
    let mut job = Job::open(&broker, &options, 1, false);
    let error = job.until_error();
    assert!(error.message().contains("could not be written to topic bad"), "{error}");
    assert_eq!(job.reporter.skipped(), 1, "only the tombstone counts");
}

#[test]
fn a_partition_is_idle_by_the_brokers_word_only() {
    let broker = broker(&[("t", 2)]);
    write(&broker, "t", [(0, 1)]);
    let clock = ManualClock::at(1_000_000);
    // The end of a partition is told with an empty answer, which a broker otherwise holds back for half a second.
    let options = [("topic", "t"), ("idle_timeout", "100ms"), ("kafka.fetch.wait.max.ms", "10")];
    let source = Job::source(&broker, &options, false);
    let mut job = Job::start(source, 1, Arc::new(clock.clone()));
    let idle = |job: &Job| job.partitions().iter().map(|state| state.idle).collect::<Vec<_>>();
    job.until("the record", |job| job.numbers() == [1] && job.partitions().len() == 2);
    // Silent, but not for as long as the time-out: the clock stands.
    job.rest(Duration::from_millis(300));
    assert_eq!(idle(&job), [false, false]);
    // Long enough, but the broker cannot be asked: a slow partition is not an idle one.
    broker.go_down().unwrap();
    job.until("down", |job| !job.reporter.waits().is_empty());
    // What the broker said before it went is heard before the clock moves.
    job.rest(Duration::from_millis(200));
    clock.advance_micros(100_000);
    job.rest(Duration::from_millis(300));
    assert_eq!(idle(&job), [false, false]);
    broker.come_up().unwrap();
    job.until("both idle", |job| idle(job) == [true, true]);
    write(&broker, "t", [(1, 2)]);
    job.until("a record ends it", |job| job.numbers() == [1, 2] && idle(job) == [true, false]);
    // The broker may say that this is the end after the clock has moved.
    job.until("idle again", |job| {
        clock.advance_micros(100_000);
        idle(job) == [true, true]
    });
}

#[test]
fn an_unknown_property_is_refused_before_anything_runs() {
    let given = values(&[("topic", "t"), ("brokers", "127.0.0.1:1"), ("kafka.fech.wait.max.ms", "1")]);
    let error = KafkaSourceOptions::parse(&given, &[]).unwrap_err();
    assert!(error.message().contains("kafka.fech.wait.max.ms"), "{error}");
}

#[test]
fn nothing_is_left_when_a_job_goes() {
    let broker = with_a_bad_record();
    let options = [("topic", "t"), ("on_error", "dead_letter"), ("dead_letter_topic", "bad")];
    let mut job = Job::open(&broker, &options, 2, false);
    job.until("read", |job| job.numbers() == [1, 2] && job.reporter.skipped() == 2);
    let reporter = Arc::clone(&job.reporter);
    drop(job);
    // The coordinator and the dead letters' producer hold the reporter through their clients.
    let until = std::time::Instant::now() + PATIENCE;
    while Arc::strong_count(&reporter) > 1 {
        assert!(std::time::Instant::now() < until, "a thread or a client is left");
        std::thread::sleep(Duration::from_millis(5));
    }
}
