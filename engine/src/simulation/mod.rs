//! Whole servers in a world in which everything goes wrong, from a seed.
//!
//! A *history* is one deployment's: lives of a server one after the other, each an engine with its catalog, its keeper of
//! checkpoints and a simulated pool of one to four workers, over one [log in memory](crate::connector::log) and one object
//! store. Jobs read a topic of the log, through views, windows and joins, and write to other topics exactly once. A life is
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
//! * [`topics`]: streams, sinks and the jobs between them
//! * [`judge`]: what readers must see

mod files;
mod judge;
mod life;
mod topics;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::safeguard::Safeguard;
use life::{Ending, Life};
use world::World;

/// Histories of a run of all tests.
const SEEDS: u64 = 40;
/// In so many histories the simulation has to notice that a piece of the protocol is missing.
const SEEDS_TO_NOTICE: u64 = 1_500;
/// Lives after which nothing goes wrong any more.
const TROUBLED_LIVES: usize = 6;

/// What became of a history.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Figures {
    lives: u64,
    zombies: u64,
    checkpoints: u64,
    steps: u64,
    /// Of all that readers of committed records see.
    digest: u64,
}

impl Figures {
    fn add(&mut self, other: Self) {
        self.lives += other.lives;
        self.zombies += other.zombies;
        self.checkpoints += other.checkpoints;
        self.steps += other.steps;
    }
}

/// Runs a history to its end. An error says what readers see that they must not, or what stands still.
fn history(seed: u64) -> Result<Figures, String> {
    let world = World::new(seed);
    let mut lives: Vec<Life> = Vec::new();
    let outcome = loop {
        if lives.len() >= TROUBLED_LIVES + 4 {
            break Err(format!("after {} lives there is no end", lives.len()));
        }
        if lives.len() == TROUBLED_LIVES {
            world.calm();
        }
        lives.push(Life::begin(&world, lives.len()));
        let number = lives.len() - 1;
        world.hand_to(number);
        match lives[number].ending() {
            None | Some(Ending::Killed) => {}
            Some(Ending::Done) => break Ok(()),
            Some(Ending::Wrong(what)) => break Err(what),
        }
    };
    for (number, life) in lives.into_iter().enumerate() {
        world.bury(number);
        life.join()?;
    }
    outcome?;
    let digest = judge::judge(&world)?;
    Ok(world.figures(digest))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Runs histories on all threads; the first that fails is told with its seed.
fn histories(seeds: std::ops::Range<u64>) -> Result<Figures, String> {
    let next = Arc::new(AtomicU64::new(seeds.start));
    let threads = number("RONDEL_SIMULATE_THREADS").unwrap_or(2).max(1);
    let running: Vec<_> = (0..threads)
        .map(|_| {
            let next = Arc::clone(&next);
            std::thread::spawn(move || some_histories(&next, seeds.end))
        })
        .collect();
    let mut all = Figures::default();
    for thread in running {
        all.add(thread.join().map_err(|_| "a history broke off with a panic".to_owned())??);
    }
    Ok(all)
}

/// Runs histories until there is none left.
fn some_histories(next: &AtomicU64, end: u64) -> Result<Figures, String> {
    let mut sum = Figures::default();
    loop {
        let seed = next.fetch_add(1, Ordering::SeqCst);
        if seed >= end {
            return Ok(sum);
        }
        let figures = history(seed).map_err(|what| {
            next.store(end, Ordering::SeqCst);
            format!("seed {seed}: {what}\nrun it again with: make simulate SEEDS=1 SEED={seed}")
        })?;
        sum.add(figures);
    }
}

/// `RONDEL_SIMULATE_SEEDS` is how many histories, `RONDEL_SIMULATE_SEED` the first one.
#[test]
#[ignore = "of 80 histories 3 fail and 18 have no end within 20 s: seeds 48, 53 and 62 are to be understood first"]
fn readers_see_what_an_undisturbed_run_would_show() {
    let first = number("RONDEL_SIMULATE_SEED").unwrap_or(0);
    let begun = Instant::now();
    let seeds = number("RONDEL_SIMULATE_SEEDS").unwrap_or(SEEDS);
    let sum = histories(first..first + seeds).unwrap_or_else(|what| panic!("{what}"));
    println!(
        "{seeds} histories in {:.1} s: {} lives, {} of them zombies, {} checkpoints, {} steps",
        begun.elapsed().as_secs_f64(),
        sum.lives,
        sum.zombies,
        sum.checkpoints,
        sum.steps
    );
    // Histories in which nothing happens show nothing.
    assert!(seeds < 20 || (sum.lives > 2 * seeds && sum.checkpoints > 2 * seeds && sum.zombies > 0));
}

#[test]
#[ignore = "as above"]
fn a_seed_is_the_whole_history() {
    for seed in [3, 4] {
        assert_eq!(history(seed).unwrap(), history(seed).unwrap(), "seed {seed}");
    }
}

/// Each piece of the protocol is needed: without it the simulation fails within a bounded number of histories. Each is taken
/// away in a process of its own, since the others' histories are to have it.
#[test]
#[ignore = "says something only once the simulation is green with all pieces in place"]
fn the_simulation_notices_each_piece_that_is_missing() {
    if std::env::var_os(Safeguard::REMOVED).is_some() {
        return;
    }
    let mut unnoticed = Vec::new();
    for safeguard in Safeguard::ALL {
        let seeds = number("RONDEL_SIMULATE_NOTICE").unwrap_or(SEEDS_TO_NOTICE);
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "simulation::readers_see_what_an_undisturbed_run_would_show",
                "--nocapture",
                "--include-ignored",
            ])
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
