//! One server, from its start to its kill: an engine on a simulated pool, and whoever looks after it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use super::client;
use super::files::Files;
use super::topics;
use super::world::World;
use crate::catalog::DesiredState;
use crate::checkpoint::{CheckpointSettings, Checkpoints, Place};
use crate::connector::log::client::{Fate, World as Around};
use crate::connector::log::source::{Discovery, Feed, Finder};
use crate::dataflow::{Outside, Pool, PoolSettings};
use crate::engine::{Engine, EngineSettings, Lease, Rooms};
use crate::error::{Error, ErrorKind, Result};
use crate::job::{JobState, JobView};
use crate::plan::Functions;
use crate::session::define;
use crate::spill::SpillFolder;
use crate::sql;

/// Nothing waits for the machine's clock.
const FOR_EVER: Duration = Duration::from_secs(3_600);

/// How a life ended.
#[derive(Debug, Clone)]
pub(super) enum Ending {
    Killed,
    /// All jobs are finished.
    Done,
    Wrong(String),
}

/// A life as the world around it knows it.
pub(super) struct Being {
    pub(super) world: Arc<World>,
    pub(super) number: usize,
    pub(super) feed: Arc<Feed>,
    pool: OnceLock<Weak<Pool>>,
    ending: Mutex<Option<Ending>>,
}

impl Being {
    /// A step while the server waits for something outside: its workers go on meanwhile.
    pub(super) fn goes_on(&self) -> bool {
        if !self.world.pass(self.number) {
            return false;
        }
        if self.world.below(3) == 0
            && let Some(pool) = self.pool.get().and_then(Weak::upgrade)
        {
            pool.simulate(self.world.below(8) as usize);
        }
        !self.world.is_killed(self.number)
    }

    fn is_killed(&self) -> bool {
        self.world.is_killed(self.number)
    }
}

impl Outside for Being {
    fn turn(&self) -> bool {
        self.world.pass(self.number)
    }
}

impl Finder for Being {
    fn opened(&self, discovery: &Arc<Discovery>) {
        self.world.opened(self.number, discovery);
    }
}

impl Around for Being {
    fn fate(&self) -> Fate {
        if self.is_killed() {
            return Fate::Lost;
        }
        match self.world.below(96) {
            _ if self.world.is_calm() => Fate::Answered,
            0..4 => Fate::Lost,
            4..8 => Fate::AnswerLost,
            8..12 => Fate::Delayed,
            12 => Fate::Broken { done: true },
            13 => Fate::Broken { done: false },
            _ => Fate::Answered,
        }
    }

    fn wait(&self) -> Result<()> {
        if self.goes_on() { Ok(()) } else { Err(Error::new(ErrorKind::Canceled, "killed")) }
    }
}

/// Says that the life's thread has ended, however it does.
struct Leaves(Arc<Being>);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.world.leave(self.0.number);
    }
}

/// See the [module](self).
pub(super) struct Life {
    being: Arc<Being>,
    thread: JoinHandle<()>,
}

impl Life {
    /// A life that begins when the world hands over to it.
    pub(super) fn begin(world: &Arc<World>, number: usize) -> Self {
        let feed = world.add_life();
        let (pool, ending) = (OnceLock::new(), Mutex::default());
        let being = Arc::new(Being { world: Arc::clone(world), number, feed, pool, ending });
        let own = Arc::clone(&being);
        let thread = std::thread::spawn(move || {
            own.world.enter(own.number);
            let _leaves = Leaves(Arc::clone(&own));
            let ending = run(&own);
            own.world.tell(own.number, || format!("ends {ending:?}"));
            *own.ending.lock().unwrap_or_else(PoisonError::into_inner) = Some(ending);
        });
        Self { being, thread }
    }

    /// How it ended, if it has.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.being.ending.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn join(self) -> std::result::Result<(), String> {
        self.thread.join().map_err(|_| "a life broke off with a panic".to_owned())
    }
}

fn run(being: &Arc<Being>) -> Ending {
    let engine = match start(being) {
        Ok(engine) => engine,
        Err(_) if being.is_killed() => return Ending::Killed,
        Err(error) => return Ending::Wrong(format!("the server does not start: {error}")),
    };
    let ending = loop {
        if being.is_killed() {
            break match being.world.stands_still() {
                true => Ending::Wrong(format!("there is no end: {}", jobs(&engine))),
                false => Ending::Killed,
            };
        }
        if let Some(ending) = act(being, &engine) {
            break ending;
        }
    };
    engine.pool.shutdown();
    ending
}

/// A server's start, as [`Engine::open`] has it, with the jobs that it knows.
fn start(being: &Arc<Being>) -> Result<Arc<Engine>> {
    let world = &being.world;
    let workers = 1 + world.below(4) as usize;
    world.set_workers(workers);
    let checkpoints = CheckpointSettings {
        retained: 1 + world.below(3) as usize,
        timeout: FOR_EVER,
        ..CheckpointSettings::default()
    };
    let settings = EngineSettings {
        workers,
        stop_timeout: FOR_EVER,
        decision_timeout: FOR_EVER,
        checkpoints,
        ..EngineSettings::default()
    };
    let pool_settings = PoolSettings {
        last_epoch: world.catalog.first_free_epoch() - 1,
        lease: Some(Arc::new(Lease(Arc::clone(&world.catalog)))),
        ..PoolSettings::workers(workers)
    };
    let outside: Arc<dyn Outside> = Arc::<Being>::clone(being);
    let pool = Arc::new(Pool::simulated_with(pool_settings, u64::from(world.below(u32::MAX)), Some(outside))?);
    being.pool.get_or_init(|| Arc::downgrade(&pool));
    let clock = Arc::clone(pool.clock());
    let (catalog, tables) = (Arc::clone(&world.catalog), world.tables()?);
    let place = Place::over(Arc::new(Files(Arc::clone(being))));
    let checkpoints =
        Checkpoints::assemble(place, settings.checkpoints.clone(), (&pool, &tables, &catalog), &clock).map(Arc::new)?;
    // In half of the lives what state there is lies on disk.
    let spill_above = (world.below(2) == 0).then_some(0);
    let (checkpoints, spill) = (Some(checkpoints), SpillFolder::temporary());
    let rooms = Rooms { catalog, tables, pool, checkpoints, spill, spill_above };
    let engine = Engine::assemble(settings, Functions::builtin(), clock, rooms);
    topics::lend(&engine, being)?;
    engine.recover()?;
    world.tell(being.number, || format!("is up with {workers} workers: {}", jobs(&engine)));
    if let Some(checkpoints) = &engine.checkpoints {
        let objects = world.catalog.objects();
        let restored = objects.iter().filter(|object| checkpoints.stands_at(object.id).is_some()).count();
        world.restores.fetch_add(restored as u64, Ordering::SeqCst);
    }
    Ok(engine)
}

/// Runs a statement that changes definitions; what fails for what happens around is tried again.
fn execute(being: &Being, engine: &Arc<Engine>, text: &str) -> Option<Ending> {
    let statement = sql::parse_one(text).unwrap();
    being.world.set_defining(being.number, true);
    let done = define::run(engine, &statement);
    being.world.set_defining(being.number, false);
    being.world.tell(being.number, || format!("{}: {done:?}", text.split(" AS").next().unwrap_or(text)));
    let around = [ErrorKind::External, ErrorKind::Canceled, ErrorKind::InvalidState, ErrorKind::DependentObjects];
    let wrong = done.err().filter(|error| !around.contains(&error.kind()) && !being.is_killed())?;
    Some(Ending::Wrong(format!("{text}: {wrong}")))
}

/// One act of whoever looks after the server. Answers how its life ends, if it does.
fn act(being: &Arc<Being>, engine: &Arc<Engine>) -> Option<Ending> {
    let world = &being.world;
    let statements = topics::statements(world.jobs);
    let is_server = world.is_server(being.number);
    if let Some((name, text)) = statements.iter().find(|(name, _)| is_server && world.catalog.get(name).is_none()) {
        let ending = execute(being, engine, text);
        if ending.is_some() || world.catalog.get(name).is_some() || being.is_killed() {
            return ending;
        }
        // It reads a view that could not be brought back, which is started again below.
    }
    let views = engine.jobs();
    if world.has_table()
        && is_server
        && world.below(8) == 0
        && let Some(ending) = client::act(being, engine)
    {
        return Some(ending);
    }
    if views.is_empty() {
        engine.pool.simulate(1);
        return None;
    }
    let wrong = views.iter().filter_map(|job| job.error.as_ref()).find(|error| is_wrong(error));
    if let Some(error) = wrong.filter(|_| !being.is_killed()) {
        return Some(Ending::Wrong(error.to_string()));
    }
    let jobs_of_all = statements.len() - usize::from(world.has_table());
    let is_done = |job: &JobView| job.state == JobState::Finished || topics::reads_table(&job.name);
    if views.len() == jobs_of_all && views.iter().all(is_done) && (!world.has_table() || settled(being, engine, &views))
    {
        return Some(Ending::Done);
    }
    let job = &views[world.below(views.len() as u32) as usize];
    match world.below(12) {
        0..6 => engine.pool.simulate(1 + world.below(80) as usize),
        6..9 => {
            let id = world.catalog.get(&job.name).map(|object| object.id)?;
            let checkpoints = engine.checkpoints().ok()?;
            let taken = checkpoints.take_now(id, FOR_EVER, false);
            world.tell(being.number, || format!("checkpoint of {}: {taken:?}; {}", job.name, jobs(engine)));
            match taken {
                Ok(_) => {
                    world.checkpoints.fetch_add(1, Ordering::SeqCst);
                    world.spilled.fetch_add(u64::from(engine.spill().bytes() > 0), Ordering::SeqCst);
                    if world.below(2) == 0 {
                        checkpoints.compact_now(id);
                    }
                }
                // A zombie has begun runs of the jobs: whoever looks after the server starts it again.
                Err(error) if error.message().contains("another server runs the job") => return Some(Ending::Killed),
                Err(_) => {}
            }
        }
        9 | 10 => {
            for failed in views.iter().filter(|job| job.state == JobState::Failed) {
                let restarted = engine.restart_failed(&failed.name);
                world.tell(being.number, || format!("{} starts again: {restarted:?}", failed.name));
            }
            for stopped in views.iter().filter(|job| job.desired == DesiredState::Stopped) {
                if let Some(wrong) = execute(being, engine, &format!("ALTER JOB {} START", stopped.name)) {
                    return Some(wrong);
                }
            }
        }
        _ if is_server && world.is_unlucky(6) => {
            return execute(being, engine, &format!("ALTER JOB {} STOP", job.name));
        }
        _ => {}
    }
    None
}

/// Whether the jobs that read the table, which has no end, have said all there is to say.
fn settled(being: &Being, engine: &Arc<Engine>, views: &[JobView]) -> bool {
    let (world, mut open) = (&being.world, views.iter().filter(|job| job.state != JobState::Finished));
    if !world.has_no_news(being.number) || open.clone().any(|job| job.state != JobState::Running) {
        return false;
    }
    let flushed = engine.flush();
    world.tell(being.number, || format!("flushed: {flushed:?}"));
    let taken = |job: &JobView| {
        let id = world.catalog.get(&job.name).map(|object| object.id);
        let taken =
            id.zip(engine.checkpoints().ok()).map(|(id, checkpoints)| checkpoints.take_now(id, FOR_EVER, false));
        world.tell(being.number, || format!("last checkpoint of {}: {taken:?}", job.name));
        matches!(taken, Some(Ok(_)))
    };
    flushed.is_ok() && open.all(taken)
}

/// What no job may ever say, whatever goes wrong around it.
fn is_wrong(error: &Error) -> bool {
    let never =
        ["have begun anew", "knows nothing of it", "no checkpoint that can be used", "and its log begins after change"];
    error.kind() == ErrorKind::Internal || never.iter().any(|words| error.message().contains(words))
}

fn jobs(engine: &Arc<Engine>) -> String {
    let job = |job: &JobView| {
        let mut told = format!("{} {} at {}", job.name, job.state.name(), job.epoch);
        told.extend(job.waits_for.iter().map(|what| format!(" ({what})")));
        told.extend(job.error.iter().map(|error| format!(" ({error})")));
        told
    };
    engine.jobs().iter().map(job).collect::<Vec<_>>().join("; ")
}
