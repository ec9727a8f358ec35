//! What the threads that write have in common with checkpoints: which files belong to which interval.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::pending::{Folder, HiddenFile};
use super::settings::FileSinkOptions;
use crate::connector::Reporter;
use crate::error::{Error, ErrorKind, Result};
use crate::time::Epoch;
use arrow::datatypes::SchemaRef;

/// What a sink's threads and its committer share.
pub(super) struct Shared {
    /// The sink's name.
    pub(super) name: String,
    pub(super) folder: Folder,
    pub(super) options: FileSinkOptions,
    /// The columns of the files.
    pub(super) schema: SchemaRef,
    pub(super) workers: usize,
    /// Begins the names of this run's hidden files: what an earlier run still writes has other names.
    pub(super) run: String,
    pub(super) reporter: Arc<dyn Reporter>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// By the epoch at which they end: how many workers have ended, and their files.
    intervals: BTreeMap<Epoch, Interval>,
    /// Something was written since the last commit.
    written: bool,
    over: Option<Error>,
}

#[derive(Default)]
struct Interval {
    ended: usize,
    files: Vec<HiddenFile>,
    prepared: bool,
}

impl Shared {
    pub(super) fn new(
        (name, run): (&str, &str),
        folder: Folder,
        options: FileSinkOptions,
        schema: SchemaRef,
        workers: usize,
        reporter: Arc<dyn Reporter>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            folder,
            options,
            schema,
            workers,
            run: run.to_owned(),
            reporter,
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An error when nothing is written any more.
    pub(super) fn check(&self) -> Result<()> {
        self.lock().over.clone().map_or(Ok(()), Err)
    }

    /// Nothing is written any more; the first reason stands.
    pub(super) fn stop(&self, reason: &Error) {
        self.lock().over.get_or_insert_with(|| reason.clone());
        self.changed.notify_all();
    }

    /// A thread can't go on, and so the job.
    pub(super) fn fail(&self, error: Error) {
        let error = error.context(format!("sink {}", self.name));
        if self.check().is_ok() {
            self.stop(&error);
            self.reporter.fail(error);
        }
    }

    /// A file was begun.
    pub(super) fn begun(&self) {
        self.lock().written = true;
    }

    /// Whether files may be there that are not published.
    pub(super) fn has_written(&self) -> bool {
        self.lock().written
    }

    /// A worker's thread has been told to end its interval: it can be waited for.
    pub(super) fn announced(&self, epoch: Epoch) {
        self.lock().intervals.entry(epoch).or_default();
    }

    /// A worker has ended its interval, and these are its files, synced.
    pub(super) fn ended(&self, epoch: Epoch, files: Vec<HiddenFile>) {
        let mut state = self.lock();
        let interval = state.intervals.entry(epoch).or_default();
        interval.ended += 1;
        interval.files.extend(files);
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until all workers have ended the interval, and answers its files; those of earlier intervals that nobody
    /// prepared are among them.
    pub(super) fn wait_for(&self, epoch: Epoch) -> Result<Vec<HiddenFile>> {
        let mut state = self.lock();
        loop {
            if let Some(error) = &state.over {
                return Err(error.clone());
            }
            match state.intervals.get(&epoch) {
                None => {
                    return Err(Error::internal(format!("no interval of sink {} ends with epoch {epoch}", self.name)));
                }
                Some(interval) if interval.ended == self.workers => break,
                Some(_) => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
        let mut files = Vec::new();
        for interval in state.intervals.range_mut(..=epoch).map(|(_, interval)| interval) {
            if !interval.prepared {
                interval.prepared = true;
                files.extend(interval.files.iter().cloned());
            }
        }
        Ok(files)
    }

    /// What ended with this epoch or before is published.
    pub(super) fn published(&self, epoch: Epoch) {
        let mut state = self.lock();
        state.intervals.retain(|end, _| *end > epoch);
    }

    /// The job is dropped: what no checkpoint may have chosen is removed.
    pub(super) fn close(&self) {
        self.stop(&Error::new(ErrorKind::Canceled, "the job is dropped"));
        let state = self.lock();
        for file in state.intervals.values().filter(|interval| !interval.prepared).flat_map(|interval| &interval.files)
        {
            if let Err(error) = self.folder.remove(&file.hidden) {
                tracing::info!("{error}");
            }
        }
    }
}
