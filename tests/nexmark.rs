//! The statements of `sql/nexmark` answer what DataFusion answers to the same questions in plain SQL.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::record_batch::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::TryStreamExt;
use rondel_engine::connector::kafka::client::Producer;
use rondel_engine::connector::kafka::mock::MockBroker;
use rondel_engine::connector::memory::PrebuiltStream;
use rondel_engine::connector::nexmark::{BidGenerator, bid_schema};
use rondel_engine::engine::{Engine, EngineSettings, Outcome};
use rondel_engine::format::encoder::EncodedRows;
use rondel_engine::format::value::ValueFormat;
use rondel_engine::job::{JobState, JobView};
use rondel_engine::session::Session;
use rondel_engine::time::SystemClock;
use rondel_tests::{Result, root};

const PATIENCE: Duration = Duration::from_secs(60);

/// Bids of a minute and a half, in small batches.
fn bids() -> Result<Vec<RecordBatch>> {
    let mut generator = BidGenerator::new(5, 400);
    (0..50).map(|_| Ok(generator.next_batch(700)?)).collect()
}

fn engine(workers: usize) -> Result<Arc<Engine>> {
    let settings = EngineSettings { workers, ..EngineSettings::default() };
    Ok(Engine::open(settings, rondel_server::functions(), Arc::new(SystemClock))?)
}

/// The file's sink as a view, which can be read.
fn as_view(name: &str, sink: &str) -> Result<String> {
    let text = std::fs::read_to_string(root().join(format!("sql/nexmark/{name}.sql")))?;
    let head = format!("CREATE SINK {sink} WITH (connector = 'blackhole') AS");
    assert!(text.contains(&head), "sql/nexmark/{name}.sql");
    Ok(text.replace(&head, "CREATE MATERIALIZED VIEW answer AS"))
}

async fn run(session: &Session, text: &str) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    for statement in session.parse(text)? {
        if let Outcome::Rows(rows) = session.execute(&statement, &[]).await? {
            batches.extend(rows.try_collect::<Vec<_>>().await?);
        }
    }
    Ok(batches)
}

async fn wait_for(engine: &Engine, done: impl Fn(&JobView) -> bool) -> Result<()> {
    let start = Instant::now();
    loop {
        let job = engine.jobs().pop().ok_or("there is no job")?;
        if let Some(error) = job.error {
            return Err(error.into());
        }
        if done(&job) {
            return Ok(());
        }
        assert!(start.elapsed() < PATIENCE, "{job:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What DataFusion answers over the bids.
async fn truth(bids: &[RecordBatch], sql: &str) -> Result<Vec<RecordBatch>> {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    let all = arrow::compute::concat_batches(&bid_schema(), bids)?;
    context.register_batch("bid", all)?;
    Ok(context.sql(sql).await?.collect().await?)
}

/// Rows as text, sorted.
fn lines(batches: &[RecordBatch]) -> Result<Vec<String>> {
    let shown = pretty_format_batches(batches)?.to_string();
    let mut lines: Vec<String> = shown
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(1)
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>().join("|"))
        .collect();
    lines.sort();
    Ok(lines)
}

/// Bids once for each of the five windows of ten seconds that cover them.
const COUNTED: &str = "
    counted AS (
      SELECT auction, count(*) AS num, start, start + INTERVAL '10 seconds' AS over_at
      FROM (
        SELECT auction, date_bin(INTERVAL '2 seconds', date_time) - back.by AS start
        FROM bid CROSS JOIN (
          VALUES (INTERVAL '0 seconds'), (INTERVAL '2 seconds'), (INTERVAL '4 seconds'), (INTERVAL '6 seconds'),
                 (INTERVAL '8 seconds')
        ) AS back(by)
      )
      GROUP BY auction, start
    )";

fn plain(query: &str) -> String {
    match query {
        "q0" => "SELECT auction, bidder, price, date_time, extra FROM bid".to_owned(),
        "q1" => "SELECT auction, bidder, price * 0.908, date_time, extra FROM bid".to_owned(),
        "q2" => "SELECT auction, price FROM bid WHERE auction - auction / 123 * 123 = 0".to_owned(),
        "q5" => format!(
            "WITH {COUNTED}, ranked AS (SELECT *, rank() OVER (PARTITION BY start ORDER BY num DESC) AS place FROM counted)
             SELECT auction, num, start, over_at FROM ranked WHERE place = 1"
        ),
        "q7" => "SELECT auction, price, bidder, date_time, extra FROM (
                   SELECT *, rank() OVER (
                     PARTITION BY date_bin(INTERVAL '10 seconds', date_time) ORDER BY price DESC) AS place
                   FROM bid)
                 WHERE place = 1"
            .to_owned(),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queries_answer_as_a_batch_does() -> Result<()> {
    let bids = bids()?;
    for workers in [1, 3] {
        let mut partitions: Vec<Vec<RecordBatch>> = vec![Vec::new(); workers];
        bids.iter().enumerate().for_each(|(number, batch)| partitions[number % workers].push(batch.clone()));
        let stream = Arc::new(PrebuiltStream::new(bid_schema(), partitions));
        for query in ["q0", "q1", "q2", "q5", "q7"] {
            let engine = engine(workers)?;
            engine.lend_stream(
                "bid",
                Arc::clone(&stream) as _,
                Some(("date_time", "date_time - INTERVAL '4' SECOND")),
            )?;
            let session = engine.session();
            run(&session, &as_view(query, query)?).await?;
            wait_for(&engine, |job| job.state == JobState::Finished).await?;
            let answer = lines(&run(&session, "SELECT * FROM answer").await?)?;
            let expected = lines(&truth(&bids, &plain(query)).await?)?;
            assert!(answer.len() > 3, "{query} answers next to nothing");
            assert_eq!(answer, expected, "{query} on {workers} workers");
            tokio::task::spawn_blocking(move || engine.shutdown()).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bids_from_kafka_pass_the_filters() -> Result<()> {
    let bids = bids()?;
    let broker = MockBroker::start(1)?;
    broker.create_topic("bid", 3)?;
    produce(&broker, &bids)?;
    let messages = format!("file:{}", root().join("sql/nexmark/bid.proto").display());
    let stream = std::fs::read_to_string(root().join("sql/nexmark/kafka-stream.sql"))?
        .replace("127.0.0.1:9092", broker.bootstrap())
        .replace("file:sql/nexmark/bid.proto", &messages);
    for (query, columns) in [("narrow", "auction, price, date_time"), ("wide", "*")] {
        let expected = truth(&bids, &format!("SELECT {columns} FROM bid WHERE price > 1000000")).await?;
        let expected = lines(&expected)?;
        let engine = engine(2)?;
        let session = engine.session();
        run(&session, &stream).await?;
        run(&session, &as_view(&format!("kafka-{query}"), query)?).await?;
        let rows = expected.len() as u64;
        wait_for(&engine, |job| job.rows_in == 35_000 && job.rows_out == rows).await?;
        run(&session, "FLUSH").await?;
        let answer = lines(&run(&session, "SELECT * FROM answer").await?)?;
        assert_eq!(answer, expected, "{query}");
        tokio::task::spawn_blocking(move || engine.shutdown()).await?;
    }
    Ok(())
}

fn produce(broker: &MockBroker, bids: &[RecordBatch]) -> Result<()> {
    let producer = Producer::new(broker.bootstrap())?;
    let format = ValueFormat::new(
        &BTreeMap::from([
            ("message".to_owned(), "rondel.nexmark.Bid".to_owned()),
            ("descriptor".to_owned(), format!("file:{}", root().join("sql/nexmark/bid.proto").display())),
        ]),
        None,
        None,
    )?;
    let mut encoder = format.encoder(&bid_schema())?;
    let mut encoded = EncodedRows::default();
    for (number, batch) in bids.iter().enumerate() {
        encoded.clear();
        encoder.encode(batch, &mut encoded)?;
        encoded.iter().try_for_each(|record| producer.send_value("bid", number as i32 % 3, record))?;
    }
    Ok(producer.flush(PATIENCE)?)
}
