//! What checkpoints talk to: prepare is a flush, publish is the progress record and the commit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::log::{LogRecord, Taken, TransactionalLog, TransactionalProducer, Trouble};
use super::progress;
use super::turns::Turns;
use crate::connector::two_phase::{CheckpointName, Committer, Writer};
use crate::error::{Error, ErrorKind, Result};
use crate::safeguard::Safeguard;
use crate::time::Epoch;

/// See the [module](self).
pub(super) struct TransactionCommitter {
    log: Arc<dyn TransactionalLog>,
    turns: Arc<Turns>,
    writer: Writer,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The job's partition of the progress topic; `None` before recovery.
    partition: Option<i32>,
    /// The checkpoint that the log knows as the last.
    chosen: Option<CheckpointName>,
}

impl TransactionCommitter {
    pub(super) fn new(log: Arc<dyn TransactionalLog>, turns: Arc<Turns>, writer: Writer) -> Self {
        Self { log, turns, writer, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call until its outcome is known.
    fn until_known(&self, what: &str, mut call: impl FnMut() -> Result<(), Trouble>) -> Result<(), Trouble> {
        loop {
            match call() {
                Err(Trouble::Unknown(words)) => {
                    self.log.waits_for(Some(format!("{what} on {}: {words}", self.log.name())));
                    self.log.rest().map_err(Trouble::Canceled)?;
                }
                outcome => {
                    self.log.waits_for(None);
                    return outcome;
                }
            }
        }
    }

    fn init(&self, producer: &Arc<dyn TransactionalProducer>) -> Result<()> {
        self.until_known("the end of its earlier transactions", || producer.init()).map_err(Trouble::into_error)
    }

    /// The job's last progress record in a partition: the end first, as it is, and then all that is committed before it.
    fn read_partition(&self, partition: i32) -> Result<Option<CheckpointName>> {
        let end = self.log.end_of_progress(partition)?;
        let key = progress::key(&self.writer);
        let mut last = None;
        self.log.read_progress(partition, end, &mut |found, value| {
            if found == Some(key.as_slice()) {
                last = value.map(progress::decode);
            }
        })?;
        last.transpose().map_err(|error| error.context(format!("topic {}", self.log.progress_topic())))
    }

    /// The job's last progress record. Where its partition has none, partitions may have been added since.
    fn last_progress(&self, partitions: i32) -> Result<Option<CheckpointName>> {
        let own = progress::partition(&self.writer, partitions);
        let mut last = self.read_partition(own)?;
        if last.is_none() && self.writer.has_committed {
            for partition in (0..partitions).filter(|partition| *partition != own) {
                let other = self.read_partition(partition)?;
                if other.as_ref().map(|name| name.epoch) > last.as_ref().map(|name| name.epoch) {
                    last = other;
                }
            }
        }
        if last.is_none() && self.writer.has_committed {
            return Err(self.lost_progress());
        }
        Ok(last)
    }

    fn lost_progress(&self) -> Error {
        let Writer { deployment, job, .. } = self.writer;
        Error::new(
            ErrorKind::InvalidState,
            format!(
                "the job has committed output to {} before, and topic {} knows nothing of it",
                self.log.name(),
                self.log.progress_topic()
            ),
        )
        .with_hint(
            "The topic was made anew or emptied, or these are other brokers. Bring the topic back; or drop the sink, look \
             at what it has written, and create it again.",
        )
        .with_detail(format!("the key of its record is {deployment}/{job}"))
    }

    /// Puts the progress record into the interval's transaction, and waits until all of that is acknowledged.
    fn mark(&self, producer: &Arc<dyn TransactionalProducer>, partition: i32, name: &CheckpointName) -> Result<()> {
        let (key, value) = (progress::key(&self.writer), progress::encode(name));
        let record = LogRecord {
            topic: self.log.progress_topic(),
            partition: Some(partition),
            key: Some(&key),
            value: Some(&value),
        };
        while producer.send(record)? == Taken::Full {
            self.log.rest()?;
        }
        producer.flush()
    }

    /// Commits an interval's transaction, whatever it takes to know that it is.
    fn commit(
        &self,
        interval: u64,
        producer: &Arc<dyn TransactionalProducer>,
        partition: i32,
        name: &CheckpointName,
    ) -> Result<()> {
        if !Safeguard::ProgressInside.holds() {
            self.until_known("the commit of a transaction", || producer.commit()).map_err(Trouble::into_error)?;
            producer.begin().map_err(Trouble::into_error)?;
        }
        let outcome = match self.mark(producer, partition, name) {
            Ok(()) => self.until_known("the commit of a transaction", || producer.commit()),
            Err(error) if error.kind() == ErrorKind::Canceled => Err(Trouble::Canceled(error)),
            Err(error) => Err(Trouble::Abort(error)),
        };
        match outcome {
            Ok(()) => Ok(()),
            Err(Trouble::Abort(error)) => {
                // If it can't be aborted either, the next run's `init` ends it.
                let aborted = self.until_known("the end of a transaction", || producer.abort());
                if let Err(trouble) = aborted {
                    tracing::info!("a transaction was not aborted: {}", trouble.into_error());
                }
                Err(error)
            }
            Err(Trouble::Broken(error)) => {
                let producer = self.turns.reopen(interval)?;
                self.init(&producer)?;
                if self.read_partition(partition)?.as_ref() == Some(name) { Ok(()) } else { Err(error) }
            }
            Err(trouble) => Err(trouble.into_error()),
        }
    }
}

impl Committer for TransactionCommitter {
    fn decides(&self) -> bool {
        true
    }

    fn recover(&self) -> Result<Option<CheckpointName>> {
        let partitions = self.log.open_progress()?;
        for producer in &self.turns.producers() {
            self.init(producer)?;
        }
        let chosen = self.last_progress(partitions)?;
        for producer in &self.turns.producers() {
            producer.begin().map_err(Trouble::into_error)?;
        }
        let partition = Some(progress::partition(&self.writer, partitions));
        *self.known() = Known { partition, chosen: chosen.clone() };
        self.turns.ready();
        Ok(chosen)
    }

    /// Waits until the log has all records of the interval. The token is for those who read manifests: what is published
    /// is the open transaction, and after a restart there is none.
    fn prepare(&self, epoch: Epoch) -> Result<Vec<u8>> {
        let (_, producer) = self.turns.ended_at(epoch)?;
        producer.flush().inspect_err(|error| self.turns.stop(error))?;
        Ok(format!(r#"{{"transaction":"{}","epoch":{epoch}}}"#, self.log.name()).into_bytes())
    }

    fn publish(&self, _token: &[u8], checkpoint: &CheckpointName) -> Result<()> {
        let partition = {
            let known = self.known();
            if known.chosen.as_ref() == Some(checkpoint) {
                return Ok(());
            }
            known.partition.ok_or_else(|| Error::internal("a sink was to publish before it had recovered"))?
        };
        let (interval, producer) = self.turns.ended_at(checkpoint.epoch)?;
        if let Err(error) = self.commit(interval, &producer, partition, checkpoint) {
            self.turns.stop(&error);
            return Err(error);
        }
        self.known().chosen = Some(checkpoint.clone());
        self.turns.committed(interval)
    }

    /// Both transactions are aborted, since what is written of the next interval follows from what is given up. The job
    /// has to go back to its last checkpoint.
    fn abandon(&self, _kept: Option<&[u8]>) -> Result<()> {
        if !self.turns.has_written() {
            return Ok(());
        }
        self.turns.stop(
            &Error::new(
                ErrorKind::InvalidState,
                format!("the output to {} since the last checkpoint was given up", self.log.name()),
            )
            .with_hint("The job has to go on from its last checkpoint."),
        );
        for producer in &self.turns.producers() {
            match self.until_known("the end of a transaction", || producer.abort()) {
                Err(Trouble::Canceled(error)) => return Err(error),
                // Whoever comes next ends it.
                Err(trouble) => tracing::info!("a transaction was not aborted: {}", trouble.into_error()),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn close(&self) {
        self.turns.stop(&Error::new(ErrorKind::Canceled, "the job is dropped"));
        self.log.close();
    }
}
