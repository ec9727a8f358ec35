//! Reads a stream once, from its first to its present last row: what a plain SELECT over a stream sees.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream;
use tokio::sync::mpsc;

use crate::connector::{PollState, Reporter, Source, SourceReader};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Clock;

/// Batches that wait for the query at most.
const QUEUE: usize = 4;
/// Rows asked for at once.
const BUDGET_ROWS: usize = 16 * 1024;
/// A source that has said nothing for so long is asked again, and a query that has gone away is noticed.
const PATIENCE: Duration = Duration::from_millis(100);
/// A query does not wait for a broker that is away as a job does: after so long it is told.
const GIVE_UP_AFTER: Duration = Duration::from_secs(15);

/// A stream of a source's rows. The source must have been opened bounded. Dropping the stream ends the reading.
pub(super) fn read_once(
    source: Box<dyn Source>,
    schema: SchemaRef,
    clock: Arc<dyn Clock>,
) -> Result<SendableRecordBatchStream> {
    let trouble = Arc::new(Trouble::default());
    let reporter: Arc<dyn Reporter> = trouble.clone();
    let readers = source.readers(1, Arc::clone(&clock), reporter)?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    // Polling waits on a condition variable, not on tokio: it has a thread of the blocking pool for itself.
    tokio::task::spawn_blocking(move || {
        if let Err(error) = pump(readers, &trouble, clock.as_ref(), &sender) {
            // The query may be gone; then nobody wants the error.
            let _ = sender.blocking_send(Err(error));
        }
    });
    let batches = stream::unfold(receiver, |mut receiver| async move {
        let next: Option<Result<RecordBatch>> = receiver.recv().await;
        next.map(|batch| (batch.map_err(DataFusionError::from), receiver))
    });
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
}

fn pump(
    readers: Vec<Box<dyn SourceReader>>,
    trouble: &Trouble,
    clock: &dyn Clock,
    sender: &mpsc::Sender<Result<RecordBatch>>,
) -> Result<()> {
    for mut reader in readers {
        let bell = Arc::new(Bell::default());
        let ring = Arc::clone(&bell);
        reader.set_waker(Arc::new(move || ring.ring()));
        let mut batches = Vec::new();
        let mut waiting_since: Option<i64> = None;
        loop {
            let state = reader.poll(BUDGET_ROWS, &mut batches)?;
            if let Some(error) = trouble.failure() {
                return Err(error);
            }
            if !batches.is_empty() {
                waiting_since = None;
            }
            for batch in batches.drain(..) {
                if sender.blocking_send(Ok(batch.rows)).is_err() {
                    return Ok(()); // The query is gone.
                }
            }
            match state {
                PollState::More | PollState::Later => {}
                PollState::Finished => break,
                PollState::Idle => {
                    if sender.is_closed() {
                        return Ok(());
                    }
                    bell.wait(PATIENCE);
                    match (trouble.waits_for(), waiting_since) {
                        (None, _) => waiting_since = None,
                        (Some(_), None) => waiting_since = Some(clock.now_micros()),
                        (Some(what), Some(since)) => {
                            if clock.now_micros() - since > GIVE_UP_AFTER.as_micros() as i64 {
                                return Err(Error::new(ErrorKind::External, format!("the query waits for {what}"))
                                    .with_hint("look at the other system, then run the query again"));
                            }
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

/// Wakes the pump.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = true;
        self.changed.notify_one();
    }

    fn wait(&self, at_most: Duration) {
        let rung = self.rung.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(rung, at_most, |rung| !*rung);
        let (mut rung, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        *rung = false;
    }
}

/// What the source reports while the query runs.
#[derive(Default)]
struct Trouble {
    failure: Mutex<Option<Error>>,
    waits_for: Mutex<Option<String>>,
}

impl Trouble {
    fn failure(&self) -> Option<Error> {
        self.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn waits_for(&self) -> Option<String> {
        self.waits_for.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl Reporter for Trouble {
    fn waits_for(&self, _who: &str, what: Option<String>) {
        *self.waits_for.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = what;
    }

    fn fail(&self, error: Error) {
        self.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(error);
    }

    fn skipped(&self, who: &str, rows: u64, last_reason: &str) {
        tracing::warn!("{who} skipped {rows} record(s) in a query: {last_reason}");
    }
}
