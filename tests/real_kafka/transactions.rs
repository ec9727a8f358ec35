//! Exactly once into a real Kafka: the sink's two-phase protocol, driven as checkpoints drive it.

mod driver;
mod faults;
mod progress;

use rondel_tests::Result;
use rondel_tests::kafka::{Isolation, KafkaBroker};

use driver::{Run, job};

#[tokio::test]
async fn output_is_seen_when_it_is_published_and_not_before() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    broker.create_topic("eos-seen", 2).await?;
    let mut run = Run::open(broker, "eos-seen", 2, job(false), "")?;
    assert_eq!(run.recover()?, None);
    run.write(0, &[("a", 1), ("b", 2)])?;
    run.write(1, &[("c", 3)])?;
    run.end(10)?;
    let token = run.prepare(10)?;
    assert!(!token.is_empty());
    // The records are there, and hidden.
    assert_eq!(broker.read("eos-seen", Isolation::Uncommitted)?.len(), 3);
    assert_eq!(run.committed()?, Vec::<String>::new());
    run.publish(&token, 10)?;
    assert_eq!(run.committed()?, ["a=1", "b=2", "c=3"]);
    // Called again, as after a restart, it does nothing.
    run.publish(&token, 10)?;
    assert_eq!(run.committed()?, ["a=1", "b=2", "c=3"]);
    // An interval without output commits its progress all the same.
    run.checkpoint(20)?;
    run.write(1, &[("a", 4)])?;
    run.checkpoint(30)?;
    assert_eq!(run.committed()?, ["a=1", "a=4", "b=2", "c=3"]);

    // The job starts again: it goes on from where Kafka says.
    let mut next = run.again()?;
    assert_eq!(next.recover()?, Some(next.name(30)));
    next.abandon(Some(b"the token of 30"))?;
    next.publish_name(b"the token of 30", &next.name(30))?;
    next.write(0, &[("z", 5)])?;
    next.checkpoint(40)?;
    assert_eq!(next.committed()?, ["a=1", "a=4", "b=2", "c=3", "z=5"]);
    Ok(())
}

#[tokio::test]
async fn what_is_given_up_is_never_seen() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    broker.create_topic("eos-abandoned", 1).await?;
    let mut run = Run::open(broker, "eos-abandoned", 1, job(false), "")?;
    run.recover()?;
    run.write(0, &[("kept", 1)])?;
    run.checkpoint(1)?;
    run.write(0, &[("given up", 2)])?;
    run.end(2)?;
    run.prepare(2)?;
    // The next interval has begun as well: what it holds follows from what is given up.
    run.write(0, &[("follows", 3)])?;
    run.abandon(None)?;
    let error = run.write(0, &[("too late", 4)]).expect_err("nothing is written after that");
    assert!(error.to_string().contains("was given up"), "{error}");
    assert!(run.publish_name(b"", &run.name(2)).is_err(), "what is given up can't be published");

    // Killed: whatever was open is ended by the next run, or by nobody before it.
    let mut killed = run.again()?;
    assert_eq!(killed.recover()?, Some(killed.name(1)));
    killed.write(0, &[("killed", 5)])?;
    killed.end(3)?;
    killed.prepare(3)?;
    let mut next = killed.again()?;
    assert_eq!(next.recover()?, Some(next.name(1)));
    next.write(0, &[("after", 6)])?;
    next.checkpoint(4)?;
    assert_eq!(next.committed()?, ["after=6", "kept=1"]);
    // Those that were not shown are there, for whoever does not ask for committed records.
    let all = broker.read("eos-abandoned", Isolation::Uncommitted)?;
    let keys: Vec<&[u8]> = all.iter().map(|record| record.key.as_slice()).collect();
    assert!(keys.contains(&b"given up".as_slice()) && keys.contains(&b"killed".as_slice()), "{keys:?}");
    Ok(())
}

#[tokio::test]
async fn a_newer_run_fences_the_one_before() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    broker.create_topic("eos-fenced", 1).await?;
    let mut zombie = Run::open(broker, "eos-fenced", 1, job(false), "")?;
    zombie.recover()?;
    zombie.write(0, &[("a", 1)])?;
    zombie.checkpoint(1)?;
    zombie.write(0, &[("zombie", 2)])?;
    zombie.end(2)?;
    let token = zombie.prepare(2)?;

    // It is the same job on another machine: a newer version, or a server that was thought dead.
    let mut next = zombie.beside()?;
    assert_eq!(next.recover()?, Some(next.name(1)));
    let error = zombie.publish(&token, 2).expect_err("a fenced run commits nothing");
    assert!(error.to_string().contains("another run of this job has taken over"), "{error}");
    let error = zombie.write(0, &[("zombie", 3)]).expect_err("and writes nothing");
    assert!(error.to_string().contains("another run of this job has taken over"), "{error}");
    next.write(0, &[("b", 4)])?;
    next.checkpoint(3)?;
    assert_eq!(next.committed()?, ["a=1", "b=4"]);
    Ok(())
}

/// Two jobs write to one topic with one progress partition: neither fences or reads the other.
#[tokio::test]
async fn jobs_keep_out_of_each_others_way() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    broker.create_topic("eos-neighbours", 1).await?;
    let more = ", progress_topic = 'eos-neighbours-progress', progress_partitions = '1'";
    let mut one = Run::open(broker, "eos-neighbours", 1, job(false), more)?;
    let mut other = Run::open(broker, "eos-neighbours", 1, job(false), more)?;
    assert_eq!((one.recover()?, other.recover()?), (None, None));
    one.write(0, &[("one", 1)])?;
    other.write(0, &[("other", 1)])?;
    one.checkpoint(5)?;
    other.checkpoint(7)?;
    let (one, other) = (one.again()?, other.again()?);
    assert_eq!((one.recover()?, other.recover()?), (Some(one.name(5)), Some(other.name(7))));
    assert_eq!(one.committed()?, ["one=1", "other=1"]);
    Ok(())
}

/// The next interval is written as soon as the last one has ended, by a producer of its own; the last one's records may
/// still lie in the first producer's queue, which `linger.ms` keeps there for long.
#[tokio::test]
async fn two_producers_keep_the_order_of_a_key() -> Result<()> {
    const INTERVALS: u64 = 12;
    let broker = KafkaBroker::shared()?;
    broker.create_topic("eos-order", 1).await?;
    let more = ", \"kafka.linger.ms\" = '150'";
    let mut run = Run::open(broker, "eos-order", 2, job(false), more)?;
    run.recover()?;
    for interval in 0..INTERVALS {
        // One worker is ahead of the other by what it may.
        for worker in [1, 0] {
            run.write(worker, &[("key", 10 * interval as i64)])?;
            run.write(worker, &[("key", 10 * interval as i64 + 1)])?;
            run.end_worker(worker, 100 + interval)?;
        }
        if interval > 0 {
            run.commit_in_background(100 + interval)?;
        } else {
            let token = run.prepare(100)?;
            run.publish(&token, 100)?;
        }
    }
    run.settle()?;
    let values: Vec<i64> = broker
        .read("eos-order", Isolation::Committed)?
        .iter()
        .map(|record| Ok(String::from_utf8_lossy(&record.value).parse::<i64>()? / 10))
        .collect::<Result<_>>()?;
    assert_eq!(values.len(), 4 * INTERVALS as usize);
    assert!(values.is_sorted(), "{values:?}");
    Ok(())
}
