//! The source of files: each worker has every so many of them, and a thread that reads ahead.
//!
//! The files are those that are there when the job begins, in the order of their names; when all are read the input has
//! ended. A job that goes on from a checkpoint reads the same files, each from the row at which it stood.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arrow::record_batch::RecordBatch;

use super::reading::read_file;
use super::settings::FileSourceOptions;
use super::stream::files_of;
use crate::connector::{
    PartitionState, PollState, Positions, Reporter, ScanRequest, Source, SourceBatch, SourceReader, Waker,
};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Clock;

/// Batches that a thread reads ahead.
const AHEAD: usize = 4;

/// Where a file is read to its end.
const DONE: &str = "done";

/// See the [module](self).
pub(super) struct FileSource {
    name: String,
    options: FileSourceOptions,
    scan: ScanRequest,
    stood: Option<BTreeMap<String, Place>>,
}

/// Where the reading of a file stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The number of rows, or of lines, that were read.
    Next(u64),
    Done,
}

impl FileSource {
    pub(super) fn new(name: &str, options: FileSourceOptions, scan: ScanRequest) -> Self {
        Self { name: name.to_owned(), options, scan, stood: None }
    }
}

impl Source for FileSource {
    fn start_at(&mut self, positions: Positions) -> Result<()> {
        let places = positions.0.into_iter().map(|(file, place)| {
            let read = match place.as_str() {
                DONE => Some(Place::Done),
                number => number.parse().ok().map(Place::Next),
            };
            let read = read.ok_or_else(|| Error::internal(format!("'{place}' is no place in the file {file}")))?;
            Ok((file, read))
        });
        self.stood = Some(places.collect::<Result<_>>()?);
        Ok(())
    }

    fn readers(
        self: Box<Self>,
        workers: usize,
        _clock: Arc<dyn Clock>,
        reporter: Arc<dyn Reporter>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        let places = match self.stood {
            Some(places) => places,
            None => {
                let files = files_of(&self.options.path, self.options.format)?;
                files.into_iter().map(|file| (file.to_string_lossy().into_owned(), Place::Next(0))).collect()
            }
        };
        let mut readers: Vec<Box<dyn SourceReader>> = Vec::with_capacity(workers);
        for worker in 0..workers {
            let mine: BTreeMap<String, Place> = places
                .iter()
                .enumerate()
                .filter(|(number, _)| number % workers == worker)
                .map(|(_, (file, place))| (file.clone(), *place))
                .collect();
            let (sender, receiver) = sync_channel(AHEAD);
            let waker: Arc<OnceLock<Waker>> = Arc::default();
            let reading = Reading {
                who: format!("stream {}", self.name),
                options: self.options.clone(),
                scan: self.scan.clone(),
                files: mine
                    .iter()
                    .filter_map(|(file, place)| match place {
                        Place::Next(next) => Some((file.clone(), *next)),
                        Place::Done => None,
                    })
                    .collect(),
                waker: Arc::clone(&waker),
                reporter: Arc::clone(&reporter),
            };
            let pending = Mutex::new(Some((reading, sender)));
            readers.push(Box::new(FileReader { worker: worker as u32, places: mine, receiver, pending, waker }));
        }
        Ok(readers)
    }
}

/// What a thread reads.
struct Reading {
    who: String,
    options: FileSourceOptions,
    scan: ScanRequest,
    files: Vec<(String, u64)>,
    waker: Arc<OnceLock<Waker>>,
    reporter: Arc<dyn Reporter>,
}

/// What it has read.
enum Piece {
    /// Rows of a file, and where it stands behind them.
    Rows {
        file: String,
        next: u64,
        rows: RecordBatch,
    },
    /// A file has ended.
    End(String),
    Failed(Error),
}

impl Reading {
    fn run(self, sender: &SyncSender<Piece>) {
        for (file, next) in &self.files {
            let mut give =
                |next: u64, rows: RecordBatch| self.give(sender, Piece::Rows { file: file.clone(), next, rows });
            let mut skipped = |rows: u64, reason: &str| self.reporter.skipped(&self.who, rows, reason);
            let path = PathBuf::from(file);
            let piece = match read_file(&path, &self.options, &self.scan.schema, *next, &mut give, &mut skipped) {
                Ok(true) => Piece::End(file.clone()),
                // Nobody wants it any more.
                Ok(false) => return,
                Err(error) => Piece::Failed(error),
            };
            let failed = matches!(piece, Piece::Failed(_));
            if !self.give(sender, piece) || failed {
                return;
            }
        }
    }

    /// Whether somebody took it.
    fn give(&self, sender: &SyncSender<Piece>, piece: Piece) -> bool {
        let taken = sender.send(piece).is_ok();
        if let Some(waker) = self.waker.get() {
            waker();
        }
        taken
    }
}

struct FileReader {
    worker: u32,
    places: BTreeMap<String, Place>,
    receiver: Receiver<Piece>,
    /// The thread, until the first poll.
    pending: Mutex<Option<(Reading, SyncSender<Piece>)>>,
    waker: Arc<OnceLock<Waker>>,
}

impl FileReader {
    fn begin(&mut self) -> Result<()> {
        let Some((reading, sender)) = self.pending.get_mut().unwrap_or_else(PoisonError::into_inner).take() else {
            return Ok(());
        };
        let waker = Arc::clone(&self.waker);
        std::thread::Builder::new()
            .name("rondel:files".to_owned())
            .spawn(move || {
                reading.run(&sender);
                // The end is news as well.
                drop(sender);
                if let Some(waker) = waker.get() {
                    waker();
                }
            })
            .map_err(|error| Error::new(ErrorKind::External, format!("a thread could not be started: {error}")))?;
        Ok(())
    }
}

impl SourceReader for FileReader {
    fn poll(&mut self, budget_rows: usize, out: &mut Vec<SourceBatch>) -> Result<PollState> {
        self.begin()?;
        let mut budget = budget_rows.max(1);
        loop {
            match self.receiver.try_recv() {
                Ok(Piece::Rows { file, next, rows }) => {
                    let count = rows.num_rows();
                    self.places.insert(file, Place::Next(next));
                    if count > 0 {
                        out.push(SourceBatch { rows, weights: None, runs: vec![(self.worker, count)] });
                    }
                    budget = budget.saturating_sub(count);
                    if budget == 0 {
                        return Ok(PollState::More);
                    }
                }
                Ok(Piece::End(file)) => {
                    self.places.insert(file, Place::Done);
                }
                Ok(Piece::Failed(error)) => return Err(error),
                Err(TryRecvError::Empty) => return Ok(PollState::Idle),
                Err(TryRecvError::Disconnected) => return Ok(PollState::Finished),
            }
        }
    }

    fn partitions(&self) -> Vec<PartitionState> {
        if self.places.values().all(|place| *place == Place::Done) {
            return Vec::new();
        }
        vec![PartitionState { partition: self.worker, idle: false }]
    }

    fn set_waker(&mut self, waker: Waker) {
        let _ = self.waker.set(waker);
    }

    fn positions(&self) -> Option<Positions> {
        let place = |place: &Place| match place {
            Place::Next(next) => next.to_string(),
            Place::Done => DONE.to_owned(),
        };
        Some(Positions(self.places.iter().map(|(file, at)| (file.clone(), place(at))).collect()))
    }
}
