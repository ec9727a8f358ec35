//! Whole servers in a world in which everything goes wrong, from a seed.
//!
//! A *history* is one deployment's: lives of a server one after the other, each an engine with its catalog, its keeper of
//! checkpoints and a simulated pool of one to four workers, over one [log in memory](crate::connector::log) and one object
//! store. Jobs read topics of the log, which they find sooner or later, and in half of the histories a table, through views,
//! windows and joins, and write to other topics exactly once; in half of the lives their state is on disk. A life is
//! killed at any step: while workers run, between two files of a checkpoint, in the middle of a commit. Or it is taken for
//! dead and goes on beside the next as a *zombie*. Calls and their answers are lost or late, files are not put or nobody hears
//! that they were, marks of transactions are written one by one, strangers' transactions stand in the progress topic, and
//! time runs out.
//!
//! At the end of it all a reader of committed records sees exactly the rows of an undisturbed run ([`judge`]): what the same
//! queries come to by plain arithmetic, each change of a row in order.
//!
//! One thread of a history runs at a time ([`world`]), and what it does is drawn from the seed, so a history is run again
//! from its number:
//!
//! ```text
//! make simulate SEEDS=20000
//! make simulate SEEDS=1 SEED=1234
//! ```
//!
//! * [`world`]: who runs, and what happens around
//! * [`life`]: one server, from start to kill
//! * [`files`]: the object store and its faults
//! * [`prices`]: the table, and what was acknowledged of its changes; [`client`] makes them
//! * [`topics`]: streams, sinks and the jobs between them
//! * [`judge`]: what readers must see

mod client;
mod files;
mod judge;
mod life;
mod prices;
mod topics;
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::safeguard::Safeguard;
use life::{Ending, Life};
use world::World;

/// Histories of a run of all tests.
const SEEDS: u64 = 40;
/// In so many histories the simulation has to notice that a piece of the protocol is missing.
const SEEDS_TO_NOTICE: u64 = 300;
/// Lives after which nothing goes wrong any more.
const TROUBLED_LIVES: usize = 6;
/// A run of many says after so many how far it is.
const TOLD_EVERY: u64 = 1_000;

/// What became of a history.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Figures {
    lives: u64,
    kills: u64,
    zombies: u64,
    resized: u64,
    /// Sources that did not find their partitions at once.
    late: u64,
    /// Acknowledged transactions of tables.
    changes: u64,
    restores: u64,
    checkpoints: u64,
    /// Of them, those that were taken while state was on disk.
    spilled: u64,
    commits: u64,
    aborts: u64,
    fenced: u64,
    steps: u64,
    /// Of all that readers of committed records see.
    digest: u64,
}

impl Figures {
    fn add(&mut self, other: Self) {
        self.lives += other.lives;
        self.kills += other.kills;
        self.zombies += other.zombies;
        self.resized += other.resized;
        self.late += other.late;
        self.changes += other.changes;
        self.restores += other.restores;
        self.checkpoints += other.checkpoints;
        self.spilled += other.spilled;
        self.commits += other.commits;
        self.aborts += other.aborts;
        self.fenced += other.fenced;
        self.steps += other.steps;
        self.digest ^= other.digest;
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            lives,
            kills,
            zombies,
            resized,
            late,
            changes,
            restores,
            checkpoints,
            spilled,
            commits,
            aborts,
            fenced,
            steps,
            digest,
        } = self;
        write!(
            f,
            "{lives} lives ({kills} killed, {zombies} taken for dead, {resized} with other workers than the one before), \
             {late} sources that found partitions late, {changes} changes of tables, \
             {restores} jobs gone on from checkpoints, {checkpoints} checkpoints taken ({spilled} with state on disk), \
             transactions: {commits} committed, {aborts} aborted, {fenced} calls fenced; {steps} steps, \
             digest {digest:016x}"
        )
    }
}

/// Runs a history to its end. An error says what readers see that they must not, or what stands still.
fn history(seed: u64) -> Result<Figures, String> {
    history_of(&World::new(seed))
}

fn history_of(world: &Arc<World>) -> Result<Figures, String> {
    let mut lives: Vec<Life> = Vec::new();
    let outcome = loop {
        if lives.len() == TROUBLED_LIVES {
            world.calm();
        }
        lives.push(Life::begin(world, lives.len()));
        let number = lives.len() - 1;
        world.hand_to(number);
        let ending = lives[number].ending();
        if world.stands_still() {
            break Err(format!("{:?}, {}", ending, world.waits()));
        }
        match ending {
            None | Some(Ending::Killed) => {}
            // One that is done may be started again: it is done at once.
            Some(Ending::Done) if lives.len() < TROUBLED_LIVES && world.below(2) == 0 => {}
            Some(Ending::Done) => break Ok(()),
            Some(Ending::Wrong(what)) => break Err(what),
        }
    };
    for (number, life) in lives.into_iter().enumerate() {
        world.bury(number);
        life.join()?;
    }
    outcome?;
    let digest = judge::judge(world)?;
    Ok(world.figures(digest))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// What came of a range of seeds.
#[derive(Default)]
struct Report {
    green: u64,
    sum: Figures,
    /// By seed.
    failed: BTreeMap<u64, String>,
}

/// Runs histories on all threads: all, or up to the first that fails.
fn histories(seeds: Range<u64>, up_to_first: bool) -> Report {
    let (next, report) = (AtomicU64::new(seeds.start), Mutex::new(Report::default()));
    let begun = Instant::now();
    let threads = number("RONDEL_SIMULATE_THREADS").unwrap_or(2).max(1);
    let some_histories = || {
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= seeds.end {
                return;
            }
            // One that breaks off with a panic has said why.
            let outcome = std::panic::catch_unwind(|| history(seed)).unwrap_or_else(|_| Err("a panic".to_owned()));
            let mut report = report.lock().unwrap();
            match outcome {
                Ok(figures) => {
                    report.green += 1;
                    report.sum.add(figures);
                    if report.green % TOLD_EVERY == 0 {
                        println!("{} histories green in {:.0} s", report.green, begun.elapsed().as_secs_f64());
                    }
                }
                Err(what) => {
                    println!("seed {seed}: {what}");
                    report.failed.insert(seed, what);
                    if up_to_first {
                        next.store(seeds.end, Ordering::SeqCst);
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(some_histories))));
    report.into_inner().unwrap()
}

/// Servers that were killed leave nothing in the process: no thread, and nobody who knows the world in which they lived.
#[test]
fn nothing_is_left_of_a_history() {
    for seed in 0..6 {
        let world = World::new(seed);
        history_of(&world).unwrap();
        let world = Arc::downgrade(&{ world });
        // A thread that is at its end may still be putting away what it had.
        let begun = Instant::now();
        while world.strong_count() > 0 && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(world.strong_count(), 0, "seed {seed}");
    }
}

/// `RONDEL_SIMULATE_SEEDS` is how many histories, `RONDEL_SIMULATE_SEED` the first one.
#[test]
fn readers_see_what_an_undisturbed_run_would_show() {
    let first = number("RONDEL_SIMULATE_SEED").unwrap_or(0);
    let begun = Instant::now();
    let seeds = number("RONDEL_SIMULATE_SEEDS").unwrap_or(SEEDS);
    let up_to_first = std::env::var_os(Safeguard::REMOVED).is_some();
    let Report { green, sum, failed } = histories(first..first + seeds, up_to_first);
    println!("{green} of {seeds} histories green in {:.1} s: {sum}", begun.elapsed().as_secs_f64());
    let numbers: Vec<_> = failed.keys().collect();
    assert!(
        failed.is_empty(),
        "seeds {numbers:?} failed; run one again with: make simulate SEEDS=1 SEED={}",
        numbers[0]
    );
    // Histories in which nothing happens show nothing.
    let happened = [sum.kills, sum.zombies, sum.resized, sum.late, sum.changes, sum.restores, sum.checkpoints];
    let happened = happened.into_iter().chain([sum.spilled, sum.commits, sum.fenced]);
    assert!(seeds < 20 || happened.into_iter().all(|happened| happened > 0), "{sum}");
}

#[test]
fn a_seed_is_the_whole_history() {
    for seed in [3, 4] {
        assert_eq!(history(seed).unwrap(), history(seed).unwrap(), "seed {seed}");
    }
}

/// Jobs that go on from checkpoints of their ends have nothing to say, and end again, however often they are checkpointed
/// before that is known.
#[test]
fn what_is_done_is_done_again() {
    for seed in 0..3 {
        let world = World::new(seed);
        world.calm();
        for number in 0..4 {
            let life = Life::begin(&world, number);
            world.hand_to(number);
            assert!(matches!(life.ending(), Some(Ending::Done)), "seed {seed}: {:?}, {}", life.ending(), world.waits());
            life.join().unwrap();
        }
        judge::judge(&world).unwrap();
    }
}

/// Each piece of the protocol is needed: without it the simulation fails within a bounded number of histories. Each is taken
/// away in a process of its own, since the others' histories are to have it.
#[test]
fn the_simulation_notices_each_piece_that_is_missing() {
    if std::env::var_os(Safeguard::REMOVED).is_some() {
        return;
    }
    let mut unnoticed = Vec::new();
    for safeguard in Safeguard::ALL {
        let seeds = number("RONDEL_SIMULATE_NOTICE").unwrap_or(SEEDS_TO_NOTICE);
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "simulation::readers_see_what_an_undisturbed_run_would_show", "--nocapture"])
            .env(Safeguard::REMOVED, format!("{safeguard:?}"))
            .env("RONDEL_SIMULATE_SEEDS", seeds.to_string())
            .env_remove("RONDEL_SIMULATE_SEED")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        match said.lines().find(|line| line.starts_with("seed ")) {
            Some(found) if !output.status.success() => println!("without {safeguard:?}: {found}"),
            _ => unnoticed.push(format!("{safeguard:?}: {said}")),
        }
    }
    assert!(unnoticed.is_empty(), "{}", unnoticed.join("\n"));
}
