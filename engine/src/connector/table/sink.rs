//! A table as the place where late rows go: each delta is an INSERT of its own.
//!
//! A commit waits for the disk, so a thread does it, one for all workers of a job.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use arrow::record_batch::RecordBatch;

use crate::connector::{Reporter, Sink, SinkState, SinkWriter};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::time::Epoch;

/// Deltas that may wait for the thread.
const QUEUE: usize = 16;

/// Puts rows into tables as INSERT does: with defaults, generated columns and constraints.
pub(crate) trait InsertsRows: Send + Sync {
    /// Puts rows, whose columns go by their names, into a table; durable on return. May block.
    fn insert(&self, table: &str, rows: &RecordBatch) -> Result<()>;
}

/// See the [module](self).
pub(crate) struct TableSink {
    table: String,
    rows: Arc<dyn InsertsRows>,
}

impl fmt::Debug for TableSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableSink").field("table", &self.table).finish_non_exhaustive()
    }
}

impl TableSink {
    /// Writes to a table of this name.
    pub(crate) fn new(table: &str, rows: Arc<dyn InsertsRows>) -> Self {
        Self { table: table.to_owned(), rows }
    }
}

enum Message {
    Rows(RecordBatch),
    /// Everything before it is in the table when this is set.
    Flush(Arc<AtomicBool>),
}

type Failure = Arc<Mutex<Option<Error>>>;

impl Sink for TableSink {
    fn writers(self: Box<Self>, workers: usize, reporter: Arc<dyn Reporter>) -> Result<Vec<Box<dyn SinkWriter>>> {
        let (messages, inbox) = sync_channel(QUEUE);
        let failure = Failure::default();
        let of_thread = Arc::clone(&failure);
        thread::Builder::new()
            .name("table-sink".to_owned())
            .spawn(move || {
                if let Err(error) = self.serve(&inbox) {
                    let error = error.context(format!("late rows to '{}'", self.table));
                    *of_thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
                    reporter.fail(error);
                }
            })
            .map_err(|error| Error::internal(format!("no thread for rows of a table: {error}")))?;
        let writer = |_| {
            let (messages, failure) = (messages.clone(), Arc::clone(&failure));
            Box::new(TableWriter { messages, failure, waiting: None, flush: None }) as Box<dyn SinkWriter>
        };
        Ok((0..workers).map(writer).collect())
    }
}

impl TableSink {
    /// Until all writers are gone.
    fn serve(&self, inbox: &Receiver<Message>) -> Result<()> {
        while let Ok(message) = inbox.recv() {
            match message {
                Message::Rows(rows) => self.rows.insert(&self.table, &rows)?,
                Message::Flush(done) => done.store(true, Ordering::SeqCst),
            }
        }
        Ok(())
    }
}

/// A worker's end of the queue.
struct TableWriter {
    messages: SyncSender<Message>,
    failure: Failure,
    waiting: Option<Message>,
    flush: Option<Arc<AtomicBool>>,
}

impl TableWriter {
    fn check(&self) -> Result<()> {
        match &*self.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    fn send(&mut self, message: Message) -> Result<SinkState> {
        self.check()?;
        match self.messages.try_send(message) {
            Ok(()) => Ok(SinkState::Ready),
            Err(TrySendError::Full(message)) => {
                self.waiting = Some(message);
                Ok(SinkState::Full)
            }
            Err(TrySendError::Disconnected(_)) => {
                self.check()?;
                Err(Error::internal("the thread that puts rows into a table has ended"))
            }
        }
    }
}

impl SinkWriter for TableWriter {
    fn write(&mut self, _epoch: Epoch, delta: Delta) -> Result<SinkState> {
        if self.waiting.is_some() {
            return Err(Error::internal("a table was written to while its queue was full"));
        }
        if delta.is_empty() {
            return Ok(SinkState::Ready);
        }
        if delta.weights().is_some() {
            return Err(Error::internal("rows that are taken back are never late"));
        }
        self.send(Message::Rows(delta.rows().clone()))
    }

    fn resume(&mut self) -> Result<SinkState> {
        match self.waiting.take() {
            Some(message) => self.send(message),
            None => Ok(SinkState::Ready),
        }
    }

    fn flush(&mut self) -> Result<SinkState> {
        if self.resume()? == SinkState::Full {
            return Ok(SinkState::Full);
        }
        self.check()?;
        match &self.flush {
            None => {
                let done = Arc::<AtomicBool>::default();
                self.flush = Some(Arc::clone(&done));
                self.send(Message::Flush(done))?;
                Ok(SinkState::Full)
            }
            Some(done) if !done.load(Ordering::SeqCst) => Ok(SinkState::Full),
            Some(_) => {
                self.flush = None;
                Ok(SinkState::Ready)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;

    #[derive(Default)]
    struct Table(Mutex<Vec<i64>>);

    impl InsertsRows for Table {
        fn insert(&self, table: &str, rows: &RecordBatch) -> Result<()> {
            let numbers = rows.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec();
            if numbers.contains(&-1) {
                return Err(Error::invalid(format!("{table} takes no -1")));
            }
            self.0.lock().unwrap().extend(numbers);
            Ok(())
        }
    }

    #[derive(Default)]
    struct Failed(Mutex<Vec<String>>);

    impl Reporter for Failed {
        fn waits_for(&self, _who: &str, _what: Option<String>) {}
        fn fail(&self, error: Error) {
            self.0.lock().unwrap().push(error.to_string());
        }
        fn skipped(&self, _who: &str, _rows: u64, _last_reason: &str) {}
    }

    fn rows(numbers: &[i64]) -> Delta {
        let column = Arc::new(Int64Array::from(numbers.to_vec())) as _;
        Delta::append(RecordBatch::try_from_iter([("n", column)]).unwrap())
    }

    fn until_ready(mut ask: impl FnMut() -> Result<SinkState>) -> Result<()> {
        while ask()? == SinkState::Full {
            thread::yield_now();
        }
        Ok(())
    }

    #[test]
    fn what_is_flushed_is_there_however_slow_the_table_is() {
        let table = Arc::new(Table::default());
        let sink = Box::new(TableSink::new("t", Arc::clone(&table) as _));
        let mut writers = sink.writers(2, Arc::new(Failed::default())).unwrap();
        for number in 0..100 {
            let writer = &mut writers[number % 2];
            let state = writer.write(number as u64, rows(&[number as i64])).unwrap();
            if state == SinkState::Full {
                until_ready(|| writer.resume()).unwrap();
            }
        }
        for writer in &mut writers {
            until_ready(|| writer.flush()).unwrap();
        }
        let mut found = table.0.lock().unwrap().clone();
        found.sort_unstable();
        assert_eq!(found, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_row_that_the_table_does_not_take_fails_the_job() {
        let failed = Arc::new(Failed::default());
        let sink = Box::new(TableSink::new("t", Arc::new(Table::default())));
        let mut writers = sink.writers(1, Arc::clone(&failed) as _).unwrap();
        writers[0].write(1, rows(&[-1])).unwrap();
        let error = until_ready(|| writers[0].flush()).unwrap_err();
        assert_eq!(error.message(), "late rows to 't': t takes no -1");
        assert_eq!(failed.0.lock().unwrap().len(), 1);
    }
}
