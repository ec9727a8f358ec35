//! A worker's thread, and its files: rows are encoded and written here, so that a disk that is slow holds no worker up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::encode::{CHUNK_ROWS, RowFile, rows};
use super::interval::Shared;
use super::pending::{HiddenFile, trouble};
use crate::connector::{SinkState, SinkWriter};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::time::Epoch;

/// Deltas that may wait for the thread.
const QUEUE: usize = 8;

/// How soon the thread sees that a file is old, or that the job is dropped.
const LOOK: Duration = Duration::from_millis(250);

enum Message {
    Rows(Epoch, Delta),
    /// All of the interval that ends with this epoch was given.
    End(Epoch),
    /// What was given is to be seen; answered by its number.
    Flush(u64),
}

/// A worker's end of the queue.
pub(super) struct FileWriter {
    messages: SyncSender<Message>,
    waiting: Option<Message>,
    flushed: Arc<AtomicU64>,
    flush: Option<u64>,
    shared: Arc<Shared>,
}

impl FileWriter {
    /// Starts a worker's thread.
    pub(super) fn start(shared: &Arc<Shared>, worker: usize) -> Result<Self> {
        let (messages, inbox) = sync_channel(QUEUE);
        let flushed = Arc::<AtomicU64>::default();
        let files = Files { shared: Arc::clone(shared), worker, number: 0, open: None, ended: Vec::new() };
        let answers = Arc::clone(&flushed);
        thread::Builder::new()
            .name("file-sink".to_owned())
            .spawn(move || files.run(&inbox, &answers))
            .map_err(|error| Error::internal(format!("no thread for a file sink: {error}")))?;
        Ok(Self { messages, waiting: None, flushed, flush: None, shared: Arc::clone(shared) })
    }

    fn send(&mut self, message: Message) -> Result<SinkState> {
        self.shared.check()?;
        match self.messages.try_send(message) {
            Ok(()) => Ok(SinkState::Ready),
            Err(TrySendError::Full(message)) => {
                self.waiting = Some(message);
                Ok(SinkState::Full)
            }
            Err(TrySendError::Disconnected(_)) => {
                self.shared.check()?;
                Err(Error::internal("the thread of a file sink has ended"))
            }
        }
    }
}

impl SinkWriter for FileWriter {
    fn write(&mut self, epoch: Epoch, delta: Delta) -> Result<SinkState> {
        if self.waiting.is_some() {
            return Err(Error::internal("a sink was written to while it was full"));
        }
        self.send(Message::Rows(epoch, delta))
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
        if self.shared.options.exactly_once {
            // It is the last checkpoint that shows the rest.
            return Ok(SinkState::Ready);
        }
        let Some(number) = self.flush else {
            let number = self.flushed.load(Ordering::SeqCst) + 1;
            self.flush = Some(number);
            self.send(Message::Flush(number))?;
            return Ok(SinkState::Full);
        };
        self.shared.check()?;
        if self.flushed.load(Ordering::SeqCst) < number {
            return Ok(SinkState::Full);
        }
        self.flush = None;
        Ok(SinkState::Ready)
    }

    fn end_interval(&mut self, epoch: Epoch) -> Result<SinkState> {
        if self.resume()? == SinkState::Full {
            return Ok(SinkState::Full);
        }
        self.shared.check()?;
        match self.messages.try_send(Message::End(epoch)) {
            Ok(()) => {
                self.shared.announced(epoch);
                Ok(SinkState::Ready)
            }
            Err(TrySendError::Full(_)) => Ok(SinkState::Full),
            Err(TrySendError::Disconnected(_)) => Err(Error::internal("the thread of a file sink has ended")),
        }
    }
}

/// One worker's files.
struct Files {
    shared: Arc<Shared>,
    worker: usize,
    /// How many were begun.
    number: u64,
    open: Option<Open>,
    /// Those of the interval that are full.
    ended: Vec<HiddenFile>,
}

struct Open {
    file: RowFile,
    hidden: String,
    number: u64,
    rows: usize,
    since: Instant,
    /// Of the last row.
    epoch: Epoch,
}

impl Files {
    fn run(mut self, inbox: &Receiver<Message>, flushed: &AtomicU64) {
        if let Err(error) = self.serve(inbox, flushed) {
            self.shared.fail(error);
        }
        // What is open now is in no checkpoint.
        if let Some(open) = self.open.take() {
            drop(open.file);
            if let Err(error) = self.shared.folder.remove(&open.hidden) {
                tracing::info!("{error}");
            }
        }
        if !self.shared.options.exactly_once {
            self.shared.folder.tidy();
        }
    }

    fn serve(&mut self, inbox: &Receiver<Message>, flushed: &AtomicU64) -> Result<()> {
        loop {
            match inbox.recv_timeout(LOOK) {
                Ok(Message::Rows(epoch, delta)) => self.write(epoch, &delta)?,
                Ok(Message::End(epoch)) => {
                    self.end_file()?;
                    self.shared.ended(epoch, std::mem::take(&mut self.ended));
                }
                Ok(Message::Flush(number)) => {
                    self.end_file()?;
                    flushed.store(number, Ordering::SeqCst);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if self.shared.check().is_err() {
                return Ok(());
            }
            let interval = self.shared.options.publish_interval;
            let is_old = |open: &Open| open.since.elapsed() >= interval;
            if !self.shared.options.exactly_once && self.open.as_ref().is_some_and(is_old) {
                self.end_file()?;
            }
        }
    }

    fn write(&mut self, epoch: Epoch, delta: &Delta) -> Result<()> {
        let Shared { name, schema, options, .. } = self.shared.as_ref();
        let rows = rows(name, delta, schema, options.weights)?;
        for start in (0..rows.num_rows()).step_by(CHUNK_ROWS) {
            let chunk = rows.slice(start, CHUNK_ROWS.min(rows.num_rows() - start));
            let mut open = match self.open.take() {
                Some(open) => open,
                None => self.begin()?,
            };
            let written = open.file.write(&chunk);
            let hidden = open.hidden.clone();
            open.rows += chunk.num_rows();
            open.epoch = epoch;
            let full = open.file.bytes() >= self.shared.options.file_bytes;
            self.open = Some(open);
            written.map_err(|error| self.unwritten(&hidden, &error))?;
            if full {
                self.end_file()?;
            }
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<Open> {
        let Shared { folder, options, schema, run, .. } = self.shared.as_ref();
        let number = self.number;
        let hidden = format!("{run}-{}-{number}.{}", self.worker, options.format.extension());
        let file = RowFile::begin(folder.begin(&hidden)?, options.format, schema)?;
        self.number += 1;
        self.shared.begun();
        Ok(Open { file, hidden, number, rows: 0, since: Instant::now(), epoch: 0 })
    }

    /// Ends the open file and makes it durable; what is written at least once is seen from now on.
    fn end_file(&mut self) -> Result<()> {
        let Some(Open { file, hidden, number, rows, epoch, .. }) = self.open.take() else { return Ok(()) };
        let path = self.shared.folder.path().join(&hidden);
        let (file, bytes) = file.finish().map_err(|error| self.unwritten(&hidden, &error))?;
        file.sync_all().map_err(|error| trouble("make durable the file", &path, &error))?;
        if self.shared.options.exactly_once {
            self.ended.push(HiddenFile { hidden, worker: self.worker, number, rows, bytes });
            return Ok(());
        }
        let Shared { run, options, folder, .. } = self.shared.as_ref();
        let name = format!("part-{run}-{epoch}-{}-{number}.{}", self.worker, options.format.extension());
        folder.publish(&[(hidden, name)])
    }

    /// The encoders pass on what the disk says in their own words.
    fn unwritten(&self, hidden: &str, error: &Error) -> Error {
        let reason = error.message().split(" (os error").next().unwrap_or_default();
        Error::new(
            error.kind(),
            format!("the file {hidden} of {} can't be written: {reason}", self.shared.folder.path().display()),
        )
        .with_hint("If its disk is full, make room; the job goes on from its last checkpoint.")
    }
}
