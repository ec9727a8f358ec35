//! Exactly once into a log with transactions: the protocol, whatever the log is. Kafka is one, and the
//! [log in memory](super::log) is another, against which the protocol is simulated.
//!
//! A job's output between two checkpoints is an *interval*, and one transaction. Two *producers* take turns, so that the
//! next interval is written while the last one commits:
//!
//! * The next interval's first record is sent only after the previous producer has all its records acknowledged: a log
//!   keeps the order within one producer, and two that write at once could change the order of a key's rows.
//! * A transaction commits only after the previous one is known to have committed.
//! * The transaction holds, beside the output, one *progress* record that names the checkpoint. So the log decides: a
//!   checkpoint is chosen if and only if its output is seen.
//!
//! On start both producers are initialised first, which ends what an earlier run may still be doing; *then* the end of the
//! progress partition is asked for as it is, committed or not; then committed records are read until that end is passed.
//! Asking for the committed end instead would miss the last record while somebody else's transaction holds it back.
//!
//! * [`log`]: what the protocol asks of a log
//! * [`turns`]: the two producers
//! * [`writer`]: a worker's part
//! * [`committer`]: what checkpoints talk to
//! * [`progress`]: the progress record

pub mod committer;
pub mod log;
pub mod progress;
pub mod turns;
pub mod writer;

use std::sync::Arc;

use self::committer::TransactionCommitter;
use self::log::TransactionalLog;
use self::turns::Turns;
use self::writer::{RecordQueue, TransactionWriter};
use super::SinkWriter;
use super::two_phase::{ExactlyOnce, Writer};
use crate::error::Result;

/// Opens a sink into `topic` of a log: a writer for each queue, and what checkpoints talk to. Does not block.
pub fn open(
    log: Arc<dyn TransactionalLog>,
    topic: &str,
    writer: Writer,
    queues: Vec<Box<dyn RecordQueue>>,
) -> Result<ExactlyOnce> {
    let turns = Arc::new(Turns::open(Arc::clone(&log), &writer, queues.len())?);
    let topic: Arc<str> = topic.into();
    let writers = queues
        .into_iter()
        .map(|queue| Box::new(TransactionWriter::new(queue, &topic, &turns)) as Box<dyn SinkWriter>)
        .collect();
    Ok(ExactlyOnce { writers, committer: Arc::new(TransactionCommitter::new(log, turns, writer)) })
}
