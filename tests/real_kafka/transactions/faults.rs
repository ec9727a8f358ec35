//! A broker that goes away in the middle.

use std::thread;

use rondel_tests::Result;
use rondel_tests::kafka::KafkaBroker;

use super::driver::{Run, job};

/// Tests that stop their broker have one of their own, for as long as the process lives.
fn own_broker() -> Result<&'static KafkaBroker> {
    Ok(Box::leak(Box::new(KafkaBroker::start()?)))
}

/// The broker is away when a commit is asked for, and comes back: the commit is called again until it is known.
#[tokio::test]
async fn a_commit_outlives_its_broker() -> Result<()> {
    let broker = own_broker()?;
    broker.create_topic("out", 1).await?;
    let mut run = Run::open(broker, "out", 1, job(false), "")?;
    run.recover()?;
    run.write(0, &[("a", 1)])?;
    run.checkpoint(1)?;
    run.write(0, &[("b", 2)])?;
    run.end(2)?;
    let token = run.prepare(2)?;
    broker.stop()?;
    let run = std::sync::Arc::new(std::sync::Mutex::new(run));
    let publishing = {
        let run = std::sync::Arc::clone(&run);
        let told = std::sync::Arc::clone(&run.lock().unwrap().told);
        let publishing = thread::spawn(move || {
            let run = run.lock().unwrap();
            run.publish(&token, 2).and_then(|()| run.publish(&token, 2)).map_err(|error| error.to_string())
        });
        told.until_waited_for(&broker.bootstrap())?;
        publishing
    };
    assert!(!publishing.is_finished(), "nobody can have committed");
    broker.resume()?;
    publishing.join().map_err(|_| "the publishing thread panicked")??;
    let Ok(Ok(mut run)) = std::sync::Arc::try_unwrap(run).map(std::sync::Mutex::into_inner) else {
        return Err("the run is still held".into());
    };
    assert_eq!(run.committed()?, ["a=1", "b=2"]);
    // The job goes on, and so does the next run.
    run.write(0, &[("c", 3)])?;
    run.checkpoint(3)?;
    let next = run.again()?;
    assert_eq!(next.recover()?, Some(next.name(3)));
    assert_eq!(next.committed()?, ["a=1", "b=2", "c=3"]);
    broker.stop()
}

/// Records wait for their broker, a job waits for it at its start, and nothing is lost or doubled.
#[tokio::test]
async fn everything_waits_for_a_broker_that_is_away() -> Result<()> {
    let broker = own_broker()?;
    broker.create_topic("out", 1).await?;
    let mut run = Run::open(broker, "out", 1, job(false), "")?;
    run.recover()?;
    run.write(0, &[("a", 1)])?;
    run.checkpoint(1)?;
    broker.stop()?;
    run.write(0, &[("b", 2)])?;
    run.end(2)?;
    run.commit_in_background(2)?;
    run.told.until_waited_for(&broker.bootstrap())?;
    broker.resume()?;
    run.settle()?;
    assert_eq!(run.committed()?, ["a=1", "b=2"]);

    broker.stop()?;
    let next = run.again()?;
    let told = std::sync::Arc::clone(&next.told);
    let recovering = thread::spawn(move || {
        let found = next.recover().map_err(|error| error.to_string());
        (next, found)
    });
    told.until_waited_for(&broker.bootstrap())?;
    broker.resume()?;
    let (next, found) = recovering.join().map_err(|_| "the recovering thread panicked")?;
    assert_eq!(found?, Some(next.name(2)));
    broker.stop()
}
