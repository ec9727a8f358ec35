//! The source of a job that reads a table.
//!
//! The rows as of one LSN come in pieces, in the job's first epoch; then the log's changes. An epoch has all changes up to the LSN
//! that is bound to it, on all workers, and none after it. A row always comes from the worker that its key falls to, so that its
//! retraction meets it there; a table with a watermark is read by one worker, since its rows have one order.

use std::sync::Arc;

use arrow::array::Int64Array;
use arrow::datatypes::SchemaRef;
use xxhash_rust::xxh3::xxh3_64;

use uuid::Uuid;

use super::caught_up::CaughtUp;
use crate::connector::{PartitionState, PollState, Positions, Reporter, Source, SourceBatch, SourceReader, Waker};
use crate::error::{Error, Result};
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
    /// The job, if it has checkpoints: they need the log.
    holder: Option<Uuid>,
    /// Where an earlier run of the job stood.
    stood: Option<Lsn>,
}

/// The name of a table's only partition.
fn partition(table: Uuid) -> String {
    format!("{PARTITION}{table}")
}

const PARTITION: &str = "table/";

/// The tables among the sources of a job, and up to which LSN it had read each.
pub(crate) fn lsns(positions: &Positions) -> impl Iterator<Item = (Uuid, Lsn)> + '_ {
    positions.0.iter().filter_map(|(name, lsn)| {
        let table = name.strip_prefix(PARTITION)?;
        Some((Uuid::parse_str(table).ok()?, lsn.parse().ok()?))
    })
}

impl TableSource {
    /// The columns `projection` of a table, as rows of `schema`.
    pub(crate) fn new(store: Arc<TableStore>, table: Arc<Table>, projection: Vec<usize>, schema: SchemaRef) -> Self {
        Self { store, table, projection, schema, holder: None, stood: None }
    }

    /// The log keeps what checkpoints of this job need.
    pub(crate) fn held_by(self, job: Option<Uuid>) -> Self {
        Self { holder: job, ..self }
    }
}

impl Source for TableSource {
    fn start_at(&mut self, positions: Positions) -> Result<()> {
        let own = lsns(&positions).find(|(table, _)| *table == self.table.id());
        let (_, lsn) = own.ok_or_else(|| {
            Error::internal(format!("no position in table '{}' among {positions:?}", self.table.name()))
        })?;
        self.stood = Some(lsn);
        Ok(())
    }

    fn readers(
        self: Box<Self>,
        workers: usize,
        _clock: Arc<dyn Clock>,
        _reporter: Arc<dyn Reporter>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        let readers = if self.table.definition().watermark.is_some() { 1 } else { workers };
        let (view, lsn, reading) = match self.stood {
            Some(lsn) => (None, lsn, self.store.resume_reading(&self.table, workers, lsn)?),
            None => {
                let (view, reading) = self.store.begin_reading(&self.table, workers, self.holder)?;
                let lsn = view.lsn();
                (Some(view), lsn, reading)
            }
        };
        let reading = Arc::new(reading);
        let mut all: Vec<Box<dyn SourceReader>> = Vec::with_capacity(workers);
        for worker in 0..workers {
            let decoder = Decoder::new(self.table.stored_columns(&self.projection), Arc::clone(&self.schema))?;
            let rows = view.as_ref().filter(|_| worker < readers).map(|view| view.rows(&self.table));
            all.push(Box::new(TableReader {
                worker,
                readers,
                appends: self.table.definition().append_only,
                position: lsn,
                bound: lsn,
                reading: Arc::clone(&reading),
                decoder,
                rows: rows.map(|rows| Box::new(rows) as _),
                log: None,
                missed: (self.stood.is_some() && !self.table.definition().append_only).then(CaughtUp::new),
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
    /// What came since the checkpoint that the job goes on from, until that is read.
    missed: Option<CaughtUp>,
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
                if self.missed.as_mut().is_some_and(|missed| !missed.end_of_log()) {
                    return Ok(false);
                }
                self.missed = None;
                self.position = self.bound;
                self.reading.advance(self.worker, self.position);
                return Ok(true);
            };
            let entry = entry?;
            if !self.is_mine(&entry.key) {
                continue;
            }
            if self.missed.as_mut().is_none_or(|missed| missed.gives(&entry.key, entry.is_added)) {
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

    /// At the end of an epoch every worker has read to its bound.
    fn positions(&self) -> Option<Positions> {
        Some(Positions([(partition(self.reading.table()), self.position.to_string())].into()))
    }
}
