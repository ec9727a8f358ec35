//! Plays the coordinator of checkpoints for one sink.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use rondel_engine::Delta;
use rondel_engine::connector::kafka::{KafkaSink, KafkaSinkOptions};
use rondel_engine::connector::two_phase::{CheckpointName, ExactlyOnce, Writer};
use rondel_engine::connector::{Reporter, Sink, SinkState};
use rondel_engine::format::encoder::{EncodedRows, RowEncoder};
use rondel_tests::Result;
use rondel_tests::kafka::{Isolation, KafkaBroker};
use uuid::Uuid;

/// No test waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A job that nobody else is.
pub(crate) fn job(has_committed: bool) -> Writer {
    Writer {
        deployment: Uuid::from_u128(0x0d),
        job: Uuid::new_v4(),
        number: 1,
        has_committed,
        interval: Duration::ZERO,
    }
}

/// Remembers what the job waits for.
#[derive(Default)]
pub(crate) struct Told(Mutex<Vec<String>>);

impl Told {
    /// Waits until the job has waited for something with these words in it.
    pub(crate) fn until_waited_for(&self, words: &str) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            let all = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if all.iter().any(|what| what.contains(words)) {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(format!("the job never waited for {words:?}, but for {all:?}").into());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Reporter for Told {
    fn waits_for(&self, _who: &str, what: Option<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(what);
    }
    fn fail(&self, error: rondel_engine::Error) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(format!("failed: {error}"));
    }
    fn skipped(&self, _who: &str, _rows: u64, _last_reason: &str) {}
}

/// Writes the number.
struct Numbers;

impl RowEncoder for Numbers {
    fn encode(&mut self, rows: &RecordBatch, out: &mut EncodedRows) -> rondel_engine::Result<()> {
        for number in rows.column(1).as_primitive::<Int64Type>().values() {
            out.buffer().extend_from_slice(number.to_string().as_bytes());
            out.end_row();
        }
        Ok(())
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("key", DataType::Utf8, false), Field::new("n", DataType::Int64, false)]))
}

/// A run of a job with one sink.
pub(crate) struct Run {
    broker: &'static KafkaBroker,
    topic: String,
    workers: usize,
    writer: Writer,
    more: String,
    generation: u64,
    pub(crate) sink: Arc<Mutex<ExactlyOnce>>,
    pub(crate) told: Arc<Told>,
    committing: Option<JoinHandle<std::result::Result<(), String>>>,
}

fn open(
    bootstrap: &str,
    topic: &str,
    workers: usize,
    writer: Writer,
    more: &str,
    told: &Arc<Told>,
) -> rondel_engine::Result<ExactlyOnce> {
    let mut options = BTreeMap::from(
        [("topic", topic), ("brokers", bootstrap), ("key", "key"), ("delivery", "exactly_once")]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    for part in more.split(", ").filter(|part| !part.is_empty()) {
        if let Some((name, value)) = part.split_once(" = ") {
            options.insert(name.trim_matches('"').to_owned(), value.trim_matches('\'').to_owned());
        }
    }
    let options = KafkaSinkOptions::parse(&options, &[])?;
    let encoders = Arc::new(|| Ok(Box::new(Numbers) as Box<dyn RowEncoder>));
    let sink = Box::new(KafkaSink::new("out", options, &schema(), false, encoders, None)?);
    assert!(sink.is_exactly_once());
    let reporter: Arc<dyn Reporter> = Arc::<Told>::clone(told);
    sink.open_exactly_once(workers, writer, reporter)
}

impl Run {
    pub(crate) fn open(
        broker: &'static KafkaBroker,
        topic: &str,
        workers: usize,
        writer: Writer,
        more: &str,
    ) -> Result<Self> {
        let told = Arc::<Told>::default();
        let sink = open(&broker.bootstrap(), topic, workers, writer, more, &told)?;
        Ok(Self {
            broker,
            topic: topic.to_owned(),
            workers,
            writer,
            more: more.to_owned(),
            generation: 1,
            sink: Arc::new(Mutex::new(sink)),
            told,
            committing: None,
        })
    }

    /// Another run of the same job, which has committed, while this one still lives.
    pub(crate) fn beside(&self) -> Result<Self> {
        let writer = Writer { has_committed: true, ..self.writer };
        Self::open(self.broker, &self.topic, self.workers, writer, &self.more)
    }

    /// Another run of the same job after this one died.
    pub(crate) fn again(self) -> Result<Self> {
        let next = self.beside();
        drop(self);
        next
    }

    /// A checkpoint's name.
    pub(crate) fn name(&self, epoch: u64) -> CheckpointName {
        CheckpointName { epoch, generation: self.generation, manifest_hash: epoch.wrapping_mul(0x9e37_79b9_7f4a_7c15) }
    }

    fn committer(&self) -> Arc<dyn rondel_engine::connector::two_phase::Committer> {
        Arc::clone(&self.sink.lock().unwrap_or_else(PoisonError::into_inner).committer)
    }

    pub(crate) fn recover(&self) -> Result<Option<CheckpointName>> {
        Ok(self.committer().recover()?)
    }

    pub(crate) fn prepare(&self, epoch: u64) -> Result<Vec<u8>> {
        Ok(self.committer().prepare(epoch)?)
    }

    pub(crate) fn publish(&self, token: &[u8], epoch: u64) -> Result<()> {
        self.publish_name(token, &self.name(epoch))
    }

    pub(crate) fn publish_name(&self, token: &[u8], name: &CheckpointName) -> Result<()> {
        Ok(self.committer().publish(token, name)?)
    }

    pub(crate) fn abandon(&self, kept: Option<&[u8]>) -> Result<()> {
        Ok(self.committer().abandon(kept)?)
    }

    pub(crate) fn close(&self) {
        self.committer().close();
    }

    /// Calls a writer until it is not full.
    fn until_ready(
        &self,
        worker: usize,
        mut call: impl FnMut(&mut dyn rondel_engine::connector::SinkWriter) -> rondel_engine::Result<SinkState>,
    ) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
            if call(sink.writers[worker].as_mut())? == SinkState::Ready {
                return Ok(());
            }
            drop(sink);
            if Instant::now() > until {
                return Err("the sink was full for too long".into());
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Writes rows, and waits until they are taken.
    pub(crate) fn write(&mut self, worker: usize, rows: &[(&str, i64)]) -> Result<()> {
        let keys = StringArray::from_iter_values(rows.iter().map(|(key, _)| key));
        let numbers = Int64Array::from_iter_values(rows.iter().map(|(_, number)| *number));
        let batch = RecordBatch::try_new(schema(), vec![Arc::new(keys), Arc::new(numbers)])?;
        let mut delta = Some(Delta::append(batch));
        self.until_ready(worker, |writer| match delta.take() {
            Some(delta) => writer.write(1, delta),
            None => writer.resume(),
        })
    }

    /// One worker has written all up to the end of an epoch.
    pub(crate) fn end_worker(&mut self, worker: usize, epoch: u64) -> Result<()> {
        self.until_ready(worker, |writer| writer.end_interval(epoch))
    }

    /// All workers have.
    pub(crate) fn end(&mut self, epoch: u64) -> Result<()> {
        (0..self.workers).try_for_each(|worker| self.end_worker(worker, epoch))
    }

    /// A checkpoint from end to end.
    pub(crate) fn checkpoint(&mut self, epoch: u64) -> Result<()> {
        self.end(epoch)?;
        let token = self.prepare(epoch)?;
        self.publish(&token, epoch)
    }

    /// Prepares and publishes while the next interval is written; one after the other.
    pub(crate) fn commit_in_background(&mut self, epoch: u64) -> Result<()> {
        self.settle()?;
        let (committer, name) = (self.committer(), self.name(epoch));
        self.committing = Some(thread::spawn(move || {
            let token = committer.prepare(epoch).map_err(|error| error.to_string())?;
            committer.publish(&token, &name).map_err(|error| error.to_string())
        }));
        Ok(())
    }

    /// Waits for what runs in the background.
    pub(crate) fn settle(&mut self) -> Result<()> {
        match self.committing.take() {
            Some(committing) => Ok(committing.join().map_err(|_| "the committing thread panicked")??),
            None => Ok(()),
        }
    }

    /// What readers of committed records see, sorted: `key=value`.
    pub(crate) fn committed(&self) -> Result<Vec<String>> {
        let records = self.broker.read(&self.topic, Isolation::Committed)?;
        let mut texts: Vec<String> = records
            .iter()
            .map(|record| {
                format!("{}={}", String::from_utf8_lossy(&record.key), String::from_utf8_lossy(&record.value))
            })
            .collect();
        texts.sort();
        Ok(texts)
    }
}
