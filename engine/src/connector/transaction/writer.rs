//! A worker's part of an exactly-once sink: its records go into the transaction of the interval that it is in.

use std::sync::Arc;

use super::log::{LogRecord, Taken};
use super::turns::Turns;
use crate::connector::{SinkState, SinkWriter};
use crate::delta::Delta;
use crate::error::Result;
use crate::time::Epoch;

/// Takes a record's key and value.
pub type Send<'a> = dyn FnMut(Option<&[u8]>, Option<&[u8]>) -> Result<Taken> + 'a;

/// Changes that became records and wait to be taken, in order.
pub trait RecordQueue: std::marker::Send {
    /// Makes records of a delta.
    fn push(&mut self, epoch: Epoch, delta: &Delta) -> Result<()>;

    /// Whether no record waits.
    fn is_empty(&self) -> bool;

    /// Gives away records until there is none, or one is not taken.
    fn drain(&mut self, send: &mut Send<'_>) -> Result<SinkState>;
}

/// See the [module](self).
pub(super) struct TransactionWriter {
    queue: Box<dyn RecordQueue>,
    topic: Arc<str>,
    turns: Arc<Turns>,
    /// The interval that what is written now belongs to.
    interval: u64,
}

impl TransactionWriter {
    pub(super) fn new(queue: Box<dyn RecordQueue>, topic: &Arc<str>, turns: &Arc<Turns>) -> Self {
        Self { queue, topic: Arc::clone(topic), turns: Arc::clone(turns), interval: 0 }
    }

    fn drain(&mut self) -> Result<SinkState> {
        if self.queue.is_empty() {
            return Ok(SinkState::Ready);
        }
        // One look for all records that wait: the turn does not end before this writer ends its interval.
        let Some(producer) = self.turns.admit(self.interval)? else { return Ok(SinkState::Full) };
        let topic = &self.topic;
        self.queue.drain(&mut |key, value| producer.send(LogRecord { topic, partition: None, key, value }))
    }
}

impl SinkWriter for TransactionWriter {
    fn write(&mut self, epoch: Epoch, delta: Delta) -> Result<SinkState> {
        self.queue.push(epoch, &delta)?;
        self.drain()
    }

    fn resume(&mut self) -> Result<SinkState> {
        self.drain()
    }

    /// The last interval's records are acknowledged by its [`prepare`](crate::connector::two_phase::Committer::prepare);
    /// here it is enough that the producer has them, or the end of a bounded input would wait for a checkpoint that waits
    /// for it.
    fn flush(&mut self) -> Result<SinkState> {
        self.drain()
    }

    fn end_interval(&mut self, epoch: Epoch) -> Result<SinkState> {
        if self.drain()? == SinkState::Full || !self.turns.end(self.interval, epoch)? {
            return Ok(SinkState::Full);
        }
        self.interval += 1;
        Ok(SinkState::Ready)
    }
}
