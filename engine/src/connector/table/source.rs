//! The source of a job that reads a table.
//!
//! The rows as of one LSN come in pieces, in the job's first epoch; then the log's changes. An epoch has all changes up to the LSN
//! that is bound to it, on all workers, and none after it. A row always comes from the worker that its key falls to, so that its
//! retraction meets it there; a table with a watermark is read by one worker, since its rows have one order.

use std::sync::Arc;

use arrow::array::Int64Array;
use arrow::datatypes::SchemaRef;
use xxhash_rust::xxh3::xxh3_64;

use crate::connector::{PartitionState, PollState, Reporter, Source, SourceBatch, SourceReader, Waker};
use crate::error::Result;
use crate::table::{Decoder, LogEntry, Lsn, Reading, Table, TableStore};
use crate::time::{Clock, Epoch};

/// Rows that are looked at for each row that may be delivered: other workers' rows are passed over.
const LOOKED_AT: usize = 8;

/// A table, opened for one job.
pub(crate) struct TableSource {
    store: Arc<TableStore>,
    table: Arc<Table>,
    projection: Vec<usize>,
    schema: SchemaRef,
}

impl TableSource {
    /// The columns `projection` of a table, as rows of `schema`.
    pub(crate) fn new(store: Arc<TableStore>, table: Arc<Table>, projection: Vec<usize>, schema: SchemaRef) -> Self {
        Self { store, table, projection, schema }
    }
}

impl Source for TableSource {
    fn readers(
        self: Box<Self>,
        workers: usize,
        _clock: Arc<dyn Clock>,
        _reporter: Arc<dyn Reporter>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        let readers = if self.table.definition().watermark.is_some() { 1 } else { workers };
        let (view, reading) = self.store.begin_reading(&self.table, workers)?;
        let reading = Arc::new(reading);
        let mut all: Vec<Box<dyn SourceReader>> = Vec::with_capacity(workers);
        for worker in 0..workers {
            let decoder = Decoder::new(self.table.stored_columns(&self.projection), Arc::clone(&self.schema))?;
            let rows = (worker < readers).then(|| view.rows(&self.table));
            all.push(Box::new(TableReader {
                worker,
                readers,
                appends: self.table.definition().append_only,
                position: view.lsn(),
                bound: view.lsn(),
                reading: Arc::clone(&reading),
                decoder,
                rows: rows.map(|rows| Box::new(rows) as _),
                log: None,
            }));
        }
        Ok(all)
    }
}

type Entries<T> = Box<dyn Iterator<Item = Result<T>> + Send>;

struct TableReader {
    worker: usize,
    /// How many workers read the table, from the first on.
    readers: usize,
    /// Its rows have no weights.
    appends: bool,
    reading: Arc<Reading>,
    decoder: Decoder,
    /// What is left of the rows that were there at the beginning.
    rows: Option<Entries<(Vec<u8>, Vec<u8>)>>,
    /// What is left of the log up to `bound`.
    log: Option<Entries<LogEntry>>,
    /// All LSNs up to this one were read.
    position: Lsn,
    /// The last LSN of the open epoch.
    bound: Lsn,
}

impl TableReader {
    fn is_mine(&self, key: &[u8]) -> bool {
        self.readers == 1 || xxh3_64(key) % self.readers as u64 == self.worker as u64
    }

    /// Reads rows into the decoder; answers whether the iterator has ended.
    fn read_rows(&mut self, most: usize) -> Result<bool> {
        let Some(mut rows) = self.rows.take() else { return Ok(true) };
        for _ in 0..most.saturating_mul(LOOKED_AT) {
            let Some(entry) = rows.next() else { return Ok(true) };
            let (key, row) = entry?;
            if self.is_mine(&key) {
                self.decoder.push(&row)?;
            }
            if self.decoder.rows() >= most {
                break;
            }
        }
        self.rows = Some(rows);
        Ok(false)
    }

    /// Reads changes into the decoder, and their weights; answers whether the log has been read up to the bound.
    fn read_log(&mut self, most: usize, weights: &mut Vec<i64>) -> Result<bool> {
        let mut log = match self.log.take() {
            Some(log) => log,
            None if self.position >= self.bound => return Ok(true),
            None => Box::new(self.reading.log(self.position + 1..=self.bound)),
        };
        for _ in 0..most.saturating_mul(LOOKED_AT) {
            let Some(entry) = log.next() else {
                self.position = self.bound;
                self.reading.advance(self.worker, self.position);
                return Ok(true);
            };
            let entry = entry?;
            if self.is_mine(&entry.key) {
                self.decoder.push(&entry.row)?;
                weights.push(if entry.is_added { 1 } else { -1 });
            }
            if self.decoder.rows() >= most {
                break;
            }
        }
        self.log = Some(log);
        Ok(false)
    }
}

impl SourceReader for TableReader {
    fn poll(&mut self, budget_rows: usize, out: &mut Vec<SourceBatch>) -> Result<PollState> {
        self.reading.check_there()?;
        if self.worker >= self.readers {
            self.position = self.bound;
            self.reading.advance(self.worker, self.position);
            return Ok(PollState::Idle);
        }
        let most = budget_rows.max(1);
        let mut weights = Vec::new();
        let mut done = self.read_rows(most)?;
        weights.resize(self.decoder.rows(), 1);
        if done && weights.len() < most {
            done = self.read_log(most, &mut weights)?;
        } else {
            done = false;
        }
        if !weights.is_empty() {
            let rows = self.decoder.finish()?;
            let runs = vec![(self.worker as u32, rows.num_rows())];
            let weights = (!self.appends).then(|| Int64Array::from(weights));
            out.push(SourceBatch { rows, weights, runs });
        }
        Ok(match done {
            false => PollState::More,
            true if self.reading.has_more(self.bound) => PollState::Later,
            true => PollState::Idle,
        })
    }

    fn partitions(&self) -> Vec<PartitionState> {
        if self.worker >= self.readers {
            return Vec::new();
        }
        vec![PartitionState { partition: self.worker as u32, idle: false }]
    }

    fn binds_epochs(&self) -> bool {
        true
    }

    fn begin_epoch(&mut self, epoch: Epoch) -> Result<()> {
        self.bound = self.reading.bound(epoch)?.max(self.position);
        Ok(())
    }

    fn set_waker(&mut self, waker: Waker) {
        self.reading.set_waker(self.worker, waker);
    }
}
