//! The progress record: found wherever the end of its partition stands, and missed where it is gone.

use std::thread;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rondel_tests::Result;
use rondel_tests::kafka::{Isolation, KafkaBroker};

use super::driver::{PATIENCE, Run, job};

/// A producer of somebody else with an open transaction that holds a record of partition 0.
fn dangling(broker: &KafkaBroker, topic: &str) -> Result<BaseProducer> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap())
        .set("transactional.id", format!("somebody else in {topic}"))
        .create()?;
    producer.init_transactions(PATIENCE)?;
    producer.begin_transaction()?;
    let record = BaseRecord::to(topic).partition(0).key("somebody").payload("else");
    producer.send(record).map_err(|(error, _)| error)?;
    producer.flush(PATIENCE)?;
    Ok(producer)
}

/// Another job's transaction holds the end of committed records back, behind which this job's record stands. Who read to
/// the committed end would find the record before it, and double a whole interval.
#[tokio::test]
async fn the_last_record_is_found_behind_a_dangling_transaction() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    broker.create_topic("eos-dangling", 1).await?;
    let progress = "eos-dangling-progress";
    let more = format!(", progress_topic = '{progress}', progress_partitions = '1'");
    let mut run = Run::open(broker, "eos-dangling", 1, job(false), &more)?;
    run.recover()?;
    run.write(0, &[("a", 1)])?;
    run.checkpoint(1)?;
    let somebody = dangling(broker, progress)?;
    run.write(0, &[("b", 2)])?;
    run.checkpoint(2)?;
    // Their transaction hides ours, although it is committed.
    assert_eq!(broker.read(progress, Isolation::Committed)?.len(), 1);

    let next = run.again()?;
    let told = std::sync::Arc::clone(&next.told);
    let recovering = thread::spawn(move || {
        let found = next.recover().map_err(|error| error.to_string());
        (next, found)
    });
    told.until_waited_for("the end of another job's transaction, which holds")?;
    assert!(!recovering.is_finished(), "it did not wait");
    somebody.abort_transaction(PATIENCE)?;
    let (next, found) = recovering.join().map_err(|_| "the recovering thread panicked")?;
    assert_eq!(found?, Some(next.name(2)));
    Ok(())
}

/// The offsets at the end of a partition may be marks of transactions, which no reader ever gets.
#[tokio::test]
async fn the_end_may_be_a_mark() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    broker.create_topic("eos-marks", 1).await?;
    let progress = "eos-marks-progress";
    let more = format!(", progress_topic = '{progress}', progress_partitions = '1'");
    let mut run = Run::open(broker, "eos-marks", 1, job(false), &more)?;
    run.recover()?;
    run.checkpoint(1)?;
    // One record and the mark of its commit.
    assert_eq!(broker.end(progress, 0)?, 2);
    let next = run.again()?;
    assert_eq!(next.recover()?, Some(next.name(1)));
    // And after an abort: somebody's record, and the mark that it does not count.
    dangling(broker, progress)?.abort_transaction(PATIENCE)?;
    assert_eq!(broker.end(progress, 0)?, 4);
    let last = next.again()?;
    assert_eq!(last.recover()?, Some(last.name(1)));
    Ok(())
}

#[tokio::test]
async fn recovering_ends_when_the_job_is_dropped() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    broker.create_topic("eos-dropped", 1).await?;
    let progress = "eos-dropped-progress";
    let more = format!(", progress_topic = '{progress}', progress_partitions = '1'");
    let mut run = Run::open(broker, "eos-dropped", 1, job(false), &more)?;
    run.recover()?;
    run.checkpoint(1)?;
    let somebody = dangling(broker, progress)?;
    let next = std::sync::Arc::new(run.again()?);
    let waiting = std::sync::Arc::clone(&next);
    let recovering = thread::spawn(move || waiting.recover().map_err(|error| error.to_string()));
    next.told.until_waited_for("another job's transaction")?;
    next.close();
    let error = recovering.join().map_err(|_| "the recovering thread panicked")?.expect_err("it was dropped");
    assert!(error.contains("the job is dropped"), "{error}");
    somebody.abort_transaction(PATIENCE)?;
    Ok(())
}

#[tokio::test]
async fn a_job_whose_progress_is_gone_does_not_start_over() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    broker.create_topic("eos-gone", 1).await?;
    let more = ", progress_topic = 'eos-gone-progress', progress_partitions = '3'";
    let run = Run::open(broker, "eos-gone", 1, job(true), more)?;
    let error = run.recover().expect_err("it has committed before");
    assert!(error.to_string().contains("topic eos-gone-progress knows nothing of it"), "{error}");
    Ok(())
}

/// A job's partition follows from their number; one that was added since does not hide the record.
#[tokio::test]
async fn progress_is_found_after_partitions_were_added() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    broker.create_topic("eos-grown", 1).await?;
    let progress = "eos-grown-progress";
    let more = format!(", progress_topic = '{progress}', progress_partitions = '1'");
    for _ in 0..4 {
        let mut run = Run::open(broker, "eos-grown", 1, job(false), &more)?;
        run.recover()?;
        run.checkpoint(7)?;
        let partitions = broker.partitions(progress)?;
        broker.add_partitions(progress, partitions + 2).await?;
        broker.until_partitions(progress, partitions + 2)?;
        let next = run.again()?;
        assert_eq!(next.recover()?, Some(next.name(7)), "with {partitions} partitions and two more");
    }
    Ok(())
}

#[tokio::test]
async fn what_brokers_do_not_allow_is_said() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    broker.create_topic("eos-refused", 1).await?;
    // An ordinary topic forgets.
    broker.create_topic("eos-forgets", 1).await?;
    let run = Run::open(broker, "eos-refused", 1, job(false), ", progress_topic = 'eos-forgets'")?;
    let error = run.recover().expect_err("records would be deleted");
    assert!(error.to_string().contains("its cleanup.policy is 'delete' and must be 'compact'"), "{error}");

    let more = ", progress_topic = 'eos-three', progress_replication = '3'";
    let run = Run::open(broker, "eos-refused", 1, job(false), more)?;
    let error = run.recover().expect_err("there is one broker");
    assert!(error.to_string().contains("the progress topic eos-three cannot be made"), "{error}");

    let run = Run::open(broker, "eos-refused", 1, job(false), ", transaction_timeout = '20m'")?;
    let error = run.recover().expect_err("brokers allow 15 minutes");
    assert!(error.to_string().contains("keep no transaction open for 1200 s"), "{error}");
    Ok(())
}

/// The brokers end a transaction that is open for too long, and the job says why it goes back.
#[tokio::test]
async fn a_transaction_that_takes_too_long_is_explained() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    broker.create_topic("eos-slow", 1).await?;
    let mut run = Run::open(broker, "eos-slow", 1, job(false), ", transaction_timeout = '1s'")?;
    run.recover()?;
    run.write(0, &[("slow", 1)])?;
    run.end(1)?;
    let token = run.prepare(1)?;
    // The broker looks every ten seconds for transactions to end; its mark stands behind the record.
    broker.until_end("eos-slow", 0, 2)?;
    let error = run.publish(&token, 1).expect_err("the transaction is gone");
    assert!(error.to_string().contains("ended a transaction"), "{error}");
    let mut next = Run::open(broker, "eos-slow", 1, job(false), "")?;
    assert_eq!(next.recover()?, None);
    next.write(0, &[("again", 1)])?;
    next.checkpoint(2)?;
    assert_eq!(next.committed()?, ["again=1"]);
    Ok(())
}
