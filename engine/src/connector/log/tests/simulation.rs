//! The protocol against everything that can happen: calls and answers that are lost, kills, zombies that go on, strangers'
//! transactions, time-outs. A job copies numbers; whatever happens, readers of committed records see each of them once, and
//! those of one key in order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use uuid::Uuid;

use crate::connector::log::client::{Fate, MemoryLog, World};
use crate::connector::log::cluster::{Cluster, Isolation, ProducerEpoch};
use crate::connector::log::partition::StoredRecord;
use crate::connector::log::sink::MemoryLogSink;
use crate::connector::two_phase::{CheckpointName, Committer, ExactlyOnce, Writer};
use crate::connector::{Reporter, Sink as _, SinkState};
use crate::delta::Delta;
use crate::error::{Error, ErrorKind, Result};

/// Numbers that are copied.
const TOTAL: i64 = 60;
const KEYS: i64 = 4;
const WORKERS: usize = 2;
const TIMEOUT_MILLIS: i64 = 60_000;

struct Silent;

impl Reporter for Silent {
    fn waits_for(&self, _who: &str, _what: Option<String>) {}
    fn fail(&self, _error: Error) {}
    fn skipped(&self, _who: &str, _rows: u64, _last_reason: &str) {}
}

/// What happens around the job, from a seed.
struct Weather {
    random: Mutex<StdRng>,
    cluster: Cluster,
    stranger: Mutex<Option<(ProducerEpoch, i64)>>,
    calm: AtomicBool,
}

impl Weather {
    fn one_in(&self, n: u32) -> bool {
        self.random.lock().unwrap().random_ratio(1, n)
    }

    fn below(&self, n: usize) -> usize {
        self.random.lock().unwrap().random_range(0..n)
    }

    /// Somebody else's transaction in the progress partition begins, or ends.
    fn stranger(&self, begins: bool) {
        let mut stranger = self.stranger.lock().unwrap();
        match *stranger {
            Some((producer, _)) if !begins => {
                let _ = self.cluster.end(producer, self.one_in(2));
                *stranger = None;
            }
            None if begins => {
                let Ok(producer) = self.cluster.init("stranger", TIMEOUT_MILLIS) else { return };
                let record = StoredRecord { key: Some(b"stranger".to_vec()), value: None };
                let _ = self.cluster.produce(producer, ("progress", 0), 0, record);
                *stranger = Some((producer, 0));
            }
            _ => {}
        }
    }
}

impl World for Weather {
    fn fate(&self) -> Fate {
        match self.below(40) {
            _ if self.calm.load(Ordering::SeqCst) => Fate::Answered,
            0..4 => Fate::Lost,
            4..8 => Fate::AnswerLost,
            8..12 => Fate::Delayed,
            done @ (12 | 13) => Fate::Broken { done: done == 12 },
            _ => Fate::Answered,
        }
    }

    fn wait(&self) -> Result<()> {
        self.cluster.write_mark(self.below(4));
        if self.one_in(10) {
            self.stranger(false);
        }
        if !self.calm.load(Ordering::SeqCst) && self.one_in(60) {
            return Err(Error::new(ErrorKind::Canceled, "killed"));
        }
        Ok(())
    }
}

/// A run of the job.
struct Life {
    log: Arc<MemoryLog>,
    sink: ExactlyOnce,
    /// The next number.
    position: i64,
    /// Where reading stood at the end of the last checkpoint that is known to be chosen.
    shown: i64,
    epoch: u64,
    /// Workers whose writer is full.
    full: [bool; WORKERS],
    /// The checkpoint that is being taken: its name, where reading stands at its end, who has ended.
    checkpoint: Option<(CheckpointName, i64, [bool; WORKERS])>,
    token: Option<Vec<u8>>,
}

/// A run that was thought dead, and what it was about to publish.
type Zombie = (Arc<MemoryLog>, Arc<dyn Committer>, Option<CheckpointName>);

/// What outlives a kill.
struct Deployment {
    weather: Arc<Weather>,
    cluster: Cluster,
    writer: Writer,
    /// Where reading stands at the end of a checkpoint.
    manifests: BTreeMap<u64, i64>,
    epoch: u64,
    generation: u64,
    zombies: Vec<Zombie>,
}

fn row(number: i64) -> Delta {
    let schema = Schema::new(vec![Field::new("key", DataType::Int64, false), Field::new("n", DataType::Int64, false)]);
    let columns = [number % KEYS, number].map(|value| Arc::new(Int64Array::from(vec![value])) as _);
    Delta::append(RecordBatch::try_new(Arc::new(schema), columns.to_vec()).unwrap())
}

impl Deployment {
    fn new(seed: u64) -> Self {
        let cluster = Cluster::new();
        cluster.create_topic("out", 2);
        let weather = Arc::new(Weather {
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            cluster: cluster.clone(),
            stranger: Mutex::default(),
            calm: AtomicBool::new(false),
        });
        cluster.set_lazy_marks(weather.one_in(2));
        let writer = Writer {
            deployment: Uuid::from_u128(1),
            job: Uuid::from_u128(2),
            number: 2,
            has_committed: false,
            interval: std::time::Duration::ZERO,
        };
        Self { weather, cluster, writer, manifests: BTreeMap::new(), epoch: 0, generation: 0, zombies: Vec::new() }
    }

    fn start(&mut self) -> Result<Life> {
        self.generation += 1;
        let world: Arc<dyn World> = Arc::<Weather>::clone(&self.weather);
        let log = MemoryLog::new("memory", self.cluster.clone(), "progress", TIMEOUT_MILLIS, world);
        let sink = Box::new(MemoryLogSink::new(Arc::clone(&log), "out", 0));
        let sink = sink.open_exactly_once(WORKERS, self.writer, Arc::new(Silent))?;
        let found = sink.committer.recover();
        // A run that dies while it recovers is a zombie as well.
        let chosen = match found {
            Ok(chosen) => chosen,
            Err(error) => {
                self.zombies.push((log, Arc::clone(&sink.committer), None));
                return Err(error);
            }
        };
        let position = match &chosen {
            Some(name) => {
                sink.committer.publish(b"", name)?;
                self.manifests[&name.epoch]
            }
            None => 0,
        };
        let (epoch, shown, full) = (self.epoch, position, [false; WORKERS]);
        Ok(Life { log, sink, position, shown, epoch, full, checkpoint: None, token: None })
    }

    /// One thing happens. An error ends the run.
    fn step(&mut self, life: &mut Life) -> Result<()> {
        let weather = Arc::clone(&self.weather);
        match weather.below(16) {
            0..=5 => life.write()?,
            6 | 7 => drop(life.log.deliver(weather.below(2))),
            8 => life.begin_checkpoint(self),
            9 | 10 => life.end_interval(weather.below(WORKERS))?,
            11 | 12 => life.prepare_or_publish(self)?,
            13 => drop(self.cluster.write_mark(weather.below(4))),
            14 if weather.calm.load(Ordering::SeqCst) => weather.stranger(false),
            14 => weather.stranger(weather.one_in(2)),
            _ if weather.calm.load(Ordering::SeqCst) => {}
            _ if weather.one_in(40) => self.cluster.advance_millis(TIMEOUT_MILLIS + 1),
            _ if weather.one_in(10) => return Err(Error::new(ErrorKind::Canceled, "killed")),
            _ => self.wake_zombie(),
        }
        Ok(())
    }

    /// A run that was thought dead goes on for a moment.
    fn wake_zombie(&self) {
        if self.zombies.is_empty() {
            return;
        }
        let (log, committer, publishing) = &self.zombies[self.weather.below(self.zombies.len())];
        log.deliver(self.weather.below(2));
        if let Some(name) = publishing {
            let _ = committer.publish(b"", name);
        }
    }

    /// What readers of committed records see of each key, in order.
    fn committed(&self) -> BTreeMap<i64, Vec<i64>> {
        let mut keys: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for partition in 0..2 {
            let fetched = self.cluster.fetch(("out", partition), 0, Isolation::Committed, usize::MAX).unwrap();
            for (_, record) in fetched.records {
                let value: serde_json::Value = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
                assert_eq!(value["_weight"], 1);
                keys.entry(value["key"].as_i64().unwrap()).or_default().push(value["n"].as_i64().unwrap());
            }
        }
        keys
    }
}

impl Life {
    fn resume(&mut self, worker: usize) -> Result<bool> {
        if self.full[worker] {
            self.full[worker] = self.sink.writers[worker].resume()? == SinkState::Full;
        }
        Ok(!self.full[worker])
    }

    fn write(&mut self) -> Result<()> {
        let worker = (self.position % KEYS) as usize % WORKERS;
        if self.position == TOTAL || !self.resume(worker)? {
            return Ok(());
        }
        // What comes after the checkpoint waits until its worker has ended the interval before.
        if self.checkpoint.as_ref().is_some_and(|(_, _, ended)| !ended[worker]) {
            return Ok(());
        }
        self.full[worker] = self.sink.writers[worker].write(self.epoch, row(self.position))? == SinkState::Full;
        self.position += 1;
        Ok(())
    }

    fn begin_checkpoint(&mut self, deployment: &mut Deployment) {
        if self.checkpoint.is_none() {
            deployment.epoch += 1;
            self.epoch = deployment.epoch;
            let name = CheckpointName {
                epoch: self.epoch,
                generation: deployment.generation,
                manifest_hash: self.position as u64,
            };
            self.checkpoint = Some((name, self.position, [false; WORKERS]));
        }
    }

    fn end_interval(&mut self, worker: usize) -> Result<()> {
        let ready = self.resume(worker)?;
        if let Some((name, _, ended)) = &mut self.checkpoint
            && ready
            && !ended[worker]
        {
            ended[worker] = self.sink.writers[worker].end_interval(name.epoch)? == SinkState::Ready;
        }
        Ok(())
    }

    fn prepare_or_publish(&mut self, deployment: &mut Deployment) -> Result<()> {
        let Some((name, position, ended)) = &self.checkpoint else { return Ok(()) };
        if ended.contains(&false) {
            return Ok(());
        }
        match &self.token {
            None => self.token = Some(self.sink.committer.prepare(name.epoch)?),
            Some(token) => {
                // The manifest is durable before the commit.
                deployment.manifests.insert(name.epoch, *position);
                self.sink.committer.publish(token, name)?;
                deployment.writer.has_committed = true;
                self.shown = *position;
                (self.checkpoint, self.token) = (None, None);
            }
        }
        Ok(())
    }
}

/// One deployment's whole history; answers how many runs it took.
fn live(seed: u64) -> usize {
    let mut deployment = Deployment::new(seed);
    let mut lives = 0;
    'lives: loop {
        lives += 1;
        if lives > 20 {
            deployment.weather.calm.store(true, Ordering::SeqCst);
        }
        assert!(lives < 60, "seed {seed}: it never ends");
        let mut life = match deployment.start() {
            Ok(life) => life,
            Err(error) => {
                assert!(!error.message().contains("knows nothing of it"), "seed {seed}: {error}");
                assert_ne!(error.kind(), ErrorKind::Internal, "seed {seed}: {error}");
                continue;
            }
        };
        for _ in 0..20_000 {
            if let Err(error) = deployment.step(&mut life) {
                assert_ne!(error.kind(), ErrorKind::Internal, "seed {seed}: {error}");
                let publishing = life.token.as_ref().and_then(|_| life.checkpoint.take()).map(|(name, ..)| name);
                deployment.zombies.push((life.log, life.sink.committer, publishing));
                continue 'lives;
            }
            if life.shown == TOTAL {
                break 'lives;
            }
        }
        panic!("seed {seed}: a run did not finish");
    }
    while deployment.cluster.write_mark(0) {}
    deployment.weather.stranger(false);
    let expected: BTreeMap<i64, Vec<i64>> =
        (0..KEYS).map(|key| (key, (key..TOTAL).step_by(KEYS as usize).collect())).collect();
    assert_eq!(deployment.committed(), expected, "seed {seed}, after {lives} runs");
    lives
}

/// `RONDEL_LOG_SEEDS` is how many histories; `RONDEL_LOG_SEED` runs one again.
#[test]
fn each_number_is_committed_once_and_in_order() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("RONDEL_LOG_SEED") {
        live(seed);
        return;
    }
    let seeds = number("RONDEL_LOG_SEEDS").unwrap_or(300);
    let lives: usize = (0..seeds).map(live).sum();
    // Histories in which nothing happens show nothing.
    assert!(lives as u64 > 3 * seeds, "{lives} runs of {seeds} jobs");
}
