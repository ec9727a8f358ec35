//! A sink into the log in memory that writes exactly once. A row is a record: its value the row as JSON with the weight in
//! `_weight` and the epoch in `_epoch`, its key one column as JSON. Changes of one epoch stand in any order.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::json::LineDelimitedWriter;

use super::client::MemoryLog;
use crate::connector::transaction;
use crate::connector::transaction::log::{Taken, TransactionalLog};
use crate::connector::transaction::writer::{RecordQueue, Send};
use crate::connector::two_phase::{ExactlyOnce, Writer};
use crate::connector::{Reporter, Sink, SinkState, SinkWriter};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::time::Epoch;

/// See the [module](self).
pub struct MemoryLogSink {
    log: Arc<MemoryLog>,
    topic: String,
    key: usize,
}

impl MemoryLogSink {
    /// A sink into `topic`; the column `key` makes the records' keys.
    pub fn new(log: Arc<MemoryLog>, topic: &str, key: usize) -> Self {
        Self { log, topic: topic.to_owned(), key }
    }
}

impl Sink for MemoryLogSink {
    fn meeting_columns(&self) -> Option<Vec<usize>> {
        Some(vec![self.key])
    }

    fn writers(self: Box<Self>, _workers: usize, _reporter: Arc<dyn Reporter>) -> Result<Vec<Box<dyn SinkWriter>>> {
        Err(Error::not_supported("the log in memory is written exactly once, and its job takes no checkpoints"))
    }

    fn is_exactly_once(&self) -> bool {
        true
    }

    fn open_exactly_once(
        self: Box<Self>,
        workers: usize,
        writer: Writer,
        _reporter: Arc<dyn Reporter>,
    ) -> Result<ExactlyOnce> {
        let queue = || Box::new(JsonRecords { key: self.key, waiting: VecDeque::new() }) as Box<dyn RecordQueue>;
        let log: Arc<dyn TransactionalLog> = Arc::<MemoryLog>::clone(&self.log);
        transaction::open(log, &self.topic, writer, (0..workers).map(|_| queue()).collect())
    }
}

/// Rows as JSON.
struct JsonRecords {
    key: usize,
    waiting: VecDeque<(Vec<u8>, Vec<u8>)>,
}

/// Each row as a JSON object.
fn json(rows: &RecordBatch) -> Result<Vec<Vec<u8>>> {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write(rows)?;
    writer.finish()?;
    Ok(writer.into_inner().split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect())
}

impl RecordQueue for JsonRecords {
    fn push(&mut self, epoch: Epoch, delta: &Delta) -> Result<()> {
        let values = json(delta.rows())?;
        let keys = json(&delta.rows().project(&[self.key])?)?;
        if values.len() != delta.num_rows() || keys.len() != delta.num_rows() {
            return Err(Error::internal("a row of the log in memory has no JSON"));
        }
        for (row, (mut value, key)) in values.into_iter().zip(keys).enumerate() {
            let weight = delta.weights().map_or(1, |weights| if weights.is_null(row) { 0 } else { weights.value(row) });
            // `{"a":1}` becomes `{"a":1,"_epoch":5,"_weight":1}`, and `{}` `{"_epoch":5,"_weight":1}`.
            value.pop();
            let comma = if value.len() > 1 { "," } else { "" };
            value.extend_from_slice(format!("{comma}\"_epoch\":{epoch},\"_weight\":{weight}}}").as_bytes());
            self.waiting.push_back((key, value));
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn drain(&mut self, send: &mut Send<'_>) -> Result<SinkState> {
        while let Some((key, value)) = self.waiting.front() {
            if send(Some(key), Some(value))? == Taken::Full {
                return Ok(SinkState::Full);
            }
            self.waiting.pop_front();
        }
        Ok(SinkState::Ready)
    }
}
