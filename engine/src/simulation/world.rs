//! The world of one history: who runs, and what happens around.
//!
//! Lives have threads of their own, of which one runs at a time. It passes through [`World::pass`] at every turn of its pool,
//! call of the object store and wait for the log; there the seed says whether something happens around it, whether it is killed or taken
//! for dead, and whether a zombie goes on for a moment.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use object_store::memory::InMemory;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::Figures;
use super::prices::{Change, Prices, Rows};
use super::topics::{INPUTS, Input, PROGRESS, has_table};
use crate::catalog::Catalog;
use crate::connector::log::client::MemoryLog;
use crate::connector::log::cluster::{Cluster, Isolation, ProducerEpoch};
use crate::connector::log::partition::StoredRecord;
use crate::connector::log::source::{Discovery, Feed};
use crate::error::Result;
use crate::table::TableStore;

/// How long brokers keep a transaction open.
pub(super) const TIMEOUT_MILLIS: i64 = 60_000;
/// The world's steps after which a history that is not done stands still.
const MOST_STEPS: u64 = 100_000;
/// Zombies at one time.
const MOST_ZOMBIES: usize = 2;

/// Who runs: a life, or whoever watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runs {
    Watcher,
    Life(usize),
}

/// What the world knows of a life.
struct Fate {
    killed: bool,
    zombie: bool,
    ended: bool,
    /// It changes definitions: what others know of it is not yet there.
    defining: bool,
    /// What it wakes when rows have come.
    feed: Arc<Feed>,
    /// Its clients of the log.
    logs: Vec<Arc<MemoryLog>>,
    /// Its sources, and what they have found.
    discoveries: Vec<Weak<Discovery>>,
}

/// A record is sent: of one of these clients, the first that has one.
struct Delivery {
    logs: Vec<Arc<MemoryLog>>,
    first: usize,
    turn: usize,
}

struct State {
    random: StdRng,
    runs: Runs,
    /// The life that is the server, for all the world knows.
    server: usize,
    fates: Vec<Fate>,
    calm: bool,
    input: Input,
    prices: Prices,
    /// A transaction of somebody else in the progress topic.
    stranger: Option<ProducerEpoch>,
    steps: u64,
    kills: u64,
    zombies: u64,
    /// How many workers the last life had, and how often the next had another number.
    workers: usize,
    resized: u64,
    /// Sources that did not find all at once.
    late: u64,
}

/// See the [module](self).
pub(super) struct World {
    state: Mutex<State>,
    passed: Condvar,
    pub(super) cluster: Cluster,
    pub(super) objects: Arc<InMemory>,
    pub(super) catalog: Arc<Catalog>,
    /// Of a history with a table: the store that each life opens.
    tables: Option<TableStore>,
    /// Which of the jobs there are.
    pub(super) jobs: u32,
    pub(super) checkpoints: AtomicU64,
    /// Of them, those that were taken while state was on disk.
    pub(super) spilled: AtomicU64,
    /// Jobs that went on from a checkpoint.
    pub(super) restores: AtomicU64,
    stands_still: AtomicBool,
    /// What happens is printed.
    told: bool,
}

/// For all histories without a table.
fn no_tables() -> Arc<TableStore> {
    static TABLES: OnceLock<Arc<TableStore>> = OnceLock::new();
    Arc::clone(TABLES.get_or_init(|| Arc::new(TableStore::open(None).unwrap())))
}

impl World {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        let mut random = StdRng::seed_from_u64(seed);
        let cluster = Cluster::new();
        cluster.create_topic(PROGRESS, random.random_range(1..4));
        cluster.set_lazy_marks(random.random_ratio(1, 2));
        let input = Input::new(&cluster, &mut random);
        let jobs = random.random();
        let prices = if has_table(jobs) { Prices::new(&mut random) } else { Prices::default() };
        let state = State {
            random,
            runs: Runs::Watcher,
            server: 0,
            fates: Vec::new(),
            calm: false,
            input,
            prices,
            stranger: None,
            steps: 0,
            kills: 0,
            zombies: 0,
            workers: 0,
            resized: 0,
            late: 0,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            passed: Condvar::new(),
            cluster,
            objects: Arc::new(InMemory::new()),
            catalog: Arc::new(Catalog::numbered()),
            tables: has_table(jobs).then(|| TableStore::of_killed_servers().unwrap()),
            jobs,
            checkpoints: AtomicU64::new(0),
            spilled: AtomicU64::new(0),
            restores: AtomicU64::new(0),
            stands_still: AtomicBool::new(false),
            told: std::env::var_os("RONDEL_SIMULATE_TELL").is_some(),
        })
    }

    /// Prints what a life does, for whoever looks into one history.
    pub(super) fn tell(&self, life: usize, what: impl FnOnce() -> String) {
        if self.told {
            let steps = self.lock().steps;
            println!("{steps:>7} life {life}: {}", what());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn figures(&self, digest: u64) -> Figures {
        let state = self.lock();
        let tally = self.cluster.tally();
        Figures {
            lives: state.fates.len() as u64,
            kills: state.kills,
            zombies: state.zombies,
            resized: state.resized,
            late: state.late,
            changes: state.prices.acknowledged(),
            restores: self.restores.load(Ordering::SeqCst),
            checkpoints: self.checkpoints.load(Ordering::SeqCst),
            spilled: self.spilled.load(Ordering::SeqCst),
            commits: tally.committed,
            aborts: tally.aborted,
            fenced: tally.fenced,
            steps: state.steps,
            digest,
        }
    }

    /// A life has so many workers.
    pub(super) fn set_workers(&self, workers: usize) {
        let mut state = self.lock();
        state.resized += u64::from(state.workers != 0 && state.workers != workers);
        state.workers = workers;
    }

    /// What stands in the way of an end, as far as the world knows.
    pub(super) fn waits(&self) -> String {
        let state = self.lock();
        let logs = state.fates.iter().flat_map(|fate| &fate.logs);
        let waits: Vec<_> = logs.filter_map(|log| log.waits().pop()).collect();
        format!(
            "after {} steps; {} of the rows are written, prices are over: {}, transactions of {:?} are not finished, the log's clients waited last for {waits:?}",
            state.steps,
            state.input.written(),
            state.prices.is_over(),
            self.cluster.unfinished(),
        )
    }

    pub(super) fn has_table(&self) -> bool {
        self.tables.is_some()
    }

    /// The store of tables, as a server that starts opens it.
    pub(super) fn tables(&self) -> Result<Arc<TableStore>> {
        match &self.tables {
            Some(tables) => Ok(Arc::new(tables.reopened()?)),
            None => Ok(no_tables()),
        }
    }

    /// What the table must hold.
    pub(super) fn prices(&self) -> Rows {
        self.lock().prices.rows().clone()
    }

    /// See [`Prices::read`].
    pub(super) fn read_prices(&self, rows: &Rows) -> std::result::Result<(), String> {
        self.lock().prices.read(rows)
    }

    /// See [`Prices::change`].
    pub(super) fn change_prices(&self) -> Option<Change> {
        let mut state = self.lock();
        let State { prices, random, .. } = &mut *state;
        prices.change(random)
    }

    /// See [`Prices::acknowledge`].
    pub(super) fn acknowledge_prices(&self) {
        self.lock().prices.acknowledge();
    }

    /// Whether nothing will come any more in a life, and all that has come can be seen and is found.
    pub(super) fn has_no_news(&self, life: usize) -> bool {
        let state = self.lock();
        let mut discoveries = state.fates[life].discoveries.iter().filter_map(Weak::upgrade);
        let is_over = state.input.is_over() && state.prices.is_over() && state.input.is_seen(&self.cluster);
        is_over && discoveries.all(|discovery| discovery.is_done())
    }

    /// A source was opened in a life: what it finds at once. Each topic may not be there at first, or some of its partitions.
    pub(super) fn opened(&self, life: usize, discovery: &Arc<Discovery>) {
        let mut state = self.lock();
        state.fates[life].discoveries.push(Arc::downgrade(discovery));
        let mut random = StdRng::seed_from_u64(state.random.random());
        match random.random_range(0..4) {
            0 | 1 => discovery.find(|_, _| true),
            2 => {}
            _ => {
                let absent = INPUTS.get(random.random_range(0..=INPUTS.len()));
                discovery.find(|topic, _| absent != Some(&topic) && random.random_ratio(2, 3));
            }
        }
        state.late += u64::from(!discovery.is_done());
    }

    /// A source of a life finds more.
    fn find(state: &State, life: usize, turn: u64) {
        let discoveries = state.fates[life].discoveries.iter().filter_map(Weak::upgrade);
        let open: Vec<_> = discoveries.filter(|discovery| !discovery.is_done()).collect();
        if let Some(discovery) = open.get(turn as usize % open.len().max(1)) {
            let mut random = StdRng::seed_from_u64(turn);
            discovery.find(|_, _| random.random_ratio(1, 2));
        }
    }

    /// All rows of the input.
    pub(super) fn rows(&self) -> Vec<super::topics::Row> {
        self.lock().input.rows().to_vec()
    }

    /// From now on nothing goes wrong, and zombies are dead.
    pub(super) fn calm(&self) {
        let mut state = self.lock();
        state.calm = true;
        state.fates.iter_mut().for_each(|fate| fate.killed = true);
    }

    /// A new life; it is the server.
    pub(super) fn add_life(&self) -> Arc<Feed> {
        let mut state = self.lock();
        let feed = Arc::<Feed>::default();
        let fate = Fate {
            killed: false,
            zombie: false,
            ended: false,
            defining: false,
            feed: Arc::clone(&feed),
            logs: Vec::new(),
            discoveries: Vec::new(),
        };
        state.server = state.fates.len();
        state.fates.push(fate);
        feed
    }

    /// A client of the log in a life.
    pub(super) fn add_log(&self, life: usize, log: &Arc<MemoryLog>) {
        self.lock().fates[life].logs.push(Arc::clone(log));
    }

    pub(super) fn is_killed(&self, life: usize) -> bool {
        self.lock().fates[life].killed
    }

    /// Whether it is the server, for all the world knows.
    pub(super) fn is_server(&self, life: usize) -> bool {
        self.lock().server == life
    }

    /// A life begins to change definitions, or is done with it.
    pub(super) fn set_defining(&self, life: usize, defining: bool) {
        self.lock().fates[life].defining = defining;
    }

    pub(super) fn is_calm(&self) -> bool {
        self.lock().calm
    }

    pub(super) fn stands_still(&self) -> bool {
        self.stands_still.load(Ordering::SeqCst)
    }

    pub(super) fn below(&self, n: u32) -> u32 {
        self.lock().random.random_range(0..n)
    }

    /// Whether something goes wrong that does so once in `n` times.
    pub(super) fn is_unlucky(&self, n: u32) -> bool {
        let mut state = self.lock();
        !state.calm && state.random.random_ratio(1, n)
    }

    /// Lets a life run until it ends or is taken for dead.
    pub(super) fn hand_to(&self, life: usize) {
        let mut state = self.lock();
        state.runs = Runs::Life(life);
        self.passed.notify_all();
        while state.runs != Runs::Watcher {
            state = self.passed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Kills a life, if it is not dead, and lets it come to its end.
    pub(super) fn bury(&self, life: usize) {
        let ended = {
            let mut state = self.lock();
            state.server = life;
            state.fates[life].killed = true;
            state.fates[life].ended
        };
        if !ended {
            self.hand_to(life);
        }
    }

    /// Waits for the life's turn.
    fn wait<'a>(&'a self, life: usize, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.passed.notify_all();
        while state.runs != Runs::Life(life) {
            state = self.passed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    /// A life's thread begins.
    pub(super) fn enter(&self, life: usize) {
        drop(self.wait(life, self.lock()));
    }

    /// A life's thread ends: the server goes on, or whoever watches.
    pub(super) fn leave(&self, life: usize) {
        let mut state = self.lock();
        state.fates[life].ended = true;
        let server = state.server;
        let goes_on = server != life && !state.fates[server].ended;
        state.runs = if goes_on { Runs::Life(server) } else { Runs::Watcher };
        self.passed.notify_all();
    }

    /// A step of the world in a life. `false`: it is killed.
    pub(super) fn pass(&self, life: usize) -> bool {
        let mut state = self.lock();
        if state.fates[life].killed {
            return false;
        }
        state.steps += 1;
        if state.steps > MOST_STEPS {
            self.stands_still.store(true, Ordering::SeqCst);
            state.fates[life].killed = true;
            return false;
        }
        let delivery = self.happen(&mut state, life);
        if let Some(Delivery { logs, first, turn }) = delivery {
            // A delivery asks the world what becomes of it.
            drop(state);
            let _ = (0..logs.len()).any(|log| logs[(first + log) % logs.len()].deliver(turn));
            state = self.lock();
        }
        if state.calm {
            return true;
        }
        if life != state.server {
            // A zombie runs for a moment, and dies when it has been one for long.
            if state.random.random_ratio(1, 600) {
                self.kill(&mut state, life);
                return false;
            }
            if state.random.random_ratio(1, 12) {
                state.runs = Runs::Life(state.server);
                state = self.wait(life, state);
            }
        } else if state.random.random_ratio(1, 1_500) {
            let zombies = state.fates.iter().filter(|fate| fate.zombie && !fate.ended).count();
            let may_go_on = zombies < MOST_ZOMBIES && !state.fates[life].defining && !self.has_table();
            if may_go_on && state.random.random_ratio(1, 2) {
                state.fates[life].zombie = true;
                state.zombies += 1;
                if self.told {
                    println!("{:>7} life {life}: is taken for dead", state.steps);
                }
                state.runs = Runs::Watcher;
                state = self.wait(life, state);
            } else {
                self.kill(&mut state, life);
                return false;
            }
        } else if state.random.random_ratio(1, 25) {
            let zombies: Vec<usize> = (0..state.fates.len())
                .filter(|other| *other != life && state.fates[*other].zombie && !state.fates[*other].ended)
                .collect();
            if !zombies.is_empty() {
                let zombie = zombies[state.random.random_range(0..zombies.len())];
                state.runs = Runs::Life(zombie);
                state = self.wait(life, state);
            }
        }
        !state.fates[life].killed
    }

    fn kill(&self, state: &mut State, life: usize) {
        state.fates[life].killed = true;
        state.kills += 1;
        if self.told {
            println!("{:>7} life {life}: is killed", state.steps);
        }
    }

    /// What happens around a life that runs.
    fn happen(&self, state: &mut State, life: usize) -> Option<Delivery> {
        let turn = state.random.random_range(0..4_usize);
        match state.random.random_range(0..48_u32) {
            0..8 => {
                let first = state.random.random_range(0..64);
                return Some(Delivery { logs: state.fates[life].logs.clone(), first, turn });
            }
            8 | 9 => _ = self.cluster.write_mark(turn),
            10 => {
                let clients = state.fates.iter().flat_map(|fate| &fate.logs);
                let _ = clients.into_iter().any(|log| log.arrive());
            }
            11..14 => self.write(state, life),
            14 => self.stranger(state),
            16 | 17 => {
                let turn = state.random.random();
                Self::find(state, life, turn);
            }
            15 if !state.calm && state.random.random_ratio(1, 80) => self.cluster.advance_millis(TIMEOUT_MILLIS + 1),
            15 => self.cluster.advance_millis(if state.calm { 500 } else { 5 }),
            _ => {}
        }
        None
    }

    /// Whoever writes the input goes on.
    fn write(&self, state: &mut State, life: usize) {
        let before = state.input.end(&self.cluster);
        let calm = state.calm;
        state.input.write(&self.cluster, &mut state.random, calm);
        let feed = &state.fates[life].feed;
        if state.input.is_over() {
            feed.close();
        } else if state.input.end(&self.cluster) != before || state.random.random_ratio(1, 8) {
            feed.wake();
        }
    }

    /// Somebody else's transaction in the progress topic begins, or ends.
    fn stranger(&self, state: &mut State) {
        if let Some(producer) = state.stranger.take() {
            let _ = self.cluster.end(producer, state.random.random_ratio(1, 2));
        } else if !state.calm
            && state.random.random_ratio(1, 2)
            && let Ok(producer) = self.cluster.init("stranger", TIMEOUT_MILLIS)
        {
            let partition = state.random.random_range(0..self.cluster.partitions(PROGRESS)) as i32;
            let record = StoredRecord { key: Some(b"stranger".to_vec()), value: None };
            let _ = self.cluster.produce(producer, (PROGRESS, partition), 0, record);
            state.stranger = Some(producer);
        }
    }

    /// Ends all transactions, as time does. Nobody is a client of the log any more.
    pub(super) fn settle(&self) {
        self.cluster.advance_millis(2 * TIMEOUT_MILLIS);
        while self.cluster.write_mark(0) {}
        // They know the world, which would otherwise never go, nor the table's folder with it.
        let logs: Vec<_> = self.lock().fates.iter_mut().flat_map(|fate| std::mem::take(&mut fate.logs)).collect();
        drop(logs);
    }

    /// Prints all that readers of committed records see of a topic, if what happens is printed.
    pub(super) fn tell_topic(&self, topic: &str) {
        for (partition, records) in self.committed(topic).iter().enumerate().filter(|_| self.told) {
            for StoredRecord { value, .. } in records {
                println!("{topic}/{partition}: {}", String::from_utf8_lossy(value.as_deref().unwrap_or_default()));
            }
        }
    }

    /// All that readers of committed records see of a topic, by partition.
    pub(super) fn committed(&self, topic: &str) -> Vec<Vec<StoredRecord>> {
        (0..self.cluster.partitions(topic) as i32)
            .map(|partition| {
                let fetched = self.cluster.fetch((topic, partition), 0, Isolation::Committed, usize::MAX);
                fetched.unwrap().records.into_iter().map(|(_, record)| record).collect()
            })
            .collect()
    }
}
