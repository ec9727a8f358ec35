//! What the tests of this room share: a reporter that remembers, a format that is easy to read, and a job that polls.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::array::{ArrayBuilder, AsArray, Int64Builder, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use super::mock::MockBroker;
use super::settings::KafkaSourceOptions;
use super::source::KafkaSource;
use crate::connector::{PartitionState, PollState, Reporter, ScanRequest, Source, SourceBatch, SourceReader};
use crate::error::{Error, Result};
use crate::format::decoder::{DecodeError, RowDecoder};
use crate::format::encoder::{EncodedRows, RowEncoder};
use crate::time::{Clock, SystemClock};

/// No test waits longer than this for anything.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[derive(Debug, Default, Clone)]
pub(super) struct Told {
    pub(super) waits: BTreeMap<String, String>,
    pub(super) all_waits: Vec<String>,
    pub(super) failures: Vec<Error>,
    pub(super) skipped: Vec<(u64, String)>,
}

/// Remembers what it is told, and wakes whoever waits for news.
pub(super) struct TestReporter {
    told: Mutex<Told>,
    news: SyncSender<()>,
}

impl TestReporter {
    pub(super) fn new() -> (Arc<Self>, Receiver<()>) {
        let (news, inbox) = sync_channel(1);
        (Arc::new(Self { told: Mutex::default(), news }), inbox)
    }

    pub(super) fn told(&self) -> Told {
        self.told.lock().unwrap().clone()
    }

    /// What is waited for now.
    pub(super) fn waits(&self) -> String {
        self.told().waits.into_values().collect::<Vec<_>>().join("; ")
    }

    pub(super) fn skipped(&self) -> u64 {
        self.told().skipped.iter().map(|(rows, _)| rows).sum()
    }

    fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock().unwrap());
        let _ = self.news.try_send(());
    }
}

impl Reporter for TestReporter {
    fn waits_for(&self, who: &str, what: Option<String>) {
        self.tell(|told| match what {
            Some(what) => {
                told.all_waits.push(what.clone());
                told.waits.insert(who.to_owned(), what);
            }
            None => drop(told.waits.remove(who)),
        });
    }

    fn fail(&self, error: Error) {
        self.tell(|told| told.failures.push(error));
    }

    fn skipped(&self, _who: &str, rows: u64, last_reason: &str) {
        self.tell(|told| told.skipped.push((rows, last_reason.to_owned())));
    }
}

/// Rows that a batch of [`NumberDecoder`] has room for.
pub(super) const ROOM: usize = 300;

/// Reads a number written as text into the column `n`. A batch has room for [`ROOM`].
pub(super) struct NumberDecoder {
    schema: SchemaRef,
    numbers: Int64Builder,
}

impl NumberDecoder {
    pub(super) fn new(projected: bool) -> Self {
        let fields = if projected { vec![Field::new("n", DataType::Int64, false)] } else { Vec::new() };
        Self { schema: Arc::new(Schema::new(fields)), numbers: Int64Builder::new() }
    }
}

impl RowDecoder for NumberDecoder {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn begin(&mut self, rows: usize, _bytes: usize) {
        self.numbers = Int64Builder::with_capacity(rows);
    }

    fn push(&mut self, record: &[u8]) -> Result<(), DecodeError> {
        let error = |reason: &str, batch_full| DecodeError {
            field: "n".to_owned(),
            offset: 0,
            reason: reason.to_owned(),
            batch_full,
            awaits: false,
        };
        if self.numbers.len() == ROOM {
            return Err(error("no room", true));
        }
        let number = std::str::from_utf8(record).ok().and_then(|text| text.parse().ok());
        self.numbers.append_value(number.ok_or_else(|| error("not a number", false))?);
        Ok(())
    }

    fn push_absent(&mut self) -> Result<(), DecodeError> {
        self.numbers.append_value(0);
        Ok(())
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        let numbers = self.numbers.finish();
        let options = RecordBatchOptions::new().with_row_count(Some(arrow::array::Array::len(&numbers)));
        let columns: Vec<arrow::array::ArrayRef> =
            if self.schema.fields().is_empty() { Vec::new() } else { vec![Arc::new(numbers)] };
        Ok(RecordBatch::try_new_with_options(self.schema(), columns, &options)?)
    }
}

/// Writes a row as its columns' texts with commas.
pub(super) struct TextEncoder;

impl RowEncoder for TextEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut EncodedRows) -> Result<()> {
        for row in 0..rows.num_rows() {
            let texts = rows.columns().iter().map(|column| arrow::util::display::array_value_to_string(column, row));
            let text = texts.collect::<Result<Vec<_>, _>>()?.join(",");
            out.buffer().extend_from_slice(text.as_bytes());
            out.end_row();
        }
        Ok(())
    }
}

/// A job that reads one source on one thread: polls its readers and sleeps until it is woken.
pub(super) struct Job {
    pub(super) readers: Vec<Box<dyn SourceReader>>,
    pub(super) reporter: Arc<TestReporter>,
    pub(super) batches: Vec<SourceBatch>,
    /// Rows by reader.
    pub(super) by_reader: Vec<usize>,
    pub(super) finished: usize,
    pub(super) error: Option<Error>,
    inbox: Receiver<()>,
}

impl Job {
    /// Opens a source over the column `n` and the metadata columns of the options, read in full.
    pub(super) fn open(broker: &MockBroker, options: &[(&str, &str)], workers: usize, bounded: bool) -> Self {
        Self::start(Self::source(broker, options, bounded), workers, Arc::new(SystemClock))
    }

    /// The source that [`Self::open`] opens.
    pub(super) fn source(broker: &MockBroker, options: &[(&str, &str)], bounded: bool) -> KafkaSource {
        let mut values = values(options);
        values.insert("brokers".to_owned(), broker.bootstrap().to_owned());
        let options = KafkaSourceOptions::parse(&values, &[]).unwrap();
        let mut fields = vec![Field::new("n", DataType::Int64, false)];
        fields.extend(options.metadata_fields());
        let projection = (0..fields.len()).collect();
        let request = ScanRequest { projection, leaves: Vec::new(), schema: Arc::new(Schema::new(fields)), bounded };
        KafkaSource::new("numbers", options, request, 1, Arc::new(|| Ok(Box::new(NumberDecoder::new(true)))))
    }

    pub(super) fn start(source: KafkaSource, workers: usize, clock: Arc<dyn Clock>) -> Self {
        let (reporter, inbox) = TestReporter::new();
        let told: Arc<dyn Reporter> = Arc::<TestReporter>::clone(&reporter);
        let mut readers = Box::new(source).readers(workers, clock, told).unwrap();
        for reader in &mut readers {
            let news = reporter.news.clone();
            reader.set_waker(Arc::new(move || news.try_send(()).unwrap_or(())));
        }
        let by_reader = vec![0; workers];
        Self { readers, reporter, batches: Vec::new(), by_reader, finished: 0, error: None, inbox }
    }

    /// Polls until `done`, at most for [`PATIENCE`]; between polls it sleeps until somebody wakes it.
    #[track_caller]
    pub(super) fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        loop {
            let more = self.poll();
            if done(self) {
                return;
            }
            let told = self.reporter.told();
            assert!(Instant::now() < until, "{what}: not in time; {:?} {told:?}", self.numbers());
            assert!(self.error.is_none(), "{what}: {:?}", self.error);
            if !more {
                let _ = self.inbox.recv_timeout(until.saturating_duration_since(Instant::now()));
            }
        }
    }

    /// Polls for that long, whatever happens.
    pub(super) fn rest(&mut self, pause: Duration) {
        let until = Instant::now() + pause;
        while Instant::now() < until {
            self.poll();
            let _ = self.inbox.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
    }

    /// Polls until the source says why it cannot go on.
    #[track_caller]
    pub(super) fn until_error(&mut self) -> Error {
        let until = Instant::now() + PATIENCE;
        loop {
            let more = self.poll();
            if let Some(error) = self.error.take() {
                return error;
            }
            assert!(Instant::now() < until, "no error in time; {:?}", self.reporter.told());
            if !more {
                let _ = self.inbox.recv_timeout(until.saturating_duration_since(Instant::now()));
            }
        }
    }

    /// Polls each reader once; answers whether one has more.
    pub(super) fn poll(&mut self) -> bool {
        let mut more = false;
        self.finished = 0;
        for (reader, rows) in self.readers.iter_mut().zip(&mut self.by_reader) {
            let before = self.batches.len();
            match reader.poll(1_000, &mut self.batches) {
                Ok(PollState::More) => more = true,
                Ok(PollState::Idle | PollState::Later) => {}
                Ok(PollState::Finished) => self.finished += 1,
                Err(error) => self.error = Some(error),
            }
            *rows += self.batches[before..].iter().map(|batch| batch.rows.num_rows()).sum::<usize>();
        }
        more
    }

    /// The values read so far, sorted.
    pub(super) fn numbers(&self) -> Vec<i64> {
        let columns = self.batches.iter().map(|batch| batch.rows.column(0).as_primitive::<Int64Type>());
        let mut numbers: Vec<i64> = columns.flat_map(|column| column.values().to_vec()).collect();
        numbers.sort_unstable();
        numbers
    }

    pub(super) fn partitions(&self) -> Vec<PartitionState> {
        let mut all: Vec<PartitionState> = self.readers.iter().flat_map(|reader| reader.partitions()).collect();
        all.sort_by_key(|state| state.partition);
        all
    }
}
