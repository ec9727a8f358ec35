//! A sink inside the process: changes go into a bounded channel, from which a subscriber reads them.
//!
//! A subscriber that reads slowly holds its own job back, and nobody else; one that is gone ends the job.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::{Reporter, Sink, SinkState, SinkWriter};
use crate::delta::{Delta, EpochChanges};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Epoch;

/// Deltas that may wait for the subscriber.
const QUEUE: usize = 16;

/// The writing end.
pub struct ChannelSink {
    sender: mpsc::Sender<EpochChanges>,
}

/// A sink and what reads from it.
pub fn channel() -> (ChannelSink, mpsc::Receiver<EpochChanges>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (ChannelSink { sender }, receiver)
}

impl Sink for ChannelSink {
    fn writers(self: Box<Self>, workers: usize, _reporter: Arc<dyn Reporter>) -> Result<Vec<Box<dyn SinkWriter>>> {
        Ok((0..workers)
            .map(|_| Box::new(ChannelWriter { sender: self.sender.clone(), waiting: None }) as Box<dyn SinkWriter>)
            .collect())
    }
}

struct ChannelWriter {
    sender: mpsc::Sender<EpochChanges>,
    waiting: Option<EpochChanges>,
}

impl ChannelWriter {
    fn send(&mut self, changes: EpochChanges) -> Result<SinkState> {
        match self.sender.try_send(changes) {
            Ok(()) => Ok(SinkState::Ready),
            Err(TrySendError::Full(changes)) => {
                self.waiting = Some(changes);
                Ok(SinkState::Full)
            }
            Err(TrySendError::Closed(_)) => Err(Error::new(ErrorKind::Canceled, "the subscriber is gone")),
        }
    }
}

impl SinkWriter for ChannelWriter {
    fn write(&mut self, epoch: Epoch, delta: Delta) -> Result<SinkState> {
        if self.waiting.is_some() {
            return Err(Error::internal("a sink was written to while it was full"));
        }
        self.send(EpochChanges { epoch, deltas: vec![delta] })
    }

    fn resume(&mut self) -> Result<SinkState> {
        match self.waiting.take() {
            Some(changes) => self.send(changes),
            None => Ok(SinkState::Ready),
        }
    }

    fn flush(&mut self) -> Result<SinkState> {
        self.resume()
    }
}
