//! `rondel demo`: everything in one process. An embedded broker with real protocol, a producer of protobuf ride bookings,
//! the tour's statements, and the server itself, to which psql connects.

mod rides;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::AsArray;
use arrow::record_batch::RecordBatch;
use rondel_engine::connector::kafka::client::Producer;
use rondel_engine::connector::kafka::mock::MockBroker;
use rondel_engine::format::encoder::EncodedRows;
use rondel_engine::format::value::ValueFormat;
use rondel_engine::time::SystemClock;
use rondel_engine::{Error, ErrorKind, Result};

use crate::frontend::{Frontend, Session};
use crate::settings::ServerOptions;
use rides::Rides;

/// The tour's statements, in order; the messages are in the folder beside them.
const TOUR: [(&str, &str); 4] = [
    ("01-streams.sql", include_str!("../../../sql/tour/01-streams.sql")),
    ("02-windows.sql", include_str!("../../../sql/tour/02-windows.sql")),
    ("03-join.sql", include_str!("../../../sql/tour/03-join.sql")),
    ("04-sink.sql", include_str!("../../../sql/tour/04-sink.sql")),
];
const MESSAGES: &str = include_str!("../../../sql/tour/booking.proto");
/// What the tour's files say, and the demo replaces by its own.
const TOUR_BROKER: &str = "127.0.0.1:9092";
const TOUR_MESSAGES: &str = "file:sql/tour/booking.proto";

const TOPICS: [(&str, i32); 3] = [("bookings", 4), ("payments", 2), ("demand", 1)];
/// Bookings of one round, and how long a round is.
const BOOKINGS_PER_ROUND: usize = 8;
const ROUND: Duration = Duration::from_millis(200);
/// How often the demo says how far it is.
const REPORT_EVERY_ROUNDS: u64 = 50;

/// Runs the demo until `stop` is done.
pub async fn demo<F: Frontend>(
    frontend: Arc<F>,
    options: &ServerOptions,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let broker = MockBroker::start(1)?;
    for (topic, partitions) in TOPICS {
        broker.create_topic(topic, partitions)?;
    }
    let brokers = broker.bootstrap().to_owned();
    say(&format!("A Kafka broker is at {brokers}, with the topics bookings, payments and demand."));

    let folder = std::env::temp_dir().join(format!("rondel-demo-{}", std::process::id()));
    let messages = folder.join("booking.proto");
    write_messages(&folder, &messages)?;
    let session = frontend.connect("demo", "rondel")?;
    for (name, text) in TOUR {
        let text = text.replace(TOUR_BROKER, &brokers).replace(TOUR_MESSAGES, &format!("file:{}", messages.display()));
        for statement in session.parse(&text)? {
            session.execute(&statement, &[]).await.map_err(|error| error.context(format!("sql/tour/{name}")))?;
        }
        say(&format!("sql/tour/{name} is running."));
    }

    let running = Arc::new(AtomicBool::new(true));
    let producer = {
        let running = Arc::clone(&running);
        let (brokers, messages) = (brokers.clone(), messages.clone());
        // Producing sleeps between rounds: a thread of its own.
        std::thread::spawn(move || produce(&brokers, &messages, &running))
    };
    say(&format!(
        "Join in:  psql -h {} -p {} rondel\nThen try: SELECT * FROM demand ORDER BY window_start DESC LIMIT 6;\n          COPY (SUBSCRIBE TO statuses) TO STDOUT;\nStop with Ctrl-C.",
        options.pg.ip(),
        options.pg.port()
    ));
    let served = crate::cli::serve(frontend, options, std::future::ready(Ok(())), stop).await;
    running.store(false, Ordering::Release);
    let produced = producer.join().unwrap_or_else(|_| Err(Error::internal("the demo's producer broke off")));
    // The folder is in the system's place for temporary files: what stays is swept there.
    let _ = std::fs::remove_dir_all(&folder);
    drop(broker);
    served.and(produced)
}

fn write_messages(folder: &Path, messages: &Path) -> Result<()> {
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(messages, MESSAGES));
    written.map_err(|error| {
        Error::new(
            ErrorKind::External,
            format!("the demo's messages cannot be written to {}: {error}", folder.display()),
        )
    })
}

/// Writes bookings and payments until it is told to stop.
fn produce(brokers: &str, messages: &Path, running: &AtomicBool) -> Result<()> {
    let producer = Producer::new(brokers)?;
    let format = |message: &str| {
        let options = BTreeMap::from([
            ("message".to_owned(), message.to_owned()),
            ("descriptor".to_owned(), format!("file:{}", messages.display())),
        ]);
        ValueFormat::new(&options, None, None)
    };
    let (bookings, payments) = (format("rondel.tour.Booking")?, format("rondel.tour.Payment")?);
    let mut rides = Rides::new(Arc::new(SystemClock), 0x5EED);
    let counts = [AtomicU64::new(0), AtomicU64::new(0)];
    let mut round = 0u64;
    while running.load(Ordering::Acquire) {
        let batch = rides.bookings(BOOKINGS_PER_ROUND)?;
        counts[0].fetch_add(send(&producer, "bookings", 4, &bookings, &batch)?, Ordering::Relaxed);
        let batch = rides.payments()?;
        counts[1].fetch_add(send(&producer, "payments", 2, &payments, &batch)?, Ordering::Relaxed);
        round += 1;
        if round.is_multiple_of(REPORT_EVERY_ROUNDS) {
            let [bookings, payments] = &counts;
            say(&format!(
                "{} bookings and {} payments so far.",
                bookings.load(Ordering::Relaxed),
                payments.load(Ordering::Relaxed)
            ));
        }
        std::thread::sleep(ROUND);
    }
    Ok(())
}

/// Encodes and sends rows, each to the partition of its customer.
fn send(producer: &Producer, topic: &str, partitions: i64, format: &ValueFormat, rows: &RecordBatch) -> Result<u64> {
    let mut encoded = EncodedRows::default();
    format.encoder(&rows.schema())?.encode(rows, &mut encoded)?;
    let customers = rows.column(1).as_primitive::<arrow::datatypes::Int64Type>();
    for (row, record) in encoded.iter().enumerate() {
        producer.send_value(topic, (customers.value(row) % partitions) as i32, record)?;
    }
    Ok(encoded.len() as u64)
}

fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    // A closed terminal ends the demo by its signal, not by this.
    let _ = writeln!(stdout, "{text}");
    let _ = stdout.flush();
}
